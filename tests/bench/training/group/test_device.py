"""Which GPU a rank takes, where it sees all of its node's and where it sees its own alone."""

from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from bench.config.environment import RankEnvironment
from bench.training.group.device import check_devices, device_of, tell_device
from results.words import ConfigError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A stand-in for CUDA: `uuids` are those of the GPUs that the process sees, `taken` the index that it took."""
    stand_in = SimpleNamespace(uuids=["aa"], taken=None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(stand_in.uuids))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(stand_in.uuids))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: setattr(stand_in, "taken", device.index))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid=stand_in.uuids[device.index])
    )
    return stand_in


def place(rank: int, local: int = 4, size: int = 8) -> RankEnvironment:
    return RankEnvironment(
        rank=rank, world_size=size, local_rank=rank % local, local_world_size=local, hosts=("n1", "n2")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "index"), [(4, 3), (8, 3), (1, 0)], ids=["all of the node", "more than ranks", "its own alone"]
)
def test_a_rank_takes_its_own_gpu(gpus: SimpleNamespace, seen: int, index: int) -> None:
    gpus.uuids = [f"uuid{number}" for number in range(seen)]
    assert device_of(place(7)) == torch.device("cuda", index) and gpus.taken == index


def test_without_a_gpu_it_is_the_cpu(gpus: SimpleNamespace) -> None:
    gpus.uuids = []
    assert device_of(place(7)) == torch.device("cpu")
    store = dist.HashStore()
    tell_device(store, place(7), torch.device("cpu"))
    check_devices(store, place(7), torch.device("cpu"))  # nobody has said anything


def test_fewer_gpus_than_ranks_are_refused(gpus: SimpleNamespace) -> None:
    gpus.uuids = ["aa", "bb"]
    with pytest.raises(ConfigError, match="ranks_per_node=4 exceeds the 2 GPUs here: at most ranks_per_node=2"):
        device_of(place(1))


def told(gpus: SimpleNamespace, uuids: list[str]) -> dist.Store:
    """A store in which each rank has said which GPU it alone sees."""
    store = dist.HashStore()
    for rank, uuid in enumerate(uuids):
        gpus.uuids = [uuid]
        tell_device(store, place(rank), device_of(place(rank)))
    return store


def test_ranks_that_each_see_another_gpu_are_fine(gpus: SimpleNamespace) -> None:
    store = told(gpus, ["a", "b", "c", "d", "a", "b", "c", "d"])  # on another node there may be the same name
    for rank in range(8):
        check_devices(store, place(rank), torch.device("cuda", 0))


def test_ranks_that_see_the_same_gpu_are_refused_on_their_node_and_on_rank_0(gpus: SimpleNamespace) -> None:
    store = told(gpus, ["a", "b", "c", "d", "a", "b", "b", "d"])
    for rank in (0, 4, 5, 6, 7):
        with pytest.raises(ConfigError, match="ranks 5, 6 on n2 have one GPU, b: at most ranks_per_node=2"):
            check_devices(store, place(rank), torch.device("cuda", 0))
    check_devices(store, place(1), torch.device("cuda", 0))


def test_parts_of_one_gpu_are_devices_of_their_own(gpus: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    store = dist.HashStore()
    for rank in range(4):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{rank}")
        tell_device(store, place(rank, size=4), device_of(place(rank, size=4)))
    check_devices(store, place(0, size=4), torch.device("cuda", 0))
