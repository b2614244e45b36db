"""How the ranks of a run find each other before there is a process group: whoever does not come is named."""

import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import psutil
import torch.distributed as dist

from bench.config.environment import RankEnvironment
from bench.measure.failure import Failure, RankLost

# From when rank 0 is there. A rank needs seconds to import torch, on a cold shared disk tens; a node that is held for a
# rank that will never come costs all of the others.
MEET_S = 60.0
MESH_S = 120.0  # from then on; NCCL takes its time on many nodes
MARGIN_S = 2.0
POLL_S = 0.1
SHOWN = 8  # ranks that a message names


class Unreachable(ConnectionError):
    """Ranks that are there cannot talk to each other; the message is one line with what to set."""


def open_store(address: str, port: int, place: RankEnvironment) -> dist.TCPStore:
    """Serve, on rank 0, the store that the ranks meet at; connect to it on the others.

    Raises:
        Unreachable: the port is taken, or rank 0 did not answer within `MEET_S`.
    """
    found: list[dist.TCPStore | BaseException] = []

    def connect() -> None:
        try:
            limit = timedelta(seconds=MEET_S)
            found.append(
                dist.TCPStore(
                    address, port, place.world_size, is_master=place.rank == 0, timeout=limit, wait_for_workers=False
                )
            )
        except BaseException as error:
            found.append(error)

    # Against a listener that is no store, and says nothing, its own limit does not hold.
    thread = threading.Thread(target=connect, name="rendezvous", daemon=True)
    thread.start()
    thread.join(MEET_S + MARGIN_S)
    if not found and _listens(address, port):
        raise Unreachable(
            f"what listens at {address}:{port} is not rank 0 of this run: start it again, which takes another port, or "
            "set MASTER_PORT"
        )
    answer = found[0] if found else TimeoutError()
    if isinstance(answer, dist.TCPStore):
        return answer
    if place.rank == 0 and "EADDRINUSE" in str(answer):
        raise Unreachable(
            f"MASTER_PORT={port}, where the ranks were to meet, is taken on {place.host()}: start the run again, which "
            "takes another, or set MASTER_PORT"
        ) from answer
    if isinstance(answer, dist.DistNetworkError | dist.DistStoreError | TimeoutError):
        raise Unreachable(
            f"{place.host()} cannot reach rank 0 at {address}:{port} within {MEET_S:.0f} s: if rank 0 runs, name the "
            "network between the nodes as interface in the site profile"
        ) from answer
    raise answer


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=MARGIN_S):
            return True
    except OSError:
        return False


def meet(store: dist.Store, place: RankEnvironment) -> None:
    """Wait until all ranks have come to the store.

    Raises:
        RankLost: some did not within `MEET_S`; on rank 0 the message names them and their hosts.
    """
    store.set(f"met/{place.rank}", place.host())
    if place.rank:
        try:
            # Rank 0 began to wait before this rank or after it; when it gives up, its store goes with it.
            store.wait(["met"], timedelta(seconds=2 * MEET_S))
        except Exception:
            raise RankLost("rank 0 has given up waiting for all ranks: its log names those that are missing") from None
        return
    missing = list(range(1, place.world_size))
    deadline = time.monotonic() + MEET_S
    while missing := [rank for rank in missing if not store.check([f"met/{rank}"])]:
        if time.monotonic() > deadline:
            raise RankLost(missing_ranks(missing, place))
        time.sleep(POLL_S)
    store.set("met", "all")


def missing_ranks(missing: Sequence[int], place: RankEnvironment) -> str:
    """Say in one line which ranks did not come."""
    named = [f"rank {rank}{f' ({host})' if (host := place.host(rank)) else ''}" for rank in missing[:SHOWN]]
    more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
    return (
        f"{len(missing)} of {place.world_size} ranks did not come within {MEET_S:.0f} s: {', '.join(named)}{more}; "
        "their logs say why, where they were started"
    )


def no_mesh(place: RankEnvironment) -> Failure:
    """What it means that a rank has met rank 0, and cannot make a process group with all others."""
    return Failure(
        "failed", "network",
        f"rank {place.rank} ({place.host()}) has met rank 0 and could not reach all other ranks within {MESH_S:.0f} s: "
        "name the network between the nodes as interface in the site profile",
        place.rank,
    )  # fmt: skip


def interface_towards(address: str) -> str:
    """The network interface over which this machine reaches an address, such as "ib0".

    Raises:
        Unreachable: there is no way, or it is the loopback, which other machines cannot answer over.
    """
    try:
        family, _, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(target)  # sends nothing: the system only looks for the way
            own = probe.getsockname()[0]
    except OSError as error:
        raise Unreachable(
            f"{socket.gethostname()} knows no way to {address} ({error.strerror or error}): "
            "name the network between the nodes as interface in the site profile"
        ) from error
    if ipaddress.ip_address(own.partition("%")[0]).is_loopback:
        raise Unreachable(
            f"{socket.gethostname()} takes {address} for itself ({own}), as /etc/hosts of some distributions has it: "
            "name the network between the nodes as interface in the site profile"
        )
    return next(
        name for name, addresses in psutil.net_if_addrs().items() if any(one.address == own for one in addresses)
    )


def choose_interface(address: str, place: RankEnvironment) -> None:
    """Let gloo talk over the network that leads to the other nodes, unless one was named or there are none.

    By itself it takes the address that this host's own name has, which may be the loopback.

    Args:
        address: MASTER_ADDR; for ranks on the node of rank 0 the way to the next node counts.

    Raises:
        Unreachable: see `interface_towards`.
    """
    others = [host for host in place.hosts if host != place.host()]
    if os.environ.get("GLOO_SOCKET_IFNAME") or place.local_world_size == place.world_size:
        return
    with_rank_0 = place.rank < place.local_world_size
    os.environ["GLOO_SOCKET_IFNAME"] = interface_towards(others[0] if with_rank_0 and others else address)
