"""What a worker does before it trains: who it is, whose packages it imports, and which signals stop it."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.keys import RunKeys
from bench.config.paths import ROOT
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.measure.failure import Stopped
from launch import foreground, job
from launch.foreground import Outcome
from launch.job import Job, check_packages, given_run_id, new_run_id, run_id_in_slurm, set_ranks, stop_on_signals
from results.words import ConfigError


@pytest.fixture
def config() -> RunConfig:
    return resolve(RunKeys(depth=20, dataset="digits", nodes=2), Host(ranks_per_node=2, results="/rows"))[0]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "left over")
        monkeypatch.delenv(name)
    for name, value in {
        "SUBMITIT_EXECUTOR": "slurm",
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_NTASKS": "4",
        "SLURM_PROCID": "3",
        "SLURM_LOCALID": "1",
    }.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_a_rank_knows_who_it_is(slurm: pytest.MonkeyPatch, config: RunConfig) -> None:
    set_ranks(config)
    assert [os.environ[name] for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == [
        "3",
        "4",
        "1",
        "2",
    ]


def test_another_number_of_tasks_is_refused(slurm: pytest.MonkeyPatch, config: RunConfig) -> None:
    slurm.setenv("SLURM_NTASKS", "2")
    with pytest.raises(ValueError, match="2 tasks on 2 nodes, expected nodes=2 ranks_per_node=2"):
        set_ranks(config)


def test_a_job_is_pickled_by_reference(config: RunConfig) -> None:
    import cloudpickle

    data = cloudpickle.dumps(Job(config=config, run_id="a"))
    assert b"launch.job" in data and len(data) < 4000
    assert pickle.loads(data) == Job(config=config, run_id="a")
    code = f"import pickle, sys; pickle.loads({data!r}); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_our_packages_are_ours_and_others_are_named(tmp_path: Path) -> None:
    check_packages()
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels" / "__init__.py").touch()
    code = "import kernels; from launch.job import check_packages; check_packages()"
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(
        f"ImportError: package kernels is {tmp_path}/kernels/__init__.py, expected {ROOT}/kernels: put "
    )
    with pytest.raises(ImportError, match="package nowhere is missing"):
        check_packages(["nowhere"])


@pytest.mark.parametrize(("number", "message"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGUSR2, "SIGUSR2.*timeout")])
def test_a_signal_stops_a_run_once(number: signal.Signals, message: str) -> None:
    before = {each: signal.getsignal(each) for each in job.STOP_SIGNALS}
    try:
        stop_on_signals()
        with pytest.raises(Stopped, match=message):
            signal.raise_signal(number)
        for each in job.STOP_SIGNALS:
            signal.raise_signal(each)  # the run is ending: nothing disturbs it
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_run_ids_differ_and_those_of_a_slurm_job_do_not(slurm: pytest.MonkeyPatch, config: RunConfig) -> None:
    assert new_run_id(config) != new_run_id(config)
    assert run_id_in_slurm(config) == run_id_in_slurm(config) == f"resnet20A-digits-{config.config_hash()[:8]}-job77"
    slurm.setenv("SLURM_ARRAY_JOB_ID", "70")
    slurm.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert run_id_in_slurm(config).endswith("-job70_2")


def test_one_of_several_runs_in_a_job_has_the_id_that_it_is_given(slurm: pytest.MonkeyPatch, config: RunConfig) -> None:
    slurm.setenv("RESNET_BENCH_RUN_ID", "pairs-1-p01a")
    assert run_id_in_slurm(config) == "pairs-1-p01a"
    slurm.setenv("RESNET_BENCH_RUN_ID", "../p01a")
    with pytest.raises(
        ConfigError, match=r"^RESNET_BENCH_RUN_ID=../p01a: run_id '../p01a': expected up to 128 letters"
    ):
        run_id_in_slurm(config)
    slurm.setenv("RESNET_BENCH_RUN_ID", "")
    assert run_id_in_slurm(config).endswith("-job77") and given_run_id() == ""


def test_a_name_from_the_starter_is_of_one_run(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_BENCH_RUN_ID", "pairs-1-p01a")
    started: list[str] = []

    def run_one(config: RunConfig, run_id: str) -> Outcome:
        started.append(run_id)
        return Outcome(True)

    monkeypatch.setattr(foreground, "run_one", run_one)
    monkeypatch.setattr(foreground, "_show", lambda run_ids, roots: None)
    with pytest.raises(ConfigError, match="^RESNET_BENCH_RUN_ID=pairs-1-p01a: names one run, and these are 2; unset"):
        foreground.run_all([config, config])
    assert not started and foreground.run_all([config]) == 0 and started == ["pairs-1-p01a"]
    monkeypatch.delenv("RESNET_BENCH_RUN_ID")
    assert foreground.run_all([config, config]) == 0 and len(set(started)) == 3


def test_a_printed_scripts_rank_says_what_is_wrong_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_NUM_NODES", raising=False)
    with pytest.raises(SystemExit, match="^launch.job: launch.job is started by srun"):
        job.main(["depth=20"])
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "1")
    with pytest.raises(SystemExit, match="^launch.job: dept=20: no such key; did you mean depth=20"):
        job.main(["dept=20"])
