"""Directions, floors and values of the metrics."""

import math
from typing import Any

import pytest

from results.check.metrics import KERNEL, METRICS, Metric, of_benchmark, value_of, worsening

BY_NAME = {metric.name: metric for metric in METRICS} | {"p50": KERNEL}


@pytest.mark.parametrize(
    ("name", "value", "reference", "expected"),
    [
        ("images_per_s", 95.0, 100.0, 0.05),
        ("images_per_s", 105.0, 100.0, -0.05),
        ("step_ms_p50", 105.0, 100.0, 0.05),
        ("tta_s", 90.0, 100.0, -0.1),
        ("tta_s", math.inf, 100.0, math.inf),
        ("epochs_to_target", 12.0, 10.0, 0.2),
        ("epochs_to_target", 8.0, 10.0, -0.2),
        ("epochs_to_target", math.inf, math.inf, 0.0),
        ("tta_s", 100.0, math.inf, -math.inf),
        ("final_top1", 0.97, 0.99, 0.02),
        ("final_top1", 0.99, 0.97, -0.02),
        ("peak_mem_bytes", 110.0, 100.0, 0.1),
        ("p50", 110.0, 100.0, 0.1),
    ],
)
def test_worse_is_positive(name: str, value: float, reference: float, expected: float) -> None:
    assert worsening(BY_NAME[name], value, reference) == pytest.approx(expected)


def test_what_each_kind_of_run_is_checked_for() -> None:
    training = {metric.name for metric in of_benchmark("training")}
    assert training == set(BY_NAME) - {"p50"}
    assert {metric.name for metric in of_benchmark("step")} == {"images_per_s", "step_ms_p50", "peak_mem_bytes"}
    assert of_benchmark("micro") == ()
    assert {name for name, metric in BY_NAME.items() if metric.timed} == {"images_per_s", "step_ms_p50", "tta_s", "p50"}
    assert {name for name, metric in BY_NAME.items() if metric.better == "same"} == {"epochs_to_target"}
    floors = {name: metric.floor for name, metric in BY_NAME.items() if metric.floor != 0.02}
    assert floors == {"epochs_to_target": 0.2, "final_top1": 0.005}
    assert [name for name, metric in BY_NAME.items() if metric.absolute] == ["final_top1"]


def test_directions_and_how_far_off_one_run_alone_is_broken() -> None:
    facts = {name: (metric.better, metric.unit, pytest.approx(metric.far)) for name, metric in BY_NAME.items()}
    assert facts == {
        "images_per_s": ("higher", "images/s", 1 / 4), "step_ms_p50": ("lower", "ms", 1 / 3),
        "tta_s": ("lower", "s", 1 / 3),
        "epochs_to_target": ("same", "epochs", 0.6), "final_top1": ("higher", "fraction", 0.04),
        "peak_mem_bytes": ("lower", "bytes", 0.1), "p50": ("lower", "us", 1 / 3),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("metric", "row", "number", "reason"),
    [
        ("images_per_s", {"images_per_s": 5.0}, 5.0, ""),
        ("images_per_s", {"images_per_s": math.nan}, None, "images_per_s is nan"),
        ("images_per_s", {"images_per_s": math.inf}, None, "images_per_s is inf"),
        ("images_per_s", {"images_per_s": -1.0}, None, "images_per_s is -1, which none can be"),
        ("images_per_s", {"images_per_s": 0.0}, None, "images_per_s is 0, which none can be"),
        ("images_per_s", {"images_per_s": None}, None, "no value"),
        ("images_per_s", {"null_reasons": {"images_per_s": "too short"}}, None, "too short"),
        ("tta_s", {"tta_s": None, "target_top1": 0.9, "final_top1": 0.5}, math.inf, ""),
        ("tta_s", {"tta_s": None, "target_top1": None}, None, "no value"),
        ("tta_s", {"tta_s": None, "target_top1": None, "final_top1": 0.5}, None, "no value"),
        ("tta_s", {"tta_s": 4.0, "restart_count": 1}, None, "the run was resumed, and its clock has the pause"),
        ("epochs_to_target", {"epochs_to_target": None, "target_top1": 0.9, "final_top1": 0.5}, math.inf, ""),
        ("tta_s", {"tta_s": None, "target_top1": 0.9, "final_top1": None}, None, "no value"),
        ("epochs_to_target", {"epochs_to_target": 4, "restart_count": 1}, 4.0, ""),
        ("final_top1", {"final_top1": 0.0}, 0.0, ""),
        ("final_top1", {"final_top1": -0.1}, None, "final_top1 is -0.1, which none can be"),
        ("images_per_s", {"target_top1": 0.9, "final_top1": 0.5}, None, "no value"),
        ("images_per_s", {"images_per_s": 5.0, "restart_count": 1}, 5.0, ""),
        ("images_per_s", {"images_per_s": 0.5}, 0.5, ""),
        ("images_per_s", {"images_per_s": 1e308}, None, "images_per_s is 1e+308, which none can be"),
        ("final_top1", {"final_top1": 1.0}, 1.0, ""),
        ("final_top1", {"final_top1": 1.5}, None, "final_top1 is 1.5, which none can be"),
    ],
)
def test_values(metric: str, row: dict[str, Any], number: float | None, reason: str) -> None:
    found = value_of(BY_NAME[metric], row)
    assert (found.number, found.reason) == (number, reason)


def test_every_metric_is_a_column() -> None:
    from results.store.schema import check_column

    for metric in METRICS:
        assert isinstance(metric, Metric) and check_column("runs", metric.name)
    assert check_column("kernels", KERNEL.name)
