"""Dead runs become rows, live ones are left alone, whoever asks and however often."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from results import recover
from results.store.files import journals, read_rows, read_table
from results.store.journal import Owner
from results.store.writer import RunWriter, StoreError
from results.words import NAMES_ONE

ROOT = str(Path(recover.__file__).resolve().parents[1])
CHILD = """
import sys, time
from results.store.writer import RunWriter
writer = RunWriter(sys.argv[1], {"run_id": sys.argv[2], "depth": 20, "target_top1": 0.6, "epochs": 15,
                                 "global_batch": 64, "warmup_steps": 2})
writer.system({"cpu_model": "some cpu"})
for epoch in (1, 2, 3):
    writer.steps([{"rank": rank, "step": 10 * epoch + step, "t_ns": 1, "step_ms": 10.0 + step, "data_ms": 0.5}
                  for step in range(10) for rank in (0, 1)])
    writer.epoch({"epoch": epoch, "elapsed_s": 10.0 * epoch, "top1": 0.3 * epoch, "images": 640, "eval_s": 2.0})
print("ready", flush=True)
step = 0
while True:
    writer.steps([{"rank": 0, "step": 1000 + step, "t_ns": 1, "step_ms": 10.0, "data_ms": 0.5}])
    step += 1
"""


def start(root, run_id="r1"):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root), run_id], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": ROOT}
    )
    assert child.stdout.readline() == b"ready\n"
    return child


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """A store with the journal of one dead run, for tests that leave it as it is."""
    root = tmp_path_factory.mktemp("killed")
    kill(start(root))
    return root


@pytest.fixture
def dead(killed, tmp_path):
    """The same, of one's own."""
    shutil.copytree(killed, tmp_path, dirs_exist_ok=True)
    return tmp_path


def edit_header(root, **changes):
    path = journals(root)[0]
    first, _, rest = path.read_bytes().partition(b"\n")
    header = json.loads(first)
    header["owner"].update(changes)
    path.write_bytes(json.dumps(header).encode() + b"\n" + rest)
    return path


def test_a_killed_process_leaves_its_rows(tmp_path):
    child = start(tmp_path)
    assert recover.recover(tmp_path) == []
    assert recover.sweep(tmp_path).alive == ["r1.0"]
    time.sleep(0.05)
    kill(child)
    [row] = recover.recover(tmp_path)
    assert journals(tmp_path) == []
    [stored], bad = read_rows(tmp_path, "runs")
    assert bad == []
    assert {key: stored[key] for key in row} == row
    assert (row["status"], row["failure_kind"], row["recovered"]) == ("killed", "unknown", True)
    assert row["epochs_completed"] == 3
    assert row["images_per_s"] == pytest.approx(1280 / (20.0 - 4.0))  # two epochs less their evaluations
    assert (row["best_top1"], row["epochs_to_target"], row["tta_s"]) == (pytest.approx(0.9), 2, 20.0)
    assert stored["final_top1"] is None
    assert row["null_reasons"]["final_top1"] == "killed after epoch 3 of 15"
    assert "journal" in row["null_reasons"]["run_stop"]
    assert row["null_reasons"]["mfu"] == "killed (unknown) before it was measured"
    assert row["system_id"] == read_rows(tmp_path, "system")[0][0]["system_id"]
    assert read_table(tmp_path, "epochs")[0].num_rows == 3
    assert read_table(tmp_path, "steps")[0].num_rows >= 60
    assert 0.03 < row["data_wait_frac"] < 0.06
    assert 10.0 <= row["step_ms_p50"] <= row["step_ms_p95"] <= 19.0
    assert recover.recover(tmp_path) == []


def test_the_caller_may_know_why(dead):
    [row] = recover.recover(dead, ["r1"], failure_kind="rank_lost", failure_message="rank 1 ended with signal 9")
    assert row["failure_kind"] == "rank_lost"
    assert row["failure_message"].startswith("rank 1 ended with signal 9 (last line of the journal at 20")


def test_a_wrong_reason_writes_nothing(dead):
    with pytest.raises(ValueError, match="rank_lost"):
        recover.recover(dead, failure_kind="rank_lossed")
    assert len(journals(dead)) == 1 and not (dead / "runs").exists()


def test_other_runs_are_left(dead):
    assert recover.recover(dead, ["r2"]) == [] and len(journals(dead)) == 1


def test_a_torn_journal_is_recovered(dead):
    path = journals(dead)[0]
    path.write_bytes(path.read_bytes() + b'{"kind":"epoch","at_us":17000')
    [row] = recover.recover(dead)
    assert row["epochs_completed"] == 3 and "unreadable" not in row["failure_message"]


def test_percentiles_are_of_rank_0s_steps_after_the_warm_up(dead):
    path = journals(dead)[0]
    first, *others = [line for line in path.read_text().splitlines(keepends=True) if '"step_ms"' in line]
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if line not in others))
    [row] = recover.recover(dead)
    # Of 10 to 19 ms the first two warm up.
    assert (row["step_ms_p50"], row["step_ms_p95"]) == pytest.approx((15.5, 12 + 0.95 * 7), rel=1e-12)
    assert row["data_wait_frac"] == pytest.approx(0.5 * 10 / 145)


@pytest.mark.parametrize("time_ms", ["NaN", "Infinity"])
def test_a_time_that_is_no_number_leaves_the_percentiles_out(dead, time_ms):
    path = journals(dead)[0]
    path.write_text(path.read_text().replace("19.0", time_ms))
    [row] = recover.recover(dead)
    assert {row.get(column) for column in ("step_ms_p50", "step_ms_p95", "data_wait_frac")} == {None}
    assert row["null_reasons"]["step_ms_p95"] == "killed; a step's time in the journal is not a finite number"
    assert row["best_top1"] == pytest.approx(0.9)


def test_an_unreadable_journal_stays_and_is_named(dead, capsys):
    (dead / "journal" / "x.0.jsonl").write_text("no journal\n")
    (dead / "journal" / "y.0.jsonl").write_bytes(journals(dead)[0].read_bytes())
    assert recover.main([f"results={dead}"]) == 1
    out, err = capsys.readouterr()
    assert "recovered r1.0: killed" in out and "x.0.jsonl" in err and "y.0.jsonl" in err
    assert [path.name for path in journals(dead)] == ["x.0.jsonl", "y.0.jsonl"]


def test_from_another_host_age_decides(dead):
    path = edit_header(dead, hostname="elsewhere")
    assert recover.sweep(dead).alive == ["r1.0"]
    old = time.time() - 1000
    os.utime(path, (old, old))
    assert recover.sweep(dead, stale_s=1100.0).alive == ["r1.0"]
    assert len(recover.sweep(dead).rows) == 1


def test_a_process_id_used_again_is_not_the_run(dead):
    edit_header(dead, pid=os.getpid())
    assert len(recover.recover(dead)) == 1


def test_a_run_that_ended_keeps_its_own_word(tmp_path):
    code = """
import sys, os
from results.store import writer as store
writer = store.RunWriter(sys.argv[1], {"run_id": "r1"})
writer.epoch({"epoch": 1, "top1": 0.5})
real = store.write_once
store.write_once = lambda path, tables: os._exit(9) if "runs" in str(path) else real(path, tables)
writer.finish("completed", images_per_s=5.0, final_top1=0.5)
"""
    env = {**os.environ, "PYTHONPATH": ROOT}
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=env, check=False).returncode == 9
    assert read_table(tmp_path, "epochs")[0].num_rows == 1 and read_table(tmp_path, "runs")[0].num_rows == 0
    [row] = recover.recover(tmp_path)
    assert (row["status"], row["images_per_s"], row.get("recovered")) == ("completed", 5.0, None)
    assert read_table(tmp_path, "epochs")[0].num_rows == 1 and journals(tmp_path) == []


@pytest.mark.parametrize("ends", [False, True])
def test_what_a_run_writes_while_it_is_looked_at_and_dies_is_kept(tmp_path, monkeypatch, ends):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    writer.epoch({"epoch": 1, "top1": 0.25})

    def full(*_):
        raise OSError("no space left on device")

    def last_words(owner):
        writer.epoch({"epoch": 2, "top1": 0.5})
        if ends:
            with monkeypatch.context() as killed:
                killed.setattr("results.store.writer.write_attempt", full)
                pytest.raises(OSError, writer.finish, "completed", final_top1=0.5)
        return False

    monkeypatch.setattr(Owner, "lives", last_words)
    [row] = recover.recover(tmp_path)
    assert [one["epoch"] for one in read_rows(tmp_path, "epochs")[0]] == [1, 2]
    assert row["status"] == ("completed" if ends else "killed") and row["final_top1" if ends else "best_top1"] == 0.5


@pytest.mark.slow
def test_many_at_once_write_each_row_once(dead):
    for index in range(2, 12):
        text = journals(dead)[0].read_text().replace('"run_id":"r1"', f'"run_id":"r{index}"')
        (dead / "journal" / f"r{index}.0.jsonl").write_text(text)
    code = "import sys; from results import recover; print(len(recover.recover(sys.argv[1])))"
    with ThreadPoolExecutor(3) as pool:
        env = {**os.environ, "PYTHONPATH": ROOT}
        command = [sys.executable, "-c", code, str(dead)]
        done = list(pool.map(lambda _: subprocess.run(command, env=env, capture_output=True, check=False), range(3)))
    assert [one.stderr for one in done] == [b""] * 3
    assert sum(int(one.stdout) for one in done) == 11
    rows, bad = read_rows(dead, "runs")
    assert len({row["run_id"] for row in rows}) == len(rows) == 11 and bad == [] and journals(dead) == []
    assert not [path for path in dead.rglob("*") if path.name.endswith(".tmp")]


def test_a_run_recovered_by_mistake_does_not_overwrite(tmp_path):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    path = edit_header(tmp_path, hostname="elsewhere")
    os.utime(path, (1, 1))
    assert len(recover.recover(tmp_path)) == 1
    with pytest.raises(StoreError, match="recovered as dead"):
        writer.finish("completed")
    assert read_rows(tmp_path, "runs")[0][0]["status"] == "killed"


def test_old_leftovers_go_and_new_ones_stay(dead):
    folder = dead / "runs" / "month=2026-11"
    folder.mkdir(parents=True)
    for name, age in ((".a.0.parquet.1-ab.tmp", 5000), (".b.0.parquet.1-ab.tmp", 5)):
        (folder / name).touch()
        os.utime(folder / name, (time.time() - age, time.time() - age))
    recover.recover(dead)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".b.0.parquet.1-ab.tmp"]


def test_the_command(dead, capsys):
    assert recover.main([f"results={dead}", "run=r1", "stale_s=10"]) == 0
    assert capsys.readouterr().out.startswith("recovered r1.0: killed, ended without a word; last line of the journal")
    assert recover.main([f"results={dead}"]) == 0
    assert "nothing to recover" in capsys.readouterr().out
    for words in (["stale_s=soon"], ["stale_s=-1"], ["result=x"], [f"results={dead}/none"], ["run="], ["run"]):
        assert recover.main(words) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and words[0].partition("=")[0] in err


def test_runs_are_chosen_by_the_start_or_the_end_of_their_ids(dead, capsys):
    other = start(dead, "r2-other")
    try:
        assert recover.main([f"results={dead}", "run=r3"]) == 2
        assert capsys.readouterr() == ("", f"results.recover: run=r3: no such run; {NAMES_ONE}\n")
        assert recover.main([f"results={dead}", "run=1", "stale_s=0"]) == 0
    finally:
        kill(other)
    out, _ = capsys.readouterr()
    assert "recovered r1.0" in out and "r2-other" not in out
    assert recover.main([f"results={dead}", "run=r1"]) == 0, "again, when its rows are there"
    assert "nothing to recover" in capsys.readouterr().out
