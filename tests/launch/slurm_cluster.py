"""A true Slurm of virtual nodes on this machine: munged, slurmctld and one slurmd a node, all in one folder.

Nothing outside the folder is touched: the nodes' names resolve in a mount namespace that only the slurmds and their
jobs see. There is no accounting, so sacct has nothing to say.
"""

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "squeue", "unshare", "mount")
SEARCH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=5
InactiveLimit=0
SchedulerParameters=batch_sched_delay=1,sched_interval=2
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class Cluster:
    """A running Slurm.

    Attributes:
        environment: with which Slurm's commands reach it.
    """

    folder: Path
    environment: dict[str, str]

    def call(self, *command: str, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command with this cluster's environment and take its output."""
        options = {"env": self.environment, "capture_output": True, "text": True, "check": True, **options}
        return subprocess.run(command, **options)  # type: ignore[call-overload,no-any-return]

    def wait(self, job_id: str, patience_s: float = 120.0) -> str:
        """The state in which a job ended."""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            shown = self.call("scontrol", "show", "job", "-o", job_id).stdout
            state = dict(word.partition("=")[::2] for word in shown.split() if "=" in word)["JobState"]
            if state not in ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING"):
                return state
            time.sleep(0.2)
        raise TimeoutError(f"job {job_id} has not ended after {patience_s:.0f} s: {shown}")


def missing() -> str:
    """Why there can be no cluster here, or nothing."""
    lacks = [name for name in NEEDED if shutil.which(name, path=SEARCH) is None]
    if lacks:
        return f"not installed: {', '.join(lacks)} (Debian: apt-get install slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "Slurm's daemons for several nodes need root"


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 2, cpus: int = 4) -> Iterator[Cluster]:
    """Start a Slurm and end it, with its jobs, in the end.

    Args:
        folder: an empty one, with a short path: a socket lies in it.
        nodes: virtual nodes, n1 and so on.
        cpus: of each node, however many this machine has.
    """
    environment = {**os.environ, "PATH": SEARCH, "SLURM_CONF": str(folder / "slurm.conf")}
    names = [f"n{index}" for index in range(1, nodes + 1)]
    host = socket.gethostname()
    lines = [f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={_port()} CPUs={cpus}" for name in names]
    (folder / "slurm.conf").write_text(CONF.format(host=host, port=_port(), folder=folder, nodes="\n".join(lines)))
    (folder / "hosts").write_text(Path("/etc/hosts").read_text() + f"\n127.0.0.1 {' '.join(names)}\n")
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    private = [f"--{name}-file={folder}/munge.{name}" for name in ("pid", "log", "seed")]
    munged = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *private]
    hosts = 'mount --bind "$0" /etc/hosts && exec slurmd -D -N "$1"'
    daemons = [munged, ["slurmctld", "-D", "-c"]]
    daemons += [["unshare", "--mount", "sh", "-c", hosts, str(folder / "hosts"), name] for name in names]
    started: list[subprocess.Popen[bytes]] = []
    found = Cluster(folder, environment)
    try:
        with open(folder / "daemons.log", "wb") as log:
            for command in daemons:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
                if command is munged:
                    until(lambda: (folder / "munge.socket").exists())
        until(lambda: found.call("sinfo", "-h", "-o", "%D %t", check=False).stdout.split() == [str(nodes), "idle"])
        yield found
    except TimeoutError as error:
        logs = [f"{path}:\n{path.read_text(errors='replace')[-2000:]}" for path in sorted(folder.glob("*.log"))]
        raise TimeoutError("\n".join([str(error), *logs])) from None
    finally:
        found.call("scancel", "--user=root", check=False)
        with contextlib.suppress(TimeoutError):
            until(lambda: not found.call("squeue", "-h", check=False).stdout.strip(), 15)
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(true: Callable[[], bool], patience_s: float = 30.0) -> None:
    """Wait for something to become true.

    Raises:
        TimeoutError: it did not.
    """
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {patience_s:.0f} s")
        time.sleep(0.1)
