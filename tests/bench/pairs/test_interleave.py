"""Pairs in turn: their order, their seeds, what a change is, and when they end."""

import dataclasses

import pytest

from bench.pairs import interleave
from bench.pairs.interleave import METRICS, NotMeasured, Run
from results.check import metrics as check
from results.store.schema import FIGURES, check_column


def runner(values: dict[str, list[float]], seen: list[tuple[str, int, int, int]] | None = None) -> interleave.Callable:
    def run(side: str, number: int, position: int, seed: int) -> Run:
        if seen is not None:
            seen.append((side, number, position, seed))
        return Run(side, values[side][number - 1], {"run_id": f"run-{side}{number}", "restart_count": 0})

    return run


def test_pairs_are_turned_and_share_a_seed() -> None:
    seen: list[tuple[str, int, int, int]] = []
    values = {"a": [100.0] * 8, "b": [90.0] * 8}
    pairs = list(interleave.run_pairs("images_per_s", 5, runner(values, seen)))
    assert "".join(side for side, *_ in seen) == "abba" * 4
    assert [place for _, *place in seen] == [[n, position, 4 + n] for n in range(1, 9) for position in (1, 2)]
    assert [said.outcome for _, said in pairs] == ["open"] * 7 + ["worse"]
    assert [pair.change for pair, _ in pairs] == pytest.approx([0.1] * 8)
    assert [pair.number for pair, _ in pairs] == list(range(1, 9))
    assert {pair.value("a") for pair, _ in pairs} == {100.0} and {pair.value("b") for pair, _ in pairs} == {90.0}


@pytest.mark.parametrize(
    ("b", "outcomes", "reason"),
    [
        ([110.0] * 8, ["open"] * 7 + ["better"], "all 8 pairs go one way, in the median by more than 1%"),
        ([99.5] * 8, ["open"] * 7 + ["same"], "all 8 pairs go one way, in the median by no more than 1%"),
        ([90.0, 90.0, 101.0], ["open", "open", "unclear"], "pair 3 goes the other way than the first, so not all will"),
        ([90.0] * 7 + [101.0], ["open"] * 7 + ["unclear"], "pair 8 goes the other way than the first, so not all will"),
        ([100.0], ["same"], "pair 1 differs by nothing"),
    ],
)
def test_pairs_end_once_they_are_settled(b: list[float], outcomes: list[str], reason: str) -> None:
    done = list(interleave.run_pairs("images_per_s", 0, runner({"a": [100.0] * 8, "b": b})))
    assert [said.outcome for _, said in done] == outcomes
    assert interleave.why([pair for pair, _ in done], done[-1][1]).startswith(reason)


def test_worse_is_less_throughput_and_more_time() -> None:
    assert interleave.change("images_per_s", 100.0, 90.0) == pytest.approx(0.1)
    assert interleave.change("images_per_s", 100.0, 125.0) == pytest.approx(-0.25)
    assert interleave.change("step_ms_p50", 100.0, 90.0) == pytest.approx(-0.1)
    assert interleave.change("tta_s", 100.0, 125.0) == pytest.approx(0.25)


def test_a_metric_is_a_figure_of_a_run_whose_direction_its_name_says() -> None:
    assert set(METRICS) <= set(FIGURES)
    for name, more_is_better in METRICS.items():
        assert check_column("runs", name)
        assert more_is_better == (name in ("images_per_s", "mfu") or name.endswith("top1")), name


def test_a_change_is_what_the_check_takes_for_one() -> None:
    shared = [metric for metric in check.METRICS if metric.name in METRICS]
    assert {metric.name for metric in check.METRICS if metric.timed} <= {metric.name for metric in shared}
    for metric in shared:
        fraction = dataclasses.replace(metric, absolute=False)
        assert interleave.change(metric.name, 80.0, 100.0) == pytest.approx(check.worsening(fraction, 100.0, 80.0))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"null_reasons": {"images_per_s": "no longer\nthan the warm-up"}}, "has none: no longer than the warm-up"),
        ({}, "has none: the row gives no reason"),
        ({"images_per_s": 0.0}, "has 0; a change from it is no fraction"),
        ({"images_per_s": float("nan")}, "has nan"),
    ],
)
def test_what_was_not_measured_is_said(row: dict[str, object], said: str) -> None:
    with pytest.raises(NotMeasured) as error:
        interleave.figure({"run_id": "run-1", **row}, "images_per_s")
    assert str(error.value).startswith(f"metric=images_per_s: run run-1 {said}") and "\n" not in str(error.value)
    assert interleave.figure({"run_id": "run-1", "images_per_s": 7}, "images_per_s") == 7.0
