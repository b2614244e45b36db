"""What a worker runs: one rank of one run, unpickled by submitit or started by `python -m launch.job key=value ...`."""

import contextlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType

import psutil
import submitit

from bench.config import grammar
from bench.config.command import unfailing_streams
from bench.config.environment import RUN_ID_VARIABLE, RankEnvironment, VariableError
from bench.config.grammar import WordError
from bench.config.paths import ROOT
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.config.slurm import is_task, restarts
from bench.measure.failure import Failure, Stopped
from bench.training.group.stop_request import REQUEST
from launch import numa
from launch.experiments import StartedKeys
from results import identity
from results.durable import create_file
from results.store.files import attempt_name
from results.words import ConfigError

PACKAGES = ("kernels", "bench", "resnet", "results", "launch")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
# For a step and a checkpoint, once a training loop is to end a run: before the launcher kills its ranks, before Slurm
# does after SIGTERM (its KillWait is 30 s, of which it takes up to 10 to find out and write down why), and before its
# time limit.
LOCAL_S, SLURM_S, LEAD_S = 50.0, 18.0, 110.0
OUTLIVE_S = 10.0
IN_ORDER = ("interrupted", "timeout", "preempted")  # kinds after which all ranks are there to save together
# Who sends them, as far as that is known.
SENDERS = {signal.SIGINT: ", as Ctrl-C sends it", signal.SIGHUP: ", as a terminal sends it that closes"}
SENDERS_IN_SLURM = {
    signal.SIGTERM: ", which Slurm sends at a cancel, a preemption and the time limit",
    signal.SIGUSR2: ", which Slurm sends before the time limit",
}


@dataclass(frozen=True)
class Cause:
    """Why a run is stopped.

    Attributes:
        kind: one of `results.store.schema.FAILURE_KINDS`.
        message: one line.
    """

    kind: str
    message: str

    def write(self, path: Path) -> None:
        """Say it to ranks that are about to be sent SIGTERM, unless the disk refuses or another was said before."""
        with contextlib.suppress(OSError):
            create_file(path, lambda file: file.write(json.dumps(asdict(self)).encode()))

    @classmethod
    def read(cls, path: str) -> "Cause | None":
        """What was written, or None where nothing was."""
        try:
            return cls(**json.loads(Path(path).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @classmethod
    def of_signal(cls, number: int, who: str, *, in_slurm: bool = False) -> "Cause":
        """What a signal says by itself.

        Args:
            number: of the signal.
            who: got it, such as "rank 1".
            in_slurm: whether Slurm started that process, and not what runs in a task of it.
        """
        sender = {**SENDERS, **(SENDERS_IN_SLURM if in_slurm else {})}.get(signal.Signals(number), "")
        kind = "timeout" if in_slurm and number == signal.SIGUSR2 else "interrupted"
        return cls(kind, f"{who} was stopped by {signal.Signals(number).name}{sender}")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run, as submitit pickles it; calling it runs one rank.

    Attributes:
        config: what is run.
        run_id: names the run's rows; the same on every rank and after a requeue.
        environment: variables to set before torch is imported; None unsets one.
        launcher_pid: process without which the rank is pointless, or None.
        cause_file: where the launcher says why it sends SIGTERM, see `Cause.write`; or None.
    """

    config: RunConfig
    run_id: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    launcher_pid: int | None = None
    cause_file: str | None = None

    def __call__(self) -> None:
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        check_packages()
        set_ranks(self.config)
        # Before torch is imported: its threads are where the one that starts them is.
        bound = numa.bind(os.environ, int(os.environ.get("LOCAL_RANK") or 0))
        with unfailing_streams():
            if bound:
                print(f"launch.job: {bound}", file=sys.stderr, flush=True)
            self._run()

    def _run(self) -> None:
        known: list[Cause] = []
        stop_on_signals(known, self.cause_file)
        if self.launcher_pid is not None:
            patience_s = LOCAL_S + OUTLIVE_S if self.config.save else OUTLIVE_S
            outlive = partial(_outlive, self.launcher_pid, known, patience_s)
            threading.Thread(target=outlive, name="launcher", daemon=True).start()
        from bench.training import run  # torch comes with it: only after the environment is set

        run.run(self.config, run_id=self.run_id, restart=restarts(os.environ))


def check_packages(names: Sequence[str] = PACKAGES) -> None:
    """Check that our packages are the checkout's: PyPI has others named kernels and bench.

    Raises:
        ImportError: another package of that name comes first on the path.
    """
    for name in names:
        spec = importlib.util.find_spec(name)
        origin = Path(spec.origin).resolve() if spec and spec.origin else None
        if origin is None or ROOT not in origin.parents:
            raise ImportError(
                f"package {name} is {origin or 'missing'}, expected {ROOT / name}: put {ROOT} first on PYTHONPATH"
            )


def set_ranks(config: RunConfig) -> None:
    """Tell torch and DeepSpeed who this process is, from submitit's or Slurm's variables.

    What is common to the job comes from the launcher (see `bench.config.environment`). No GPU is hidden: DeepSpeed
    indexes all of a node's by LOCAL_RANK.

    Raises:
        ConfigError: the job has another number of processes than the configuration, or numbers them strangely.
    """
    job = submitit.JobEnvironment()
    if (job.num_nodes, job.num_tasks) != (config.nodes, config.world_size):
        raise ConfigError(
            f"the job has {job.num_tasks} tasks on {job.num_nodes} nodes, expected nodes={config.nodes} "
            f"ranks_per_node={config.ranks_per_node}"
        )
    place = RankEnvironment(
        rank=job.global_rank,
        world_size=job.num_tasks,
        local_rank=job.local_rank,
        local_world_size=config.ranks_per_node,
        hosts=tuple(job.hostnames),
    )
    os.environ.update(place.to_env())


def stop_on_signals(known: Sequence[Cause] = (), cause_file: str | None = None) -> None:
    """Let the signals that ask a job to stop raise `Stopped` in the main thread, in place of submitit's requeue.

    Where the main thread waits in a collective, which no handler interrupts, the watchdog ends the run in its place.
    What this process was started to ignore stays ignored: what a terminal sends is the launcher's to act on.

    Args:
        known: why this process is stopped, as soon as that is known in it.
        cause_file: where its launcher says so.
    """
    numbers = [number for number in STOP_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    request = REQUEST

    def cause_of(number: int) -> Cause:
        told = known[0] if known else Cause.read(cause_file) if cause_file and number == signal.SIGTERM else None
        return told or Cause.of_signal(number, f"rank {os.environ.get('RANK')}", in_slurm=is_task(os.environ))

    def ask(number: int, cause: Cause) -> bool:
        failure = Failure("killed", cause.kind, cause.message, int(os.environ.get("RANK") or 0))
        if cause.kind not in IN_ORDER:
            request.ask(failure)
            return False
        patience_s = LOCAL_S if not is_task(os.environ) else LEAD_S if number == signal.SIGUSR2 else SLURM_S
        return request.ask(failure, patience_s)

    def stop(number: int, frame: FrameType | None) -> None:
        cause = cause_of(number)
        if ask(number, cause):  # the training loop saves and ends the run; so it does after a second signal
            return
        for each in numbers:  # the run is ending: a second signal must not end the ending
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(cause.message, cause.kind)

    def listen() -> None:
        while got := os.read(heard, 1):
            if got[0] in numbers:
                ask(got[0], cause_of(got[0]))

    for number in numbers:
        signal.signal(number, stop)
    # Python writes a signal's number there at once, whatever the main thread does.
    heard, said = os.pipe()
    os.set_blocking(said, False)
    signal.set_wakeup_fd(said, warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # what ends a worker is not ours
    threading.Thread(target=listen, name="signals", daemon=True).start()


def new_run_id(config: RunConfig) -> str:
    """A name for a run that no other has, and that sorts by time."""
    return identity.new_run_id(config.name())


def given_run_id() -> str:
    """The name that the starter of a run gives it; empty where it gives none.

    Raises:
        VariableError: it cannot be a run's name.
    """
    given = os.environ.get(RUN_ID_VARIABLE, "")
    try:
        if given:
            attempt_name(given, 0)
    except ValueError as error:
        raise VariableError(f"{RUN_ID_VARIABLE}={given}: {error}; whoever runs several runs in a job sets it") from None
    return given


def run_id_in_slurm(config: RunConfig) -> str:
    """The run's name when only the job knows itself, see `results.identity.slurm_run_id`; else what the starter says.

    Raises:
        ConfigError: this is no job, or RESNET_BENCH_RUN_ID cannot be a run's name.
    """
    return given_run_id() or identity.slurm_run_id(config.name(), config.config_hash(), os.environ)


def _outlive(pid: int, known: list[Cause], patience_s: float = OUTLIVE_S) -> None:
    """End this process once `pid` is gone: in order if the main thread still can, else at once."""
    try:
        launcher = psutil.Process(pid)
        while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
    except psutil.NoSuchProcess:
        pass
    known.append(Cause("interrupted", f"the launcher (process {pid}) is gone"))
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)


def main(argv: Sequence[str]) -> None:
    """The rank that a printed batch script starts; the number of nodes is the job's."""
    try:
        nodes = os.environ.get("SLURM_JOB_NUM_NODES")
        if nodes is None or not is_task(os.environ):
            raise WordError("launch.job is started by srun, in a script of `python launch/slurm.py ... mode=print`")
        (keys,) = grammar.parse([*argv, f"nodes={nodes}"], StartedKeys)
        config, _ = resolve(keys, Host(ranks_per_node=1, visible=False))
        config = keys.mark(config)
        Job(config=config, run_id=run_id_in_slurm(config))()
    except ConfigError as error:
        sys.exit(f"launch.job: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
