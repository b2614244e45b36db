"""What a worker runs: one rank of one run, unpickled by submitit or started by `python -m launch.job key=value ...`."""

import importlib.util
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import psutil
import submitit

from bench.config import grammar
from bench.config.environment import RUN_ID_VARIABLE, RankEnvironment, VariableError
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.paths import ROOT
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.measure.failure import Stopped
from results import identity
from results.store.files import attempt_name
from results.words import ConfigError

PACKAGES = ("kernels", "bench", "resnet", "results", "launch")
STOP_SIGNALS = {
    signal.SIGTERM: "stopped by SIGTERM",
    signal.SIGUSR2: "stopped by SIGUSR2, which Slurm sends before the time limit: timeout",
}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run, as submitit pickles it; calling it runs one rank.

    Attributes:
        config: what is run.
        run_id: names the run's rows; the same on every rank and after a requeue.
        environment: variables to set before torch is imported; None unsets one.
        launcher_pid: process without which the rank is pointless, or None.
    """

    config: RunConfig
    run_id: str
    environment: Mapping[str, str | None] = field(default_factory=dict)
    launcher_pid: int | None = None

    def __call__(self) -> None:
        for name, value in self.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        check_packages()
        set_ranks(self.config)
        stop_on_signals()
        if self.launcher_pid is not None:
            threading.Thread(target=_outlive, args=(self.launcher_pid,), name="launcher", daemon=True).start()
        from bench.training import run  # torch comes with it: only after the environment is set

        run.run(self.config, run_id=self.run_id, restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0))


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
    )
    os.environ.update(place.to_env())


def stop_on_signals() -> None:
    """Let the signals that ask a job to stop raise `Stopped` in the main thread, in place of submitit's requeue."""

    def stop(number: int, frame: FrameType | None) -> None:
        for each in STOP_SIGNALS:  # the run is ending: a second signal must not end the ending
            signal.signal(each, signal.SIG_IGN)
        raise Stopped(STOP_SIGNALS[signal.Signals(number)])

    for number in STOP_SIGNALS:
        signal.signal(number, stop)


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


def _outlive(pid: int, patience_s: float = 10.0) -> None:
    """End this process once `pid` is gone: in order if the main thread still can, else at once."""
    try:
        launcher = psutil.Process(pid)
        while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1.0)
    except psutil.NoSuchProcess:
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(patience_s)
    os._exit(1)


def main(argv: Sequence[str]) -> None:
    """The rank that a printed batch script starts; the number of nodes is the job's."""
    try:
        nodes = os.environ.get("SLURM_JOB_NUM_NODES")
        if nodes is None:
            raise WordError("launch.job is started by srun, in a script of `python launch/slurm.py ... mode=print`")
        (keys,) = grammar.parse([*argv, f"nodes={nodes}"], RunKeys)
        config, _ = resolve(keys, Host(ranks_per_node=1, visible=False))
        Job(config=config, run_id=run_id_in_slurm(config))()
    except ConfigError as error:
        sys.exit(f"launch.job: {error}")


if __name__ == "__main__":
    main(sys.argv[1:])
