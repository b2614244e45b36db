"""Times single runs on a CUDA device, launch gaps left out: for the choice of kernels and for every benchmark of them.

A sample is what an event pair around one run says. The host queues all of it behind a lead, work that keeps the device
busy meanwhile: the device then goes from the start event through every kernel of the run to the end event without
waiting for the host once, as it does in a CUDA graph. A run of many launches needs a longer lead than one of a single
launch, and a busy host a longer one than an idle host, so the lead is not a constant that has to be believed: a sample
counts only where the device had not reached the start event when the host had queued the end event. Otherwise it is
thrown away and taken again behind a lead twice as long.

Cold means that a buffer of several times the L2 was READ before the start event. Had it been written, the L2 would be
full of dirty lines, and the run that is timed would pay for writing them back; what a run before left dirty there, the
flush itself drives out, before the start event. Warm means that the same run went before.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

__all__ = ["CudaDevice", "DeviceTimer", "order"]

FLUSH_TIMES = 4  # the L2: what it drops first is not known to be what was read first, and halves of it may hold copies
FLUSH_BYTES = 256 << 20  # at least
LEAD_CYCLES = 1 << 20  # of the first lead; some 0.5 ms, in which a host queues tens of launches
LEAD_CYCLES_MOST = 1 << 30  # some 0.5 s; a run that this is too short for waits for the device
WARM_UPS = 2  # untimed: the first compiles, searches and allocates, the second finds all that done

Run = Callable[[], object]
Item = TypeVar("Item")


class Event(Protocol):
    """A point in the device's work; `torch.cuda.Event` is one."""

    def query(self) -> bool: ...

    def elapsed_time(self, end_event: Any) -> float: ...


class Device(Protocol):
    """What a timer asks of a device; see `CudaDevice`."""

    def selected(self) -> contextlib.AbstractContextManager[object]: ...

    def lead(self, cycles: int) -> None: ...

    def flush(self) -> None: ...

    def event(self) -> Event: ...

    def synchronize(self) -> None: ...


class CudaDevice:
    """The calls of CUDA that a timer makes, on the current stream of a device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._buffer: Tensor | None = None

    def selected(self) -> contextlib.AbstractContextManager[object]:
        """Launches of the `with` block go to this device."""
        return torch.cuda.device(self.device)

    def lead(self, cycles: int) -> None:
        """Keep the device busy for so many of its clock's cycles, without memory."""
        torch.cuda._sleep(cycles)

    def flush(self) -> None:
        """Read so much that nothing else is left in the L2."""
        if self._buffer is None:
            l2_bytes = int(getattr(torch.cuda.get_device_properties(self.device), "L2_cache_size", 0))
            self._buffer = flush_buffer(l2_bytes, self.device)
        read(self._buffer)

    def event(self) -> torch.cuda.Event:
        """An event, recorded now."""
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def synchronize(self) -> None:
        """Wait until the device has done all that was queued."""
        torch.cuda.synchronize(self.device)


def flush_buffer(l2_bytes: int, device: torch.device) -> Tensor:
    """[N] int32 of `FLUSH_TIMES` the L2 and at least `FLUSH_BYTES`.

    Its values all differ, so that there is nothing to compress. None is drawn at random: a training run whose kernels
    are chosen goes on with the random state that it had.
    """
    return torch.arange(max(FLUSH_TIMES * l2_bytes, FLUSH_BYTES) // 4, dtype=torch.int32, device=device)


def read(buffer: Tensor) -> None:
    """Read a buffer at the memory's full rate and write next to nothing: the partial results of a reduction."""
    buffer.amax()


class DeviceTimer:
    """Takes samples of runs; medians and what else is made of them are the caller's.

    Args:
        device: where runs run; tests have one with a clock of their own.
    """

    def __init__(self, device: Device) -> None:
        self._device = device

    def samples(self, run: Run, *, repeats: int, cold: bool) -> list[float]:
        """Microseconds of `repeats` single runs, after `WARM_UPS` that are not timed.

        Args:
            run: what to run; it only queues work.
            repeats: how many samples.
            cold: whether the L2 is flushed before each; otherwise the same run goes before.

        Raises:
            RuntimeError: the run waits for the device.
        """
        with self._device.selected():
            for _ in range(WARM_UPS):
                run()
            cycles = LEAD_CYCLES
            found: list[float] = []
            while len(found) < repeats:
                us = self._sample(run, cycles, cold)
                if us is not None:
                    found.append(us)
                elif cycles >= LEAD_CYCLES_MOST:
                    raise RuntimeError(
                        f"the device was idle before the run was queued, after a lead of {cycles:,} cycles too: "
                        "it waits for the device, and what it takes cannot be told; expected a run that only queues"
                    )
                else:
                    cycles *= 2  # for this run's next samples too
        return found

    def interleaved(self, runs: Mapping[str, Run], *, rounds: int, repeats: int, cold: bool) -> dict[str, list[float]]:
        """`samples` of several runs that take turns, so that a drift of clocks meets all of them.

        Returns:
            rounds * repeats samples of each, in the order in which they were taken.
        """
        found: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(rounds):
            for name in order(list(runs), turn):
                found[name] += self.samples(runs[name], repeats=repeats, cold=cold)
        return found

    def _sample(self, run: Run, cycles: int, cold: bool) -> float | None:
        """Microseconds of one run; None where the host was late."""
        device = self._device
        # Nothing of an earlier sample is on the device, so each is taken alike.
        device.synchronize()
        device.lead(cycles)
        if cold:
            device.flush()
        else:
            run()
        start = device.event()
        run()
        end = device.event()
        late = start.query()
        device.synchronize()
        return None if late else 1e3 * start.elapsed_time(end)


def order(items: Sequence[Item], turn: int) -> list[Item]:
    """The order of a round: every other one runs backwards, so that none always follows the same neighbour."""
    return list(items) if turn % 2 == 0 else list(items)[::-1]
