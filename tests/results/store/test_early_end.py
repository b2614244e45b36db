"""The figures of a run that ended early: the same whatever ended it, and those that its own tables give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recomputed import differences

from results import recover
from results.store import early_end, files
from results.store.files import read_rows
from results.store.writer import RunWriter

RUN = {
    "run_id": "r", "benchmark": "training", "target_top1": 0.8, "epochs": 4, "warmup_steps": 10, "global_batch": 64,
    "world_size": 2, "flops_per_image": 6_000_000, "peak_flops_per_s": 1e12,
}  # fmt: skip


def train(root: Path, epochs: int, **row: Any) -> RunWriter:
    """An attempt that has trained for some epochs of 12 steps, and half of another one."""
    run = RunWriter(root, {**RUN, **row})
    for epoch in range(1, epochs + 2):
        half = epoch == epochs + 1
        at = 12 * (epoch - 1)
        for rank in (0, 1):
            run.steps([
                {"rank": rank, "step": at + step, "t_ns": 1, "step_ms": 10.0 + (at + step) % 7 + rank, "data_ms": 0.5}
                for step in range(1, 7 if half else 13)
            ])  # fmt: skip
        if not half:
            top1 = None if row.get("synthetic") else 0.3 * epoch - 0.1 * (epoch == 4)
            run.epoch({
                "epoch": epoch, "elapsed_s": 11.0 * epoch, "images": 12 * 64, "top1": top1,
                "eval_s": None if top1 is None else 2.0, "checkpoint_s": 1.0,
            })  # fmt: skip
    return run


def ends(run: RunWriter) -> None:
    run.finish("killed", failure_kind="interrupted", failure_message="rank 0 was stopped by SIGTERM")


def fails(run: RunWriter) -> None:
    run.finish("failed", failure_kind="oom", failure_message="out of memory")


def dies(run: RunWriter) -> None:
    path = files.journal_path(run.root, run.run_id, run.restart)
    path.write_bytes(path.read_bytes().replace(b'"started":"', b'"started":"1'))  # of a process that is no more
    recover.recover(run.root, failure_kind="rank_lost", failure_message="rank 0 is gone")


def dies_before_its_files(run: RunWriter) -> None:
    run._merge("finish", {"status": "failed", "failure_kind": "diverged", "failure_message": "loss is nan"})
    dies(run)


ENDS = [ends, fails, dies, dies_before_its_files]


@pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("end", ENDS)
def test_figures_are_those_of_the_tables_whatever_ended_the_run(
    tmp_path: Path, end: Callable[[RunWriter], None], epochs: int
) -> None:
    end(train(tmp_path, epochs))
    assert differences(tmp_path) == []
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["status"] != "completed" and row["epochs_completed"] == epochs
    # By hand: 11 s an epoch less 2 s of evaluation and 1 s of checkpoint; the first one warms up.
    rate = 12 * 64 / 8.0 if epochs > 1 else None
    assert row["images_per_s"] == rate and row["mfu"] == (rate and pytest.approx(rate / 2 * 6e6 / 1e12))
    assert (row["tta_s"], row["epochs_to_target"]) == ((33.0, 3) if epochs >= 3 else (None, None))
    assert row["final_top1"] == (pytest.approx(1.1) if epochs == 4 else None)
    if epochs < 4:
        assert row["null_reasons"]["final_top1"] == f"{row['status']} after epoch {epochs} of 4"
    if epochs < 3:
        said = f"{row['status']} after epoch {epochs}, before top-1 0.8 was reached"
        assert row["null_reasons"]["tta_s"] == said
    assert row["null_reasons"]["steps_completed"] == f"{row['status']}; the last steps were not journalled"


@pytest.mark.parametrize("end", ENDS)
def test_a_run_of_so_many_steps_is_not_said_to_have_epochs_to_go(
    tmp_path: Path, end: Callable[[RunWriter], None]
) -> None:
    end(train(tmp_path, 1, steps_cap=30))
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["null_reasons"]["final_top1"] == f"{row['status']} after epoch 1 in a run of 30 steps"


@pytest.mark.parametrize("end", ENDS)
def test_nothing_false_is_said_of_synthetic_images(tmp_path: Path, end: Callable[[RunWriter], None]) -> None:
    end(train(tmp_path, 3, synthetic=True))
    (row,), _ = read_rows(tmp_path, "runs")
    names = ("best_top1", "final_top1", "epochs_to_target", "tta_s")
    assert {row["null_reasons"][name] for name in names} == {"synthetic images: nothing to evaluate"}
    assert row["images_per_s"] == 12 * 64 / 10.0


@pytest.mark.parametrize("end", ENDS)
def test_what_came_before_a_resume_stands(tmp_path: Path, end: Callable[[RunWriter], None]) -> None:
    run = train(tmp_path, 0)
    run.update(tta_s=5.0, epochs_to_target=1, epochs_completed=2, best_top1=0.9, downtime_s=3.0)
    run.epoch({"epoch": 3, "elapsed_s": 30.0, "images": 768, "top1": 0.85, "eval_s": 2.0})
    end(run)
    (row,), _ = read_rows(tmp_path, "runs")
    assert (row["tta_s"], row["epochs_to_target"], row["best_top1"], row["epochs_completed"]) == (5.0, 1, 0.9, 3)
    assert (row["elapsed_s"], row["active_s"]) == (30.0, 27.0)


def test_a_benchmark_without_training_has_no_epochs_to_speak_of(tmp_path: Path) -> None:
    RunWriter(tmp_path, {"run_id": "r", "benchmark": "step"}).finish("failed", failure_kind="oom")
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["epochs_completed"] is None
    assert set(row["null_reasons"].values()) == {"failed (oom) before it was measured"}


def test_an_unknown_peak_is_the_reason_why_there_is_no_utilisation(tmp_path: Path) -> None:
    run = train(tmp_path, 3, peak_flops_per_s=None)
    run.update(null_reasons={"peak_flops_per_s": "the peak of this CPU is not known"})
    ends(run)
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["null_reasons"]["mfu"] == "the peak of this CPU is not known" and row["images_per_s"] > 0


def test_what_is_no_number_in_a_journal_is_no_figure(tmp_path: Path) -> None:
    run = train(tmp_path, 0)
    for epoch in (1, 2, 3):
        run.epoch({"epoch": epoch, "elapsed_s": float("inf"), "images": 768, "top1": float("nan"), "eval_s": 1.0})
    ends(run)
    (row,), _ = read_rows(tmp_path, "runs")
    assert [row[name] for name in ("best_top1", "elapsed_s", "images_per_s", "active_s")] == [None] * 4
    assert "not a finite number" in row["null_reasons"]["best_top1"]


def epochs(*elapsed, **extra):
    return [
        {"epoch": index + 1, "elapsed_s": float(at), "images": 640, "eval_s": 1.0, **extra}
        for index, at in enumerate(elapsed)
    ]


@pytest.mark.parametrize(
    ("row", "rows", "wanted"),
    [
        ({}, epochs(10, 20, 30), 1280 / 18),
        ({}, epochs(10, 20, 30, checkpoint_s=3.0), 1280 / 12),
        ({}, epochs(10, 20, checkpoint_s=3.0) + epochs(10, 20, 30)[2:], 1280 / 12),  # killed in the last save
        ({}, epochs(10, checkpoint_s=3.0) + epochs(10, 20, 30)[1:], "checkpoints"),
        ({"warmup_steps": 10, "global_batch": 64}, epochs(10, 20, 30), 1280 / 18),
        ({"warmup_steps": 11, "global_batch": 64}, epochs(10, 20, 30), 640 / 9),
        ({"warmup_steps": 31, "global_batch": 64}, epochs(10, 20, 30), "after the warm-up"),
        ({"warmup_steps": 10}, epochs(10, 20, 30), "warm-up is not known"),
        ({}, epochs(10), "after the warm-up"),
        ({}, [], "after the warm-up"),
        ({}, epochs(10, 20)[:1] + epochs(10, 20, 30)[2:], "lacks epochs"),
        ({}, epochs(10, 20, images=None), "not journalled"),
        ({}, epochs(10, 20, top1=0.5, eval_s=None), "evaluations"),
        ({}, epochs(10, 10), "contradict"),
    ],
)
def test_throughput_follows_from_whole_epochs_or_says_why_not(row, rows, wanted):
    found = early_end._throughput({"status": "killed", **row}, rows)["images_per_s"]
    assert (wanted in found) if isinstance(wanted, str) else found == pytest.approx(wanted)


def test_final_accuracy_only_after_the_last_epoch():
    rows = [{"epoch": 1, "elapsed_s": 1.0, "top1": 0.9}, {"epoch": 2, "elapsed_s": 2.0, "top1": 0.8}]
    figures = early_end._of_epochs({"status": "failed", "epochs": 2, "target_top1": 0.95}, rows)
    assert (figures["final_top1"], figures["best_top1"]) == (0.8, 0.9)
    assert "before top-1 0.95" in figures["tta_s"] and figures["tta_s"] == figures["epochs_to_target"]
    assert early_end._of_epochs({"status": "failed"}, rows)["tta_s"] == "no target"
