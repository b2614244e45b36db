"""A throw-away Slurm as tests use it: its commands, its jobs, and what goes wrong with its nodes and its network."""

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from throwaway import daemons, lifetime, machines, network
from throwaway.layout import CONTROLLER, ClusterError, Layout, run, until
from throwaway.settings import ACCOUNT, HIGH, LOW

ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT"
}  # fmt: skip
LISTENER = """\
import socket, sys
with socket.create_server(("", int(sys.argv[1]))):
    print("ready", flush=True)
    sys.stdin.read()
"""


class Cluster:
    """A running throw-away Slurm.

    Attributes:
        environment: with which commands reach it.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.environment = layout.environment()

    @property
    def nodes(self) -> list[str]:
        return self.layout.names

    # Commands and jobs.

    def call(self, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command on this machine with the cluster's environment and take its output; see `layout.run`."""
        return run(*command, check=check, **{"env": self.environment, **options})

    def on(self, node: str, *command: str, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command in a node, in its folder /."""
        return self.call(*machines.inside(self.layout, node), *command, check=check, **options)

    def submit(self, *words: str, **options: Any) -> str:
        """Give sbatch a job, such as `--wrap=sleep 10`, and take its id. Without `--output` it has no log."""
        log = [] if any(word.startswith(("--output", "-o")) for word in words) else ["--output=/dev/null"]
        return self.call("sbatch", "--parsable", *log, *words, **options).stdout.strip()

    def job(self, job_id: str) -> dict[str, str]:
        """What scontrol knows of a job or of one task of an array (`12_3`); a value ends at its first space."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.call("scontrol", "show", "job", "-o", job_id).stdout))

    def wait(self, job_id: str, *wanted: str, patience_s: float = 120.0) -> str:
        """Wait until a job has one of some states, such as RUNNING, or until it has ended.

        Returns:
            Its state.

        Raises:
            ClusterError: it ended in another, or has not come so far.
        """
        shown: dict[str, str] = {}

        def there() -> bool:
            shown.update(self.job(job_id))
            return shown["JobState"] in {*wanted, *ENDED}

        try:
            until(there, f"job {job_id} is {' or '.join(wanted) or 'over'}", patience_s)
        except ClusterError as error:
            raise ClusterError(f"{error}: {shown}") from None
        if wanted and shown["JobState"] not in wanted:
            raise ClusterError(f"job {job_id} is {shown['JobState']}, expected {' or '.join(wanted)}: {shown}")
        return shown["JobState"]

    def sacct(self, job_id: str, *fields: str, duplicates: bool = False) -> list[dict[str, str]]:
        """What accounting has of a job, a row each for the job and its steps; it may lag by seconds.

        Args:
            fields: in sacct's spelling.
            duplicates: also what a requeued job was before.
        """
        more = ["--duplicates"] if duplicates else []
        words = [f"--jobs={job_id}", f"--format={','.join(fields)}", "--parsable2", "--noheader", *more]
        lines = self.call("sacct", *words).stdout.splitlines()
        return [dict(zip(fields, line.split("|"), strict=True)) for line in lines]

    # What goes wrong.

    def power_off(self, node: str) -> None:
        """Cut a node's power: all in it is gone at once, and who has a connection with it hears nothing."""
        machines.alive(self.layout, node)
        network.unplug(self.layout, node)
        machines.kill(self.layout.folder, node)

    def power_on(self, node: str) -> None:
        """Switch a node on again, and wait until the controller has heard of it.

        What it ran is lost, and the controller notices that at once if it was started more than 20 s ago (below that,
        it takes the start for under way), else after minutes.
        """
        machines.boot(self.layout, node)
        network.plug(self.layout, node)
        before = self._start_of(node)
        daemons.start_node(self.layout, node)
        until(lambda: self._start_of(node) != before, f"{node} has registered", 60)

    def _start_of(self, node: str) -> str:
        """When the slurmd of a node was started, as the controller knows it: to the second."""
        (found,) = re.findall(r"SlurmdStartTime=(\S+)", self.call("scontrol", "show", "node", node).stdout)
        return str(found)

    def cut(self, one: str, other: str) -> None:
        """Let two nodes, or a node and "ctl", lose all that they send each other, silently."""
        network.cut(self.layout, one, other)

    def heal(self, one: str, other: str) -> None:
        """Undo `cut`."""
        network.heal(self.layout, one, other)

    def limit_rate(self, node: str, rate: str | None) -> None:
        """Let a node send and receive no more than a rate in tc's words, such as "10mbit"; None lifts it."""
        network.limit(self.layout, node, rate)

    @contextlib.contextmanager
    def hidden(self, node: str, folder: Path) -> Iterator[None]:
        """Let a folder be empty on one node, also for what runs there already."""
        self.on(node, "mount", "-t", "tmpfs", "tmpfs", str(folder))
        try:
            yield
        finally:
            self.on(node, "umount", "--lazy", str(folder))

    @contextlib.contextmanager
    def listener(self, node: str, port: int) -> Iterator[None]:
        """Let a port of one node be taken."""
        command = [*machines.inside(self.layout, node), sys.executable, "-c", LISTENER, str(port)]
        with subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:  # fmt: skip
            assert process.stdout
            if process.stdout.readline() != "ready\n":
                raise ClusterError(f"port {port} of {node} cannot be listened on")
            yield  # what follows closes its stdin, at which it ends

    # What an administrator does.

    def partition(self, name: str, state: str) -> None:
        """Set a partition UP, DOWN, DRAIN or INACTIVE."""
        self.call("scontrol", "update", f"PartitionName={name}", f"State={state}")

    def max_submit(self, jobs: int | None) -> None:
        """Let root have no more than so many jobs in the queue, once the controller knows; None lifts it."""
        limit = f"MaxSubmitJobs={-1 if jobs is None else jobs}"
        self.call("sacctmgr", "--immediate", "modify", "user", "root", "set", limit)
        until(lambda: self._max_submit() == jobs, f"the controller knows of MaxSubmitJobs={jobs}")

    def _max_submit(self) -> int | None:
        words = ["show", "assoc_mgr", "users=root", f"accounts={ACCOUNT}", "flags=assoc"]
        found = re.findall(r"UserName=root\(.*?MaxSubmitJobs=(\d*)", self.call("scontrol", *words).stdout, re.S)
        return int(found[0]) if found and found[0] else None

    def stop_controller(self, number: int = signal.SIGTERM) -> None:
        """End slurmctld with a signal; jobs go on."""
        daemons.stop_controller(self.layout, number)

    def start_controller(self) -> None:
        """Start slurmctld from the state that it saved last."""
        daemons.start_controller(self.layout)

    def start_now(self, job_id: str) -> None:
        """Let a requeued job not wait for the two minutes after which Slurm would start it again."""
        self.call("scontrol", "update", f"JobId={job_id}", "StartTime=now")

    def restore(self) -> None:
        """Undo all of the above, and end all jobs: the next test finds what the first one found."""
        if "slurmctld" not in machines.members(self.layout, CONTROLLER).values():
            daemons.start_controller(self.layout)
        self.call("scancel", "--user=root")
        for node in self.nodes:
            if machines.first(self.layout, node) is None:
                self.power_on(node)
            self.limit_rate(node, None)
        network.heal_all(self.layout)
        for name in (LOW, HIGH):
            self.partition(name, "UP")
        if self._max_submit() is not None:
            self.max_submit(None)
        until(lambda: not self.call("squeue", "--noheader").stdout, "all jobs have ended", 60)
        until(lambda: set(daemons.states(self.layout).values()) == {"idle"}, "all nodes are idle", 90)


@contextlib.contextmanager
def cluster(folder: Path, *, nodes: int = 4, **sizes: int) -> Iterator[Cluster]:
    """Bring a throw-away Slurm up, and take it down in the end.

    Args:
        folder: a new or empty one with a short absolute path, which is removed in the end.
        nodes: how many: n1 and so on.
        sizes: the others of `Layout`.

    Raises:
        ClusterError: it cannot be, or something of it stays.
    """
    found = Cluster(lifetime.up(folder, nodes=nodes, **sizes))
    try:
        yield found
    finally:
        lifetime.down(folder)
