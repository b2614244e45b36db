"""Which device a rank computes on, also where Slurm lets each task see its own GPU alone."""

import os

import torch
import torch.distributed as dist

from bench.config.environment import RankEnvironment
from results.words import ConfigError

SHOWN = 8  # ranks that a message names


def device_of(place: RankEnvironment) -> torch.device:
    """This rank's GPU, or the CPU where there is none.

    All of a node's GPUs are told apart by the local rank; one that is alone is this rank's (`--gpus-per-task`,
    `--gpu-bind=single`), which `check_devices` sees to.

    Raises:
        ConfigError: more ranks on this node than GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    there = torch.cuda.device_count()
    if 1 < there < place.local_world_size:
        raise ConfigError(
            f"ranks_per_node={place.local_world_size} exceeds the {there} GPUs here: at most ranks_per_node={there}"
        )
    device = torch.device("cuda", place.local_rank if there > 1 else 0)
    torch.cuda.set_device(device)
    return device


def tell_device(store: dist.Store, place: RankEnvironment, device: torch.device) -> None:
    """Say which GPU this rank has, before the ranks have met."""
    if device.type == "cuda":
        store.set(f"device/{place.rank}", f"{_host(place)} {_name(device)}")


def check_devices(store: dist.Store, place: RankEnvironment, device: torch.device) -> None:
    """See, once the ranks have met, that no two of this node have one GPU; on rank 0, of any node.

    Raises:
        ConfigError: two have.
    """
    if device.type != "cuda":
        return
    first = place.node * place.local_world_size
    ranks = range(place.world_size) if place.rank == 0 else range(first, first + place.local_world_size)
    having: dict[str, list[int]] = {}
    for rank, said in zip(ranks, store.multi_get([f"device/{rank}" for rank in ranks]), strict=True):
        having.setdefault(said.decode(), []).append(rank)
    for text, alike in having.items():
        if len(alike) > 1:
            host, _, name = text.partition(" ")
            raise ConfigError(
                f"ranks {', '.join(map(str, alike[:SHOWN]))} on {host} have one GPU, {name}: at most ranks_per_node="
                f"{place.local_world_size // len(alike) or 1} with what Slurm shows them, or a GPU for each task"
            )


def _host(place: RankEnvironment) -> str:
    return place.host(place.rank) or place.host()


def _name(device: torch.device) -> str:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    return f"{visible} of {uuid}" if visible.startswith("MIG-") else uuid  # parts of one GPU are devices of their own
