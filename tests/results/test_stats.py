"""Paired ratios: exact where there is nothing to estimate, an interval where there is."""

import random

import pytest

from results.stats import paired_ratio


def test_equal_pairs_have_an_interval_of_no_width() -> None:
    ratio = paired_ratio([2.0, 4.0, 8.0], [1.0, 2.0, 4.0])
    assert (ratio.median, ratio.low, ratio.high) == (2.0, 2.0, 2.0)


def test_drift_common_to_both_cancels() -> None:
    draw = random.Random(1)
    drift = [draw.uniform(0.5, 2.0) for _ in range(25)]
    slower = [100 * factor * draw.gauss(0.95, 0.01) for factor in drift]
    faster = [100 * factor * draw.gauss(1.0, 0.01) for factor in drift]
    ratio = paired_ratio(slower, faster)
    assert ratio.low < 0.95 < ratio.high < 1
    assert ratio.high - ratio.low < 0.03


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 2.0])])
def test_unpaired_samples_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_ratio(a, b)
