"""The command, from its words to its rows and its status, with a launcher that trains nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bench.pairs import command, process
from results.identity import named_as_of_pairs
from results.store.files import read_rows
from results.store.writer import RunWriter

# Each test runs the command, its commits in worktrees and a launcher for each side.
pytestmark = pytest.mark.slow

# The command of a small repository, as a process of its own.
COMMAND = """
import sys, tempfile
from pathlib import Path
from bench.pairs import checkouts, command, process
checkouts.ROOT, tempfile.tempdir, process.STOP_S = Path(sys.argv[1]), sys.argv[2], 5.0
sys.exit(command.main(sys.argv[3:]))
"""


def until(true: Callable[[], bool], patience_s: float = 60.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def start(repository) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def popen(*words: str) -> subprocess.Popen[str]:
        where = [str(repository.root), str(repository.root.parent / "tmp")]
        whole = [sys.executable, "-c", COMMAND, *where, *repository.words(*words)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # Where a shell started the tests in the background, SIGINT is ignored, and would be by whatever they start.
        heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
        started.append(subprocess.Popen(whole, start_new_session=True, **pipes, **heard))
        return started[-1]

    yield popen
    for one in started:
        one.kill()
        one.communicate()


def nothing_is_left(repository) -> None:
    assert len(repository.worktrees()) == 1
    assert os.listdir(repository.root.parent / "tmp") == ["resnet-bench-pairs.lock"]
    # The output of a run that failed stays, under the run's own name.
    assert not [path for path in repository.results.glob("jobs/*pairs*") if not named_as_of_pairs(path.name)]


def test_two_commits_run_in_turn_each_with_its_own_code(repository, capsys: pytest.CaptureFixture[str]) -> None:
    a = repository.commit(first=50.0, s4=100.0, s5=100.0)
    b = repository.commit(first=50.0, s4=90.0, s5=110.0)
    # Another run ends in the same store meanwhile, with a name that sorts between.
    other = RunWriter(repository.results, {"run_id": "run-zzz"})
    threading.Timer(0.5, lambda: other.finish("completed", images_per_s=1.0)).start()
    assert command.main(repository.words("a=commit:main~1", "seed=4", "kernels=torch")) == 0
    out, err = capsys.readouterr()
    runs = repository.runs()
    roots = [Path(run["root"]) for run in runs]
    assert [root.name for root in roots] == ["a", "checkout", "a", "checkout", "checkout", "a"]
    first, counted = runs[:2], runs[2:]
    assert all(run["words"][:5] == ["depth=8", "dataset=digits", "kernels=torch", "seed=4", "steps=2"] for run in first)
    assert [run["words"][3] for run in counted] == ["seed=4", "seed=4", "seed=5", "seed=5"]
    assert [run["does"] for run in counted] == [100.0, 90.0, 110.0, 100.0]
    rows, bad = read_rows(repository.results, "pairs")
    rows.sort(key=lambda row: (row["pair"], row["position"]))
    assert not bad and [(row["pair"], row["side"], row["commit"]) for row in rows] == [
        (1, "a", a),
        (1, "b", b),
        (2, "b", b),
        (2, "a", a),
    ]
    kept = {row["run_id"]: row for row in read_rows(repository.results, "runs")[0]}
    assert set(kept) == {*(row["run_id"] for row in rows), "run-zzz"}
    # So that no check takes them for runs of a night once the table of pairs is lost.
    assert [run_id for run_id in kept if not named_as_of_pairs(run_id)] == ["run-zzz"]
    for row, value in zip(rows, [100.0, 90.0, 110.0, 100.0], strict=True):
        run = kept[row["run_id"]]
        assert (run["images_per_s"], run["git_commit"]) == (value, row["commit"])
        assert row["words"] == ["depth=8", "dataset=digits", "kernels=torch", f"seed={run['seed']}"]
        assert len(read_rows(repository.results, "steps", [row["run_id"]])[0]) == 1
    table = [line.split() for line in out.splitlines()]
    assert table[2:4] == [
        ["1", "a", "b", "4", "100", "90", "+10.00%"],
        ["2", "b", "a", "5", "100", "110", "-10.00%"],
    ]
    assert (
        "no difference is shown: images_per_s of b / a is 1.000 [0.900, 1.100] 50% (median of 2, too few for 95%);"
        in out
    )
    assert "4 of at most 16 runs: pair 2 goes the other way than the first" in out
    assert f"pairs {rows[0]['pairs_id']} in {repository.results}" in out
    assert f"a: {a[:10]}, 2 steps that do not count\nb: {b[:10]}, 2 steps" in err
    nothing_is_left(repository)


def test_pairs_that_end_with_b_far_worse_rule_nothing_out(repository, capsys: pytest.CaptureFixture[str]) -> None:
    repository.commit(first=50.0, s0=100.0, s1=100.0)
    repository.commit(first=50.0, s0=57.0, s1=101.0)
    assert command.main(repository.words("a=commit:main~1")) == 3
    out = capsys.readouterr().out
    assert (
        "b is neither confirmed to be worse nor shown not to be: images_per_s of b / a is 0.790 [0.570, 1.010]" in out
    )
    assert "4 of at most 16 runs: pair 2 goes the other way than the first" in out


def test_two_configurations_of_one_checkout(repository, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"0.1": 100.0, "0.2": 120.0}
    repository.commit(s0=values, s1={"0.1": 100.0, "0.2": 80.0})
    words = ["depth=8", "dataset=cifar10", f"data={repository.root}", f"results={repository.results}"]
    assert command.main([*words, "a=lr=0.1", "b=lr=0.2"]) == 0
    assert all(f"data={repository.root}" in run["words"] for run in repository.runs())
    assert "+20.00%" in capsys.readouterr().out.replace("-20.00%", "+20.00%")
    rows, _ = read_rows(repository.results, "pairs")
    said = {side: ["depth=8", "dataset=cifar10", f"lr={lr}"] for side, lr in (("a", "0.1"), ("b", "0.2"))}
    assert [(row["side"], row["position"]) for row in rows] == [("a", 1), ("b", 2), ("a", 2), ("b", 1)]
    assert all(row["words"][:-1] == said[row["side"]] for row in rows), "rows hold no path"
    assert {row["allocation"] for row in rows} == {f"local-{rows[0]['pairs_id']}"}


@pytest.mark.slow
@pytest.mark.parametrize(("b", "status", "said"), [(90.0, 1, "b is worse than a"), (110.0, 0, "b is better than a")])
def test_eight_pairs_one_way_are_confirmed(repository, b: float, status: int, said: str, capsys) -> None:
    repository.commit(other=100.0)
    repository.commit(other=b)
    assert command.main(repository.words("a=commit:HEAD~1")) == status
    out = capsys.readouterr().out
    ratio = f"{b / 100:.3f}"
    assert f"{said}: images_per_s of b / a is {ratio} [{ratio}, {ratio}] 99.2% (median of 8); 16" in out
    assert "16 of at most 16 runs" in out
    assert len(repository.runs()) == 18 and len(read_rows(repository.results, "pairs")[0]) == 16


@pytest.mark.parametrize(
    ("does", "status", "said"),
    [
        ("fail", 3, "b: its run ended with status 1: net failed (data): 1.jpg: truncated (logs in {rows}/jobs/2"),
        ("crash", 3, "b: its run ended with status 1: RuntimeError: no row was written"),
        ("silent", 3, "b: its run wrote 0 rows, expected the one of a completed run"),
        ("refuse", 2, "b: kernels=triton: there is no GPU; nearest is kernels=torch"),
        ("null", 2, "metric=images_per_s: run 2"),
        ("wrong", 3, "b: run 2"),
        ("edit", 3, "b: {root} was changed while it ran"),
    ],
)
def test_a_run_that_does_not_do_ends_the_pairs_and_keeps_those_that_did(
    repository, does: str, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.commit()
    repository.commit(s0=90.0, s1=does)
    assert command.main(repository.words("a=commit:HEAD~1")) == status
    out, err = capsys.readouterr()
    last = err.splitlines()[-1]
    assert last.startswith(f"bench.pairs: {said.format(rows=repository.results, root=repository.root)}")
    assert "not settled: images_per_s of b / a is 0.900" in out and "2 of at most 16 runs" in out
    rows, _ = read_rows(repository.results, "pairs")
    assert [(row["pair"], row["side"]) for row in rows if row["pair"]] == [(1, "a"), (1, "b")]
    runs = read_rows(repository.results, "runs")[0]
    assert {row["run_id"] for row in runs} - {"run-zzz"} == {row["run_id"] for row in rows}, "no check sees it alone"
    statuses = [row["status"] for row in runs]
    assert statuses.count("completed") >= 2 and statuses.count("failed") == (does == "fail")
    if does == "fail":
        assert [path.read_text() for path in repository.results.glob("jobs/*-p02b/0_log.err")] == ["why"]
    nothing_is_left(repository)


def test_the_first_steps_find_out_what_cannot_run_before_anything_counts(repository, capsys) -> None:
    repository.commit()
    repository.commit(first="refuse")
    assert command.main(repository.words("a=commit:HEAD~1")) == 2
    assert capsys.readouterr().err.endswith(
        "bench.pairs: b: kernels=triton: there is no GPU; nearest is kernels=torch\n"
    )
    assert len(repository.runs()) == 2 and not read_rows(repository.results, "runs")[0]
    nothing_is_left(repository)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_a_signal_ends_the_run_in_order_and_keeps_what_is_done(
    repository, start, number: signal.Signals, status: int
) -> None:
    repository.commit()
    repository.commit(s0=90.0, s1="sleep")
    one = start("a=commit:HEAD~1")
    assert until(lambda: any("ready" in run for run in repository.runs())), one.communicate()
    one.send_signal(number)
    out, err = one.communicate(timeout=60)
    assert one.returncode == status, err
    assert "not settled" in out and "Traceback" not in err
    claimed = {row["run_id"]: row["pair"] for row in read_rows(repository.results, "pairs")[0]}
    assert sorted(map(str, claimed.values())) == ["1", "1", "None"]
    rows = sorted(read_rows(repository.results, "runs")[0], key=lambda row: row["status"])
    assert [row["status"] for row in rows] == ["completed"] * 2 + ["killed"]
    assert rows[-1]["failure_message"] == "the launcher was stopped by SIGTERM" and not rows[-1]["recovered"], (
        "the run wrote it itself"
    )
    assert claimed[rows[-1]["run_id"]] is None, "the run that was stopped is no side of a pair, and no run by itself"
    assert not alive(repository.runs()[-1]["ready"])
    nothing_is_left(repository)


@pytest.mark.slow
def test_a_killed_command_takes_its_run_along_and_the_next_one_tidies_up(repository, start, capsys) -> None:
    repository.commit()
    repository.commit(s0=90.0, s1="sleep", s7=90.0, s8=110.0)
    one = start("a=commit:HEAD~1")
    assert until(lambda: any("ready" in run for run in repository.runs())), one.communicate()
    one.kill()
    one.wait()
    assert until(lambda: not alive(repository.runs()[-1]["ready"]), 20)
    assert len(repository.worktrees()) == 2
    assert command.main(repository.words("a=commit:HEAD~1", "seed=7")) == 0
    statuses = [row["status"] for row in read_rows(repository.results, "runs")[0]]
    assert sorted(statuses) == ["completed"] * 6 + ["killed"]
    rows = read_rows(repository.results, "pairs")[0]
    assert [row["pair"] for row in rows].count(None) == 1 and len(rows) == 7
    nothing_is_left(repository)


@pytest.mark.slow
def test_a_second_command_is_refused_while_a_run_of_the_first_goes(repository, start, capsys) -> None:
    repository.commit(first="sleep")
    one = start("a=commit:HEAD")
    assert until(lambda: any("ready" in run for run in repository.runs())), one.communicate()
    assert command.main(repository.words("a=commit:HEAD")) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"bench.pairs: another bench.pairs (process {one.pid})") and said.count("\n") == 1
    # A stopped launcher outlives the command that started it; until it is gone its run may still disturb.
    launcher = psutil.Process(repository.runs()[-1]["ready"])
    launcher.suspend()
    one.kill()
    one.wait()
    assert command.main(repository.words("a=commit:HEAD")) == 2
    launcher.resume()
    assert until(lambda: not alive(launcher.pid), 20)


SRUN = """\
#!/bin/sh
echo "$SLURM_NNODES $SLURM_NTASKS_PER_NODE $SLURM_NTASKS $FROM_SCRIPT $$" >> "$FAKE_LOG.srun"
shift
exec "$@"
"""


@pytest.fixture
def three_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)
    path = f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}"
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "3", "SLURM_NNODES": "1"}
    for name, value in {"PATH": path, **job}.items():
        monkeypatch.setenv(name, value)


def test_a_commit_that_names_runs_after_the_job_alone_is_refused(repository, three_nodes, capsys) -> None:
    old = repository.commit(first="old")
    repository.commit()
    assert command.main(repository.words("a=commit:HEAD~1", "nodes=3")) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"bench.pairs: a: {old[:10]} names each run after the Slurm job alone (RESNET_BENCH_RUN_ID")
    assert len(repository.runs()) == 1 and not [row for row in read_rows(repository.results, "pairs")[0] if row["pair"]]


def test_in_an_allocation_of_several_nodes_srun_starts_each_run_with_its_own_id(
    repository, tmp_path: Path, three_nodes, capsys
) -> None:
    repository.commit()
    repository.commit(s0=90.0, s1=110.0)
    assert command.main(repository.words("a=commit:HEAD~1", "nodes=3", "cluster=site")) == 0
    runs = repository.runs()
    assert [Path(run["root"]).name for run in runs] == ["a", "checkout", "a", "checkout", "checkout", "a"]
    assert Path(runs[0]["root"]).is_relative_to(repository.results), "other nodes see no temporary folder of this one"
    assert all("nodes=3" in run["words"] for run in runs)
    srun = [line.split() for line in (tmp_path / "log.srun").read_text().splitlines()]
    assert [line[:4] for line in srun] == [["3", "2", "6", "yes"]] * 6
    rows, _ = read_rows(repository.results, "pairs")
    pairs_id = rows[0]["pairs_id"]
    assert [row["run_id"] for row in rows] == [f"{pairs_id}-p{end}" for end in ("01a", "01b", "02a", "02b")]
    assert {row["allocation"] for row in rows} == {"slurm-7"}
    assert len(read_rows(repository.results, "runs")[0]) == 4
    nothing_is_left(repository)


def test_a_script_that_srun_cannot_be_told_from_is_said(repository, monkeypatch, capsys) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    repository.commit()
    slurm = repository.root / "launch" / "slurm.py"
    slurm.write_text(slurm.read_text().replace("srun --unbuffered", "mpirun"))
    repository.commit()
    assert command.main(repository.words("a=commit:HEAD")) == 3
    assert "not a script that srun can be told from" in capsys.readouterr().err


def test_a_run_that_srun_ends_is_said_in_the_words_of_its_row(repository, three_nodes, capsys) -> None:
    repository.commit(s0="fail")
    assert command.main(repository.words("a=commit:HEAD", "nodes=3")) == 3
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("bench.pairs: a: its run ended with status 1: failed (data): 1.jpg: truncated (logs in ")


def test_what_a_launcher_says_last_is_its_own_line() -> None:
    assert process._last_line("a warning\nlaunch: depth=9: no\nTraceback\n") == "depth=9: no"
    assert process._last_line("first\n  last   words \n") == "last words"
    assert process._last_line("") == "it said nothing"
