"""The daemons of a throw-away Slurm: how each is started, and how it is known that it answers."""

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

from throwaway.layout import CONTROLLER, ClusterError, Layout, until
from throwaway.machines import call, members, start
from throwaway.settings import ACCOUNT


def make_database(layout: Layout) -> None:
    """Lay the files of an empty database, in memory that goes with the controller and is faster than a disk."""
    call(layout, CONTROLLER, "mount", "-t", "tmpfs", "tmpfs", f"{layout.folder}/db")
    words = ["--no-defaults", "--user=root", f"--datadir={layout.folder}/db", "--skip-test-db"]
    call(layout, CONTROLLER, "mariadb-install-db", *words, "--auth-root-authentication-method=normal")


def start_database(layout: Layout) -> None:
    folder = layout.folder
    words = ["--no-defaults", "--user=root", f"--datadir={folder}/db", f"--socket={folder}/db.socket"]
    words += ["--bind-address=127.0.0.1", f"--pid-file={folder}/db.pid", f"--init-file={folder}/database.sql"]
    words += ["--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--innodb-lock-wait-timeout=900"]
    start(layout, CONTROLLER, "mariadbd", *words, "--skip-name-resolve")


def start_munge(layout: Layout) -> None:
    folder = layout.folder
    words = ["--foreground", "--force", f"--key-file={folder}/munge.key", f"--socket={folder}/munge.socket"]
    words += [
        f"--pid-file={folder}/munge.pid",
        f"--log-file={layout.logs}/munge.log",
        f"--seed-file={folder}/munge.seed",
    ]
    start(layout, CONTROLLER, "munged", *words)


def _up(layout: Layout, name: str, answers: Callable[[], object]) -> None:
    """Wait until a daemon of the controller answers.

    Raises:
        ClusterError: it does not, or has ended.
    """
    began = time.monotonic()

    def there() -> object:
        done = answers()
        # At first it may not even have begun.
        if not done and name not in members(layout, CONTROLLER).values() and time.monotonic() > began + 3:
            raise ClusterError(f"{name} has ended by itself")
        return done

    until(there, f"{name} answers", 60)


def _listens(path: Path) -> bool:
    """Whether somebody listens on a socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(os.fsencode(path)) == 0


def start_accounting(layout: Layout) -> None:
    """Start slurmdbd once munge and the database answer, and tell it of the cluster, an account and root."""
    _up(layout, "munged", lambda: _listens(layout.folder / "munge.socket"))
    _up(layout, "mariadbd", lambda: _listens(layout.folder / "db.socket"))
    start(layout, CONTROLLER, "slurmdbd", "-D")
    known = ["sacctmgr", "-n", "show", "cluster"]
    _up(layout, "slurmdbd", lambda: not call(layout, CONTROLLER, *known, check=False).returncode)
    accounts = [f"account={ACCOUNT}", f"defaultaccount={ACCOUNT}"]  # there is an account root as well
    for words in (["cluster", "throwaway"], ["account", ACCOUNT], ["user", "root", *accounts]):
        call(layout, CONTROLLER, "sacctmgr", "--immediate", "add", *words)


def start_controller(layout: Layout) -> None:
    start(layout, CONTROLLER, "slurmctld", "-D")
    _up(layout, "slurmctld", lambda: " is UP" in call(layout, CONTROLLER, "scontrol", "ping", check=False).stdout)


def stop_controller(layout: Layout, number: int = signal.SIGTERM) -> None:
    """End slurmctld with a signal; at SIGTERM it saves its state first."""
    found = [one for one, name in members(layout, CONTROLLER).items() if name == "slurmctld"]
    if not found:
        raise ClusterError("there is no slurmctld to stop")
    for one in found:
        os.kill(one, number)
    until(lambda: "slurmctld" not in members(layout, CONTROLLER).values(), "slurmctld has ended")


def start_node(layout: Layout, node: str) -> None:
    start(layout, node, "slurmd", "-D")


def states(layout: Layout) -> dict[str, str]:
    """Slurm's word for each node, such as idle, mix, alloc or down*; the star says that the node does not answer."""
    lines = call(layout, CONTROLLER, "sinfo", "-h", "-N", "-o", "%N %t", check=False).stdout.splitlines()
    return dict(line.split() for line in lines)
