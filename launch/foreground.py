"""Runs configurations on this machine, one after the other in the foreground, through submitit's local executor."""

import contextlib
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import submitit
from submitit.core.utils import environment_variables, pickle_load

from bench.config.environment import (
    LOOPBACK,
    RUN_ID_VARIABLE,
    JobEnvironment,
    VariableError,
    checkout_first,
    threads_from,
    without,
)  # fmt: skip
from bench.config.examined import lost_with
from bench.config.run_config import RunConfig
from bench.config.slurm import cores_here, of_a_task
from bench.training.progress import VARIABLE as PROGRESS_VARIABLE
from bench.training.progress import Display, Follower
from bench.training.ranks import free_port
from launch.gpus import gpus_here
from launch.interrupts import TERMINAL_SIGNALS, Interrupted, held_back, interruptible
from launch.job import IN_ORDER, Cause, Job, given_run_id, new_run_id
from results.listing.terminal import failures, show, summary
from results.recover import recover
from results.store.files import read_rows, table_files

TABLES = ("runs", "epochs", "steps", "system")
POLL_S = 0.1
# When a rank is gone the others mostly see it and write down why; those stuck in a collective never do.
PATIENCE_S = 15.0
STOP_S = 10.0  # from SIGTERM to SIGKILL
SAVE_S = 60.0  # the same of a run that saves before it ends
NO_TIMEOUT_MIN = 60 * 24 * 365  # submitit's default of two minutes would end a run; here its own end does
TAIL_LINES = 15


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        completed: whether its row says so, and it came to its end.
        message: one line; empty where it completed.
        tail: the last lines of a rank's stderr where the message does not explain it.
    """

    completed: bool
    message: str = ""
    tail: str = ""


class Ranks:
    """The processes of one run: submitit's controller and, under it, one process a rank."""

    def __init__(self, job: submitit.LocalJob[None], size: int) -> None:
        self.job, self.size = job, size
        self.controller = psutil.Process(int(job.job_id))
        self.processes: dict[int, psutil.Process] = {}
        self.killed_by: dict[int, int] = {}  # number of the signal by rank
        self._ends = select.poll()
        self._watched: dict[int, int | None] = {}  # by rank the descriptor that tells of its end

    def wait(self, seconds: float) -> None:
        """Wait so long or until a rank ends, and see what killed it: its parent soon clears that away."""
        for rank, process in self.processes.items():
            if rank not in self._watched:
                self._watched[rank] = None
                with contextlib.suppress(OSError):  # gone already, or an old kernel
                    self._watched[rank] = opened = os.pidfd_open(process.pid)
                    self._ends.register(opened, select.POLLIN)
        ended = {descriptor for descriptor, _ in self._ends.poll(seconds * 1000)}
        for rank, descriptor in self._watched.items():
            if descriptor is None or descriptor not in ended:
                continue
            if number := _killed_by(self.processes[rank].pid):
                self.killed_by[rank] = number
            self._ends.unregister(descriptor)
            os.close(descriptor)
            self._watched[rank] = None

    def ended(self) -> bool:
        """Whether all ranks have ended, in whatever way."""
        self._find()
        return self.job.done()

    def lost(self) -> Cause | None:
        """What to say of ranks that ended without success, or None; submitit's controller would wait for the others."""
        held = [rank for rank, process in self.processes.items() if _suspended(process)]
        gone = [rank for rank, process in self.processes.items() if not _alive([process]) and not self._succeeded(rank)]
        if not gone:
            return None
        if held:  # its siblings took it for lost and left
            return Cause("rank_lost", f"{_named(held)} {'was' if len(held) == 1 else 'were'} suspended, as by SIGSTOP")
        if killed := sorted(set(gone) & set(self.killed_by)):  # others left because of them
            number = self.killed_by[killed[0]]
            alike = [rank for rank in killed if self.killed_by[rank] == number]
            was = "was" if len(alike) == 1 else "were"
            return Cause("rank_lost", f"{_named(alike)} {was} killed by signal {_signal(number)}")
        return Cause("rank_lost", f"{_named(gone)} {'is' if len(gone) == 1 else 'are'} gone")

    def orphaned(self) -> Cause | None:
        """What to say where the controller has ended before its ranks, or None."""
        if not self.job.done() or not _alive(list(self.processes.values())):
            return None
        return Cause("interrupted", f"the process that started the ranks (submitit, {self.controller.pid}) is gone")

    def stop(self, patience_s: float = STOP_S) -> None:
        """End all processes of the run, in order if they can, and wait until they are gone.

        Args:
            patience_s: from SIGTERM to SIGKILL.
        """
        told: set[int] = set()
        # Loader workers and compilers too: a killed rank does not take them along.
        family: list[psutil.Process] = []
        try:
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                self._find()  # each time: the controller may only be about to start them
                ranks = list(self.processes.values())
                for rank, process in self.processes.items():
                    if rank not in told and _alive([process]):
                        family += [*_descendants(process), process]
                        told.add(rank)
                        with contextlib.suppress(psutil.NoSuchProcess):
                            process.terminate()
                # Without their controller there may be fewer ranks than there were to be.
                if (self.job.done() or len(ranks) == self.size) and not _alive(ranks):
                    break
                time.sleep(POLL_S)
        finally:
            family += _descendants(self.controller)
            for process in _alive(family):
                process.kill()
            deadline = time.monotonic() + STOP_S
            while not self.job.done() and time.monotonic() < deadline:
                time.sleep(POLL_S)
            for process in _alive([self.controller]):
                process.kill()

    def tail(self) -> str:
        """The last lines on a rank's stderr: of the first with a traceback, else of the first that said anything."""
        texts = [path.read_text(errors="replace").strip() for path in self._stderr_files() if path.exists()]
        text = next((text for text in texts if "Traceback" in text), next(filter(None, texts), ""))
        return "\n".join(text.splitlines()[-TAIL_LINES:])

    def _find(self) -> None:
        children: list[psutil.Process] = []
        with contextlib.suppress(psutil.NoSuchProcess):
            children = self.controller.children()
        for process in children:
            # Of a rank that has ended, and is not waited for yet, only root may see the environment.
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                rank = process.environ().get("SUBMITIT_LOCAL_GLOBALID")
                if rank is not None:  # else it is still a copy of the controller
                    self.processes[int(rank)] = process

    def _stderr_files(self) -> list[Path]:
        return [self.job.task(rank).paths.stderr for rank in range(self.size)]

    def succeeded(self) -> bool:
        """Whether every rank came to its end."""
        return all(map(self._succeeded, range(self.size)))

    def _succeeded(self, rank: int) -> bool:
        path = self.job.task(rank).paths.result_pickle
        return path.exists() and pickle_load(path)[0] == "success"


def run_all(configs: Sequence[RunConfig]) -> int:
    """Run each configuration to its end, whatever becomes of the others, and show a table of all.

    Returns:
        The launcher's exit status: 0 where all completed, 128 + the number of a signal that ended it, else 1.
    """
    run_ids: list[str] = []
    status, ended = 0, 0
    given = given_run_id()
    if given and len(configs) > 1:
        raise VariableError(f"{RUN_ID_VARIABLE}={given}: names one run, and these are {len(configs)}; unset it")
    with interruptible():
        try:
            for index, config in enumerate(configs, start=1):
                if len(configs) > 1:
                    print(f"[{index}/{len(configs)}] {config.name()} seed={config.seed}", flush=True)
                run_ids.append(given or new_run_id(config))
                try:
                    outcome = run_one(config, run_ids[-1])
                except OSError as error:  # a full disk, say: the others may write elsewhere
                    outcome = Outcome(False, f"failed (storage): {error}")
                ended += 1
                if not outcome.completed:
                    status = 1
                    if outcome.tail:
                        print(outcome.tail, file=sys.stderr)
                    print(f"launch: {config.name()} {outcome.message}", file=sys.stderr, flush=True)
        except Interrupted as interrupt:
            status = interrupt.exit_status
            left = len(configs) - ended
            print(f"launch: stopped by {interrupt}; {left} of {len(configs)} not run to their end", file=sys.stderr)
    _show(run_ids, {config.results for config in configs})
    return status


def run_one(config: RunConfig, run_id: str) -> Outcome:
    """Run one configuration to its end on this machine and show its progress.

    Should a rank be lost, its siblings are ended; should rank 0 have died, its rows are recovered from its journal. The
    processes' own output stays under RESULTS/jobs/RUN_ID unless the run completes.

    Raises:
        Interrupted: a signal told the launcher to stop; the ranks are gone and the rows written.
    """
    folder = Path(config.results) / "jobs" / run_id
    progress, said = folder / "progress.jsonl", folder / "cause.json"
    display, follower = Display(config, sys.stdout), Follower(progress)
    ranks: Ranks | None = None
    causes: list[Cause] = []  # the first is the true one: what comes later may be its consequence
    try:
        with held_back():
            ranks = _start(config, run_id, folder, progress, said)
        lost_at: float | None = None
        while not ranks.ended():
            for event in follower.new_events():
                display.feed(event)
            if lost_at is None and (lost := ranks.lost()):
                lost_at = time.monotonic()
                causes.append(lost)
            if lost_at is not None and time.monotonic() - lost_at > PATIENCE_S:
                break
            ranks.wait(POLL_S)
        causes += filter(None, [ranks.orphaned()])
    except Interrupted as interrupt:
        causes.append(interrupt.cause)
        raise
    finally:
        causes.append(Cause("unknown", "the process of rank 0 ended"))
        try:
            if ranks:
                causes[0].write(said)
                ranks.stop(SAVE_S if config.save and causes[0].kind in IN_ORDER else STOP_S)
        finally:  # a second signal hurries the ranks; their rows are written all the same
            with held_back():
                _conclude(config, run_id, display, follower, causes[0])
    outcome = _outcome(config, run_id, ranks, folder, f"{causes[0].kind}: {causes[0].message}")
    if outcome.completed:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):  # not empty: there are others
            folder.parent.rmdir()
    return outcome


def _conclude(config: RunConfig, run_id: str, display: Display, follower: Follower, cause: Cause) -> None:
    """Show the last of a run's progress, and write its rows where it did not."""
    for event in follower.new_events():
        display.feed(event)
    display.close()
    try:
        recover(config.results, [run_id], failure_kind=cause.kind, failure_message=cause.message)
    except OSError as error:  # a full disk, say; a signal that is under way must not be lost over it
        print(f"launch: the rows of {run_id} stay in its journal: {error}", file=sys.stderr, flush=True)


def _start(config: RunConfig, run_id: str, folder: Path, progress: Path, said: Path) -> Ranks:
    environment = _environment(config, progress)
    folder.mkdir(parents=True)
    executor = submitit.LocalExecutor(folder, max_num_timeout=0)
    executor.update_parameters(
        tasks_per_node=config.ranks_per_node, nodes=1, gpus_per_node=0, timeout_min=NO_TIMEOUT_MIN
    )
    # submitit sets CUDA_VISIBLE_DEVICES; the ranks see what the launcher sees.
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    job = Job(
        config=config,
        run_id=run_id,
        environment={"CUDA_VISIBLE_DEVICES": visible},
        launcher_pid=os.getpid(),
        cause_file=str(said.absolute()),
    )
    # A Ctrl-C reaches every process of the terminal; only the launcher is to act on it. Blocked as well, one that comes
    # now waits in place of being ignored here too.
    signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    ignored = {number: signal.signal(number, signal.SIG_IGN) for number in TERMINAL_SIGNALS}
    try:
        with without(of_a_task(os.environ)), environment_variables(**environment):
            submitted = executor.submit(job)
    finally:
        for number, handler in ignored.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, TERMINAL_SIGNALS)
    assert isinstance(submitted, submitit.LocalJob)
    return Ranks(submitted, config.world_size)


def _environment(config: RunConfig, progress: Path) -> dict[str, str]:
    """Variables of the ranks that must stand before they start."""
    share = max(1, cores_here(os.environ) // config.ranks_per_node)
    gpus = gpus_here()
    job = JobEnvironment(
        address=LOOPBACK,
        port=free_port(),
        threads=threads_from(os.environ) or share,
        cores=share,
        python_path=checkout_first(os.environ),
        accelerator=None if gpus else "cpu",
        interface=None if gpus else "lo",
    )
    return {PROGRESS_VARIABLE: str(progress), **job.to_env()}


def _outcome(config: RunConfig, run_id: str, ranks: Ranks, folder: Path, cause: str) -> Outcome:
    rows, _ = read_rows(config.results, "runs", [run_id])
    if not rows:
        return Outcome(False, f"ended before it wrote a row ({cause}; logs in {folder})", ranks.tail())
    row = rows[-1]
    if row["status"] == "completed" and config.examined.after_training and not ranks.succeeded():
        # Its rows are written before its net is looked at. Rank 0 says why, and what would help, unless it was killed.
        why = f"{cause}; {lost_with(config)}; " if 0 in ranks.killed_by else ""
        what = "completed, and then did not find out about its net what was asked for"
        return Outcome(False, f"{what} ({why}logs in {folder})")
    if row["status"] == "completed":
        return Outcome(True)
    message = f"{row['status']} ({row['failure_kind']}): {row['failure_message']} (logs in {folder})"
    return Outcome(False, message, ranks.tail() if row["failure_kind"] == "unknown" else "")


def _show(run_ids: Sequence[str], roots: set[str]) -> None:
    for root in sorted(roots):
        rows, _ = read_rows(root, "runs", run_ids)
        if rows:
            show(summary(rows), failures(rows))
            for path in (path for table in TABLES for path in table_files(Path(root), table, run_ids)):
                print(os.path.relpath(path) if path.is_relative_to(Path.cwd()) else path)


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
    return alive


def _suspended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.status() == psutil.STATUS_STOPPED)
    return False


def _killed_by(pid: int) -> int:
    """The signal that ended a process whose parent has not heard of it yet; 0 where there was none, or none shows."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    status = int(fields[-1])  # as wait gives it
    return os.WTERMSIG(status) if fields[0] == "Z" and os.WIFSIGNALED(status) else 0


def _signal(number: int) -> str:
    try:
        return f"{number} ({signal.Signals(number).name})"
    except ValueError:  # of those for real time, most have no name
        return str(number)


def _named(ranks: Sequence[int]) -> str:
    """Ranks in words, such as "rank 1" or "ranks 0, 2"."""
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, sorted(ranks)))}"


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []
