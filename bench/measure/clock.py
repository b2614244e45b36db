"""The suite's one clock: where a step's time goes, and how much of a run the measuring itself takes."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch

COLUMNS = ("step", "t_ns", "step_ms", "data_ms", "compute_ms", "loss")


def now_s() -> float:
    """Seconds of the monotonic clock; only differences mean anything."""
    return time.perf_counter()


def wall_s() -> float:
    """Seconds since 1970 by the system's clock, which other processes and machines share."""
    return time.time()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what was asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@dataclass
class Stopwatch:
    """Seconds spent in some activity."""

    total_s: float = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        start = now_s()
        try:
            yield
        finally:
            self.total_s += now_s() - start


class StepClock:
    """Times of the steps of one stretch of training, kept raw.

    A step runs from the end of the one before it to its own end; the time in which the loop waits for batches is its
    data time. On a GPU the ends are CUDA events, so that nothing waits for the device until `drain`; there the data
    time is the host's, which the device may hide.

    Args:
        device: where the steps run.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.cuda = device.type == "cuda"
        self.data_s = 0.0
        self.waited_s = 0.0
        self._pending: list[tuple[int, int, float, object, torch.Tensor]] = []
        self._mark: object = None

    def start(self) -> None:
        """Begin a stretch: what comes before it is in no step."""
        synchronize(self.device)
        self.data_s = self.waited_s = 0.0
        self._mark = self._event()

    def _event(self) -> object:
        if not self.cuda:
            return now_s()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextlib.contextmanager
    def data(self) -> Iterator[None]:
        """Time in which the loop waits for a batch."""
        start = now_s()
        try:
            yield
        finally:
            spent = now_s() - start
            self.data_s += spent
            self.waited_s += spent

    def step(self, index: int, loss: torch.Tensor) -> None:
        """End optimizer step `index`; `loss` is its detached mean loss, read at `drain`."""
        self._pending.append((index, time.time_ns(), self.data_s, self._event(), loss))
        self.data_s = 0.0

    def drain(self) -> list[tuple[float, ...]]:
        """The steps since the last call, as rows of `COLUMNS`; waits for the device."""
        if not self._pending:
            return []
        synchronize(self.device)
        losses = torch.stack([row[4] for row in self._pending]).tolist()
        rows: list[tuple[float, ...]] = []
        for (index, t_ns, data_s, end, _), loss in zip(self._pending, losses, strict=True):
            step_ms = self._between_ms(self._mark, end)
            rows.append((index, t_ns, step_ms, 1e3 * data_s, step_ms - 1e3 * data_s, loss))
            self._mark = end
        self._pending.clear()
        return rows

    def _between_ms(self, start: object, end: object) -> float:
        if isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event):
            return start.elapsed_time(end)
        assert isinstance(start, float) and isinstance(end, float)
        return 1e3 * (end - start)
