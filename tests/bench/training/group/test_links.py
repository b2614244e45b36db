"""Connections between nodes: whoever closes one is no cut, and whom one never reaches, or stops hearing, is."""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Iterator

import pytest
import torch.distributed as dist

from bench.config.environment import LOOPBACK, RankEnvironment
from bench.training.group import links
from bench.training.group.links import Links, connect_links, open_links
from bench.training.group.rendezvous import Unreachable
from bench.training.ranks import free_port


def wait(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


@pytest.fixture
def three() -> Iterator[list[Links]]:
    nodes = [Links(node, LOOPBACK, "this run") for node in range(3)]
    yield nodes
    for node in nodes:
        node.close()


def connected(port: int) -> int:
    """How many connections lead to a port, as the kernel counts them."""
    with open("/proc/net/tcp") as table:
        return sum(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "01" for line in table)


def test_all_nodes_connect_and_none_that_leaves_is_a_cut(three: list[Links]) -> None:
    places = {node.node: node.place for node in three}
    ports = [int(place.split()[1]) for place in places.values()]
    for node in three:
        node.connect(places)
    assert wait(lambda: [connected(port) for port in ports] == [2, 1, 0])  # each to those before it
    three[1].close()
    assert wait(lambda: [connected(port) for port in ports] == [1, 0, 0])
    assert [node.lost() for node in three] == [[], [], []]


def test_a_node_that_is_never_reached_is_lost(monkeypatch: pytest.MonkeyPatch, three: list[Links]) -> None:
    monkeypatch.setattr(links, "CONNECT_S", 0.3)
    monkeypatch.setattr(links, "RETRY_S", 0.05)
    three[2].connect({0: f"{LOOPBACK} {free_port()}", 2: three[2].place})
    lost: list[int] = []
    assert wait(lambda: lost.extend(three[2].lost()) or lost)
    assert lost == [0]


def test_whoever_else_connects_is_left_alone(three: list[Links]) -> None:
    three[0].connect({0: three[0].place})
    address, port = three[0].place.split()
    stranger = Links(1, LOOPBACK, "another run")
    stranger.connect({0: three[0].place, 1: stranger.place})
    with socket.create_connection((address, int(port))) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: whoever scans the ports of this network\r\n\r\n")
        assert line.recv(1) == b""  # closed
    stranger.close()
    assert three[0].lost() == [] and three[1].lost() == []


@pytest.mark.parametrize(
    ("number", "lost"),
    [(errno.ETIMEDOUT, [1]), (errno.EHOSTUNREACH, [1]), (errno.ECONNRESET, []), (errno.EPIPE, [])],
)
def test_what_the_kernel_says_at_the_end_of_a_connection_tells_a_cut(
    three: list[Links], number: int, lost: list[int]
) -> None:
    with socket.create_server((LOOPBACK, 0)) as server, socket.create_connection(server.getsockname()) as line:
        closed: list[bool] = []

        class Writer:
            def get_extra_info(self, name: str) -> socket.socket:
                assert name == "socket"
                return line

            def close(self) -> None:
                closed.append(True)

        async def end() -> None:
            reader = asyncio.StreamReader()
            reader.set_exception(OSError(number, "as the kernel has it"))
            await three[0]._until_it_ends(1, reader, Writer())  # type: ignore[arg-type]

        asyncio.run(end())
        tcp = [socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT]
        assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle_s, interval_s, probes = (line.getsockopt(socket.IPPROTO_TCP, option) for option in tcp)
        assert idle_s + interval_s * probes == links.CUT_S <= 30
    assert three[0].lost() == lost and closed


def test_the_nodes_find_each_other_in_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    store = dist.HashStore()
    places = [
        RankEnvironment(rank=rank, world_size=2, local_rank=0, local_world_size=1, hosts=("n1", "n2"))
        for rank in (0, 1)
    ]
    nodes = [open_links(store, LOOPBACK, place, "this run") for place in places]
    for node in nodes:
        connect_links(node, store, 2)
    assert nodes[0].place.startswith(f"{LOOPBACK} ")
    assert wait(lambda: connected(int(nodes[0].place.split()[1])) == 1)
    for node in nodes:
        node.close()


def test_a_node_without_a_way_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib")
    place = RankEnvironment(rank=1, world_size=2, local_rank=0, local_world_size=1)
    with pytest.raises(Unreachable, match="name it as interface in the site profile"):
        open_links(dist.HashStore(), "no.such.host.invalid", place, "this run")
