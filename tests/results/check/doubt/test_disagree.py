"""Runs of which some are broken: too few to be sure of a regression, too many to be a pass."""

from typing import Any

import pytest
from judging import MAIN, accept, baseline, check, of
from made_up import NEW, Memory, spread

from results.check.metrics import METRICS
from results.check.screen import SUSPECT, Screen, disagree
from results.check.verdict import Verdict, exit_status

MORE = "the runs disagree: run more"


def night(memory: Memory, bad: dict[str, Any], broken: int, count: int = 3) -> None:
    """Write runs of which so many are broken; the others are as good as the best that was accepted, or better."""
    for index in range(count):
        memory.run(**{"images_per_s": 1006.0 + index, **(bad if index < broken else {})}, git_commit=NEW)


@pytest.mark.parametrize(
    ("bad", "metric"),
    [
        ({"images_per_s": 800.0}, MAIN),
        ({"step_ms_p50": 78.0}, "step_ms_p50"),
        ({"tta_s": 20.0}, "tta_s"),
        ({"epochs_to_target": 14}, "epochs_to_target"),
        ({"epochs_to_target": 5}, "epochs_to_target"),
        ({"final_top1": 0.96}, "final_top1"),
        ({"peak_mem_bytes": 640_000_000}, "peak_mem_bytes"),
    ],
)
def test_two_of_three_worse_runs_are_no_pass(memory: Memory, bad: dict[str, Any], metric: str) -> None:
    baseline(memory)
    night(memory, bad, broken=2)
    one = of(check(memory), metric)
    assert (one.verdict, one.why) == (Verdict.INCONCLUSIVE, MORE)
    rule = 0.05 if next(known for known in METRICS if known.name == metric).timed else 0.01
    assert one.p is not None and one.p >= rule and one.visible is not None and abs(one.worsening or 0.0) > one.visible


def test_what_says_so_is_the_median_and_better_is_no_fault(memory: Memory) -> None:
    baseline(memory)
    night(memory, {"images_per_s": 800.0, "final_top1": 0.96}, broken=1)
    assert {one.verdict for one in check(memory)} == {Verdict.PASS}
    memory.count += 48
    night(memory, {"images_per_s": 1300.0, "final_top1": 1.0}, broken=2)
    assert {one.verdict for one in check(memory)} == {Verdict.PASS}


def test_a_median_that_the_check_could_not_have_seen_still_passes(memory: Memory) -> None:
    baseline(memory)
    night(memory, {"images_per_s": 978.5}, broken=2)
    one = of(check(memory))
    assert one.verdict is Verdict.PASS and one.visible is not None and 0.02 < (one.worsening or 0.0) < one.visible


@pytest.mark.parametrize(
    ("worsening", "visible", "p", "expected"),
    [
        (0.05, 0.04, 0.05, True),
        (0.05, 0.04, 0.049, False),
        (0.04, 0.04, 0.5, False),
        (0.05, None, 0.5, True),
        (0.05, None, 0.04, False),
        (0.02, None, 0.5, False),
    ],
)
def test_when_runs_disagree(worsening: float, visible: float | None, p: float, expected: bool) -> None:
    assert disagree(Screen(p, worsening, 0.02, False), visible, SUSPECT) is expected


MISSED = {"tta_s": None, "epochs_to_target": None}


@pytest.mark.parametrize(
    ("missed", "count", "verdict"),
    [(1, 3, Verdict.INCONCLUSIVE), (2, 3, Verdict.INCONCLUSIVE), (2, 5, Verdict.INCONCLUSIVE), (1, 5, Verdict.PASS)],
)
def test_more_than_one_run_in_five_that_misses_its_target_is_no_pass(
    memory: Memory, missed: int, count: int, verdict: Verdict
) -> None:
    baseline(memory)
    night(memory, MISSED, missed, count)
    for metric in ("tta_s", "epochs_to_target"):
        one = of(check(memory), metric)
        assert one.verdict is verdict
        if verdict is Verdict.INCONCLUSIVE:
            assert one.why == f"{missed} of {count} runs did not reach the target, more than one in five"


@pytest.mark.parametrize(("before", "verdict"), [(4, Verdict.INCONCLUSIVE), (5, Verdict.PASS)])
def test_where_the_accepted_runs_missed_it_as_often_it_is_no_fault(
    memory: Memory, before: int, verdict: Verdict
) -> None:
    accept(memory, [memory.run(rate, **(MISSED if index < before else {})) for index, rate in enumerate(spread(20))])
    memory.count += 48
    night(memory, MISSED, broken=1)
    assert of(check(memory), "epochs_to_target").verdict is verdict


@pytest.mark.parametrize(
    ("kind", "status"),
    [("oom", 3), ("rank_lost", 3), ("timeout", 3), ("interrupted", 0), ("preempted", 0), ("unknown", 0), (None, 0)],
)
def test_runs_that_something_killed_failed_and_those_that_somebody_stopped_did_not(
    memory: Memory, kind: str | None, status: int
) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)] + [memory.run(status="killed", failure_kind=kind)]
    assert exit_status(check(memory, ids)) == status


@pytest.mark.parametrize(
    ("metric", "odd", "bad"),
    [
        ("epochs_to_target", 40, 14),
        ("epochs_to_target", 10**6, 14),
        ("peak_mem_bytes", 1_800_000_000, 655_000_000),
        ("final_top1", 0.2, 0.96),
    ],
)
def test_one_broken_run_among_the_accepted_hides_no_worse_ones(
    memory: Memory, metric: str, odd: float, bad: float
) -> None:
    accept(memory, [memory.run(rate, **({metric: odd} if index == 7 else {})) for index, rate in enumerate(spread(20))])
    memory.count += 48
    night(memory, {}, broken=0)
    one = of(check(memory), metric)
    assert one.verdict is Verdict.PASS and one.visible is not None and one.visible < 0.5, one.power
    memory.count += 48
    night(memory, {metric: bad}, broken=2)
    one = of(check(memory), metric)
    assert (one.verdict, one.why) == (Verdict.INCONCLUSIVE, MORE)


def test_runs_without_a_figure_hide_no_regression_that_pairs_confirm(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in (*spread(4, 950.0, 0.001), None, None)]
    assert of(check(memory, ids)).why.startswith("suspected; confirm it")
    memory.pairs([0.05] * 8)
    one = of(check(memory, ids))
    assert one.verdict is Verdict.REGRESSION and "confirmed by 8 interleaved pairs" in one.why


def test_a_pair_of_which_a_run_was_killed_settles_nothing(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.01, -0.004], status="killed")
    one = of(check(memory, ids))
    assert one.verdict is Verdict.INCONCLUSIVE and "only those before it count, 0 of 8 pairs" in one.why


@pytest.mark.parametrize(
    ("by", "epochs", "broken", "verdict", "power"),
    [
        # Epochs that lie far apart: rises show, and what is too fast does not, which is said.
        (4, 13, 0, Verdict.PASS, "a rise of 4"),
        (4, 2, 2, Verdict.PASS, "and no drop, however large"),
        (4, 90, 2, Verdict.INCONCLUSIVE, "and no drop, however large"),
        # Where both show, each has its own figure: less of a drop is needed than of a rise.
        (1, 3, 2, Verdict.INCONCLUSIVE, "or a drop of 4"),
        (1, 6, 2, Verdict.INCONCLUSIVE, "or a drop of 4"),
        (1, 13, 0, Verdict.PASS, "or a drop of 4"),
    ],
)
def test_too_fast_and_too_slow_have_a_power_each(
    memory: Memory, by: int, epochs: int, broken: int, verdict: Verdict, power: str
) -> None:
    held = [memory.run(rate, epochs_to_target=13 + by * (index % 5 - 2)) for index, rate in enumerate(spread(20))]
    accept(memory, held)
    memory.count += 48
    night(memory, {"epochs_to_target": epochs}, broken)
    if not broken:
        for row in memory.rows["runs"][-3:]:
            row["epochs_to_target"] = 13
    else:
        memory.rows["runs"][-1]["epochs_to_target"] = 13
    one = of(check(memory), "epochs_to_target")
    assert power in one.power, one.power
    assert one.verdict is verdict, (one.power, one.why, one.worsening, one.p, one.visible, one.visible_faster)
