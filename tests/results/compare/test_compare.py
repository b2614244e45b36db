"""Two sides held against one another: what differs, what is compared, its figures, and what is refused."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest


def figure(found: dict[str, Any], name: str, cell: int = 0) -> dict[str, Any]:
    return next(one for one in found["cells"][cell]["figures"] if one["name"] == name)


def names(differences: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in differences]


def test_each_figure_has_medians_ratio_and_the_interval_that_its_runs_allow(stores, compared):
    found = compared(*stores)
    rate = figure(found, "images_per_s")
    assert (rate["a"]["median"], rate["a"]["n"], rate["b"]["median"], rate["b"]["n"]) == (1000.0, 3, 1100.0, 3)
    assert (rate["ratio"], rate["low"], rate["high"]) == pytest.approx((1.1, 1089 / 1010, 1111 / 990))
    assert rate["level"] == pytest.approx(0.9) and rate["note"] == ""
    assert (rate["a"]["runs"], rate["b"]["runs"]) == (["a0", "a1", "a2"], ["b0", "b1", "b2"])
    expected = {
        "step_ms_p50": 64, "step_ms_p95": 80, "data_wait_frac": 0.02, "tta_s": 20, "epochs_to_target": 10,
        "final_top1": 0.98, "best_top1": 0.985, "peak_mem_bytes": 2**30, "images_per_s": 1000, "mfu": None,
        "energy_j": None,
    }  # fmt: skip
    assert {one["name"]: one["a"]["median"] for one in found["cells"][0]["figures"]} == expected
    assert figure(found, "step_ms_p50")["ratio"] == 1.0
    assert figure(found, "energy_j")["note"] == "no energy counter (3 of 3 in A, 3 of 3 in B)"


def test_cells_are_of_one_configuration_and_those_of_one_side_are_listed(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    add(a, "a20"), add(a, "a32", config={"depth": 32}), add(a, "a20lr", config={"lr": 0.2}, images_per_s=500.0)
    add(b, "b20", hardware="8xH200;torch2.14,deepspeed0.19,dali2.4;python3.11"), add(b, "b44", config={"depth": 44})
    add(b, "b20lr", config={"lr": 0.2}, images_per_s=600.0)
    found = compared(a, b)
    assert [(cell["a_runs"], cell["b_runs"]) for cell in found["cells"]] == [(["a20"], ["b20"]), (["a20lr"], ["b20lr"])]
    assert [cell["cell"].rpartition(" ")[2] for cell in found["cells"]] == ["lr=0.1", "lr=0.2"]
    assert names(found["cells"][0]["differs"]) == ["processors", "software.torch"]
    assert figure(found, "images_per_s", 1)["ratio"] == pytest.approx(1.2)
    sides = [(one["side"], one["runs"]) for one in found["one_sided"]]
    assert sides == [("A", ["a32"]), ("B", ["b44"])]
    out = run(a, b)[1]
    assert "only in A: resnet32A digits" in out and "only in B: resnet44A digits" in out
    assert "software.torch 2.13 against 2.14" in out


def test_other_data_is_another_cell(tmp_path, add, run):
    add(tmp_path, "one"), add(tmp_path, "two", dataset_hash="d2")
    status, out, err = run("one", "two", f"results={tmp_path}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "differ in data.hash d1 against d2; to compare them all the same: without=data" in err
    assert run("one", "two", f"results={tmp_path}", "without=data")[0] == 0


def test_keys_can_be_left_out_by_name(tmp_path, add, run, compared):
    add(tmp_path, "one"), add(tmp_path, "two", config={"lr": 0.2, "depth": 32, "recipe": {"anneal": "cosine"}})
    where = f"results={tmp_path}"
    status, out, err = run("one", "two", where)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "resnet20A digits" in err and "resnet32A digits" in err and "lr 0.1 against 0.2" in err
    assert err.endswith("to compare them all the same: without=depth,lr,recipe\n")
    assert run("one", "two", where, "without=depth,lr")[0] == 2
    cell = compared("one", "two", results=tmp_path, without=("depth", "lr", "recipe"))["cells"][0]
    assert names(cell["differs"]) == ["configuration.depth", "configuration.lr", "configuration.recipe.anneal"]
    assert cell["cell"].startswith("resnet20A ") and " against resnet32A " in cell["cell"]
    status, _, err = run("one", "two", where, "without=learning_rate")
    assert status == 2 and "without=learning_rate: no such key" in err


def test_synthetic_images_are_said(tmp_path, add, run):
    for name in ("one", "two"):
        add(tmp_path, name, synthetic=True, loader="synthetic", final_top1=None, target_top1=None)
    assert "SYNTHETIC" in run("one", "two", f"results={tmp_path}")[1]
    add(tmp_path, "three"), add(tmp_path, "four")
    assert "SYNTHETIC" not in run("three", "four", f"results={tmp_path}")[1]


def test_a_target_that_was_not_reached_is_the_worst_and_leaves_no_interval(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    for number, seconds in enumerate((20.0, 22.0, 24.0)):
        add(a, f"a{number}", tta_s=seconds)
        add(b, f"b{number}", tta_s=None if number == 2 else 2 * seconds, epochs_to_target=None if number else 9)
    found = compared(a, b)
    time, epochs = figure(found, "tta_s"), figure(found, "epochs_to_target")
    assert (time["a"]["median"], time["b"]["median"], time["ratio"], time["low"]) == (22.0, 44.0, 2.0, None)
    assert time["note"] == "target not reached (1 of 3 in B); ratio of medians, no interval"
    assert (epochs["b"]["median"], epochs["b"]["not_reached"], epochs["ratio"]) == (None, 2, None)
    assert re.search(r"^epochs_to_target +10 +3 +target not reached +3 +- ", run(a, b)[1], flags=re.MULTILINE)


def test_runs_that_did_not_complete_do_not_count_and_are_said(stores, add, compared):
    a, b = stores
    add(b, "dead", status="failed", failure_kind="oom", failure_message="out of\nmemory", images_per_s=1.0)
    found = compared(a, b)
    assert figure(found, "images_per_s")["b"]["n"] == 3
    assert found["cells"][0]["notes"] == ["B: run=dead does not count: failed (oom): out of memory"]


def test_the_last_attempt_of_a_run_counts(stores, add, compared):
    a, b = stores
    add(b, "b9", images_per_s=1.0, status="killed")
    add(b, "b9", images_per_s=1105.0, restart_count=1)
    assert figure(compared(a, b), "images_per_s")["b"]["values"] == [1089.0, 1100.0, 1111.0, 1105.0]


def test_allocations_that_runs_share_are_said(stores, add, compared):
    a, b = stores
    for number in range(3):
        add(b, f"c{number}", slurm_job_id="77")
    assert compared(a, "77", results=b)["cells"][0]["notes"][0].startswith("B: 3 runs in 1 allocation: ")


def test_kernels_of_micro_runs_are_compared_one_by_one(tmp_path, add, kernels, compared, run):
    usual = {"benchmark": "micro", "engine": None, "synthetic": True, "images_per_s": None}
    slow = {"op": "bn_act", "p50": 30.0}
    for name, factor in (("a", 1.0), ("b", 1.5)):
        for number in range(3):
            run_id = add(tmp_path, f"{name}{number}", **usual, git_commit=name * 40)
            rows = [{"op": "conv1x1", "p50": factor * (10 + number)}, {"op": "conv1x1", "l2": "warm", "p50": 5.0}]
            rows += [slow] if name == "a" else [slow | {"p50": None, "status": "failed: wrong result"}]
            kernels(tmp_path, run_id, *rows)
    found = compared("aaaaaaa", "bbbbbbb", results=tmp_path)["cells"][0]["figures"]
    assert [one["kernel"][0] + " " + one["kernel"][5] for one in found] == [
        "bn_act cold",
        "conv1x1 cold",
        "conv1x1 warm",
    ]
    assert found[1]["kernel"] == ["conv1x1", "triton", "64x56", "bf16", "nhwc", "cold"]
    assert (found[1]["a"]["median"], found[1]["b"]["median"], found[1]["ratio"]) == (11.0, 16.5, 1.5)
    assert (found[1]["low"], found[1]["high"]) == pytest.approx((15 / 12, 18 / 10))
    assert found[2]["ratio"] == 1.0
    assert (found[0]["ratio"], found[0]["note"]) == (None, "failed: wrong result (3 of 3 in B)")
    out = run("aaaaaaa", "bbbbbbb", f"results={tmp_path}")[1]
    assert "kernel, p50 in us" in out and "images_per_s" not in out
    assert re.search(r"^conv1x1 triton 64x56 bf16 nhwc cold +11 +3 +16.5 +3 +1.500 ", out, flags=re.MULTILINE)


def test_runs_of_the_step_benchmark_are_compared_by_their_figures(tmp_path, add, compared):
    usual = {"benchmark": "step", "engine": None, "loader": "synthetic", "synthetic": True, "tta_s": None}
    usual |= {"epochs_to_target": None, "target_top1": None, "final_top1": None, "data_wait_frac": None}
    add(tmp_path, "one", **usual), add(tmp_path, "two", **usual | {"step_ms_p50": 32.0})
    found = compared("one", "two", results=tmp_path)
    assert figure(found, "step_ms_p50")["ratio"] == 0.5
    assert found["cells"][0]["cell"] == "resnet20A step torch bf16 x8 SYNTHETIC"


def test_benchmarks_are_never_compared_with_one_another(tmp_path, add, run):
    add(tmp_path, "one"), add(tmp_path, "two", benchmark="step", engine=None)
    status, out, err = run("one", "two", f"results={tmp_path}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "benchmark training against step; figures of different benchmarks are never compared" in err


def test_the_same_runs_on_both_sides_are_said(stores, compared, tmp_path):
    a, b = stores
    found = compared(a, a)
    assert found["notes"] == ["A and B are the same 3 runs: nothing can differ"]
    rate = figure(found, "images_per_s")
    assert (rate["ratio"], rate["low"], rate["note"]) == (1.0, None, "no interval: 3 on both sides")
    found = compared("a0,a1", "a1,a2", results=a)
    assert found["notes"] == ["1 run on both sides, such as a1: without an interval where it counts"]
    assert figure(found, "images_per_s")["level"] is None
    found = compared(f"{a},{b}", b)
    assert figure(found, "images_per_s")["level"] is None and len(found["a"]["runs"]) == 6


def test_figures_that_are_no_numbers_or_zero(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    add(a, "a0", images_per_s=math.nan, data_wait_frac=0.0, step_ms_p50=-1.0, peak_mem_bytes=None)
    add(b, "b0")
    found = compared(a, b)
    assert figure(found, "images_per_s")["note"] == "images_per_s is nan (1 of 1 in A)"
    assert figure(found, "step_ms_p50")["note"] == "step_ms_p50 is -1 (1 of 1 in A)"
    assert figure(found, "peak_mem_bytes")["note"] == "no value, and no reason (1 of 1 in A)"
    assert (figure(found, "data_wait_frac")["ratio"], figure(found, "data_wait_frac")["note"]) == (
        None,
        "no ratio to 0",
    )
    everything: dict[str, Any] = dict.fromkeys(
        ("images_per_s", "step_ms_p50", "step_ms_p95", "data_wait_frac", "tta_s"), math.nan
    )
    everything |= {"final_top1": math.nan, "best_top1": math.nan, "peak_mem_bytes": None, "epochs_to_target": None}
    c = tmp_path / "c"
    add(c, "c0", **everything)
    status, out, err = run(c, b)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no figure has a value on both sides; images_per_s is nan (1 of 1 in A)" in err


def test_rows_that_cannot_be_used_are_left_out_and_said(stores, add, run, compared):
    a, b = stores
    broken = next((b / "runs").rglob("b2*"))
    broken.write_bytes(broken.read_bytes()[:100])
    early = datetime(2026, 11, 1, tzinfo=UTC)
    add(b, "back", run_start=early, init_start=early, run_stop=early - timedelta(hours=1))
    add(b, "bare", config_json=None)
    found = compared(a, b)
    assert found["b"]["runs"] == ["b0", "b1"]
    notes = "\n".join(found["notes"])
    for said in (
        str(broken),
        "run=back: left out, its clock goes backwards",
        "run=bare: left out, has no configuration",
    ):
        assert said in notes
    assert len(found["notes"]) == 3
    assert str(broken) in run(a, b)[1]
