"""Ranks meet before there is a process group: who does not come is named, and who sits at the meeting place."""

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import psutil
import pytest
import torch.distributed as dist

from bench.config.environment import LOOPBACK, RankEnvironment
from bench.measure.failure import RankLost, classify
from bench.training import process_group
from bench.training.group import rendezvous
from bench.training.group.rendezvous import (
    Unreachable,
    choose_interface,
    interface_towards,
    meet,
    missing_ranks,
    open_store,
)
from bench.training.ranks import free_port, rank_environment


def place(rank: int, size: int = 4, local: int = 2, hosts: tuple[str, ...] = ("n1", "n2")) -> RankEnvironment:
    return RankEnvironment(
        rank=rank, world_size=size, local_rank=rank % local, local_world_size=local, hosts=hosts
    )  # fmt: skip


HERE = re.escape(place(0).host())


@pytest.fixture
def listener() -> Iterator[int]:
    """A port at which somebody listens who is no rank."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize(
    ("missing", "hosts", "said"),
    [
        ([3], ("n1", "n2"), "1 of 4 ranks did not come within 60 s: rank 3 (n2); their logs"),
        ([2, 3], ("n1", "n2"), "2 of 4 ranks did not come within 60 s: rank 2 (n2), rank 3 (n2); their logs"),
        ([1, 2], (), "2 of 4 ranks did not come within 60 s: rank 1, rank 2; their logs"),
    ],
)
def test_ranks_that_are_missing_are_named_with_their_hosts(
    missing: list[int], hosts: tuple[str, ...], said: str
) -> None:
    assert missing_ranks(missing, place(0, hosts=hosts)).startswith(said)


def test_a_thousand_missing_ranks_are_one_line_of_readable_length() -> None:
    hosts = tuple(f"node{index:03}" for index in range(128))
    said = missing_ranks(range(8, 1024), place(0, 1024, 8, hosts))
    assert said.startswith("1016 of 1024 ranks") and "rank 15 (node001) and 1008 more;" in said and len(said) < 400


def test_rank_0_waits_for_all_and_then_lets_all_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEET_S", 20.0)
    store = dist.HashStore()
    threads = [threading.Thread(target=meet, args=(store, place(rank))) for rank in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    assert all(thread.is_alive() for thread in threads)  # one is missing
    meet(store, place(3))
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def test_rank_0_gives_up_and_names_who_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEET_S", 0.3)
    store = dist.HashStore()
    store.set("met/2", "n2")
    with pytest.raises(RankLost, match=r"^2 of 4 ranks did not come within 0 s: rank 1 \(n1\), rank 3 \(n2\);") as seen:
        meet(store, place(0))
    assert classify(seen.value, 0).kind == "rank_lost"
    with pytest.raises(RankLost, match="rank 0 has given up"):
        meet(store, place(1))


JOIN = """
import os, sys
from bench.training.group import rendezvous
from bench.training.run import classify
rendezvous.MEET_S = 3.0
from bench.training.process_group import start_process_group
try:
    world = start_process_group(lambda failure: None)
except BaseException as error:
    print(classify(error, int(os.environ["RANK"])))
    sys.stdout.flush()
    os._exit(1)
print("met", world.rank)
world.close()
"""


def join(port: int, size: int, ranks: list[int]) -> list[str]:
    """What each rank says of its start."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN],
            env=rank_environment(rank, size, port, 1) | {"DS_ACCELERATOR": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ranks
    ]
    return [process.communicate(timeout=60)[0].strip() for process in started]


@pytest.mark.ranks
def test_a_rank_that_never_starts_ends_the_others_by_name() -> None:
    first, second = join(free_port(), 3, [0, 1])
    assert first.startswith("failed (rank_lost, rank 0): 1 of 3 ranks did not come within 3 s: rank 2;")
    assert second.startswith("failed (rank_lost, rank 1): rank 0 has given up waiting")


@pytest.mark.parametrize("rank", [1, 2])
def test_a_rank_that_cannot_reach_the_others_tells_rank_0_before_it_ends(
    rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However early it knows: rank 0 may still import torch, and srun ends all ranks after the first."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(rendezvous, "MEET_S", 20.0)
    port, ended = free_port(), threading.Event()

    def other() -> None:
        with pytest.raises(
            Unreachable, match=f"^interface=lo of the site profile leads to no other node from {HERE}: "
        ):
            process_group._opened(LOOPBACK, port, place(rank), "r1", exact=True)
        ended.set()

    thread = threading.Thread(target=other)
    thread.start()
    time.sleep(1.0)
    assert not ended.is_set()
    store, _ = open_store(LOOPBACK, port, place(0), "r1")
    with pytest.raises(Unreachable, match=f"^interface=lo .* from {HERE}: name the network"):
        meet(store, place(0))
    assert not ended.is_set()  # rank 0 has yet to write its row
    del store
    thread.join(20)
    assert ended.is_set()


def test_a_rank_that_cannot_reach_even_rank_0_says_what_it_knew_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(rendezvous, "MEET_S", 1.0)
    with pytest.raises(Unreachable, match=f"^interface=lo of the site profile leads to no other node from {HERE}: "):
        process_group._opened(LOOPBACK, free_port(), place(2), "r1", exact=True)


@pytest.mark.ranks
def test_ranks_that_are_all_there_meet() -> None:
    assert join(free_port(), 2, [0, 1]) == ["met 0", "met 1"]


@pytest.mark.ranks
def test_a_rank_0_that_never_starts_is_said_by_the_others() -> None:
    port = free_port()
    (said,) = join(port, 2, [1])
    assert said.startswith(f"failed (network, rank 1): {socket.gethostname()} cannot reach rank 0 at {LOOPBACK}:{port}")


def test_a_port_that_is_taken_is_not_the_only_one(listener: int) -> None:
    first, port = open_store(LOOPBACK, listener, place(0), "this run")
    assert listener < port < listener + rendezvous.PORTS
    second, found = open_store(LOOPBACK, listener, place(1), "this run")
    first.set("key", "value")
    assert found == port and second.get("key") == b"value"


def test_ports_that_are_all_taken_are_named(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "PORTS", 1)
    with pytest.raises(Unreachable, match=f"MASTER_PORT={listener}, where the ranks were to meet, is taken") as seen:
        open_store(LOOPBACK, listener, place(0))
    failure = classify(seen.value, 0)
    assert failure.kind == "network" and "\n" not in failure.message


def test_the_store_of_another_run_is_not_taken_for_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEET_S", 1.0)
    monkeypatch.setattr(rendezvous, "ANSWER_S", 0.5)
    _, port = open_store(LOOPBACK, free_port(), place(0), "another run")
    with pytest.raises(Unreachable, match=f"what listens at {LOOPBACK}:{port} is not rank 0 of this run"):
        open_store(LOOPBACK, port, place(1), "this run")


def test_a_listener_that_is_no_rank_is_not_taken_for_one(listener: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEET_S", 1.0)
    monkeypatch.setattr(rendezvous, "ANSWER_S", 0.5)
    with pytest.raises(Unreachable) as seen:
        open_store(LOOPBACK, listener, place(1))
    assert classify(seen.value, 1).kind == "network" and str(listener) in str(seen.value)


def own_addresses() -> list[tuple[str, str]]:
    """Interfaces of this machine that others may reach, each with an address of it."""
    return [
        (name, one.address)
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if one.family == socket.AF_INET and not one.address.startswith("127.")
    ]


def test_the_interface_is_that_of_the_way() -> None:
    found = own_addresses()
    if not found:
        pytest.skip("this machine has no network but the loopback")
    name, address = found[0]
    assert interface_towards(address) == name


@pytest.mark.parametrize(
    ("address", "said"),
    [("127.0.1.1", "takes 127.0.1.1 for itself"), ("localhost", "takes localhost for itself"),
     ("no.such.host.invalid", "knows no way to no.such.host.invalid")],
)  # fmt: skip
def test_a_way_that_leads_nowhere_says_what_to_set(address: str, said: str) -> None:
    with pytest.raises(Unreachable, match=said) as seen:
        interface_towards(address)
    assert "interface in the site profile" in str(seen.value) and classify(seen.value, 0).kind == "network"


def address(family: int, text: str) -> SimpleNamespace:
    return SimpleNamespace(family=family, address=text)


INTERFACES = {
    "lo": [address(socket.AF_INET, "127.0.0.1"), address(socket.AF_INET6, "::1")],
    "eth7": [address(socket.AF_PACKET, "02:00:00:00:00:01"), address(socket.AF_INET, "10.0.0.2")],
}


def test_gloo_talks_over_the_way_to_the_other_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(rendezvous, "interface_towards", lambda address: asked.append(address) or "ib0")
    monkeypatch.setattr(socket, "gethostname", lambda: "n1")
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    choose_interface("10.0.0.1", place(1))  # on the node of rank 0, which MASTER_ADDR is an address of
    assert asked == ["n2"] and os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth7")  # as the site profile says
    choose_interface("10.0.0.1", place(2))
    assert asked == ["n2", "10.0.0.1"] and os.environ["GLOO_SOCKET_IFNAME"] == "eth7"  # asked whether it is elsewhere
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    choose_interface("10.0.0.1", place(2))
    assert asked == ["n2", "10.0.0.1", "10.0.0.1"] and os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    choose_interface("10.0.0.1", place(0, 2))  # all on one node
    assert "GLOO_SOCKET_IFNAME" not in os.environ and len(asked) == 3


@pytest.mark.parametrize(
    ("named", "exact", "said"),
    [
        ("lo", True, "interface=lo of the site profile leads to no other node from"),
        ("lo", False, "interface=lo of the site profile leads to no other node from"),
        ("ib7", True, "interface=ib7 of the site profile is not there on"),
        ("ib", False, ""),  # NCCL takes the beginning of a name
    ],
)
def test_an_interface_that_leads_nowhere_is_refused(
    monkeypatch: pytest.MonkeyPatch, named: str, exact: bool, said: str
) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", named)
    if not said:
        choose_interface("10.0.0.1", place(0), exact=exact)
        return
    with pytest.raises(Unreachable, match=said) as seen:
        choose_interface("10.0.0.1", place(0), exact=exact)
    assert "(eth7)" in str(seen.value) and classify(seen.value, 0).kind == "network"


def test_an_address_of_rank_0_that_is_the_loopback_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "net_if_addrs", lambda: INTERFACES)
    for named in ("eth7", ""):
        monkeypatch.setenv("GLOO_SOCKET_IFNAME", named)
        with pytest.raises(Unreachable, match=r"takes 127.0.1.1 for itself .* interface in the site profile"):
            choose_interface("127.0.1.1", place(2))


def test_the_store_keeps_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendezvous, "MEET_S", 1.0)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="cannot reach rank 0"):
        open_store(LOOPBACK, free_port(), place(1))
    assert time.monotonic() - begun < 10
    assert timedelta(seconds=rendezvous.MEET_S) < timedelta(seconds=rendezvous.MESH_S)
