"""Pairs that were run more than once: what they say first stands, whichever command ran them and where it stopped."""

from typing import Any

import pytest
from judging import MAIN, accept, baseline, check, of
from made_up import NEW, OLD, Memory, spread

from results.check.gather import gather
from results.check.judge import judge
from results.check.verdict import Finding, Verdict

LATER = "c" * 40
WORSE, CLOSE, TORN = [0.05] * 8, [0.01, -0.004], [0.05, -0.05]


def suspected(memory: Memory) -> list[str]:
    """Write a baseline and runs that are 5% slower."""
    baseline(memory)
    return [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]


@pytest.mark.parametrize(
    ("sets", "verdict", "words", "counts"),
    [
        ([CLOSE, WORSE], Verdict.PASS, "do not confirm it: 2 of them", 0),
        ([CLOSE, WORSE, WORSE], Verdict.PASS, "do not confirm it: 2 of them", 0),
        ([WORSE, CLOSE, CLOSE], Verdict.REGRESSION, "confirmed by 8 interleaved pairs, 5.0% worse", 0),
        ([TORN, WORSE, CLOSE], Verdict.REGRESSION, "confirmed by 8", 1),
        ([TORN, CLOSE, WORSE], Verdict.PASS, "do not confirm it: 2 of them", 1),
        ([TORN, TORN, CLOSE], Verdict.PASS, "do not confirm it: 2 of them", 2),
        # Alone the later pairs would refute it; all together they are worse by more than 1% in the median.
        ([[0.05, 0.05, -0.01], CLOSE], Verdict.INCONCLUSIVE, "neither confirm nor refute it: 2 of them", 1),
        # Stopped by hand where they went one way: the pairs that follow are the rest of the same set.
        ([[0.05] * 5, [0.05] * 3], Verdict.REGRESSION, "confirmed by 8", 1),
        ([[0.05] * 7, CLOSE], Verdict.REGRESSION, "confirmed by 8", 1),
        ([[0.05] * 7, [-0.004]], Verdict.INCONCLUSIVE, "neither confirm nor refute it: 8 of them", 1),
        ([[0.01], [-0.004]], Verdict.PASS, "do not confirm it: 2 of them", 1),
        ([[0.05] * 3, [0.05] * 2], Verdict.INCONCLUSIVE, "ended after 5 of 8 pairs; confirm it with the command", None),
        ([TORN, [0.05] * 2], Verdict.INCONCLUSIVE, "ended after 2 of 8 pairs; confirm it with the command", None),
        ([TORN, TORN], Verdict.INCONCLUSIVE, "2 of them, the median 0.0% better, 10.0% apart; confirm it with the", 1),
        ([TORN, TORN, TORN], Verdict.INCONCLUSIVE, "3 times, so no further pairs count: measure more runs", 2),
        ([TORN, TORN, TORN, CLOSE], Verdict.INCONCLUSIVE, "3 times, so no further pairs count: measure more runs", 2),
        ([TORN, TORN, TORN, WORSE], Verdict.INCONCLUSIVE, "3 times, so no further pairs count: measure more runs", 2),
    ],
)
def test_what_pairs_say_first_stands(
    memory: Memory, sets: list[list[float]], verdict: Verdict, words: str, counts: int | None
) -> None:
    ids = suspected(memory)
    names = [memory.pairs(changes) for changes in sets]
    one = of(check(memory, ids))
    assert one.verdict is verdict and words in one.why, one.why
    assert one.why.startswith("confirmed by" if verdict is Verdict.REGRESSION else "suspected")
    assert one.pairs_id == ("" if counts is None else names[counts])
    assert bool(one.confirm_with) == (verdict is Verdict.INCONCLUSIVE and "no further" not in one.why)


def both(memory: Memory, old: list[float], later: list[float]) -> tuple[Finding, str]:
    """What is said where pairs were run against two commits of the baseline, and the set against the later one."""
    accept(memory, [memory.run(rate) for rate in spread(10)])
    accept(memory, [memory.run(rate, git_commit=LATER) for rate in spread(10)])
    memory.count += 48
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    memory.pairs(old, a=OLD)
    name = memory.pairs(later, a=LATER)
    return of(check(memory, ids)), name


@pytest.mark.parametrize(
    ("old", "later", "verdict", "against"),
    [
        (CLOSE, CLOSE, Verdict.PASS, None),
        (WORSE, CLOSE, Verdict.REGRESSION, None),
        (CLOSE, WORSE, Verdict.REGRESSION, None),
        (TORN, CLOSE, Verdict.INCONCLUSIVE, OLD),
        ([0.05] * 7, CLOSE, Verdict.INCONCLUSIVE, OLD),
        (CLOSE, TORN, Verdict.INCONCLUSIVE, LATER),
        (TORN, TORN, Verdict.INCONCLUSIVE, LATER),
        ([0.05] * 3, [0.05] * 2, Verdict.INCONCLUSIVE, LATER),
    ],
)
def test_no_commit_of_a_baseline_is_chosen_because_it_refutes(
    memory: Memory, old: list[float], later: list[float], verdict: Verdict, against: str | None
) -> None:
    one, name = both(memory, old, later)
    assert one.verdict is verdict
    assert f" a=commit:{against[:12]} " in one.confirm_with if against else not one.confirm_with
    if verdict is Verdict.PASS or later is TORN:
        assert one.pairs_id == name


@pytest.mark.parametrize("columns", [{"tta_s": None}, {"status": "failed"}])
def test_a_pair_without_the_figure_is_not_made_up_for_by_others(memory: Memory, columns: dict[str, Any]) -> None:
    ids = suspected(memory)
    for row in memory.rows["runs"]:
        if row["run_id"] in ids:
            row["tta_s"] = 20.0
    name = memory.pairs([0.01, -0.004, 0.01])
    first = [row for row in memory.rows["pairs"] if row["pair"] == 1 and row["side"] == "b"][0]["run_id"]
    next(row for row in memory.rows["runs"] if row["run_id"] == first).update(columns)
    memory.pairs(CLOSE)
    one = of(check(memory, ids), "tta_s")
    assert one.verdict is Verdict.INCONCLUSIVE and not one.confirm_with
    assert one.why == f"suspected, and pairs that refute it are not all: pair 1 of {name} has no tta_s"


@pytest.mark.parametrize(
    ("lost", "at", "verdict", "words"),
    [
        ("ab", 1, Verdict.INCONCLUSIVE, "pairs that refute it are not all: pair 1 of {name} has no images_per_s"),
        ("b", 1, Verdict.INCONCLUSIVE, "pairs that refute it are not all: pair 1 of {name} has no images_per_s"),
        ("a", 3, Verdict.INCONCLUSIVE, "neither confirm nor refute it: 4 of them"),
        ("b", 9, Verdict.REGRESSION, "confirmed by 8 interleaved pairs"),
    ],
)
def test_a_run_of_pairs_that_is_gone_does_not_take_the_others_along(
    memory: Memory, lost: str, at: int, verdict: Verdict, words: str
) -> None:
    """What confirmed a regression would be forgotten, and what came later refute it."""
    ids = suspected(memory)
    name = memory.pairs([*WORSE, 0.05])
    memory.pairs(CLOSE)
    gone = {
        row["run_id"] for row in memory.rows["pairs"]
        if row["pairs_id"] == name and row["pair"] == at and row["side"] in lost
    }  # fmt: skip
    memory.rows["runs"] = [row for row in memory.rows["runs"] if row["run_id"] not in gone]
    one = of(check(memory, ids))
    assert one.verdict is verdict and words.format(name=name) in one.why, one.why


@pytest.mark.parametrize(("first_before", "verdict"), [(True, Verdict.INCONCLUSIVE), (False, Verdict.PASS)])
def test_pairs_that_began_before_the_runs_refute_nothing(memory: Memory, first_before: bool, verdict: Verdict) -> None:
    baseline(memory)
    before = memory.start + memory.count * memory.step
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    rows = []
    for pair, change in enumerate(CLOSE, start=1):
        when = {"started": before} if first_before and pair == 1 else {}
        for side, commit, rate in (("a", OLD, 1000.0), ("b", NEW, 1000.0 * (1 - change))):
            run_id = memory.run(rate, git_commit=commit, **when)
            rows.append({"pairs_id": "p", "pair": pair, "side": side, "position": 1, "run_id": run_id, "restart": 0})
    memory.write("pairs", rows, "p")
    assert of(check(memory, ids)).verdict is verdict


def test_a_side_of_which_nothing_is_left_may_be_of_any_commit(memory: Memory) -> None:
    ids = suspected(memory)
    name = memory.pairs(WORSE)
    memory.pairs(CLOSE)
    for side in "ab":
        gone = {row["run_id"] for row in memory.rows["pairs"] if row["pairs_id"] == name and row["side"] == side}
        kept = memory.rows["runs"]
        memory.rows["runs"] = [row for row in kept if row["run_id"] not in gone]
        one = of(check(memory, ids))
        assert one.verdict is Verdict.INCONCLUSIVE and "=commit: " not in one.confirm_with, one.why
        memory.rows["runs"] = kept


def test_pairs_that_two_stores_have_count_once(memory: Memory) -> None:
    ids = suspected(memory)
    memory.pairs([0.05] * 4)
    evidence = gather(memory.root, ids, now=memory.now)
    evidence.pair_sets = [*evidence.pair_sets, *evidence.pair_sets]
    assert "ended after 4 of 8 pairs" in of(judge(evidence), MAIN).why


def test_pairs_are_in_the_order_in_which_they_ran_whichever_store_has_them(memory: Memory) -> None:
    ids = suspected(memory)
    names = [memory.pairs(changes) for changes in (CLOSE, WORSE)]
    evidence = gather(memory.root, ids, now=memory.now)
    evidence.pair_sets = evidence.pair_sets[::-1]
    one = of(judge(evidence), MAIN)
    assert (one.verdict, one.pairs_id) == (Verdict.PASS, names[0])


def test_what_both_sides_of_a_pair_share_is_no_noise_within(memory: Memory) -> None:
    baseline(memory)
    memory.pairs([0.01] * 6, b=LATER)
    pair_of = {row["run_id"]: row["pair"] for row in memory.rows["pairs"]}
    for row in memory.rows["runs"]:
        if pair := pair_of.get(row["run_id"]):
            row["images_per_s"] *= 1 + 0.1 * pair
    one = of(check(memory, [memory.run(rate, git_commit=NEW) for rate in spread(3)]))
    assert "0.0% within" in one.power, one.power


def test_twice_as_fast_and_more_is_a_change_like_any_other(memory: Memory) -> None:
    """Where a is the slower one by more than half, a fraction of a is beyond -100%."""
    accept(memory, [memory.run(rate) for rate in spread(20, by=0.02)])
    ids = [memory.run(rate) for rate in spread(3, by=0.02)]
    unknown = of(check(memory, ids))
    memory.pairs([-2.0, -2.001, -1.999, -2.002, -1.998, -2.0], b=LATER)
    known = of(check(memory, ids))
    assert "within unknown" in unknown.power and "0.0% within" in known.power
    assert known.visible is not None and known.visible < unknown.visible  # type: ignore[operator]
