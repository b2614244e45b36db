"""The network of a throw-away Slurm: a bridge, a cable to each machine, and what may go wrong with one."""

import contextlib
import fcntl
import ipaddress
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from throwaway.layout import CONTROLLER, SEARCH, ClusterError, Layout, prefix, run
from throwaway.machines import alive, call, inside

# Where a free network of 254 addresses is looked for: parts of the ranges that are nobody's (RFC 1918).
RANGES = ("10.77.0.0/16", "172.29.0.0/16", "192.168.0.0/16")
# Drops silently what comes from those in the set, as a broken cable would; a rule for what goes out would be an error.
CUT = """\
table inet cut {
    set others { type ipv4_addr; }
    chain arriving { type filter hook input priority 0; ip saddr @others drop; }
}
"""


def taken() -> list[ipaddress.IPv4Network]:
    """The networks that this machine knows a way to, but for the ways to everywhere."""
    shown = json.loads(run("ip", "-json", "-4", "route", "show", "table", "all").stdout or "[]")
    places = [ipaddress.IPv4Network(route["dst"], strict=False) for route in shown if route["dst"] != "default"]
    # Some tunnels say "everywhere" in two halves.
    return [place for place in places if place.prefixlen >= 8]


def free(known: list[ipaddress.IPv4Network]) -> str:
    """The first three numbers of a network that overlaps with none of those known.

    Raises:
        ClusterError: there is none.
    """
    for wide in RANGES:
        for network in ipaddress.IPv4Network(wide).subnets(new_prefix=24):
            if not any(network.overlaps(other) for other in known):
                return str(network.network_address).rpartition(".")[0]
    raise ClusterError(f"no free network of 254 addresses in {', '.join(RANGES)}: see `ip route show table all`")


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold what every start of a cluster on this machine holds while it chooses a network; leaves no file."""
    held = os.open("/run", os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def lay(folder: Path) -> str:
    """Make the bridge of a folder's cluster.

    Returns:
        The first three numbers of its addresses.
    """
    bridge = prefix(folder)
    with _alone():
        network = free(taken())
        run("ip", "link", "add", bridge, "type", "bridge")
        run("ip", "addr", "add", f"{network}.254/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
    return network


def plug(layout: Layout, machine: str) -> None:
    """Join a machine that is on to the network."""
    link = layout.link(machine)
    # Always the same hardware address: who knew it before its power was cut finds it again.
    hardware = "02:00:" + ":".join(f"{int(part):02x}" for part in layout.address(machine).split("."))
    inner = ["peer", "name", "eth0", "address", hardware, "netns", str(alive(layout, machine))]
    run("ip", "link", "add", link, "type", "veth", *inner)
    run("ip", "link", "set", link, "master", layout.bridge, "up")
    lines = f"link set lo up\naddr add {layout.address(machine)}/24 dev eth0\nlink set eth0 up\n"
    call(layout, machine, "ip", "-batch", "-", input=lines)


def unplug(layout: Layout, machine: str) -> None:
    """Take a machine's cable away, so that nobody hears of it again: not even that its connections have ended."""
    run("ip", "link", "del", layout.link(machine))


def links(folder: Path) -> list[str]:
    """The network links of a folder's cluster, cables first."""
    if shutil.which("ip", path=SEARCH) is None:
        return []  # what makes them is not even installed
    named = [link["ifname"] for link in json.loads(run("ip", "-json", "link", "show").stdout or "[]")]
    return sorted((name for name in named if name.partition("-")[0] == prefix(folder)), key=len, reverse=True)


def remove(folder: Path) -> None:
    """Take all links of a folder's cluster away."""
    for name in links(folder):
        run("ip", "link", "del", name, check=False)  # a cable goes with its machine, perhaps a moment ago
    if left := links(folder):
        raise ClusterError(f"the network links {', '.join(left)} are still there")


def cut(layout: Layout, one: str, other: str) -> None:
    """Let two machines, of which one may be the controller, lose all that they send each other."""
    for here, there in ((one, other), (other, one)):
        if call(layout, here, "nft", "list", "table", "inet", "cut", check=False).returncode:
            call(layout, here, "nft", "-f", "-", input=CUT)
        call(layout, here, "nft", f"add element inet cut others {{ {layout.address(there)} }}")


def heal(layout: Layout, one: str, other: str) -> None:
    """Undo a cut; where there was none nothing happens."""
    for here, there in ((one, other), (other, one)):
        element = f"delete element inet cut others {{ {layout.address(there)} }}"
        call(layout, here, "nft", element, check=False)


def heal_all(layout: Layout) -> None:
    """Undo all cuts between machines that are on."""
    for machine in (CONTROLLER, *layout.names):
        call(layout, machine, "nft", "delete", "table", "inet", "cut", check=False)


def limit(layout: Layout, machine: str, rate: str | None) -> None:
    """Let a machine send and receive no more than a rate, in tc's words ("10mbit"); None lifts the limit."""
    for enter, link in (([], layout.link(machine)), (inside(layout, machine), "eth0")):
        if rate is None:
            run(*enter, "tc", "qdisc", "del", "dev", link, "root", check=False)  # perhaps there is none
        else:
            bucket = ["tbf", "rate", rate, "burst", "32kb", "latency", "200ms"]
            run(*enter, "tc", "qdisc", "replace", "dev", link, "root", *bucket)
