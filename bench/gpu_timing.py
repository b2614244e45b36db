"""Times of what runs on a CUDA device, without the host's launch gaps, and the device's own peaks."""

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

import torch

from results.statistics import median

COPY_BYTES = 1 << 30
MATRIX_SIDE = 8192
FLUSH_BYTES = 256 << 20  # at least; twice the L2 where that is more
# The device waits this many cycles (some 0.5 ms) before each sample, so that the host has queued all of it.
LEAD_CYCLES = 1_000_000
PEAK_SAMPLES = 20


class NoDevice(RuntimeError):
    """There is no CUDA device, so nothing can be timed."""


def require_device() -> torch.device:
    """The first CUDA device.

    Raises:
        NoDevice: there is none.
    """
    if not torch.cuda.is_available():
        raise NoDevice("no CUDA device here: nothing is timed")
    return torch.device("cuda", 0)


def order(names: list[str], turn: int) -> list[str]:
    """Every other round runs backwards, so that no one always follows the same neighbour."""
    return names if turn % 2 == 0 else names[::-1]


def time_interleaved(
    runs: Mapping[str, Callable[[], Any]], *, rounds: int, repeats: int, cold: bool
) -> dict[str, list[float]]:
    """Microseconds of single runs of several things, taken in turn.

    An event pair surrounds each single run. Before it comes either one run that is not timed (warm L2) or a write over
    more than the L2 holds (cold).

    Args:
        runs: what to run, by name; compiled and warmed up.
        rounds: turns of everything.
        repeats: samples of each in a turn.
        cold: whether the L2 is flushed before every sample.

    Returns:
        rounds * repeats samples of each, in order.

    Raises:
        NoDevice: there is no CUDA device.
    """
    device = require_device()
    flush = None
    if cold:
        l2 = int(getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0))
        flush = torch.empty(max(FLUSH_BYTES, 2 * l2), dtype=torch.uint8, device=device)
    samples: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds):
        for name in order(list(runs), turn):
            pairs = [_sample(runs[name], flush) for _ in range(repeats)]
            torch.cuda.synchronize(device)
            samples[name] += [1e3 * start.elapsed_time(end) for start, end in pairs]
    return samples


def _sample(run: Callable[[], Any], flush: torch.Tensor | None) -> tuple[torch.cuda.Event, torch.cuda.Event]:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(LEAD_CYCLES)
    if flush is None:
        run()
    else:
        flush.fill_(1)
    start.record()
    run()
    end.record()
    return start, end


def copy_peak() -> float:
    """Bytes/s, read and written together, of a large copy within the device's memory: the median of 20.

    Raises:
        NoDevice: there is no CUDA device.
    """
    device = require_device()
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _median_s(lambda: target.copy_(source))


def matrix_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a product of two 8192 x 8192 matrices of random values: the median of 20.

    Raises:
        NoDevice: there is no CUDA device.
    """
    device = require_device()
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * MATRIX_SIDE**3 / _median_s(lambda: torch.matmul(a, b, out=out))


def _median_s(run: Callable[[], Any]) -> float:
    for _ in range(3):
        run()
    samples = time_interleaved({"": run}, rounds=1, repeats=PEAK_SAMPLES, cold=False)[""]
    return median(samples) / 1e6


def clocks() -> str:
    """Clocks, temperature and power as nvidia-smi gives them now."""
    command = [
        "nvidia-smi", "--query-gpu=clocks.sm,clocks.mem,temperature.gpu,power.draw", "--format=csv,noheader", "-i", "0",
    ]  # fmt: skip
    try:
        line = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
        return "clocks (SM, memory), temperature, power: " + line
    except (OSError, subprocess.SubprocessError):
        return "clocks not known (no nvidia-smi)"
