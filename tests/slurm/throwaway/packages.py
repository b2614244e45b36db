"""What a throw-away Slurm needs on this machine, and how it gets there."""

import os
import shutil
import subprocess
from pathlib import Path

from throwaway.layout import SEARCH, ClusterError, run

# Programs, and Debian's package of each.
PROGRAMS = {
    "slurmctld": "slurm-wlm", "slurmd": "slurm-wlm", "sbatch": "slurm-wlm", "sacctmgr": "slurm-wlm",
    "slurmdbd": "slurmdbd", "munged": "munge", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server",
    "nft": "nftables", "ip": "iproute2", "tc": "iproute2", "unshare": "util-linux", "nsenter": "util-linux",
    "setsid": "util-linux", "mount": "mount", "hostname": "hostname",
}  # fmt: skip
BOOTED = Path("/run/systemd/system")  # by which sd_booted(3) tells
SERVICES = ("mariadb", "munge", "slurmctld", "slurmd", "slurmdbd")


def missing() -> list[str]:
    """The programs that are not there."""
    return [name for name in PROGRAMS if shutil.which(name, path=SEARCH) is None]


def install() -> bool:
    """Install what is missing, with apt-get's own words on the terminal.

    Returns:
        Whether anything was.

    Raises:
        ClusterError: it may not or cannot be; one line that names what is missing.
    """
    lacks = missing()
    packages = " ".join(dict.fromkeys(PROGRAMS[name] for name in lacks))
    needs = f"; not installed: {', '.join(lacks)} (Debian: apt-get install {packages})" if lacks else ""
    if os.geteuid() != 0:
        raise ClusterError(f"makes namespaces and network links, which needs root{needs}")
    if not lacks:
        return False
    if shutil.which("apt-get", path=SEARCH) is None:
        raise ClusterError(f"there is no apt-get here to install what is missing{needs}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages.split()]):
        done = subprocess.run(["apt-get", *words], env=environment, stdin=subprocess.DEVNULL)
        if done.returncode:
            raise ClusterError(f"apt-get {words[0]} ended with status {done.returncode}{needs}")
    if lacks := missing():
        raise ClusterError(f"{packages} are installed, and still there is no {', '.join(lacks)}")
    return True


def services() -> str:
    """What of the packages starts by itself, in a line."""
    if not BOOTED.is_dir():
        return "no systemd runs here, so that no service of the packages starts with the machine"
    states = {name: run("systemctl", "is-enabled", name, check=False).stdout.strip() for name in SERVICES}
    enabled = " ".join(name for name, state in states.items() if state == "enabled")
    if not enabled:
        return "none of the packages' services is enabled in systemd"
    return f"the packages enabled in systemd: {enabled} (`systemctl disable --now {enabled}` ends them)"
