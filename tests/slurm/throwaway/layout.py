"""How a throw-away Slurm is laid out: its folder, its machines, their names and addresses.

Everything outside the folder has a name that follows from the folder's path. So two clusters never share one, and what
an interrupted start left is found without any note.
"""

import dataclasses
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

CONTROLLER = "ctl"
MOST_NODES = 200
# With a longer folder the socket of munge or of the database has no valid path (108 bytes with the name and its end).
LONGEST_FOLDER = 80
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


class ClusterError(RuntimeError):
    """The cluster cannot do what it was asked for; the message begins with one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A cluster's size and place.

    Attributes:
        folder: where its files lie, absolute.
        network: the first three numbers of its addresses, such as "10.77.0".
        nodes: how many; they are called n1 and so on.
        cpus: of a node, for Slurm: more than the machine has do no harm.
        memory_mb: of a node, for Slurm.
        gpus: pretend GPUs of a node.
        max_array: Slurm's MaxArraySize, one more than the highest index of an array.
        grace_s: seconds between a preempted job's SIGTERM and its end.
    """

    folder: Path
    network: str
    nodes: int = 4
    cpus: int = 16
    memory_mb: int = 8000
    gpus: int = 4
    max_array: int = 1001
    grace_s: int = 20

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= MOST_NODES:
            raise ClusterError(f"nodes={self.nodes}, expected 1 to {MOST_NODES}")
        if len(os.fsencode(self.folder)) > LONGEST_FOLDER:
            raise ClusterError(
                f"{self.folder}: at most {LONGEST_FOLDER} bytes, since sockets lie in it; try one in /tmp"
            )

    @property
    def names(self) -> list[str]:
        return [f"n{index}" for index in range(1, self.nodes + 1)]

    @property
    def bridge(self) -> str:
        return prefix(self.folder)

    def link(self, machine: str) -> str:
        """The outer end of a machine's cable, in the bridge."""
        return f"{prefix(self.folder)}-{machine}"

    def address(self, machine: str) -> str:
        """The address of a node, of the controller, or, for "host", of the machine that the cluster is on."""
        if machine in (CONTROLLER, "host"):
            return f"{self.network}.{1 if machine == CONTROLLER else 254}"
        if machine not in self.names:
            raise ClusterError(f"{machine}: no such machine; choose from {', '.join([CONTROLLER, *self.names])}")
        return f"{self.network}.{10 + int(machine[1:])}"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def profiles(self) -> Path:
        return self.folder / "profiles"

    def environment(self) -> dict[str, str]:
        """With which commands reach the cluster: without what is left of another Slurm's job."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SBATCH_"))}
        places = {"SLURM_CONF": str(self.folder / "slurm.conf"), "RESNET_BENCH_CLUSTERS": str(self.profiles)}
        return {**kept, "PATH": SEARCH, **places}

    def save(self) -> None:
        values = dataclasses.asdict(self) | {"folder": str(self.folder)}
        (self.folder / "layout.json").write_text(json.dumps(values))

    @classmethod
    def load(cls, folder: Path) -> Self:
        values = json.loads((folder / "layout.json").read_text())
        return cls(**values | {"folder": folder})


def prefix(folder: Path) -> str:
    """With what the names of a folder's network links begin: Linux allows 15 characters for the whole name."""
    return f"rb{hashlib.sha256(os.fsencode(folder)).hexdigest()[:7]}"


def run(*command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command and take its output.

    Raises:
        ClusterError: it failed, unless `check` is false; its last words are in the message.
    """
    options = {"env": {**os.environ, "PATH": SEARCH}, "capture_output": True, "text": True, **options}
    done: subprocess.CompletedProcess[str] = subprocess.run(command, **options)  # type: ignore[call-overload]
    if check and done.returncode:
        said = " ".join(f"{done.stdout or ''} {done.stderr or ''}".split())
        raise ClusterError(f"{' '.join(command)}: status {done.returncode}: {said[-500:]}")
    return done


def until(true: Callable[[], object], what: str, patience_s: float = 30.0) -> None:
    """Wait for something to become true.

    Raises:
        ClusterError: it did not.
    """
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise ClusterError(f"{what}: still not so after {patience_s:.0f} s")
        time.sleep(0.05)
