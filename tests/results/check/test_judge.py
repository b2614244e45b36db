"""Verdicts of made-up stores: one fault at a time, and what is said of it."""

import math
from typing import Any

import pytest
from judging import MAIN, accept, baseline, check, of
from made_up import NEW, OLD, Memory, spread

from results.check.gather import gather
from results.check.judge import judge
from results.check.verdict import Verdict, exit_status
from results.words import ConfigError


def test_runs_like_the_baseline_pass_with_their_evidence(memory: Memory) -> None:
    held = baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in (999.0, 1001.5, 1000.2)]
    findings = check(memory)
    assert {one.verdict for one in findings} == {Verdict.PASS} and exit_status(findings) == 0
    assert {one.metric for one in findings} == {
        MAIN, "step_ms_p50", "tta_s", "epochs_to_target", "final_top1", "peak_mem_bytes",
    }  # fmt: skip
    one = of(findings)
    assert (one.candidates, one.baseline) == (ids, held)
    assert one.candidate_median == 1000.2 and one.baseline_median == pytest.approx(1000, abs=0.5)
    assert one.worsening == pytest.approx(1 - 1000.2 / one.baseline_median)
    assert one.interval and one.interval.low < 1 < one.interval.high and 0.95 <= one.interval.level < 0.97  # type: ignore[operator]
    assert one.p is not None and 0.2 < one.p <= 1
    assert one.visible == pytest.approx(0.022, abs=0.005) and "could have seen a drop of 2." in one.power
    assert "within unknown" in one.power and "3 against 20 runs" in one.power


def test_the_last_twenty_allocations_count(memory: Memory) -> None:
    held = baseline(memory, 25)
    ids = [memory.run(rate) for rate in (999.0, 1001.5, 1000.2)]
    assert of(check(memory, ids)).baseline == held[-20:]


@pytest.mark.parametrize(("drop", "verdict"), [(0.015, Verdict.PASS), (0.03, Verdict.INCONCLUSIVE)])
def test_a_drop_beyond_the_floor_is_suspected_not_judged(memory: Memory, drop: float, verdict: Verdict) -> None:
    baseline(memory)
    for rate in spread(3, 1000 * (1 - drop), 0.001):
        memory.run(rate, git_commit=NEW)
    one = of(check(memory))
    assert one.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        assert one.why == "suspected; confirm it with the command"
        sides = "a=commit:aaaaaaaaaaaa b=commit:bbbbbbbbbbbb"
        assert one.confirm_with.startswith(f"python -m bench.pairs {sides} family=cifar dataset=digits depth=20 ")
        assert "seed" not in one.confirm_with and one.confirm_with.endswith(f" results={memory.root.resolve()}")
        assert exit_status(check(memory)) == 3


def test_what_pairs_can_settle_is_suspected_sooner(memory: Memory) -> None:
    """By 2.5 deviations: too few for a metric that no pairs would be run for."""
    accept(memory, [memory.run(rate) for rate in spread(20, 1000.0, 0.012)])
    memory.count += 48
    for rate in (969.0, 970.0, 971.0):
        memory.run(rate, git_commit=NEW)
    one = of(check(memory))
    assert (one.verdict, one.why[:9]) == (Verdict.INCONCLUSIVE, "suspected")
    assert one.p is not None and one.worsening is not None and one.worsening < 0.036


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ([0.05] * 8, Verdict.REGRESSION, "confirmed by 8 interleaved pairs, 5.0% worse"),
        (
            [0.01, -0.004],
            Verdict.PASS,
            "suspected, but interleaved pairs do not confirm it: 2 of them, the median 0.3%",
        ),
        ([0.005] * 8, Verdict.PASS, "do not confirm it: 8 of them, the median 0.5% worse"),
        ([0.05] * 7 + [-0.01], Verdict.INCONCLUSIVE, "neither confirm nor refute it: 8 of them, the median 5.0% worse"),
        (
            [0.43, -0.003],
            Verdict.INCONCLUSIVE,
            "neither confirm nor refute it: 2 of them, the median 21.4% worse, 43.3%",
        ),
        ([-0.04, 0.03], Verdict.INCONCLUSIVE, "2 of them, the median 0.5% better, 7.0% apart; confirm it with the"),
        ([-0.03, 0.018], Verdict.PASS, "the median 0.6% better"),  # 4.8% apart, where 5.0% are suspected
        ([0.0], Verdict.INCONCLUSIVE, "neither confirm nor refute it: 1 of them"),
        ([-0.05] * 8, Verdict.PASS, "8 interleaved pairs say it is 5.0% better"),
        ([0.05] * 5, Verdict.INCONCLUSIVE, "ended after 5 of 8 pairs; confirm it with"),
    ],
)
def test_pairs_settle_a_suspicion(memory: Memory, changes: list[float], verdict: Verdict, words: str) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    name = memory.pairs(changes)
    one = of(check(memory, ids))
    assert one.verdict is verdict and words in one.why
    if "ended after" not in one.why:
        assert one.pairs_id == name and one.confirmation
    assert (" -m bench.pairs " in one.confirm_with) == (verdict is Verdict.INCONCLUSIVE)
    assert exit_status([one]) == {Verdict.REGRESSION: 1, Verdict.PASS: 0, Verdict.INCONCLUSIVE: 3}[verdict]


def test_pairs_say_how_noisy_an_allocation_is(memory: Memory) -> None:
    held = [memory.run(rate) for rate in spread(20, by=0.02)]
    accept(memory, held)
    ids = [memory.run(rate) for rate in spread(3, by=0.02)]
    unknown = of(check(memory, ids))
    memory.pairs([0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008], b="c" * 40)
    known = of(check(memory, ids))
    assert "within unknown" in unknown.power and "0.2% within" in known.power
    assert known.visible is not None and unknown.visible is not None and known.visible < 0.8 * unknown.visible


def test_runs_of_pairs_are_neither_candidates_nor_baseline(memory: Memory) -> None:
    baseline(memory)
    memory.pairs([0.5] * 3, b=OLD)
    findings = check(memory)
    assert {one.verdict for one in findings} == {Verdict.MISSING}


def test_runs_of_one_allocation_are_one(memory: Memory) -> None:
    baseline(memory)
    for rate in (990.0, 1000.0, 1010.0, 1003.0):
        memory.run(rate, slurm_job_id="7")
    one = of(check(memory))
    assert one.verdict is Verdict.INCONCLUSIVE and "1 run; 3 in allocations of their own are needed" in one.why
    assert one.candidate_median == pytest.approx(1001.5)
    memory.run(1000.0, slurm_job_id="8")
    assert "runs of 2 allocations; 3" in of(check(memory)).why


@pytest.mark.parametrize(("accepted", "needed"), [(1, 4), (3, 4), (4, None)])
def test_a_test_that_cannot_reach_its_level_says_so(memory: Memory, accepted: int, needed: int | None) -> None:
    baseline(memory, accepted)
    for rate in spread(3):
        memory.run(rate)
    findings = check(memory)
    one = of(findings)
    if needed:
        assert one.verdict is Verdict.INCONCLUSIVE
        assert f"3 against {accepted} cannot reach p < 0.05" in one.why and f"{needed} accepted runs" in one.why
    else:
        assert one.verdict is Verdict.PASS
        alone = of(findings, "epochs_to_target")
        assert "3 against 4 cannot reach p < 0.01 (least: 0.029); 7 accepted runs are needed" in alone.why


@pytest.mark.parametrize(
    ("columns", "metric", "verdict", "words"),
    [
        ({"epochs_to_target": 12}, "epochs_to_target", Verdict.REGRESSION, "slower to converge"),
        ({"epochs_to_target": 6}, "epochs_to_target", Verdict.REGRESSION, "not the same training"),
        ({"epochs_to_target": 10}, "epochs_to_target", Verdict.PASS, ""),
        ({"epochs_to_target": None, "tta_s": None}, "epochs_to_target", Verdict.REGRESSION, "slower to converge"),
        ({"final_top1": 0.97}, "final_top1", Verdict.REGRESSION, "beyond what runs of the baseline differ by"),
        ({"final_top1": 0.987}, "final_top1", Verdict.PASS, ""),
        ({"final_top1": 0.999}, "final_top1", Verdict.PASS, "better"),
        ({"peak_mem_bytes": 640_000_000}, "peak_mem_bytes", Verdict.REGRESSION, "beyond"),
        ({"peak_mem_bytes": 605_000_000}, "peak_mem_bytes", Verdict.PASS, ""),
        ({"tta_s": 20.0}, "tta_s", Verdict.INCONCLUSIVE, "confirm it with the command"),
        ({"step_ms_p50": 80.0}, "step_ms_p50", Verdict.INCONCLUSIVE, "confirm it with the command"),
        ({"images_per_s": 1100.0}, MAIN, Verdict.PASS, "better: if it is to stay so, accept it"),
    ],
)
def test_each_metric_in_its_direction(
    memory: Memory, columns: dict[str, Any], metric: str, verdict: Verdict, words: str
) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(**{"images_per_s": rate, **columns}, git_commit=NEW)
    findings = check(memory)
    one = of(findings, metric)
    assert one.verdict is verdict and words in one.why
    assert one.improved == ("better" in words)
    assert one.confirm_with.count(f"metric={metric} ") == (verdict is Verdict.INCONCLUSIVE)
    others = {other.metric for other in findings if other.verdict is not Verdict.PASS} - {metric, "tta_s"}
    assert not others


def test_a_slow_creep_shows_against_the_pin(memory: Memory) -> None:
    pinned = baseline(memory)
    accept(memory, pinned, "pin")
    rate = 1000.0
    for _ in range(8):
        rate *= 0.996
        ids = [memory.run(one, git_commit=NEW) for one in spread(3, rate, 0.002)]
        findings = check(memory, ids)
        assert of(findings).verdict is Verdict.PASS
        accept(memory, ids)
        if of(findings, against="pinned").verdict is not Verdict.PASS:
            break
    assert of(findings, against="pinned").verdict is Verdict.INCONCLUSIVE and 0.97 < rate / 1000 < 0.98
    memory.pairs([0.03] * 8)
    findings = check(memory, ids, against=["pinned"])
    assert {one.against for one in findings} == {"pinned"} and of(
        findings, against="pinned"
    ).verdict is Verdict.REGRESSION


def test_nothing_pinned_is_said(memory: Memory) -> None:
    baseline(memory)
    with pytest.raises(ConfigError, match="against=pinned: nothing is pinned"):
        check(memory, against=["pinned"])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"hardware": "2xSome CPU;torch2.11,deepspeed0.19,dali2.4;python3.11"},
            "torch 2.11 against 2.13 (software.torch)",
        ),
        ({"threads_per_rank": 2}, "threads per_rank 2 against 1 (threads.per_rank)"),
        ({"hardware": "8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11"}, "processors 8xH100 against 2xSome CPU"),
        ({"dataset_hash": "d2"}, "data hash d2 against d1 (data.hash)"),
        ({"choices_hash": "c1"}, "kernels c1 against nothing (kernels)"),
        ({"config": {"lr": 0.2}}, "lr 0.2 against 0.1; the nearest baseline is resnet20A digits"),
        ({"config": {"dataset": "cifar10", "batch": 64}}, "dataset cifar10 against digits; the nearest baseline is"),
        ({"benchmark": "step"}, "benchmark step against training"),
    ],
)
def test_what_cannot_be_compared_is_named(memory: Memory, columns: dict[str, Any], words: str) -> None:
    baseline(memory)
    ids = [memory.run(rate, **columns) for rate in spread(3)]
    (one,) = check(memory, ids)
    assert one.verdict is Verdict.NOT_COMPARABLE and words in one.why and one.candidates == ids
    assert exit_status([one]) == 2


def test_runs_of_another_seed_are_comparable(memory: Memory) -> None:
    baseline(memory, config={"seed": 0})
    for rate in spread(3):
        memory.run(rate, config={"seed": 77})
    assert {one.verdict for one in check(memory)} == {Verdict.PASS}


def test_no_baseline_at_all_says_how_to_make_one(memory: Memory) -> None:
    for rate in spread(3):
        memory.run(rate)
    (one,) = check(memory)
    assert one.verdict is Verdict.NOT_COMPARABLE and "python -m results.baseline accept" in one.why


def test_a_cell_that_was_not_measured_is_missing(memory: Memory) -> None:
    baseline(memory)
    others = baseline(memory, config={"shortcut": "B"})
    ids = [memory.run(rate) for rate in spread(3)]
    findings = check(memory)
    (one,) = [found for found in findings if found.verdict is Verdict.MISSING]
    assert one.baseline == others and one.cell.startswith("resnet20B") and exit_status(findings) == 4
    assert not [found for found in check(memory, ids) if found.verdict is Verdict.MISSING]  # these runs were asked for
    accept(memory, [memory.run(config={"shortcut": "B"})])  # measured tonight, and accepted already
    assert exit_status(check(memory)) == 0
    memory.count += 48
    for rate in spread(3):
        memory.run(rate, git_commit="d" * 40)
    assert [found for found in check(memory, ["d" * 12]) if found.verdict is Verdict.MISSING]


def test_a_cell_measured_on_other_software_is_not_missing_too(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate, hardware="2xSome CPU;torch2.14,deepspeed0.19,dali2.4;python3.11")
    findings = check(memory)
    assert [one.verdict for one in findings] == [Verdict.NOT_COMPARABLE]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"images_per_s": None, "null_reasons": {"images_per_s": "no longer than the warm-up"}},
            "no longer than the warm-up",
        ),
        ({"images_per_s": 0.0}, "images_per_s is 0"),
    ],
)
def test_runs_that_measured_nothing_fail(memory: Memory, columns: dict[str, Any], words: str) -> None:
    baseline(memory)
    for _ in range(3):
        memory.run(**columns)
    one = of(check(memory))
    assert one.verdict is Verdict.NOT_COMPARABLE and f"nothing measured: {words}" in one.why


def test_failed_runs_are_said_and_too_many_of_them_fail(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(2):
        memory.run(rate)
    memory.run(status="failed", failure_kind="oom", failure_message="out of\nmemory")
    findings = check(memory)
    assert "1 of 3 runs failed, more than one in five" in findings[-1].why
    assert "(oom): out of memory" in findings[-1].why and findings[-1].verdict is Verdict.INCONCLUSIVE
    for rate in (1000.0, 1001.0):
        memory.run(rate)
    evidence = gather(memory.root, now=memory.now)
    assert exit_status(judge(evidence)) == 0 and sum("(oom): out of memory" in line for line in evidence.faults) == 1
    for _ in range(3):  # which says nothing of the code
        memory.run(status="killed", failure_kind="preempted")
    assert exit_status(check(memory)) == 0


@pytest.mark.parametrize("hardware", [None, "8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11"])
def test_runs_that_failed_elsewhere_are_not_hidden_by_those_that_did_not(memory: Memory, hardware: str | None) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    ids += [memory.run(status="failed", failure_kind="oom", hardware=hardware) for _ in range(3)]
    assert exit_status(check(memory, ids)) == (3 if hardware is None else 2)


def test_without_a_target_there_is_no_time_to_it(memory: Memory) -> None:
    nothing = {"target_top1": None, "tta_s": None, "epochs_to_target": None, "final_top1": None}
    baseline(memory, **nothing)
    for rate in spread(3):
        memory.run(rate, **nothing)
    assert {one.metric for one in check(memory)} == {MAIN, "step_ms_p50", "peak_mem_bytes"}


MISSED = {"tta_s": None, "epochs_to_target": None}


@pytest.mark.parametrize("metric", ["tta_s", "epochs_to_target"])
@pytest.mark.parametrize(
    ("accepted", "before", "now", "verdict", "words"),
    [
        (20, 20, 3, Verdict.PASS, "none of 20 accepted runs reached the target, so nothing can be worse"),
        (20, 20, 0, Verdict.PASS, "none of 20 accepted runs reached the target, so nothing can be worse"),
        (1, 1, 3, Verdict.PASS, "none of 1 accepted run reached the target, so nothing can be worse"),
        (20, 10, 3, Verdict.INCONCLUSIVE, "10 of 20 accepted runs did not reach the target, which leaves no median"),
        (20, 10, 0, Verdict.INCONCLUSIVE, "to hold these against, of which 0 of 3 did not"),
        (20, 19, 3, Verdict.INCONCLUSIVE, "19 of 20 accepted runs did not reach the target, which leaves no median"),
        (20, 9, 3, Verdict.PASS, ""),
    ],
)
def test_a_target_that_accepted_runs_missed_is_never_passed_over(
    memory: Memory, accepted: int, before: int, now: int, verdict: Verdict, words: str, metric: str
) -> None:
    held = [memory.run(rate, **(MISSED if index < before else {})) for index, rate in enumerate(spread(accepted))]
    accept(memory, held)
    ids = [memory.run(rate, git_commit=NEW, **(MISSED if index < now else {})) for index, rate in enumerate(spread(3))]
    one = of(check(memory, ids), metric)
    if before == 9:  # the median reached it, so what all miss now is worse, and said to be
        assert one.verdict is not Verdict.PASS and one.worsening == math.inf
    else:
        assert one.verdict is verdict and words in one.why and one.baseline_median == math.inf


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"git_commit": None}, "the commit of the candidate"),
        ({"dirty": True}, "is of a checkout with changes"),
        ({"git_commit": OLD}, "the code is the same"),
    ],
)
def test_what_pairs_cannot_settle_says_why(memory: Memory, columns: dict[str, Any], words: str) -> None:
    baseline(memory)
    for rate in spread(3, 900.0, 0.001):
        memory.run(rate, **{"git_commit": NEW, **columns})
    one = of(check(memory))
    assert one.verdict is Verdict.INCONCLUSIVE and words in one.why


def test_commits_that_begin_alike_are_named_whole(memory: Memory) -> None:
    baseline(memory)
    commit = OLD[:-1] + "b"
    for rate in spread(3, 900.0, 0.001):
        memory.run(rate, git_commit=commit)
    assert f"a=commit:{OLD} b=commit:{commit} " in of(check(memory)).confirm_with


def test_a_baseline_whose_commit_is_unknown_says_so(memory: Memory) -> None:
    baseline(memory, git_commit=None)
    for rate in spread(3, 900.0, 0.001):
        memory.run(rate, git_commit=NEW)
    assert "the commit of the baseline" in of(check(memory)).why
