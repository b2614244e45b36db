"""Connections between the nodes of a run over which nothing is said: the kernel tells of one that is cut.

A rank that waits in a collective for one that it no longer reaches waits for ever, and rank 0 learns nothing of a cut
between two others. So each node's first rank keeps a connection to each other node, on which the two kernels ask for
signs of life (TCP keepalive) whatever their processes do: a compile that holds the interpreter is no cut, nor is a
Ctrl-Z.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import queue
import socket
import threading
import time
from collections.abc import Mapping

import psutil
import torch.distributed as dist

from bench.config.environment import RankEnvironment
from bench.training.group.rendezvous import Unreachable, towards

IDLE_S, INTERVAL_S, PROBES = 4, 4, 5
CUT_S = IDLE_S + INTERVAL_S * PROBES  # after at most so long an end knows that it has lost the other
CONNECT_S = 30.0
RETRY_S = 1.0
HELLO_S = 10.0  # for who connects to say who it is
# How a connection ends whose other end was closed: its process is gone, and its node answers.
CLOSED = (errno.ECONNRESET, errno.EPIPE)
NODE_BYTES = 4
BACKLOG = 1024


def open_links(store: dist.Store, address: str, place: RankEnvironment, run: str) -> "Links":
    """Listen for the other nodes of a run and say where, before the ranks have met.

    Args:
        address: MASTER_ADDR.
        run: see `Links`.

    Raises:
        Unreachable: this node has no address on the network between the nodes.
    """
    interfaces = os.environ.get("GLOO_SOCKET_IFNAME", "")
    try:
        links = Links(place.node, own_address(interfaces, towards(address, place)), run)
    except OSError as error:
        raise Unreachable(
            f"{place.host()} has no address on the network between the nodes ({error.strerror or error}): "
            "name it as interface in the site profile"
        ) from error
    store.set(f"links/{place.node}", links.place)
    return links


def connect_links(links: "Links", store: dist.Store, nodes: int) -> None:
    """Connect to the other nodes, once the ranks have met."""
    places = store.multi_get([f"links/{node}" for node in range(nodes)])
    links.connect({node: place.decode() for node, place in enumerate(places)})


class Links:
    """This node's connections to the other nodes of a run.

    Args:
        node: its number.
        address: of it, as the other nodes reach it.
        run: the same on all nodes, and of no other run.
    """

    def __init__(self, node: int, address: str, run: str) -> None:
        self.node, self._token = node, hashlib.sha256(run.encode()).digest()
        family, _, _, _, place = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        self._listening = socket.create_server(place, family=family, backlog=BACKLOG)
        self.place = f"{address} {self._listening.getsockname()[1]}"
        self._lost: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def connect(self, places: Mapping[int, str]) -> None:
        """Begin to connect to the nodes before this one, and let those after it connect.

        Args:
            places: by node, what its `place` is.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop, places), name="links", daemon=True)
        self._thread.start()

    def lost(self) -> list[int]:
        """The nodes that this one has lost, or never reached, since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lost.get_nowait())
        return found

    def close(self) -> None:
        """Close all connections, which no other node takes for a cut."""
        if self._loop and self._thread:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop = None
        self._listening.close()

    def _run(self, loop: asyncio.AbstractEventLoop, places: Mapping[int, str]) -> None:
        tasks = [loop.create_task(self._serve())]
        tasks += [loop.create_task(self._reach(node, place)) for node, place in places.items() if node < self.node]
        loop.run_forever()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop), return_exceptions=True))
        loop.run_until_complete(asyncio.sleep(0))  # in which sockets are closed
        loop.close()

    async def _serve(self) -> None:
        async with await asyncio.start_server(self._answer, sock=self._listening) as server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            said = await asyncio.wait_for(reader.readexactly(len(self._token) + NODE_BYTES), HELLO_S)
        except (asyncio.IncompleteReadError, OSError):
            said = b""  # whoever that was
        if not said.startswith(self._token):
            writer.close()
            return
        # Of a task that it has made itself, asyncio complains where it is cancelled.
        with contextlib.suppress(asyncio.CancelledError):
            await self._until_it_ends(int.from_bytes(said[-NODE_BYTES:], "big"), reader, writer)

    async def _reach(self, node: int, place: str) -> None:
        address, port = place.split()
        deadline = time.monotonic() + CONNECT_S
        while (left_s := deadline - time.monotonic()) > 0:
            try:
                reader, writer = await asyncio.wait_for(asyncio.open_connection(address, int(port)), left_s)
            except OSError:  # TimeoutError is one
                await asyncio.sleep(RETRY_S)
                continue
            writer.write(self._token + self.node.to_bytes(NODE_BYTES, "big"))
            await self._until_it_ends(node, reader, writer)
            return
        self._lost.put(node)

    async def _until_it_ends(self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line: socket.socket = writer.get_extra_info("socket")
        line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL_S)
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)
        try:
            await reader.read()
        except OSError as error:
            if error.errno not in CLOSED:
                self._lost.put(node)
        finally:
            writer.close()


def own_address(interfaces: str, towards: str) -> str:
    """The address of this node on the network that a run talks over.

    Args:
        interfaces: names with commas between them, as in GLOO_SOCKET_IFNAME; the first one that is there counts.
        towards: another node of the run, the way to which counts where none is there: NCCL takes a name's beginning.

    Raises:
        OSError: there is no way to it.
    """
    there = psutil.net_if_addrs()
    for name in interfaces.split(","):
        for wanted in (socket.AF_INET, socket.AF_INET6):
            for one in there.get(name, []):
                if one.family == wanted:
                    return str(one.address)
    family, _, _, _, target = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(target)  # sends nothing: the system only looks for the way
        return str(probe.getsockname()[0])
