"""What a cell is, from its row, its journal and what Slurm says; and whose rows are made."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from after_submission import Slurm, begin, log, sweep

from bench.config.paths import ROOT
from launch.sweep import table
from launch.sweep.manifest import Array
from launch.sweep.status import STATES, CellState, SweepState, look
from results.store.files import journals, read_rows

KILLED = "srun: error: n1: task 0: Killed\nsrun: launch/slurm: _step_signal: Terminating StepId=17.0\n"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    return Slurm(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "rows"


def look_at(store: Path, *jobs: str | None) -> SweepState:
    manifest = sweep(store, jobs)
    return look(manifest, store, manifest.cells)


def only(found: SweepState) -> CellState:
    (cell,) = found.cells
    assert cell.state in STATES
    return cell


def end(store: Path, run_id: str, status: str = "completed", restart: int = 0, **more: str) -> None:
    begin(store, run_id, restart, steps=40).finish(status, final_top1=0.9, images_per_s=1234.0, **more)


def test_a_row_counts_before_all_else(slurm: Slurm, store: Path) -> None:
    end(store, "run0")
    slurm.queue(slurm.job("17_0", "COMPLETING"))
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.kind, cell.lives) == ("completed", "", True)
    assert (cell.progress.epoch, cell.progress.epochs, cell.progress.top1) == (None, 4, 0.9)
    assert cell.progress.images_per_s == 1234.0


def test_what_waits_says_why_and_what_was_never_submitted_is_there(slurm: Slurm, store: Path) -> None:
    slurm.queue(slurm.job("17_0", "PENDING", "", reason="Priority"))
    found = look_at(store, "17_0", None)
    assert [(cell.state, cell.detail) for cell in found.cells] == [("pending", "Priority"), ("not submitted", "")]
    assert not found.over and found.counts() == {"not submitted": 1, "pending": 1}


def test_how_far_a_run_is_comes_from_its_journal(slurm: Slurm, store: Path) -> None:
    begin(store, "run0", steps=25)
    slurm.queue(slurm.job("17_0", "RUNNING", "n[1-2]", left="9:59"))
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.nodes, cell.detail) == ("running", "n[1-2]", "")
    progress = cell.progress
    assert (progress.epoch, progress.epochs, progress.step, progress.steps) == (2, 4, 25, 40)
    assert progress.images_per_s == pytest.approx(6400)  # 64 images in 10 ms: the steps of rank 1 are not rank 0's
    assert progress.top1 == 0.2
    assert progress.left_s == pytest.approx(15 * 0.01 + 2 * 0.5)
    assert journals(store)  # it lives


@pytest.mark.parametrize("end", ["running", "failed", "completed"])
def test_accuracy_is_that_of_the_last_evaluation_and_never_the_best(slurm: Slurm, store: Path, end: str) -> None:
    found = sweep(store, ["17"])
    run = begin(store, "run0", steps=20)
    run.epoch({"epoch": 3, "elapsed_s": 3.0, "top1": 0.05, "images": 640, "eval_s": 0.5})
    slurm.queue(slurm.job("17", "RUNNING" if end == "running" else "COMPLETED"))
    if end == "failed":
        run.finish("failed", failure_kind="oom", failure_message="x")
    elif end == "completed":
        run.update(final_top1=0.05, best_top1=0.2)
        run.finish("completed")
    (cell,) = look(found, store, found.cells).cells
    assert (cell.state, cell.progress.top1) == (end, 0.05)


def test_the_row_of_a_job_that_is_over_is_made_with_the_evidence(slurm: Slurm, store: Path) -> None:
    begin(store, "run0", steps=25)
    manifest = sweep(store, ["17_0"])
    log(manifest, 0, "17_0", KILLED)
    slurm.queue(slurm.job("17_0", "FAILED", "n[1-2]"))
    slurm.accounting("17_0|FAILED|9:0|n[1-2]|")
    found = look(manifest, store, manifest.cells)
    cell = only(found)
    assert (cell.state, cell.kind, cell.progress.epoch) == ("killed", "rank_lost", 2)
    assert cell.message.startswith("rank 0 on n1 was killed by signal 9, by the job's log; by Slurm's account: FAILED")
    assert "last line of the journal" in cell.message and found.over
    assert found.notices == ("1 row made from journals, of jobs that Slurm calls over",)
    ((row,), _) = read_rows(store, "runs")
    assert (row["status"], row["failure_kind"], row["failure_message"]) == ("killed", "rank_lost", cell.message)
    assert row["recovered"] is True and not journals(store)
    again = look(manifest, store, manifest.cells)  # by its row
    assert (only(again).state, only(again).message, again.notices) == ("killed", cell.message, ())


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "PENDING", "SUSPENDED", "NEW_WORD"])
def test_no_row_is_made_of_a_job_that_may_live(slurm: Slurm, store: Path, state: str) -> None:
    begin(store, "run0", steps=25)
    slurm.queue(slurm.job("17_0", state))
    slurm.accounting("17_0|FAILED|9:0|n1|")  # of the time before it was queued again
    cell = only(look_at(store, "17_0"))
    assert cell.lives and cell.state in ("running", "pending", "unknown")
    assert journals(store) and read_rows(store, "runs")[0] == []


def test_no_row_is_made_where_slurm_does_not_say(slurm: Slurm, store: Path) -> None:
    begin(store, "run0", steps=25)
    for answer in ("nothing", "failing", "forgotten", "other"):
        if answer == "failing":
            slurm.fails("squeue", "slurm_load_jobs error: Unable to contact slurm controller\n")
        if answer == "forgotten":
            slurm.fails("squeue", "")
            slurm.accounting("17_0|RUNNING|0:0|n1|")
        if answer == "other":  # the number of somebody else's job
            slurm.queue(slurm.job("17_0", "FAILED", script="/home/other.sh"))
            slurm.accounting()
        look_at(store, "17_0")
        assert journals(store) and read_rows(store, "runs")[0] == [], answer


def test_a_process_on_this_machine_is_no_dead_one_whatever_slurm_says(slurm: Slurm, store: Path) -> None:
    begin(store, "run0", elsewhere=False, steps=25)
    slurm.queue(slurm.job("17_0", "FAILED"))
    cell = only(look_at(store, "17_0"))
    assert journals(store) and "its process lives on this machine" in cell.message


@pytest.mark.parametrize(
    ("state", "wanted", "kind"),
    [
        ("NODE_FAIL", "killed", "rank_lost"),
        ("OUT_OF_MEMORY", "killed", "oom"),
        ("PREEMPTED", "killed", "preempted"),
        ("TIMEOUT", "killed", "timeout"),
        ("BOOT_FAIL", "failed", "launch"),
        ("FAILED", "failed", "unknown"),
        ("CANCELLED by 0", "cancelled", "interrupted"),
    ],
)
@pytest.mark.parametrize("began", [False, True])
def test_each_end_has_its_kind_with_and_without_a_journal(
    slurm: Slurm, store: Path, state: str, wanted: str, kind: str, began: bool
) -> None:
    if began:
        begin(store, "run0", steps=25)
    slurm.accounting(f"17_0|{state}|1:0|n1|")
    cell = only(look_at(store, "17_0"))
    # A row says killed of all that ended without a word; what could not be started is no other matter.
    assert (cell.state, cell.kind) == ("killed" if began and wanted == "failed" else wanted, kind)
    assert f"by Slurm's account: {state.partition(' ')[0]}" in cell.message


def test_a_cell_that_was_cancelled_before_it_began_is_shown(slurm: Slurm, store: Path) -> None:
    slurm.accounting("17_[0-8%2]|CANCELLED by 0|0:0|None assigned|")
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.message) == ("cancelled", "by Slurm's account: CANCELLED by root, before it began")


def test_what_slurm_knows_is_said_beside_a_vague_row(slurm: Slurm, store: Path) -> None:
    told = {"failure_kind": "interrupted", "failure_message": "rank 0 was stopped by SIGTERM"}
    for at, state in enumerate(("PREEMPTED", "TIMEOUT", "CANCELLED by 0", "FAILED")):
        end(store, f"run{at}", "killed", **told)
        slurm.accounting(*(slurm.folder / "sacct").read_text().splitlines()[1:], f"17_{at}|{state}|0:0|n1|")
    found = look_at(store, "17_0", "17_1", "17_2", "17_3").cells
    assert [(cell.state, cell.kind) for cell in found] == [
        ("killed", "preempted"), ("killed", "timeout"), ("cancelled", "interrupted"), ("killed", "interrupted"),
    ]  # fmt: skip
    assert found[0].message == "by Slurm's account: PREEMPTED on n1; by the run: rank 0 was stopped by SIGTERM"
    assert found[2].message == "by root: rank 0 was stopped by SIGTERM"
    assert found[3].message == "rank 0 was stopped by SIGTERM"


def test_what_the_run_knows_exactly_stays(slurm: Slurm, store: Path) -> None:
    end(store, "run0", "failed", failure_kind="data", failure_message="/images/a.jpg: truncated")
    slurm.accounting("17_0|NODE_FAIL|0:0|n1|")
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.kind, cell.message) == ("failed", "data", "/images/a.jpg: truncated")


def test_a_preempted_job_that_waits_again_is_pending(slurm: Slurm, store: Path) -> None:
    end(store, "run0", "killed", failure_kind="preempted", failure_message="x")
    slurm.queue(slurm.job("17_0", "PENDING", "", restarts="1", reason="BeginTime"))
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.detail) == ("pending", "BeginTime; attempt 0 was preempted")
    slurm.queue(slurm.job("17_0", "RUNNING", restarts="1"))
    assert only(look_at(store, "17_0")).state == "running"
    assert only(look_at(store, "17_0")).progress.epoch is None  # that of the attempt before is not its own
    begin(store, "run0", 1, steps=12)
    assert only(look_at(store, "17_0")).progress.step == 12
    slurm.queue(slurm.job("17_0", "RUNNING", restarts="0"))  # it is about to end
    (store / "journal" / "run0.1.jsonl").unlink()
    assert only(look_at(store, "17_0")).state == "killed"


def test_without_accounting_the_queue_s_memory_will_do(slurm: Slurm, store: Path) -> None:
    slurm.fails("sacct", "Slurm accounting storage is disabled\n")
    begin(store, "run0", steps=5)
    slurm.queue(slurm.job("17_0", "NODE_FAIL", "n[1-2]", reason="NodeDown"))
    found = look_at(store, "17_0")
    assert (only(found).state, only(found).kind) == ("killed", "rank_lost")
    assert found.sources == ("rows", "journals", "squeue")
    assert "sacct does not answer: accounting is off" in found.notices


def test_without_slurm_rows_and_journals_speak_and_unknown_is_said(
    slurm: Slurm, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm.remove("squeue", "sacct")
    monkeypatch.setenv("PATH", str(slurm.commands))
    end(store, "run0")
    begin(store, "run1", steps=12)
    begin(store, "run3", steps=12)
    old = store / "journal" / "run3.0.jsonl"
    old.write_text("\n".join(json.dumps({**json.loads(line), "at_us": 10**15}) for line in old.open()) + "\n")
    found = look_at(store, "17_0", "17_1", "17_2", "17_3")
    assert [cell.state for cell in found.cells] == ["completed", "running", "unknown", "unknown"]
    assert found.cells[1].detail.startswith("by its journal, ") and found.cells[1].progress.step == 12
    assert found.cells[2].detail == "Slurm does not say; no row, no journal"
    assert "python -m results.recover makes its row" in found.cells[3].detail
    assert found.sources == ("rows", "journals")
    assert found.notices == ("no squeue on this machine", "no sacct on this machine")
    assert not found.over and len(journals(store)) == 2


def test_what_slurm_has_forgotten_is_over_and_unknown(slurm: Slurm, store: Path) -> None:
    found = look_at(store, "17_0")
    assert (only(found).state, only(found).detail) == ("unknown", "Slurm knows no such job; no row, no journal")
    assert found.over


def test_a_job_that_slurm_does_not_know_is_not_running_by_its_journal(slurm: Slurm, store: Path) -> None:
    """Only where squeue does not answer is a fresh journal of another machine a sign of life."""
    begin(store, "run0", steps=12)
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.gone, cell.lives) == ("unknown", True, False)
    assert cell.detail.startswith("Slurm knows no such job; last line of its journal ")
    slurm.queue(slurm.job("17_0", "NEW_WORD", reason="SomethingNew"))
    cell = only(look_at(store, "17_0"))
    assert (cell.state, cell.lives) == ("unknown", True) and cell.detail.startswith("SomethingNew; last line of")


def test_a_submission_that_was_cut_short_is_said(slurm: Slurm, store: Path) -> None:
    manifest = sweep(store, ["17_0"])
    said = "a submission was cut short: the same command finds out whether Slurm has it"
    assert said not in look(manifest, store, manifest.cells).notices
    cut = dataclasses.replace(
        manifest, arrays=(*manifest.arrays, Array(script="array-1.sh", cells=(0,), run_ids=("x",)))
    )
    assert said in look(cut, store, cut.cells).notices


def test_a_job_that_completed_without_a_row_is_not_called_completed(slurm: Slurm, store: Path) -> None:
    slurm.accounting("17_0|COMPLETED|0:0|n1|")
    cell = only(look_at(store, "17_0"))
    assert cell.state == "unknown" and "it has no row (yet" in cell.detail


def test_a_store_that_was_moved_is_read_where_it_is(slurm: Slurm, store: Path) -> None:
    manifest = sweep(store, ["17_0"])
    log(manifest, 0, "17_0", KILLED)
    begin(store, "run0", steps=5)
    moved = store.rename(store.parent / "elsewhere")
    slurm.accounting("17_0|FAILED|9:0|n1|")
    cell = only(look(manifest, moved, manifest.cells))
    assert cell.message.startswith("rank 0 on n1 was killed by signal 9")
    assert cell.log == str(moved / "jobs" / manifest.sweep_id / "logs" / "000-depth=20")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs users")
def test_a_store_that_may_not_be_written_to_is_shown_all_the_same(
    slurm: Slurm, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from results import recover

    def refuse(*_: object, **__: object) -> list[dict]:
        raise PermissionError(13, "Permission denied", str(store))

    begin(store, "run0", steps=5)
    slurm.accounting("17_0|NODE_FAIL|0:0|n1|")
    monkeypatch.setattr(recover, "recover", refuse)
    found = look_at(store, "17_0")
    assert (only(found).state, only(found).kind) == ("killed", "rank_lost")
    assert "its row cannot be written" in only(found).message
    assert any("the row of run0 cannot be written" in notice for notice in found.notices)


def test_a_damaged_journal_spoils_nothing(slurm: Slurm, store: Path) -> None:
    begin(store, "run1", steps=5)
    (store / "journal" / "run0.0.jsonl").write_text("no journal\n")
    slurm.queue(slurm.job("17_0", "RUNNING"), slurm.job("17_1", "RUNNING"))
    found = look_at(store, "17_0", "17_1")
    assert [(cell.state, cell.progress.step) for cell in found.cells] == [("running", None), ("running", 5)]


def test_journals_that_cannot_be_listed_are_said(slurm: Slurm, store: Path) -> None:
    store.mkdir()
    (store / "journal").write_text("")
    slurm.queue(slurm.job("17_0", "RUNNING"))
    found = look_at(store, "17_0")
    assert only(found).state == "running" and f"cannot be read: {store}/journal: Not a directory" in found.notices


def test_two_sweeps_of_a_store_know_their_own(slurm: Slurm, store: Path) -> None:
    other = sweep(store, ["18_0"], sweep_id="20261127T020203-sweep-ffffffff")
    end(store, "run0")
    slurm.queue(slurm.job("18_0", "RUNNING"))  # whose script lies in the folder of the other sweep
    (cell,) = look(other, store, other.cells).cells
    assert cell.job is None


def test_the_table_has_all_of_it(
    slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    end(store, "run0")
    begin(store, "run1", steps=25)
    slurm.queue(
        slurm.job("17_1", "RUNNING", "n[1-2]", left="9:59"), slurm.job("17_2", "PENDING", "", reason="Resources")
    )
    slurm.accounting("17_3|NODE_FAIL|0:0|n2|")
    table.write(look_at(store, "17_0", "17_1", "17_2", "17_3", None), "table")
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0].endswith(": 5 cells: 1 not submitted, 1 pending, 1 running, 1 completed, 1 killed")
    assert lines[1] == "submitted 2026-11-27T01:02:03 UTC to cluster=default, commit 0123456789"
    assert "depth=20 17_0 completed n[1-2] - - 1,234 0.9000 - -" in lines
    assert "depth=21 17_1 running n[1-2] 2/4 25/40 6,400 0.2000 0:01 (9:59) -" in lines
    assert "depth=22 17_2 pending (Resources) - - - - - - -" in lines
    assert "depth=23 17_3 killed n2 - - - - - rank_lost" in lines
    assert "depth=24 - not submitted - - - - - - -" in lines
    assert "depth=23: killed (rank_lost): by Slurm's account: NODE_FAIL on n2" in lines
    assert lines[-1] == "from rows, journals, squeue, sacct" and err == ""


def test_synthetic_images_are_said_first(slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = sweep(store, ["17_0"], synthetic=True, dirty=True)
    table.write(look(manifest, store, manifest.cells), "table")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].endswith("commit 0123456789 with uncommitted changes") and lines[2].startswith("SYNTHETIC images")


def test_other_programs_get_exact_values(slurm: Slurm, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin(store, "run0", steps=25)
    slurm.queue(slurm.job("17_0", "RUNNING", "n[1-2]", left="9:59"))
    slurm.fails("sacct", "Slurm accounting storage is disabled\n")
    found = look_at(store, "17_0", None)
    table.write(found, "json")
    out, err = capsys.readouterr()
    first, second = json.loads(out)
    assert list(first) == list(second) == list(table.NAMES)
    assert (first["label"], first["state"], first["slurm_state"], first["job_id"]) == (
        "depth=20", "running", "RUNNING", "17_0",
    )  # fmt: skip
    assert (first["step"], first["steps"], first["top1"], first["limit_left"]) == (25, 40, 0.2, "9:59")
    assert first["left_s"] == pytest.approx(1.15) and second["job_id"] is None and second["state"] == "not submitted"
    assert err == "sacct does not answer: accounting is off\n"
    table.write(found, "csv")
    head, line, _ = capsys.readouterr().out.splitlines()
    assert head.split(",") == list(table.NAMES) and ",running,,17_0,RUNNING,n[1-2],run0,1," in line


@pytest.mark.slow  # a process of its own
def test_a_reader_that_has_read_enough_harms_nothing(slurm: Slurm, store: Path) -> None:
    sweep(store, ["17_0"])
    slurm.queue(slurm.job("17_0", "RUNNING"))
    line = f"{sys.executable} {ROOT}/launch/slurm.py status results={store} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("1 cell: 1 running\n")
    assert slurm.calls("scancel") == []
