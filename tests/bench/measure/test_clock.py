"""The clock: steps add up to the stretch they are in, waiting is part of its step."""

import time

import pytest
import torch

from bench.measure.clock import StepClock, Stopwatch

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


class Event:
    """A CUDA event on a device whose clock is told what time it is, in milliseconds."""

    now_ms = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at_ms = Event.now_ms

    def elapsed_time(self, end: "Event") -> float:
        return end.at_ms - self.at_ms


def test_on_a_gpu_steps_end_where_the_device_says_and_waiting_is_the_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is done with a step long before the device is."""
    host_s = [0.0]
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr("bench.measure.clock.now_s", lambda: host_s[0])
    clock = StepClock(torch.device("cuda", 0))
    Event.now_ms = 100.0
    clock.start()
    for index, (wait_s, device_ms) in enumerate(((0.5, 8.0), (0.25, 16.0)), start=1):
        with clock.data():
            host_s[0] += wait_s
        Event.now_ms += device_ms
        clock.step(index, torch.tensor(0.5))
    assert [row[2:5] for row in clock.drain()] == [(8.0, 500.0, -492.0), (16.0, 250.0, -234.0)]
    assert clock.waited_s == 0.75
