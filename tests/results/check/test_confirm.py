"""Decisions from interleaved pairs, one after the other."""

import itertools
import math

import numpy as np
import pytest

from results.check.confirm import LEAST_MEDIAN, MOST_SETS, PAIRS, confirm, confirmed_many, settle, unclear


@pytest.mark.parametrize(
    ("changes", "outcome", "pairs"),
    [
        ([], "open", 0),
        ([0.05] * 7, "open", 7),
        ([0.05] * 8, "worse", 8),
        ([0.05] * 9, "worse", 8),
        ([-0.05] * 8, "better", 8),
        ([0.05] * 8 + [-0.05], "worse", 8),  # what comes after the eighth does not count
        ([0.05, -0.01], "unclear", 2),
        ([-0.05, 0.01, -0.05], "same", 2),
        ([0.05, 0.05, 0.0], "unclear", 3),
        ([0.02, 0.0], "same", 2),  # no more than the least median
        ([0.021, 0.0], "unclear", 2),
        ([0.0], "same", 1),
        ([0.01] * 8, "same", 8),  # no more than the least median
        ([0.0101] * 8, "worse", 8),
        ([0.001] * 4 + [0.05] * 4, "worse", 8),
    ],
)
def test_outcomes(changes: list[float], outcome: str, pairs: int) -> None:
    said = confirm(changes)
    assert (said.outcome, said.pairs) == (outcome, pairs)


def test_the_median_is_of_the_pairs_that_were_looked_at() -> None:
    assert confirm([0.04, 0.02, -0.01, 9.0]).median == pytest.approx(0.02)
    assert confirm([0.02, 0.04]).median == pytest.approx(0.03) and confirm([]).median == 0.0
    with pytest.raises(ValueError, match="number 2 of 2 is nan"):
        confirm([0.1, float("nan")])


def test_stopping_early_changes_no_outcome() -> None:
    """Every pattern of signs: stopped at the first other sign, or run to the end and judged as a whole."""
    for signs in itertools.product((1, -1), repeat=PAIRS):
        changes = [0.03 * sign for sign in signs]
        assert (confirm(changes).outcome == "worse") == all(sign > 0 for sign in signs)
        assert (confirm(changes).outcome == "better") == all(sign < 0 for sign in signs)


def test_where_nothing_differs_one_in_256_is_of_one_given_sign() -> None:
    draw = np.random.default_rng(0)
    changes = draw.normal(0, 0.1, (100_000, PAIRS))
    assert confirmed_many(changes).mean() == pytest.approx(1 / 256, rel=0.1)
    assert confirmed_many(changes[:300]).tolist() == [confirm(list(row)).outcome == "worse" for row in changes[:300]]
    # Three of eight pairs are needed on average: most sets are settled by the second or third.
    assert np.mean([confirm(list(row)).pairs for row in changes[:2000]]) == pytest.approx(2.98, abs=0.1)


def test_a_pair_without_a_difference_confirms_nothing_of_many_either() -> None:
    rows = np.array([[0.0, *[0.1] * (PAIRS - 1)], [0.1] * PAIRS])
    assert confirmed_many(rows).tolist() == [False, True]
    assert [confirm(list(row)).outcome == "worse" for row in rows] == [False, True]
    just = np.array([[LEAST_MEDIAN] * PAIRS, [math.nextafter(LEAST_MEDIAN, 1)] * PAIRS])
    assert confirmed_many(just).tolist() == [confirm(list(row)).outcome == "worse" for row in just] == [False, True]


def test_numbers_of_the_rule() -> None:
    assert (PAIRS, LEAST_MEDIAN, MOST_SETS) == (8, 0.01, 3)


def test_pairs_refute_no_less_than_they_lie_apart() -> None:
    changes = [0.25, -0.25]
    for suspicion, neither in ((0.5, False), (math.nextafter(0.5, 0), True), (0.6, False)):
        assert unclear(confirm(changes), changes, suspicion) is neither
    assert unclear(confirm([0.0]), [0.0], 9.0), "one pair does not say how far pairs lie apart"
    assert not unclear(confirm([-0.25] * PAIRS), [-0.25] * PAIRS, 0.01)


@pytest.mark.parametrize(
    ("changes", "stop", "looked", "refuted", "final"),
    [
        ([], 0, 0, False, False),
        ([0.05] * 3, 3, 3, False, False),
        ([0.05] * 9, 8, 8, False, True),
        ([-0.05] * 9, 8, 8, True, True),
        ([0.01, -0.01, 0.05], 2, 2, True, True),
        ([0.2, -0.2], 2, 2, False, False),
        ([0.2, -0.2, 0.05], 3, 1, False, False),
        ([0.2, -0.2, 0.01, -0.01], 4, 2, True, True),
        ([0.2, -0.2] * 3, 6, 2, False, True),
        ([0.2, -0.2] * 4, 6, 2, False, True),
        ([0.2, 0.2, -0.2, 0.03, -0.01], 5, 2, False, False),
        ([0.2, -0.2, *[0.05] * 8, -0.05], 10, 8, False, True),
        # The last set by itself says better, and all pairs together worse; or no worse than counts.
        ([*[0.05] * 7, -0.01] * 2 + [-0.02] * 8, 24, 8, False, True),
        ([*[LEAST_MEDIAN] * 7, -LEAST_MEDIAN], 8, 8, True, True),
    ],
)
def test_what_a_sequence_says(changes: list[float], stop: int, looked: int, refuted: bool, final: bool) -> None:
    found = settle(changes, 0.05)
    assert (found.stop, len(found.looked), found.refuted, found.final) == (stop, looked, refuted, final)
    assert found.looked == tuple(changes[found.stop - looked : found.stop]) and found.said.pairs == looked


def said(changes: list[float], suspicion: float) -> str:
    """What a sequence of pairs says, by the rule."""
    found = settle(changes, suspicion)
    return "worse" if found.said.outcome == "worse" else "refuted" if found.refuted else "neither"


def latest(changes: list[float], suspicion: float) -> str:
    """What it would say if pairs were run, a set after the other, until one refutes the suspicion."""
    start, found = 0, "neither"
    while start < len(changes):
        one = confirm(changes[start:])
        if one.outcome == "open":
            break
        if one.outcome == "worse":
            return "worse"
        if not unclear(one, changes[start:], suspicion):
            return "refuted"
        start += one.pairs
    return found


@pytest.mark.parametrize(
    ("within", "drop", "suspicion", "wrong", "one_set", "repeated"),
    [
        # Of nothing, what is called worse: at most 1 / 256 a set, however noisy, and not a half.
        (0.01, 0.0, 0.03, 0.0020, 0.00125, 0.00225),
        (0.05, 0.0, 0.03, 0.0125, 0.00425, 0.0700),
        (0.50, 0.0, 0.03, 0.0135, 0.00425, 0.1060),
        # Of a real drop, what is refuted: little more than by a single set, and not all that is left open.
        (0.02, 0.05, 0.05, 0.01475, 0.0140, 0.01825),
        (0.05, 0.05, 0.05, 0.0740, 0.0425, 0.2545),
        (0.05, 0.03, 0.05, 0.11775, 0.0590, 0.5690),
    ],
)
def test_pairs_that_are_run_until_they_please_are_seldom_wrong(
    within: float, drop: float, suspicion: float, wrong: float, one_set: float, repeated: float
) -> None:
    draw = np.random.default_rng(3)
    noise = draw.normal(0, within, (4000, 12 * PAIRS)) - draw.normal(0, within, (4000, 12 * PAIRS))
    sequences = (1 - np.exp(noise) * (1 - drop)).tolist()
    error = "refuted" if drop else "worse"

    def rate(rule, pairs: int) -> float:
        return float(np.mean([rule(one[:pairs], suspicion) == error for one in sequences]))

    assert rate(said, 12 * PAIRS) == pytest.approx(wrong, rel=0.02)
    assert rate(latest, 12 * PAIRS) == pytest.approx(repeated, rel=0.02)
    first = [confirm(one) for one in sequences]
    alone = [
        kind.outcome == "worse" if error == "worse"
        else kind.outcome in ("same", "better") and not unclear(kind, one, suspicion)
        for kind, one in zip(first, sequences, strict=True)
    ]  # fmt: skip
    assert float(np.mean(alone)) == pytest.approx(one_set, rel=0.02)
