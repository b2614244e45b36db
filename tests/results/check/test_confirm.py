"""Decisions from interleaved pairs, one after the other."""

import itertools

import numpy as np
import pytest

from results.check.confirm import LEAST_MEDIAN, PAIRS, confirm, confirmed_many


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
    assert confirm([0.02, 0.04]).median == pytest.approx(0.03)
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
    # A twentieth of the pairs is needed on average: most sets are settled by the second or third.
    assert np.mean([confirm(list(row)).pairs for row in changes[:2000]]) == pytest.approx(2.98, abs=0.1)


def test_a_pair_without_a_difference_confirms_nothing_of_many_either() -> None:
    rows = np.array([[0.0, *[0.1] * (PAIRS - 1)], [0.1] * PAIRS])
    assert confirmed_many(rows).tolist() == [False, True]
    assert [confirm(list(row)).outcome == "worse" for row in rows] == [False, True]


def test_numbers_of_the_rule() -> None:
    assert (PAIRS, LEAST_MEDIAN) == (8, 0.01)
