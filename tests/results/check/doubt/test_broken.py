"""Runs that spoil a figure and that a median does not show: far worse ones, and those that have no such figure."""

import math
from typing import Any

import pytest
from judging import MAIN, accept, baseline, check, no_pass, of
from made_up import NEW, Memory, spread

from results.check.metrics import KERNEL, METRICS, Metric
from results.check.output import as_json, commands
from results.check.screen import SOLE, SUSPECT
from results.check.spoilt import far_limit, is_far, spoils
from results.check.verdict import Verdict, exit_status

BY_NAME = {metric.name: metric for metric in METRICS}
BROKEN: list[tuple[dict[str, Any], str, str]] = [
    ({"images_per_s": 500.0, "step_ms_p50": 64.0, "tta_s": 16.0}, MAIN, "lie more than 25% on the worse side of"),
    ({"step_ms_p50": 128.0}, "step_ms_p50", "lie more than 33% on the worse side of"),
    ({"tta_s": 26.0}, "tta_s", "lie more than 33% on the worse side of"),
    ({"epochs_to_target": 19}, "epochs_to_target", "lie more than 60% from"),
    ({"epochs_to_target": 2}, "epochs_to_target", "lie more than 60% from"),
    ({"final_top1": 0.89}, "final_top1", "lie more than 0.040 on the worse side of"),
    ({"peak_mem_bytes": 900_000_000}, "peak_mem_bytes", "lie more than 10% on the worse side of"),
]
NOTHING: list[tuple[dict[str, Any], str, str]] = [
    ({"images_per_s": math.nan, "step_ms_p50": 64.0, "tta_s": 16.0}, MAIN, "images_per_s is nan"),
    (
        {"images_per_s": None, "null_reasons": {"images_per_s": "short"}, "step_ms_p50": 64.0, "tta_s": 16.0},
        MAIN, "short",
    ),
    ({"images_per_s": 0.0, "step_ms_p50": 64.0, "tta_s": 16.0}, MAIN, "images_per_s is 0, which none can be"),
    ({"step_ms_p50": math.inf}, "step_ms_p50", "step_ms_p50 is inf"),
    ({"final_top1": math.nan}, "final_top1", "final_top1 is nan"),
    ({"final_top1": None, "epochs_to_target": 9}, "final_top1", "no value"),
    ({"peak_mem_bytes": None}, "peak_mem_bytes", "no value"),
]  # fmt: skip


def run(memory: Memory, **columns: Any) -> str:
    """Write a run; what is no number as a tool writes it that is not as strict as ours."""
    odd = {name: one for name, one in columns.items() if isinstance(one, float) and not math.isfinite(one)}
    run_id = memory.run(**(columns | dict.fromkeys(odd)), git_commit=NEW)
    memory.rows["runs"][-1] |= odd
    return run_id


def night(memory: Memory, bad: dict[str, Any], broken: int, count: int) -> list[str]:
    """Write runs, the first of them broken; return the ids of those."""
    rates = spread(count)
    ids = [run(memory, **{"images_per_s": rates[n], **(bad if n < broken else {})}) for n in range(count)]
    return ids[:broken]


@pytest.mark.parametrize(("broken", "count", "passes"), [(1, 3, False), (2, 5, False), (1, 5, True), (2, 10, True)])
@pytest.mark.parametrize(("bad", "metric", "words"), BROKEN)
def test_more_than_one_run_in_five_that_is_far_worse_is_no_pass(
    memory: Memory, bad: dict[str, Any], metric: str, words: str, broken: int, count: int, passes: bool
) -> None:
    baseline(memory)
    ids = night(memory, bad, broken, count)
    findings = check(memory)
    assert [one.metric for one in no_pass(findings)] == ([] if passes else [metric])
    if not passes:
        one = of(findings, metric)
        why = f"{broken} of {count} runs {words} the baseline's median, more than one in five: {ids[0]}"
        assert (one.verdict, one.why) == (Verdict.INCONCLUSIVE, why) and why in as_json(findings, [])
        assert exit_status(findings) == 3


@pytest.mark.parametrize(("bad", "metric", "words"), NOTHING)
def test_more_than_one_run_in_five_without_the_figure_is_no_pass(
    memory: Memory, bad: dict[str, Any], metric: str, words: str
) -> None:
    baseline(memory)
    first = night(memory, bad, 2, 6)[0]
    (one,) = no_pass(check(memory))
    why = f"2 of 6 runs have no figure, more than one in five: {words} ({first})"
    assert (one.metric, one.verdict, one.why) == (metric, Verdict.INCONCLUSIVE, why)
    memory.count += 24
    night(memory, bad, 1, 5)
    assert exit_status(check(memory)) == 0


def test_all_that_spoils_a_figure_counts_together(memory: Memory) -> None:
    baseline(memory)
    night(memory, {}, 0, 12)
    (far,) = night(memory, {"images_per_s": 500.0, "step_ms_p50": 64.0, "tta_s": 16.0}, 1, 1)
    night(memory, {"images_per_s": math.nan, "step_ms_p50": 64.0, "tta_s": 16.0}, 1, 1)
    assert exit_status(check(memory)) == 0
    memory.run(status="failed", git_commit=NEW)
    assert exit_status(check(memory)) == 0
    memory.run(elapsed_s=-1.0, git_commit=NEW)
    (one,) = no_pass(check(memory))
    kinds = (
        "1 lie more than 25% on the worse side of the baseline's median, 1 have no figure, 2 failed or cannot be used"
    )
    assert one.why == f"4 of 16 runs spoil it, more than one in five ({kinds}): {far}"
    assert one.metric == MAIN


def test_a_run_that_missed_its_target_and_one_that_is_far_worse_count_together(memory: Memory) -> None:
    baseline(memory)
    night(memory, {"tta_s": None, "epochs_to_target": None}, 1, 8)
    memory.run(tta_s=26.0, git_commit=NEW)
    (one,) = no_pass(check(memory))
    assert one.metric == "tta_s" and "2 of 9 runs spoil it" in one.why
    assert "(1 did not reach the target, 1 lie more than 33% on the worse side of" in one.why


@pytest.mark.parametrize("lost", [False, True])
def test_failed_ones_are_said_beside_those_without_the_figure(memory: Memory, lost: bool) -> None:
    baseline(memory)
    night(memory, {"tta_s": math.nan}, broken=1, count=5)
    if lost:
        memory.run(elapsed_s=-1.0, git_commit=NEW)
    else:
        memory.run(status="failed", failure_kind="oom", git_commit=NEW)
    what = "1 failed or cannot be used" if lost else "1 failed"
    assert f"2 of 6 runs spoil it, more than one in five (1 have no figure, {what}): " in of(check(memory), "tta_s").why


def test_pairs_that_refute_a_median_do_not_refute_a_run_that_it_does_not_show(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in (500.0, 951.0, 950.0)]
    name = memory.pairs([0.01, -0.004])
    one = of(check(memory, ids))
    assert one.verdict is Verdict.INCONCLUSIVE and one.pairs_id == name and one.confirmation
    assert one.why.startswith("1 of 3 runs lie more than 25% on") and "; suspected, but interleaved pairs" in one.why
    good = [memory.run(rate, git_commit=NEW) for rate in (949.0, 950.5)]
    assert of(check(memory, [*ids, *good])).verdict is Verdict.PASS


def test_a_median_that_is_better_hides_no_broken_run(memory: Memory) -> None:
    baseline(memory)
    for rate in (500.0, 1100.0, 1101.0, 1102.0):
        memory.run(rate, git_commit=NEW)
    one = of(check(memory))
    assert one.verdict is Verdict.INCONCLUSIVE and "1 of 4 runs lie" in one.why


def test_many_runs_and_those_of_one_allocation_are_looked_at(memory: Memory) -> None:
    baseline(memory)
    night(memory, {"images_per_s": 500.0}, 6, 26)
    one = of(check(memory, hours=40.0))
    assert len(one.candidates) == 26 and "6 of 26 runs lie more than 25%" in one.why
    memory.count += 48
    for job in range(4):
        for rate in (500.0, 1000.0 + job, 1001.0 + job):
            memory.run(rate, slurm_job_id=str(job))
    assert "4 of 12 runs lie more than 25%" in of(check(memory)).why


@pytest.mark.parametrize(
    ("before", "verdict"), [(0, Verdict.INCONCLUSIVE), (4, Verdict.INCONCLUSIVE), (6, Verdict.PASS)]
)
@pytest.mark.parametrize("bad", [{"images_per_s": 500.0}, {"images_per_s": math.nan, "step_ms_p50": 64.0}])
def test_where_one_accepted_run_in_five_is_so_too_it_is_no_fault(
    memory: Memory, bad: dict[str, Any], before: int, verdict: Verdict
) -> None:
    old = [run(memory, images_per_s=math.nan, step_ms_p50=64.0) for _ in range(30)]  # before those that count
    good = [memory.run(rate) for rate in spread(20 if "step_ms_p50" in bad else 20 - before)]
    accept(memory, [*old, *night(memory, bad, 1, 1), *good[:9], *night(memory, bad, before, before), *good[9:]])
    memory.count += 48
    night(memory, bad, 2, 7)
    assert of(check(memory)).verdict is verdict


@pytest.mark.parametrize(
    ("count", "runs", "before", "accepted", "expected"),
    [
        (1, 5, 0, 20, False), (2, 9, 0, 20, True), (2, 10, 0, 20, False), (1, 3, 4, 20, True), (1, 3, 5, 20, False),
        (5, 10, 5, 20, False), (6, 10, 5, 20, True), (0, 3, 0, 20, False),
    ],
)  # fmt: skip
def test_when_runs_spoil_a_figure(count: int, runs: int, before: int, accepted: int, expected: bool) -> None:
    assert spoils(count, runs, before, accepted) is expected


@pytest.mark.parametrize(
    ("metric", "values", "limit"),
    [
        (BY_NAME[MAIN], [0.99, 1.0, 1.01, 0.98, 1.02], 0.25),
        (BY_NAME[MAIN], [80.0, 90.0, 100.0, 110.0, 120.0], 5 * 1.4826 * 0.1),
        (BY_NAME["step_ms_p50"], [0.99, 1.0, 1.01, 0.98, 1.02], 1 / 3),
        (KERNEL, [10.0, 10.1, 9.9], 1 / 3),
        (BY_NAME["tta_s"], [10.0, 10.1, 9.9, math.inf], 1 / 3),
        (BY_NAME["final_top1"], [0.95, 0.96, 0.94], 0.0500),  # the ordinary deviation, 0.01, is less than MAD's
        (BY_NAME["final_top1"], [0.95, 0.951, 0.949], 0.04),
        (BY_NAME["final_top1"], [0.9, 0.901, 0.902, 0.903, 0.1], 0.04),  # one that is far off makes no room for more
        (BY_NAME["epochs_to_target"], [10.0, 10.0, 11.0, 10.0], 0.6),
        (BY_NAME["peak_mem_bytes"], [100.0, 100.0, 101.0], 0.1),
    ],
)
def test_how_far_is_far(metric: Metric, values: list[float], limit: float) -> None:
    assert far_limit(metric, values, SUSPECT if metric.timed else SOLE) == pytest.approx(limit)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (MAIN, 0.74, True), (MAIN, 0.75, False), (MAIN, 9.0, False), ("step_ms_p50", 1.26, True),
        ("step_ms_p50", 0.1, False), ("epochs_to_target", 1.3, True), ("epochs_to_target", 0.7, True),
        ("epochs_to_target", 0.8, False), ("final_top1", 0.7, True), ("final_top1", 1.6, False),
        ("tta_s", math.inf, True),
    ],
)  # fmt: skip
def test_which_side_is_far(name: str, value: float, expected: bool) -> None:
    assert is_far(BY_NAME[name], value, 1.0, 0.25) is expected


def kernels(memory: Memory, p50: float | None, status: str = "ok", **columns: Any) -> str:
    """A run of one kernel."""
    run_id = memory.run(None, benchmark="micro", target_top1=None, **columns)
    names = {"op": "bn", "backend": "triton", "shape": "8", "dtype": "bf16", "layout": "NHWC", "l2": "cold"}
    rows = [{"run_id": run_id, **names, "p50": p50, "status": status}] if status else []
    memory.write("kernels", [*rows, {"run_id": run_id, **names, "backend": "torch", "p50": 9.0}], run_id)
    return run_id


@pytest.mark.parametrize(
    ("p50", "status", "words"),
    [
        (20.0, "ok", "lie more than 33% on the worse side of the baseline's median"),
        (None, "failed: out of memory", "have no figure, more than one in five: failed: out of memory"),
        (math.nan, "ok", "have no figure, more than one in five: p50 is nan"),
        (None, "ok", "have no figure, more than one in five: no value"),
        (None, "", "have no figure, more than one in five: not timed by this run"),
    ],
)
def test_kernels_that_are_far_slower_or_failed(memory: Memory, p50: float | None, status: str, words: str) -> None:
    accept(memory, [kernels(memory, time) for time in spread(20, 10.0)])
    memory.count += 48
    for time in spread(3, 10.0):
        kernels(memory, time, git_commit=NEW)
    kernels(memory, p50, status, git_commit=NEW)
    (one,) = no_pass(check(memory))
    assert one.verdict is Verdict.INCONCLUSIVE and f"1 of 4 runs {words}" in one.why and "triton" in one.kernel
    kernels(memory, 10.0, git_commit=NEW)
    assert exit_status(check(memory)) == 0


@pytest.mark.parametrize("named", [True, False])
def test_a_kernel_that_none_of_the_runs_timed_is_missing_however_they_are_named(memory: Memory, named: bool) -> None:
    accept(memory, [kernels(memory, time) for time in spread(20, 10.0)])
    baseline(memory)  # which is missing too, where no runs are named
    memory.count += 48
    ids = [kernels(memory, None, "", git_commit=NEW) for _ in range(3)]
    said = [one for one in no_pass(check(memory, ids if named else [])) if one.kernel]
    assert [(one.verdict, one.kernel.split()[1]) for one in said] == [(Verdict.MISSING, "triton")]
    assert len(no_pass(check(memory, ids if named else []))) == (1 if named else 2)


def test_what_is_judged_again_after_pairs_has_the_runs_that_failed_and_those_without_a_figure(memory: Memory) -> None:
    baseline(memory)
    ids = [run(memory, images_per_s=rate) for rate in spread(9, 950.0, 0.001)]
    ids.append(run(memory, images_per_s=math.nan, step_ms_p50=64.0))
    ids.append(run(memory, images_per_s=950.0, status="failed"))
    memory.run(1000.0, config={"shortcut": "B"}, git_commit=NEW)
    one = of(check(memory))
    assert one.candidates == ids[:9] and one.beside == ids
    assert f" candidate={','.join(ids)} " in commands([one], "python")[1]


@pytest.mark.parametrize(("resumed", "verdict"), [(0, Verdict.INCONCLUSIVE), (3, Verdict.PASS)])
def test_a_run_that_was_resumed_spoils_nothing_and_explains_nothing(
    memory: Memory, resumed: int, verdict: Verdict
) -> None:
    accept(memory, [memory.run(rate, restart_count=int(n < 6)) for n, rate in enumerate(spread(20))])
    memory.count += 48
    for rate in spread(resumed):
        memory.run(rate, restart_count=1, git_commit=NEW)
    night(memory, {"tta_s": 26.0}, 0 if resumed else 1, 3)
    assert of(check(memory), "tta_s").verdict is verdict
