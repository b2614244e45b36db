"""Statistics of samples: against numpy's and scipy's, against values worked out by hand, and what is refused."""

import itertools
import math
import os
import random
import statistics as standard
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from results import statistics
from results.statistics import (
    mean_of,
    median,
    paired_ratio,
    percentile,
    quartiles,
    ratio_interval,
    spread,
    summary_of_runs,
    u_tails,
)

ROOT = Path(__file__).resolve().parents[2]


def samples_of(seed: int) -> list[float]:
    """From 1 to 60 samples of some size and shape, some of them equal."""
    draw = random.Random(seed)
    scale = 10 ** draw.uniform(-6, 6)
    found = [scale * draw.lognormvariate(0, 0.5) for _ in range(draw.randint(1, 60))]
    return found + draw.choices(found, k=draw.randint(0, 5))


SAMPLES = [samples_of(seed) for seed in range(200)]


def test_quartiles_are_those_worked_out_by_hand() -> None:
    assert quartiles([5.0, 1.0, 4.0, 2.0, 3.0]) == (2.0, 3.0, 4.0)
    assert quartiles([4.0, 1.0, 3.0, 2.0]) == (1.75, 2.5, 3.25)  # exclusive ones would be 1.25 and 3.75
    assert quartiles([7.0]) == (7.0, 7.0, 7.0)
    assert percentile([1.0, 2.0], 0.0) == 1.0 and percentile([1.0, 2.0], 1.0) == 2.0
    assert percentile([float(value) for value in range(1, 102)], 0.95) == pytest.approx(96.0)


def test_a_fraction_is_not_rounded_to_thousandths() -> None:
    samples = [float(value) for value in range(10_001)]
    assert percentile(samples, 0.9999) == pytest.approx(9999.0)
    assert percentile(samples, 0.00005) == pytest.approx(0.5)


def test_quartiles_are_those_of_numpy_in_order_and_within_the_samples() -> None:
    for samples in SAMPLES:
        low, middle, high = quartiles(samples)
        assert (low, middle, high) == pytest.approx(np.quantile(samples, [0.25, 0.5, 0.75]).tolist(), rel=1e-12)
        assert min(samples) <= low <= middle <= high <= max(samples)
        assert middle == median(samples)
        assert {type(value) for value in (low, middle, high)} == {float}, "numpy's would be printed as np.float64(...)"


@pytest.mark.parametrize("function", [median, lambda samples: percentile(samples, 0.95), quartiles])
def test_units_and_order_of_samples_do_not_matter(function: Callable[[list[float]], object]) -> None:
    for seed, samples in enumerate(SAMPLES):
        mixed = random.Random(seed).sample(samples, len(samples))
        assert function(mixed) == function(samples)
        thousandfold = function([1000 * sample for sample in samples])
        assert thousandfold == pytest.approx(1000 * np.asarray(function(samples)), rel=1e-12)


def test_percentiles_of_steps_are_what_they_were() -> None:
    """The formulas by which rows of runs had their p50 and p95, of finished runs and of dead ones."""
    for samples in SAMPLES:
        if len(samples) == 1:
            assert percentile(samples, 0.5) == percentile(samples, 0.95) == samples[0]
            continue
        thousandths = standard.quantiles(samples, n=1000, method="inclusive")
        twentieths = standard.quantiles(samples, n=20, method="inclusive")
        for fraction in (0.5, 0.95):
            mine = percentile(samples, fraction)
            assert mine == pytest.approx(thousandths[round(fraction * 1000) - 1], rel=1e-12)
            assert mine == pytest.approx(twentieths[round(fraction * 20) - 1], rel=1e-12)


def test_text_has_the_digits_that_are_asked_for() -> None:
    assert spread([1000.0, 2000.0, 3000.0, 4000.0]) == "2,500.00 (1,750.00-3,250.00)"
    assert spread([1000.0, 2000.0, 3000.0, 4000.0], 0) == "2,500 (1,750-3,250)"
    assert spread([0.125], 3) == "0.125 (0.125-0.125)"


@pytest.mark.parametrize("function", [median, lambda samples: percentile(samples, 0.5), quartiles, spread])
@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ([], "samples: there are none"),
        ([1.0, math.nan, 2.0], "samples: number 2 of 3 is nan, not a finite number"),
        ([math.inf, 1.0], "samples: number 1 of 2 is inf"),
    ],
)
def test_what_has_no_figure_is_refused(function: Callable[[list[float]], object], samples: list[float], said: str):
    with pytest.raises(ValueError, match=f"^{said}") as caught:
        function(samples)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fraction", [-0.1, 1.1, 95, math.nan])
def test_a_fraction_outside_0_to_1_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=f"^fraction={fraction}: expected 0 to 1$"):
        percentile([1.0, 2.0], fraction)


def test_a_mean_is_that_worked_out_by_hand() -> None:
    found = mean_of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0])
    assert (found.mean, found.count) == (5.0, 8)
    assert found.deviation == pytest.approx(math.sqrt(32 / 7)), "with n - 1: with n it would be 2"
    assert mean_of([3.0]).deviation is None
    for samples in SAMPLES[:50]:
        if len(samples) > 1:
            assert mean_of(samples).deviation == pytest.approx(np.std(samples, ddof=1), rel=1e-9)
    with pytest.raises(ValueError, match="number 2 of 2 is nan"):
        mean_of([1.0, math.nan])


@pytest.mark.parametrize(
    ("seconds", "not_converged", "mean", "averaged", "dropped"),
    [
        ([50.0, 10.0, 21.0, 20.0, 22.0], 0, 21.0, 3, 2),  # of five: the fastest and the slowest
        ([50.0, 10.0, 21.0, 20.0, 22.0, 23.0], 0, 21.5, 4, 2),  # of more: one at each end as well
        ([10.0, 21.0, 20.0, 25.0], 0, 19.0, 4, 0),  # of fewer: none
        ([7.0], 0, 7.0, 1, 0),
        ([50.0, 10.0, 21.0, 20.0], 1, (20 + 21 + 50) / 3, 3, 2),  # one did not converge: it is the slowest
        ([float(time) for time in range(1, 9)], 2, 5.5, 6, 4),  # two of ten: both, and two of the fastest
    ],
)
def test_a_summary_of_runs_is_mlperfs(
    seconds: list[float], not_converged: int, mean: float, averaged: int, dropped: int
) -> None:
    found = summary_of_runs(seconds, not_converged)
    assert found.time is not None and found.why == ""
    assert (found.time.mean, found.time.count, found.dropped) == (pytest.approx(mean), averaged, dropped)
    kept = [seconds[index] for index in found.averaged]
    assert kept == sorted(kept) and len(kept) == averaged
    assert found.time.deviation == (pytest.approx(np.std(kept, ddof=1)) if averaged > 1 else None)
    mixed = random.Random(1).sample(seconds, len(seconds))
    assert summary_of_runs(mixed, not_converged).time == found.time


@pytest.mark.parametrize(
    ("count", "not_converged", "why"),
    [
        (3, 2, "2 of 5 runs did not converge, more than one in five"),
        (3, 1, "1 of 4 runs did not converge, more than one in five"),
        (7, 2, "2 of 9 runs did not converge, more than one in five"),
        (0, 1, "1 of 1 runs did not converge, more than one in five"),
        (0, 0, "no run with a target has ended"),
    ],
)
def test_a_summary_without_a_mean_says_why(count: int, not_converged: int, why: str) -> None:
    found = summary_of_runs([20.0] * count, not_converged)
    assert (found.time, found.averaged, found.dropped, found.why) == (None, (), 0, why)
    with pytest.raises(ValueError, match="^not_converged=-1: expected 0 or more$"):
        summary_of_runs([1.0], -1)
    with pytest.raises(ValueError, match="seconds: number 1 of 1 is inf"):
        summary_of_runs([math.inf])


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


def test_the_same_pairs_always_give_the_same_figures() -> None:
    draw = random.Random(5)
    a, b = ([draw.uniform(90, 110) for _ in range(50)] for _ in range(2))
    for _ in range(2):
        ratio = paired_ratio(a, b)
        assert (ratio.median, ratio.low, ratio.high) == (1.0085131675892502, 0.9973565494447391, 1.0349606393130228)
        assert str(ratio) == "1.009 [0.997, 1.035]"


@pytest.mark.parametrize("zero", [0, 2])
def test_the_pair_that_cannot_be_divided_is_named(zero: int) -> None:
    denominators = [1.0] * 4
    denominators[zero] = 0.0
    with pytest.raises(ValueError, match=f"^pairs: denominator {zero + 1} of 4 is 0$"):
        paired_ratio([1.0] * 4, denominators)


def test_as_many_medians_of_the_bootstrap_lie_beyond_either_end(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = random.Random(1).sample(range(1, statistics.RESAMPLES + 1), statistics.RESAMPLES)
    monkeypatch.setattr(random.Random, "choices", lambda self, ratios, k: [drawn.pop()] * k)
    ratio = paired_ratio([1.0, 2.0], [1.0, 1.0])
    beyond = round(0.025 * statistics.RESAMPLES)
    assert (ratio.low, ratio.high) == (beyond + 1, statistics.RESAMPLES - beyond)


def test_more_of_the_one_than_of_the_other_are_no_pairs() -> None:
    for a, b in (([1.0, 2.0], [1.0]), ([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError, match=f"^pairs: {len(a)} numerators for {len(b)} denominators$"):
            paired_ratio(a, b)


@pytest.mark.parametrize("rounds", [9, 40, 301])
def test_the_interval_is_that_of_scipys_bootstrap(rounds: int) -> None:
    draw = np.random.default_rng(rounds)
    a, b = draw.lognormal(0, 0.2, rounds).tolist(), draw.lognormal(0.1, 0.2, rounds).tolist()
    mine = paired_ratio(a, b)
    theirs = scipy_stats.bootstrap(
        (np.divide(a, b),), np.median, n_resamples=20_000, confidence_level=0.95, method="percentile",
        rng=np.random.default_rng(0),
    )  # fmt: skip
    # A share of scipy's resampled medians lies beyond each end; ties make it a range, and 4000 resamples leave some
    # 0.0025 of chance. At 90%, or at one end only, it would be 0.05.
    medians = theirs.bootstrap_distribution
    assert np.mean(medians < mine.low) < 0.035 and np.mean(medians <= mine.low) > 0.015
    assert np.mean(medians > mine.high) < 0.035 and np.mean(medians >= mine.high) > 0.015
    low, high = theirs.confidence_interval
    assert (mine.low, mine.high) == pytest.approx((low, high), abs=0.15 * (high - low))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        ([], [], "pairs: there are none"),
        ([1.0], [1.0, 2.0], "pairs: 1 numerators for 2 denominators"),
        ([1.0, math.nan], [1.0, 2.0], "pairs: number 2 of 2 is nan"),
        ([1.0, 2.0], [1.0, math.nan], "pairs: number 2 of 2 is nan"),
        ([1.0, 2.0], [1.0, 0.0], "pairs: denominator 2 of 2 is 0"),
    ],
)
def test_what_is_no_pair_is_refused(a: list[float], b: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        paired_ratio(a, b)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [["-m", "results.report", "--help"], ["-m", "results.recover", "--help"], ["launch/local.py", "--help"],
     ["launch/slurm.py", "--help"], ["-m", "bench.peers", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_no_command_takes_this_module_for_the_standard_librarys(command: list[str], tmp_path: Path) -> None:
    # Runs as the command's process starts, and speaks as it ends.
    (tmp_path / "sitecustomize.py").write_text(
        "import atexit, sys\n"
        "atexit.register(lambda: print('FOUND', __import__('statistics').__file__, *sys.path, sep='|'))\n"
    )
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("FOUND|")]
    _, file, *path = line.split("|")
    assert file == standard.__file__
    assert str(ROOT / "results") not in [str(Path(entry).resolve()) for entry in path]


def u_of(a: list[float], b: list[float]) -> int:
    return sum(x > y for x in a for y in b)


def test_large_groups_have_the_normal_distribution_of_u() -> None:
    m = n = 400
    assert min(m, n) * m * n > statistics.EXACT_STEPS
    deviation = math.sqrt(m * n * (m + n + 1) / 12)  # Mann and Whitney, 1947
    inwards, level = statistics._bounds(m, n, 0.95)
    assert inwards == math.floor(m * n / 2 - 1.959963985 * deviation - 0.5)
    assert level == pytest.approx(0.95, abs=1e-3) and level >= 0.95


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 4), (3, 3), (2, 5), (4, 3), (5, 5)])
def test_the_tails_of_u_are_those_of_all_arrangements(m: int, n: int) -> None:
    places = range(m + n)
    found = [
        u_of(list(chosen), [place for place in places if place not in chosen])
        for chosen in itertools.combinations(places, m)
    ]
    expected = [sum(u <= limit for u in found) / len(found) for limit in range(m * n // 2 + 1)]
    assert u_tails(m, n) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(("m", "n"), [(3, 20), (20, 3), (7, 11), (20, 20), (1, 30)])
def test_the_tails_of_u_are_those_of_scipy(m: int, n: int) -> None:
    draw = np.random.default_rng(m)
    for _ in range(20):
        a, b = draw.normal(size=m), draw.normal(size=n)
        u = u_of(a.tolist(), b.tolist())
        if u < len(u_tails(m, n)):
            expected = scipy_stats.mannwhitneyu(a, b, alternative="less", method="exact").pvalue
            assert u_tails(m, n)[u] == pytest.approx(expected, rel=1e-10)


def test_an_interval_of_many_samples_is_close_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(2)
    a, b = draw.lognormal(0, 0.1, 60).tolist(), draw.lognormal(0.1, 0.1, 40).tolist()
    exact = ratio_interval(a, b)
    monkeypatch.setattr(statistics, "EXACT_STEPS", 0)
    found = ratio_interval(a, b)
    assert (found.low, found.high, found.level) == pytest.approx((exact.low, exact.high, exact.level), rel=1e-3)
    assert found.level is not None and found.level >= 0.95


def test_an_interval_of_few_samples_says_what_level_it_has() -> None:
    """Worked out by hand: 2 of 20 arrangements are outside at three against three."""
    found = ratio_interval([10.0, 11.0, 12.0], [20.0, 22.0, 24.0])
    assert (found.ratio, found.low, found.high) == (2.0, 20 / 12, 2.4)
    assert found.level == pytest.approx(0.9)
    assert str(found) == "2.000 [1.667, 2.400] 90%"
    assert str(ratio_interval([1.0] * 4, [2.0] * 4)) == "2.000 [2.000, 2.000] 97.1%"  # 1 - 2 / 70
    assert ratio_interval([1.0], [2.0, 4.0]).level == pytest.approx(1 / 3)
    assert ratio_interval([2.0, 4.0], [4.0]).ratio == 1.5
    alone = ratio_interval([4.0], [5.0])
    assert (alone.ratio, alone.low, alone.high, alone.level) == (1.25, None, None, None)
    assert str(alone) == "1.250 (one against one: no interval)"
    # 5 against 5: P(U <= 2) = 4 / 252 and P(U <= 3) = 7 / 252, so that the third ratio from each end bounds 95%.
    a, b = [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.2, 2.4, 2.6, 2.9]
    ratios = sorted(y / x for x in a for y in b)
    five = ratio_interval(a, b)
    assert (five.ratio, five.low, five.high) == (ratios[12], ratios[2], ratios[22])
    assert five.level == pytest.approx(1 - 2 * 4 / 252)
    assert ratio_interval(a, b, level=0.9).level == pytest.approx(1 - 2 * 12 / 252)


@pytest.mark.parametrize(("m", "n"), [(3, 5), (5, 5), (4, 9), (8, 6)])
def test_an_interval_holds_the_ratios_that_the_exact_test_does_not_reject(m: int, n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(10):
        a, b = draw.lognormal(0, 0.1, m), draw.lognormal(0.2, 0.1, n)
        found = ratio_interval(a.tolist(), b.tolist())
        assert found.low is not None and found.high is not None and found.level is not None and found.level >= 0.95
        assert found.ratio == pytest.approx(np.median(np.divide.outer(b, a)), rel=1e-12)
        for ratio, inside in ((found.low, True), (found.high, False)):
            for nudge, within in ((1 - 1e-9, not inside), (1 + 1e-9, inside)):
                p = scipy_stats.mannwhitneyu(a * ratio * nudge, b, method="exact").pvalue
                assert (float(p) > 0.05) is within, (ratio, nudge, p)


def test_an_interval_holds_the_true_ratio_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    held, count = 0, 4000
    for _ in range(count):
        found = ratio_interval(draw.lognormal(0, 0.2, 3).tolist(), draw.lognormal(math.log(1.5), 0.2, 3).tolist())
        held += found.low <= 1.5 <= found.high  # type: ignore[operator]
    assert held / count == pytest.approx(0.9, abs=0.015)  # three standard errors


def test_an_interval_turns_over_with_its_groups_and_keeps_units_out() -> None:
    a, b = [1.0, 1.3, 1.1, 1.25], [2.0, 2.5, 2.2]
    ours, theirs = ratio_interval(a, b), ratio_interval(b, a)
    assert ours.level == theirs.level
    assert (ours.low, ours.high) == pytest.approx((1 / theirs.high, 1 / theirs.low))  # type: ignore[operator]
    scaled = ratio_interval([1e9 * value for value in a], [1e9 * value for value in reversed(b)])
    assert (scaled.ratio, scaled.low, scaled.high) == pytest.approx((ours.ratio, ours.low, ours.high))


def test_an_interval_of_many_samples_needs_not_all_pairs_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    a, b = draw.lognormal(0, 0.1, 61).tolist(), draw.lognormal(0.1, 0.1, 80).tolist()
    whole = ratio_interval(a, b)
    monkeypatch.setattr(statistics, "MOST_PAIRS", 0)
    found = ratio_interval(a, b)
    assert (found.ratio, found.low, found.high) == pytest.approx((whole.ratio, whole.low, whole.high), rel=1e-13)


@pytest.mark.parametrize(
    ("a", "b", "level", "said"),
    [
        ([], [1.0], 0.95, "a: there are none"),
        ([1.0], [], 0.95, "b: there are none"),
        ([1.0, math.nan], [1.0], 0.95, "a: number 2 of 2 is nan"),
        ([1.0], [math.inf], 0.95, "b: number 1 of 1 is inf"),
        ([0.0], [1.0], 0.95, "a: number 1 of 1 is 0.0; a ratio needs above 0"),
        ([1.0], [-1.0], 0.95, "b: number 1 of 1 is -1.0; a ratio needs at least 0"),
        ([1.0], [1.0], 95, "level=95: expected a fraction between 0 and 1"),
    ],
)
def test_an_interval_refuses(a: list[float], b: list[float], level: float, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}"):
        ratio_interval(a, b, level)
