"""Machines that are namespaces: each has processes, a host name, mounts, shared memory and a network of its own.

The first process of a machine does nothing but be there; when it is killed, the kernel ends all others of the machine,
as a power cut would.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

from throwaway.layout import ClusterError, Layout, run, until

# In the environment of whatever a cluster starts: FOLDER:MACHINE. By it, processes are found that nobody noted.
MARK = "RESNET_BENCH_THROWAWAY"


def environment(layout: Layout, machine: str) -> dict[str, str]:
    return {**layout.environment(), MARK: f"{layout.folder}:{machine}"}


def _numbers() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def processes(folder: Path, machine: str = "") -> list[int]:
    """Processes of this machine that were started for a cluster, or for one machine of it."""
    wanted = f"{MARK}={folder}:{machine}".encode()
    found = []
    for number in _numbers():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = Path(f"/proc/{number}/environ").read_bytes().split(b"\0")
            if any(word == wanted if machine else word.startswith(wanted) for word in words):
                found.append(number)
    return found


def first(layout: Layout, machine: str) -> int | None:
    """The process by which a machine is alive, or None."""
    for number in processes(layout.folder, machine):
        with contextlib.suppress(OSError):
            status = dict(
                line.partition(":\t")[::2] for line in Path(f"/proc/{number}/status").read_text().splitlines()
            )
            # Its number as it is seen from here, and then as it is seen from inside.
            if status["Name"] == "sleep" and status["NSpid"].split()[1:] == ["1"]:
                return number
    return None


def alive(layout: Layout, machine: str) -> int:
    """The first process of a machine.

    Raises:
        ClusterError: the machine is off.
    """
    layout.address(machine)  # which refuses a name that is none
    number = first(layout, machine)
    if number is None:
        raise ClusterError(f"{machine} is off")
    return number


def members(layout: Layout, machine: str) -> dict[int, str]:
    """All processes of a machine, as {number here: name}; none of a machine that is off."""
    one = first(layout, machine)
    found: dict[int, str] = {}
    if one is not None:
        with contextlib.suppress(OSError):
            room = os.stat(f"/proc/{one}/ns/pid").st_ino
            for number in _numbers():
                with contextlib.suppress(OSError):
                    if os.stat(f"/proc/{number}/ns/pid").st_ino == room:
                        found[number] = Path(f"/proc/{number}/comm").read_text().strip()
    return found


def inside(layout: Layout, machine: str) -> list[str]:
    """What stands before a command that is to run in a machine; it begins in the folder /."""
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid"]
    return ["nsenter", f"--target={alive(layout, machine)}", *spaces, "--"]


def call(layout: Layout, machine: str, *command: str, check: bool = True, **options: Any) -> CompletedProcess[str]:
    """Run a command in a machine and take its output; see `run`."""
    words = {"env": environment(layout, machine), **options}
    return run(*inside(layout, machine), *command, check=check, **words)


def boot(layout: Layout, machine: str) -> None:
    """Switch a machine on: it has no network yet and nothing runs in it."""
    spaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    # Whatever loses its parent in the machine becomes a child of its first process, which must not keep it as a zombie.
    idle = ["env", "--ignore-signal=CHLD", "sleep", "infinity"]
    detached(["unshare", *spaces, "--", *idle], layout, machine, log="boot")
    until(lambda: first(layout, machine) is not None, f"{machine} is on", 10)
    call(layout, machine, "hostname", machine)
    call(layout, machine, "mount", "--bind", str(layout.folder / "hosts"), "/etc/hosts")
    # Ranks of two machines must not meet in one memory.
    call(layout, machine, "mount", "-t", "tmpfs", "tmpfs", "/dev/shm")


def start(layout: Layout, machine: str, *daemon: str) -> None:
    """Start what keeps running in a machine; what it prints goes to logs/MACHINE.NAME.out."""
    detached([*inside(layout, machine), *daemon], layout, machine, log=Path(daemon[0]).name)


def detached(command: list[str], layout: Layout, machine: str, log: str) -> None:
    """Start a process that belongs to nobody: neither a terminal's end nor Ctrl-C reaches it."""
    with open(layout.logs / f"{machine}.{log}.out", "ab") as output:
        subprocess.run(
            ["setsid", "--fork", *command], env=environment(layout, machine), check=True,
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip


def kill(folder: Path, machine: str = "") -> None:
    """End all processes of a cluster or of one machine at once, and wait until the kernel has done so."""

    def gone() -> bool:
        left = processes(folder, machine)
        for number in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        return not left

    until(gone, f"processes of {folder} {machine}".rstrip() + " are gone", 15)
