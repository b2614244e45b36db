"""The CUDA device that benchmarks run on, and its own peaks and clocks."""

import subprocess
from collections.abc import Callable

import torch

from kernels.choose.timer import CudaDevice, DeviceTimer
from results.statistics import median

COPY_BYTES = 1 << 30
MATRIX_SIDE = 8192
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


def copy_peak() -> float:
    """Bytes/s, read and written together, of a large copy within the device's memory: the median of 20.

    Raises:
        NoDevice: there is no CUDA device.
    """
    device = require_device()
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _median_s(lambda: target.copy_(source), device)


def matrix_peak(dtype: torch.dtype) -> float:
    """FLOP/s of a product of two 8192 x 8192 matrices of random values: the median of 20.

    Raises:
        NoDevice: there is no CUDA device.
    """
    device = require_device()
    a, b = (torch.randn(MATRIX_SIDE, MATRIX_SIDE, dtype=dtype, device=device) for _ in range(2))
    out = torch.empty_like(a)
    return 2 * MATRIX_SIDE**3 / _median_s(lambda: torch.matmul(a, b, out=out), device)


def _median_s(run: Callable[[], object], device: torch.device) -> float:
    # Warm: operands of this size leave nothing of one another in the L2.
    return median(DeviceTimer(CudaDevice(device)).samples(run, repeats=PEAK_SAMPLES, cold=False)) / 1e6


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
