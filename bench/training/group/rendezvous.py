"""How the ranks of a run find each other before there is a process group: whoever does not come is named."""

import contextlib
import ipaddress
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import timedelta

import psutil
import torch.distributed as dist

from bench.config.environment import PORT_MAX, RankEnvironment
from bench.measure.failure import Failure, RankLost, one_line

# From when rank 0 is there. A rank needs seconds to import torch, on a cold shared disk tens; a node that is held for a
# rank that will never come costs all of the others.
MEET_S = 60.0
MESH_S = 120.0  # from then on; NCCL takes its time on many nodes
MARGIN_S = 2.0
POLL_S = 0.1
PORTS = 4  # from MASTER_PORT on, of which rank 0 takes the first that is free
LOOK_S = 0.5  # between two looks at them
ANSWER_S = 5.0  # in which a store says that it is one, and whose
FOREIGN_S = 15.0  # until a port where somebody else listens is looked at again
RUN_KEY, FAULT_KEY = "run", "fault"
SHOWN = 8  # ranks that a message names


class Unreachable(ConnectionError):
    """Ranks that are there cannot talk to each other; the message is one line with what to set."""


def open_store(address: str, port: int, place: RankEnvironment, run: str = "") -> tuple[dist.TCPStore, int]:
    """Serve, on rank 0, the store that the ranks meet at; connect to it on the others.

    Where the port is taken rank 0 takes one of the next, and the others look there too.

    Args:
        run: says which run it is, so that the store of another one is not taken for it.

    Returns:
        The store, its port.

    Raises:
        Unreachable: all of the ports are taken, or rank 0 did not answer within `MEET_S`.
    """
    ports = range(port, min(port + PORTS, PORT_MAX + 1))
    return _serve(address, ports, place, run) if place.rank == 0 else _find(address, ports, place, run)


def _serve(address: str, ports: Sequence[int], place: RankEnvironment, run: str) -> tuple[dist.TCPStore, int]:
    for port in ports:
        answer = _store(address, port, place, MEET_S)
        if isinstance(answer, dist.TCPStore):
            answer.set(RUN_KEY, f"run {run}")
            return answer, port
        if "EADDRINUSE" not in str(answer):
            raise Unreachable(
                f"{place.host()} cannot serve at {address}:{port}, where the ranks were to meet: {one_line(answer)}"
            ) from answer
    raise Unreachable(
        f"MASTER_PORT={ports[0]}, where the ranks were to meet, is taken on {place.host()}, and so are the "
        f"{len(ports) - 1} ports after it: start the run again, which takes others, or set MASTER_PORT"
    )


def _find(address: str, ports: Sequence[int], place: RankEnvironment, run: str) -> tuple[dist.TCPStore, int]:
    deadline = time.monotonic() + MEET_S
    foreign: dict[int, float] = {}  # when to look there again, by port
    while (now := time.monotonic()) < deadline:
        for port in ports:
            if now < foreign.get(port, 0.0) or not _listens(address, port):
                continue
            answer = _store(address, port, place, ANSWER_S)
            if isinstance(answer, dist.TCPStore) and _is_of(answer, run):
                return answer, port
            foreign[port] = time.monotonic() + FOREIGN_S
        time.sleep(LOOK_S)
    if foreign:
        raise Unreachable(
            f"what listens at {address}:{min(foreign)} is not rank 0 of this run: start it again, which takes another "
            "port, or set MASTER_PORT"
        )
    raise Unreachable(
        f"{place.host()} cannot reach rank 0 at {address}:{ports[0]} within {MEET_S:.0f} s: if rank 0 runs, name the "
        "network between the nodes as interface in the site profile"
    )


def _store(address: str, port: int, place: RankEnvironment, limit_s: float) -> dist.TCPStore | BaseException:
    """A store, or why there is none."""
    found: list[dist.TCPStore | BaseException] = []

    def connect() -> None:
        try:
            limit = timedelta(seconds=limit_s)
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
    thread.join(limit_s + MARGIN_S)
    return found[0] if found else TimeoutError(f"no answer within {limit_s:.0f} s")


def _is_of(store: dist.TCPStore, run: str) -> bool:
    try:
        store.wait([RUN_KEY], timedelta(seconds=ANSWER_S))
        return bool(store.get(RUN_KEY).decode() == f"run {run}")
    except Exception:  # a store of somebody else's, in whatever words of the client
        return False


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
        Unreachable: on rank 0, what another has told it; see `tell`.
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
        if store.check([FAULT_KEY]):
            raise Unreachable(store.get(FAULT_KEY).decode())
        if time.monotonic() > deadline:
            raise RankLost(missing_ranks(missing, place))
        time.sleep(POLL_S)
    store.set("met", "all")


def tell(store: dist.Store, fault: Unreachable) -> None:
    """Tell rank 0 why this rank cannot come, and wait until rank 0 has ended with it.

    Whoever ended at once would take rank 0 along: srun ends all ranks after the first, rank 0 perhaps while it still
    imports torch, and nobody would be left to write a row.
    """
    store.set(FAULT_KEY, str(fault))
    with contextlib.suppress(Exception):  # in whatever words: the store is gone with rank 0
        store.wait(["met"], timedelta(seconds=MEET_S))


def missing_ranks(missing: Sequence[int], place: RankEnvironment) -> str:
    """Say in one line which ranks did not come."""
    named = [place.named(rank) for rank in missing[:SHOWN]]
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


def choose_interface(address: str, place: RankEnvironment, *, exact: bool = True) -> None:
    """Let gloo talk over the network that leads to the other nodes, unless one was named or there are none.

    By itself it takes the address that this host's own name has, which may be the loopback.

    Args:
        address: MASTER_ADDR; for ranks on the node of rank 0 the way to the next node counts.
        exact: whether what was named has to be an interface's whole name, as for gloo; NCCL takes more.

    Raises:
        Unreachable: see `interface_towards`; or what was named is not there, or the loopback.
    """
    if place.nodes == 1:
        return
    if named := os.environ.get("GLOO_SOCKET_IFNAME"):
        _check_interface(named, place, exact)
        if place.node:
            interface_towards(address)  # which refuses an address that is the loopback here
    else:
        os.environ["GLOO_SOCKET_IFNAME"] = interface_towards(towards(address, place))


def towards(address: str, place: RankEnvironment) -> str:
    """Another node of the run: that of rank 0 at this address, or the next one for ranks that are there."""
    others = [host for host in place.hosts if host != place.host()]
    return others[0] if place.node == 0 and others else address


def _check_interface(named: str, place: RankEnvironment, exact: bool) -> None:
    there = psutil.net_if_addrs()
    usable = [
        name for name, addresses in there.items() if any(_is_network(one.family, one.address) for one in addresses)
    ]
    choice = f"name the network between the nodes ({', '.join(usable) or 'there is none here'})"
    for name in named.split(","):
        if name in there and name not in usable:
            raise Unreachable(
                f"interface={name} of the site profile leads to no other node from {place.host()}: {choice}"
            )
        if name not in there and exact:
            raise Unreachable(f"interface={name} of the site profile is not there on {place.host()}: {choice}")


def _is_network(family: int, address: str) -> bool:
    if family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return not ipaddress.ip_address(address.partition("%")[0]).is_loopback
