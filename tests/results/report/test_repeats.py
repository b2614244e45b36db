"""Means and deviations over repeats: what is grouped, what counts, and what is printed of it."""

import json
import math
import re
import statistics
from datetime import UTC, datetime

import pytest

from results.identity import comparability
from results.listing.repeats import grouped, outcome, record
from results.store.files import table_path, write_once
from results.store.schema import to_table

CONFIG = json.dumps({"depth": 20, "seed": 0, "lr": 0.1})
START = datetime(2026, 11, 22, tzinfo=UTC)


def row(run_id, tta_s=20.0, **columns):
    return {
        "run_id": run_id, "restart_count": 0, "status": "completed", "run_start": START, "target_top1": 0.97,
        "tta_s": tta_s, "epochs_to_target": None if tta_s is None else 9, "images_per_s": 1000.0, "final_top1": 0.98,
        "config_json": CONFIG, "benchmark": "training", "hardware": "2xEPYC;torch2.13;python3.11", **columns,
    }  # fmt: skip


def only(rows):
    (one,), notes = grouped(rows)
    assert notes == []
    return one


def test_five_runs_are_averaged_without_the_fastest_and_the_slowest():
    rows = [
        row(f"r{index}", seconds, images_per_s=rate, final_top1=top1, epochs_to_target=epochs, seed=index)
        for index, (seconds, rate, top1, epochs) in enumerate(
            [
                (50.0, 1.0, 0.5, 90),
                (10.0, 2.0, 0.6, 1),
                (21.0, 3.0, 0.7, 10),
                (20.0, 4.0, 0.8, 9),
                (22.0, 10.0, 0.9, 11),
            ]
        )
    ]
    figures = record(only(rows))
    assert (figures["runs"], figures["completed"], figures["not_converged"], figures["left_out"]) == (5, 5, 0, 0)
    assert (figures["tta_s_mean"], figures["tta_s_sd"]) == (21.0, 1.0)
    assert (figures["tta_s_n"], figures["tta_s_dropped"]) == (3, 2)
    assert (figures["epochs_to_target_mean"], figures["epochs_to_target_n"]) == (10.0, 3), "of the same runs"
    assert (figures["images_per_s_mean"], figures["images_per_s_n"]) == (4.0, 5), "of all completed runs"
    assert figures["images_per_s_sd"] == pytest.approx(statistics.stdev([1, 2, 3, 4, 10]))
    assert figures["final_top1_mean"] == pytest.approx(0.7) and figures["final_top1_n"] == 5
    assert figures["run_ids"] == ["r0", "r1", "r2", "r3", "r4"] and figures["null_reasons"] == {}


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({}, "converged"),
        ({"status": "killed"}, "converged"),  # after the target
        ({"tta_s": None, "epochs_to_target": None}, "not converged"),
        ({"tta_s": None, "epochs_to_target": None, "status": "failed", "failure_kind": "diverged"}, "not converged"),
        ({"tta_s": None, "epochs_to_target": None, "status": "failed", "failure_kind": "oom"}, "not converged"),
        ({"tta_s": None, "epochs_to_target": None, "status": "killed", "failure_kind": "timeout"}, "not converged"),
        ({"tta_s": None, "epochs_to_target": None, "status": "killed", "failure_kind": "preempted"}, "left out"),
        ({"tta_s": None, "epochs_to_target": None, "status": "killed", "failure_kind": "interrupted"}, "left out"),
        ({"tta_s": None, "epochs_to_target": None, "status": "killed", "failure_kind": "unknown"}, "left out"),
        ({"tta_s": None, "epochs_to_target": None, "status": "failed", "failure_kind": "data", "run_start": None},
         "left out"),
        ({"tta_s": math.nan}, "left out"),
        ({"target_top1": None, "tta_s": None}, ""),
        ({"synthetic": True, "tta_s": None}, ""),
    ],
)  # fmt: skip
def test_what_a_run_says_of_time_to_accuracy(columns, said):
    assert outcome(row("r", **columns)) == said


def test_too_many_that_did_not_converge_leave_no_mean():
    lost = {"tta_s": None, "epochs_to_target": None}
    figures = record(only([row("a"), row("b"), row("c"), row("d", **lost), row("e", **lost)]))
    assert figures["tta_s_mean"] is None and figures["tta_s_n"] == 0 and figures["not_converged"] == 2
    assert figures["null_reasons"] == {"tta_s_mean": "2 of 5 runs did not converge, more than one in five"}
    one = record(only([row("a", 50.0), row("b", 10.0), row("c", 21.0), row("d", 20.0), row("e", **lost)]))
    assert one["tta_s_mean"] == pytest.approx((50 + 21 + 20) / 3) and one["tta_s_dropped"] == 2
    killed = record(only([row("a"), row("b"), row("c", status="killed", failure_kind="preempted", **lost)]))
    assert (killed["tta_s_mean"], killed["left_out"], killed["not_converged"]) == (20.0, 1, 0)
    assert (killed["completed"], killed["images_per_s_n"]) == (2, 2)


def test_figures_that_are_no_numbers_are_in_no_mean():
    figures = record(only([row("a", images_per_s=math.nan), row("b", images_per_s=3.0), row("c", images_per_s=None)]))
    assert (figures["images_per_s_mean"], figures["images_per_s_sd"], figures["images_per_s_n"]) == (3.0, None, 1)
    nothing = record(only([row("a", images_per_s=math.nan), row("b", images_per_s=math.inf)]))
    assert nothing["images_per_s_mean"] is None
    assert nothing["null_reasons"] == {"images_per_s_mean": "none of 2 completed runs has it"}


@pytest.mark.parametrize(
    ("columns", "groups"),
    [
        ({"seed": 5, "config_json": CONFIG.replace('"seed": 0', '"seed": 5')}, 1),
        ({"git_commit": "2" * 40}, 1),
        ({"config_json": CONFIG.replace("0.1", "0.2")}, 2),
        ({"hardware": "4xEPYC;torch2.13;python3.11"}, 2),
        ({"sample": "other"}, 2),
        ({"dataset_hash": "other"}, 2),
        ({"threads_per_rank": 2}, 2),
        ({"choices_hash": "0" * 16}, 2),
        ({"benchmark": "step"}, 2),
        ({"restart_count": 1}, 2),  # resumed: summarised apart
        ({"comparability_key": "f" * 16, "comparability_parts": '{"version":1}'}, 1),  # of another age: computed
        ({"comparability_key": "f" * 16, "comparability_parts": None}, 1),
    ],
)
def test_repeats_differ_in_their_seed_alone(columns, groups):
    rows = [row("a"), row("b", **columns)]
    assert len(grouped(rows)[0]) == groups
    if "comparability_parts" not in columns:
        stored = [{**one, **comparability(one)} for one in rows]
        assert len(grouped([rows[0], stored[1]])[0]) == groups, "a stored key and a computed one are the same"


def test_a_run_counts_once_by_its_last_attempt():
    lost = {"status": "killed", "tta_s": None, "epochs_to_target": None}
    groups, notes = grouped([row("a"), row("b", **lost), row("b", 30.0, restart_count=1), row("c")])
    assert notes == [] and [(one.restarted, [run["run_id"] for run in one.rows]) for one in groups] == [
        (False, ["a", "c"]),
        (True, ["b"]),
    ]


def test_rows_that_cannot_be_counted_are_named():
    groups, notes = grouped([row("a"), row("a"), row(None), row("b", config_json=None), row("c", config_json="no")])
    assert [len(one.rows) for one in groups] == [1, 1]
    assert notes == [
        "1 rows without a run id are in no mean",
        "1 runs have two rows of one attempt and are in no mean: a",
        "2 runs have no configuration to be grouped by (config_json); each is by itself",
    ]


def test_the_table_below_the_runs(add, report):
    for index, seconds in enumerate((50.0, 10.0, 21.0, 20.0, 22.0)):
        figures = {"images_per_s": 1000.0 + index, "final_top1": 0.98, "epochs_to_target": 9 + index, "tta_s": seconds}
        add(f"run{index}-1111111{index}", seed=index, figures=figures)
    assert "±" not in report("run=11111110")[1], "one run has no mean"
    status, out, err = report()
    assert (status, err) == (0, "")
    (line,) = [line for line in out.splitlines() if "±" in line and "mean" not in line]
    assert line.startswith("11111114") and re.search(r" 5 +cifar +20 +A ", line)
    for shown in ("1,002 ±1.58", "0.9800 ±0.0000", "12.0 ±1.0", "21.0 ±1.0", "3/5"):
        assert shown in line, shown
    assert out.count("11111110") == 1 and "MLPerf" in out
    _, alone, _ = report("repeats=summary")
    assert "21.0 ±1.0" in alone and "11111110" not in alone
    _, listed, _ = report("repeats=list")
    assert "±" not in listed and "11111110" in listed


def test_configurations_are_told_apart_in_the_summary(add, report):
    add("a-11111111", lr=0.1, config={"lr": 0.1}, seed=1)
    add("b-22222222", lr=0.1, config={"lr": 0.1}, seed=2, git_commit="2" * 40)
    add("c-33333333", lr=0.2, config={"lr": 0.2}, seed=1, status="failed",
        figures={"failure_kind": "oom", "failure_message": "x"})  # fmt: skip
    _, out, _ = report("repeats=summary")
    heads = next(line for line in out.splitlines() if line.startswith("run "))
    assert {"seed", "lr", "commit"} <= set(heads.split())
    line = next(line for line in out.splitlines() if line.startswith("22222222"))
    assert " 1,2 " in line and " 0.1 " in line and "2 values" in line
    lost = next(line for line in out.splitlines() if line.startswith("33333333"))
    assert "-[1]" in lost and "[1] 1 of 1 runs did not converge" in out
    assert "not con-" in out


def test_commits_that_are_averaged_together_are_said(add, report):
    add("a-11111111", seed=1)
    add("b-22222222", seed=2)
    assert "commit" not in report("repeats=summary")[1]
    add("c-33333333", seed=3, git_commit="2" * 40)
    _, out, _ = report("repeats=summary")
    assert "commit" in out and "2 values" in out and "seed" not in out


def test_the_summary_as_json(add, report):
    add("a-11111111", seed=1, figures={"images_per_s": 1000.1, "tta_s": 20.25, "epochs_to_target": 9})
    add("b-22222222", seed=2, figures={"images_per_s": 1000.4, "tta_s": 20.5, "epochs_to_target": 9})
    _, out, err = report("repeats=summary", "format=json")
    (one,) = json.loads(out)
    assert err == "" and (one["runs"], one["tta_s_mean"], one["depth"]) == (2, 20.375, 20)
    assert one["tta_s_sd"] == pytest.approx(0.25 / math.sqrt(2)) and one["images_per_s_mean"] == 1000.25
    assert one["run_ids"] == ["a-11111111", "b-22222222"] and one["final_top1_mean"] is None
    _, out, _ = report("repeats=summary", "format=csv")
    assert ",20.375," in out and "a-11111111 b-22222222" in out


def test_runs_of_pairs_have_means_of_their_own():
    rows = [row("1", images_per_s=1000.0), row("2", images_per_s=700.0), row("3", images_per_s=1002.0)]
    rows.append(row("20261126T190000-pairs-0a1b2c3d-p01b", images_per_s=702.0))  # the table of pairs may be lost
    groups, notes = grouped(rows, {"2"})
    assert [([one["run_id"] for one in group.rows][:1], group.paired) for group in groups] == [
        (["1"], False), (["2"], True),
    ]  # fmt: skip
    assert [record(group)["images_per_s_mean"] for group in groups] == [1001.0, 701.0] and not notes
    assert [record(group)["of_pairs"] for group in groups] == [False, True]


def test_the_report_says_which_runs_are_of_pairs(add, report, tmp_path):
    for number in range(4):
        add(f"run-{number}", figures={"images_per_s": 1000.0 - 100 * (number % 2)})
    sides = [{"pairs_id": "p", "pair": 1, "side": "b", "run_id": f"run-{number}"} for number in (1, 3)]
    write_once(table_path(tmp_path, "pairs", "2026-11", "p", 0), [to_table("pairs", sides)])
    (tmp_path / "pairs" / "month=2026-11" / "cut.0.parquet").write_bytes(b"PAR1")
    status, out, err = report("repeats=summary")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert status == 0 and len([line for line in lines if " of pairs " in line]) == 1
    (paired,) = [line for line in lines if " 2 of pairs " in line]
    assert " 900 ±0 " in paired and "cut.0.parquet" in out
    status, out, err = report("repeats=summary", "format=json")
    assert [(one["of_pairs"], one["images_per_s_mean"]) for one in json.loads(out)] == [(False, 1000.0), (True, 900.0)]
    assert "cut.0.parquet" in err
