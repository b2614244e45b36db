"""The clock: steps add up to the stretch they are in, waiting is part of its step."""

import time

import pytest
import torch

from bench.timing import StepClock, Stopwatch

CPU = torch.device("cpu")


def test_steps_add_up_and_waiting_belongs_to_its_step() -> None:
    clock = StepClock(CPU)
    clock.start()
    begin = time.perf_counter()
    for index in (1, 2, 3):
        with clock.data():
            time.sleep(0.02 * index)
        time.sleep(0.01)
        clock.step(index, torch.tensor(index / 2))
    whole_ms = 1e3 * (time.perf_counter() - begin)
    rows = clock.drain()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert [row[5] for row in rows] == [0.5, 1.0, 1.5]
    assert sum(row[2] for row in rows) == pytest.approx(whole_ms, rel=0.05)
    for index, (_, _, step_ms, data_ms, compute_ms, _) in enumerate(rows, start=1):
        assert data_ms >= 20 * index
        assert compute_ms >= 10
        assert step_ms == pytest.approx(data_ms + compute_ms)
    assert clock.waited_s == pytest.approx(sum(row[3] for row in rows) / 1e3)
    assert clock.drain() == []


def test_a_new_stretch_leaves_out_what_lay_between() -> None:
    clock = StepClock(CPU)
    clock.start()
    clock.step(1, torch.tensor(1.0))
    clock.drain()
    time.sleep(0.2)
    clock.start()
    clock.step(2, torch.tensor(1.0))
    (row,) = clock.drain()
    assert row[2] < 100


def test_stopwatch_counts_through_errors() -> None:
    watch = Stopwatch()
    with pytest.raises(KeyError), watch.running():
        time.sleep(0.02)
        raise KeyError("x")
    assert 0.02 <= watch.total_s < 0.2
