"""Brings a throw-away Slurm up and takes it down, whatever has become of it meanwhile."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from throwaway import daemons, machines, network, settings
from throwaway.layout import CONTROLLER, ClusterError, Layout, prefix, until

LOCK = "lock"  # held for as long as a start takes
READY = "ready"  # there once a start is done
State = Literal["none", "starting", "up", "broken"]


def up(folder: Path, *, say: Callable[[str], None] = lambda _: None, **sizes: int) -> Layout:
    """Bring a cluster up.

    Args:
        folder: a new or empty one, absolute.
        say: is told what has been reached.
        sizes: nodes and the others of `Layout`.

    Raises:
        ClusterError: it cannot be; nothing is left of it, and the last lines of its logs are in the message.
    """
    Layout(folder=folder, network="", **sizes)  # what it refuses is refused before anything is made
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o755)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise ClusterError(f"{folder} is somebody else's")
    if any(folder.iterdir()):
        raise ClusterError(f"{folder} is not empty")
    held = os.open(folder / LOCK, os.O_CREAT | os.O_EXCL | os.O_RDWR)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        return _up(folder, say, sizes)
    except BaseException as error:
        logs = _last_lines(folder / "logs")
        down(folder)
        if isinstance(error, (ClusterError, OSError)):
            raise ClusterError("\n".join([str(error), *logs])) from None
        raise
    finally:
        os.close(held)


def _up(folder: Path, say: Callable[[str], None], sizes: dict[str, int]) -> Layout:
    layout = Layout(folder=folder, network=network.lay(folder), **sizes)
    settings.write(layout)
    layout.save()
    for machine in (CONTROLLER, *layout.names):
        machines.boot(layout, machine)
        network.plug(layout, machine)
    say("machines and network")
    daemons.start_munge(layout)
    daemons.make_database(layout)
    daemons.start_database(layout)
    daemons.start_accounting(layout)
    say("accounting")
    daemons.start_controller(layout)
    for node in layout.names:
        daemons.start_node(layout, node)
    until(lambda: daemons.states(layout) == dict.fromkeys(layout.names, "idle"), "all nodes are idle", 60)
    say("nodes")
    (folder / READY).touch()
    return layout


def _last_lines(logs: Path) -> list[str]:
    """What each daemon said last."""
    texts = {path.name: path.read_text(errors="replace").splitlines()[-5:] for path in sorted(logs.glob("*"))}
    return [f"{name}: {line}" for name, lines in texts.items() for line in lines]


def state(folder: Path) -> State:
    """What there is of a cluster: one that is up may have nodes that are off, one that is broken has no controller."""
    if not folder.exists():
        return "broken" if machines.processes(folder) or network.links(folder) else "none"
    if not (folder / LOCK).exists():
        return "none"
    with open(folder / LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB | fcntl.LOCK_NB)
        except BlockingIOError:
            return "starting"
    if not (folder / READY).exists():
        return "broken"
    return "up" if "slurmctld" in machines.members(Layout.load(folder), CONTROLLER).values() else "broken"


def down(folder: Path) -> bool:
    """End a cluster and what is left of one, its jobs with it.

    Returns:
        Whether there was anything.

    Raises:
        ClusterError: something stays; the message names it.
    """
    ours = (folder / LOCK).exists() or (folder.exists() and not any(folder.iterdir()))
    there = bool(machines.processes(folder) or network.links(folder) or ours)
    machines.kill(folder)
    network.remove(folder)
    if ours:
        shutil.rmtree(folder)
    elif there and folder.exists():
        raise ClusterError(f"{folder} holds what no {prefix(folder)} made, and stays")
    return there
