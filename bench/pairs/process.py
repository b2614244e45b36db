"""Starts one run as a process of the public commands of a checkout, and ends it in order whatever ends its parent."""

import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.config.environment import RUN_ID_VARIABLE
from bench.config.grammar import WordError, word
from bench.config.slurm import number
from bench.pairs import scratch
from bench.pairs.checkouts import LAUNCHER, Checkout

STOP_S = 45.0  # from SIGTERM to SIGKILL: launch/local.py gives its ranks ten seconds twice
PR_SET_PDEATHSIG = 1  # https://man7.org/linux/man-pages/man2/PR_SET_PDEATHSIG.2const.html
TAIL_LINES = 3
# The whole C library: found before a fork, in whose child nothing may be loaded.
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Allocation:
    """Where runs go: this machine, or the nodes of a Slurm job through srun.

    Attributes:
        name: as the table `pairs` has it.
        nodes: of the job where runs go through srun, else 0.
        words: of launch/slurm.py alone, such as its site profile.
    """

    name: str
    nodes: int = 0
    words: tuple[str, ...] = ()


def allocation(nodes: int, cluster: str | None, pairs_id: str, environ: Mapping[str, str]) -> Allocation:
    """Say where runs go.

    Args:
        nodes: of a run.
        cluster: site profile, as typed.
        environ: of this process.

    Raises:
        WordError: runs of several nodes without an allocation of as many.
        VariableError: a variable of Slurm is no number.
    """
    job = environ.get("SLURM_JOB_ID")
    if not job:
        if nodes > 1:
            raise WordError(
                f"nodes={nodes}: pairs on several nodes run inside an allocation: salloc --nodes={nodes} ..."
            )
        return Allocation(f"local-{pairs_id}")
    # The shell of salloc may be on a login node: what Slurm starts on a node has the node's name.
    if nodes == 1 and environ.get("SLURMD_NODENAME"):
        return Allocation(f"slurm-{job}")
    held = number(environ, "SLURM_JOB_NUM_NODES", least=1) or 1
    if held != nodes:
        raise WordError(f"nodes={nodes}: this allocation (job {job}) has {held}; nearest is nodes={held}")
    return Allocation(f"slurm-{job}", nodes, (word("cluster", cluster),) if cluster else ())


@dataclass(frozen=True)
class Ended:
    """How a process ended; `said` is the last of what it said on stderr, in one line."""

    status: int
    said: str


@dataclass(frozen=True, kw_only=True)
class Starter:
    """Starts runs.

    Attributes:
        folder: of the command, see `bench.pairs.scratch`.
        lock: descriptor that each process inherits.
        where: the allocation.
        python: that runs the launcher.
    """

    folder: Path
    lock: int
    where: Allocation
    python: str = field(default=sys.executable)

    def run(self, checkout: Checkout, words: Sequence[str], run_id: str) -> Ended:
        """Run a configuration to its end; its rows are then in the command's own store.

        Args:
            words: of the run, without results=.
            run_id: says whose run it is where the table of pairs is lost; through srun it would else be named after
                the job, as all others in it. Older checkouts name a run of one machine themselves.

        Raises:
            WordError: the checkout's launcher cannot use the words; its own line.
        """
        given = [*words, word("results", str(self.folder / scratch.STORE))]
        environment = {**os.environ, RUN_ID_VARIABLE: run_id}
        if self.where.nodes:
            command = self._batch_script(checkout, [*given, *self.where.words], environment)
        else:
            command = [self.python, str(checkout.path / LAUNCHER), *given]
        ended = self._wait(command, environment)
        if ended.status == 2 and not self.where.nodes:
            raise WordError(ended.said)
        return ended

    def _batch_script(self, checkout: Checkout, words: Sequence[str], environment: dict[str, str]) -> list[str]:
        """The command that does what a batch job of this configuration would, in the allocation that there is."""
        slurm = str(checkout.path / LAUNCHER.with_name("slurm.py"))
        asked = [self.python, slurm, *words, "mode=print"]
        printed = subprocess.run(asked, capture_output=True, text=True)
        if printed.returncode:
            raise WordError(_last_line(printed.stderr))
        # What ends this process must end srun, which tells the ranks: by the script's own function, or, in those of
        # older checkouts, in bash's place.
        script, count = printed.stdout, len(re.findall(r"^to_its_end ", printed.stdout, flags=re.M))
        if not count:
            script, count = re.subn(r"^srun ", "exec srun ", script, flags=re.M)
        tasks = re.search(r"^#SBATCH --ntasks-per-node=(\d+)$", printed.stdout, flags=re.MULTILINE)
        if count != 1 or tasks is None:
            raise OSError(f"{slurm} mode=print: not a script that srun can be told from; take a later commit")
        path = self.folder / "job.sh"
        path.write_text(script)
        # What sbatch would have taken from the script's head, srun takes from here.
        environment["SLURM_NNODES"] = str(self.where.nodes)
        environment["SLURM_NTASKS_PER_NODE"] = tasks[1]
        environment["SLURM_NTASKS"] = environment["SLURM_NPROCS"] = str(self.where.nodes * int(tasks[1]))
        environment.setdefault("SLURM_JOB_NAME", "pairs")
        return ["bash", str(path)]

    def _wait(self, command: Sequence[str], environment: Mapping[str, str]) -> Ended:
        errors = self.folder / "launcher.err"
        with (self.folder / "launcher.out").open("wb") as stdout, errors.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(self.lock,),
                start_new_session=True,  # a Ctrl-C reaches this process alone, which then ends that one
                preexec_fn=_DieWith(os.getpid()),
            )
            try:
                process.wait()
            finally:
                with scratch.undisturbed():
                    _stop(process)
        return Ended(process.returncode, _last_line(errors.read_text(errors="replace")))


class _DieWith:
    """Have the kernel send SIGTERM to this process once its parent is gone, even by SIGKILL."""

    def __init__(self, parent: int) -> None:
        self.parent = parent

    def __call__(self) -> None:
        _LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != self.parent:  # gone before it was asked for
            os._exit(1)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process in order if it can, else at once."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _last_line(text: str) -> str:
    """What a command says last: its own line of error where there is one."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    own = [line for line in lines if re.match(r"(launch|launch\.job|srun|slurmstepd): ", line)]
    return re.sub(r"^launch: ", "", (own or lines or ["it said nothing"])[-1])
