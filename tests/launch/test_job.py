"""What a worker does before it trains: who it is, whose packages it imports, and which signals stop it."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.config.keys import RunKeys
from bench.config.paths import ROOT
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.measure.failure import Failure, Stopped
from bench.training.group import stop_request
from launch import foreground, job
from launch.foreground import Outcome
from launch.job import (
    Cause,
    Job,
    check_packages,
    given_run_id,
    new_run_id,
    run_id_in_slurm,
    set_ranks,
    stop_on_signals,
)  # fmt: skip
from results.store.schema import FAILURE_KINDS
from results.words import ConfigError


@pytest.fixture
def config() -> RunConfig:
    return resolve(RunKeys(depth=20, dataset="digits", nodes=2), Host(ranks_per_node=2, results="/rows"))[0]


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "RESNET_BENCH_HOSTS"):
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


TERM, USR2, INT, HUP = signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP
IN_SLURM = {"SLURM_JOB_ID": "77", "SUBMITIT_EXECUTOR": "slurm"}
IN_ITS_ALLOCATION = {"SLURM_JOB_ID": "77", "SLURMD_NODENAME": "n1", "SUBMITIT_EXECUTOR": "local"}
TOLD = Cause("interrupted", "the launcher was stopped by SIGINT, as Ctrl-C sends it")
GONE = Cause("interrupted", "the launcher (process 7) is gone")
LOST = Cause("rank_lost", "rank 0 is gone")


@pytest.fixture
def request_to_stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[stop_request.StopRequest]:
    """A request of this test's own, beside handlers that end with it; the process' own is that of every later test."""
    before = {each: signal.getsignal(each) for each in job.STOP_SIGNALS}
    wakeup = signal.set_wakeup_fd(-1)
    for each in job.STOP_SIGNALS:  # whatever the tests were started to ignore
        signal.signal(each, signal.SIG_DFL)
    request = stop_request.StopRequest()
    monkeypatch.setattr(job, "REQUEST", request)
    yield request
    signal.set_wakeup_fd(wakeup)
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize(
    ("number", "environ", "told", "known", "kind", "message"),
    [
        (TERM, {}, None, [], "interrupted", "rank 1 was stopped by SIGTERM"),
        (INT, {}, None, [], "interrupted", "rank 1 was stopped by SIGINT, as Ctrl-C sends it"),
        (HUP, {}, None, [], "interrupted", "rank 1 was stopped by SIGHUP, as a terminal sends it that closes"),
        (USR2, {}, None, [], "interrupted", "rank 1 was stopped by SIGUSR2"),
        (USR2, IN_SLURM, None, [], "timeout", "rank 1 was stopped by SIGUSR2, which Slurm sends before the time limit"),
        (TERM, IN_SLURM, None, [], "interrupted", "rank 1 was stopped by SIGTERM, which Slurm sends at a cancel, a "
                                                  "preemption and the time limit"),
        (USR2, IN_ITS_ALLOCATION, None, [], "interrupted", "rank 1 was stopped by SIGUSR2"),
        (TERM, IN_ITS_ALLOCATION, None, [], "interrupted", "rank 1 was stopped by SIGTERM"),
        (TERM, {}, TOLD, [], TOLD.kind, TOLD.message),
        (TERM, {}, LOST, [], LOST.kind, LOST.message),
        (TERM, {}, None, [GONE], GONE.kind, GONE.message),
        (TERM, {}, LOST, [GONE], GONE.kind, GONE.message),
        (USR2, {}, TOLD, [], "interrupted", "rank 1 was stopped by SIGUSR2"),  # which no launcher sends
    ],
)  # fmt: skip
def test_a_signal_stops_a_run_once_and_says_why(
    number: signal.Signals, environ: dict[str, str], told: Cause | None, known: list[Cause], kind: str, message: str,
    request_to_stop: stop_request.StopRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(os, "environ", {"RANK": "1", **environ})
    monkeypatch.setattr(stop_request, "PATIENCE_S", 0.0)
    path = tmp_path / "cause.json"
    if told:
        told.write(path)
        Cause("unknown", "said later").write(path)  # the first stands
    stop_on_signals(known, str(path))
    with pytest.raises(Stopped) as caught:
        signal.raise_signal(number)
    assert (caught.value.kind, str(caught.value)) == (kind, message) and kind in FAILURE_KINDS
    deadline = time.monotonic() + 10  # a thread hears of it too, should the main thread wait in a collective
    while not request_to_stop.overdue() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert request_to_stop.overdue() == Failure("killed", kind, message, 1)
    for each in job.STOP_SIGNALS:
        signal.raise_signal(each)  # the run is ending: nothing disturbs it


@pytest.mark.usefixtures("request_to_stop")
def test_what_a_rank_was_started_to_ignore_stays_ignored() -> None:
    signal.signal(INT, signal.SIG_IGN)
    signal.signal(HUP, signal.SIG_IGN)
    stop_on_signals()
    signal.raise_signal(INT)
    signal.raise_signal(HUP)
    with pytest.raises(Stopped):
        signal.raise_signal(TERM)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
@pytest.mark.parametrize("where", [">/dev/full 2>/dev/full", ">&- 2>&-", ">/dev/full 2>&-"])
def test_a_log_that_cannot_be_written_ends_no_rank(where: str, tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from launch import job
from launch.job import Job
def body(self):
    for stream in (sys.stdout, sys.stderr):
        print("x" * 100_000, file=stream, flush=True)
    Path({str(tmp_path / "done")!r}).touch()
job.set_ranks = lambda config: None
Job._run = body
Job(config=None, run_id="a")()
"""
    words = ["bash", "-c", f'exec "$0" -c "$1" {where}', sys.executable, code]
    assert subprocess.run(words, cwd=ROOT, timeout=100).returncode == 0
    assert (tmp_path / "done").exists()


@pytest.mark.slow
def test_what_ends_a_worker_does_not_end_its_rank() -> None:
    code = """
import os, signal, time
from bench.training.group import stop_request
from launch import job
stop_request.PATIENCE_S = 0.0
job.stop_on_signals()
worker = os.fork()
if not worker:
    time.sleep(30)
time.sleep(0.5)
os.kill(worker, signal.SIGTERM)
os.waitpid(worker, 0)
time.sleep(0.5)
print(job.REQUEST.overdue())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (0, "None\n"), done.stderr


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"kind": "interrupted"}', '{"kind": 1, "x": 2}'])
def test_a_cause_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "cause.json").write_text(text)
    assert Cause.read(str(tmp_path / "cause.json")) is None and Cause.read(str(tmp_path / "none")) is None
    Cause("interrupted", "x").write(tmp_path / "no" / "folder")  # which refuses, and is no error


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
    monkeypatch.delenv("SUBMITIT_EXECUTOR", raising=False)
    for name, value in (("SLURM_JOB_NUM_NODES", "1"), ("SUBMITIT_EXECUTOR", "slurm")):  # by hand, in an allocation too
        with pytest.raises(SystemExit, match="^launch.job: launch.job is started by srun"):
            job.main(["depth=20"])
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match="^launch.job: dept=20: no such key; did you mean depth=20"):
        job.main(["dept=20"])
