"""What this machine is: the description that stands beside every figure."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import resource
from pathlib import Path
from typing import Any

import torch

from results.identity import system_id


def version(package: str) -> str | None:
    """Installed version of a distribution, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def dali_version() -> str | None:
    """Version of whichever nvidia-dali-cuda package is installed."""
    return next(filter(None, (version(f"nvidia-dali-cuda{n}") for n in (130, 120, 110))), None)


def cpu_model() -> str:
    """The processor's name as the kernel gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Physical memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory held so far: the allocator's on a GPU, the process's resident set on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@functools.cache
def _nvml() -> Any:
    """NVML, or None where there is no driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
        return pynvml
    except Exception:  # NVML raises classes of its own for a missing driver
        return None


def _handle(device: torch.device) -> Any:
    """NVML's handle of a CUDA device, found by UUID since NVML ignores CUDA_VISIBLE_DEVICES."""
    uuid = str(torch.cuda.get_device_properties(device).uuid)
    nvml = _nvml()
    return nvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}") if nvml else None


def energy_j(device: torch.device) -> float | None:
    """NVML's energy counter of the device in joules, or None where there is none."""
    if device.type != "cuda" or _nvml() is None:
        return None
    try:
        return _nvml().nvmlDeviceGetTotalEnergyConsumption(_handle(device)) / 1e3
    except Exception:  # a GPU without the counter
        return None


def gpu_name(device: torch.device) -> str | None:
    """The GPU's name as the driver gives it; None on a CPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else None


def describe(device: torch.device) -> dict[str, Any]:
    """The row of the `system` table for the machine under this process, `system_id` (a hash of the rest) included."""
    row: dict[str, Any] = {
        "cpu_model": cpu_model(),
        "cpu_cores": len(os.sched_getaffinity(0)),
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": version("triton"),
        "deepspeed": version("deepspeed"),
        "dali": dali_version(),
        "hostname": platform.node(),
        "container_digest": os.environ.get("CONTAINER_DIGEST"),
        "gpu_count": 0,
    }
    if device.type == "cuda":
        count = torch.cuda.device_count()
        row |= {
            "gpu_model": gpu_name(device),
            "gpu_count": count,
            "gpu_uuids": [str(torch.cuda.get_device_properties(index).uuid) for index in range(count)],
            "gpu_memory_bytes": torch.cuda.get_device_properties(device).total_memory,
            "cuda": torch.version.cuda,
            "cudnn": str(torch.backends.cudnn.version()),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
        }
        if nvml := _nvml():
            handle = _handle(device)
            row["driver"] = nvml.nvmlSystemGetDriverVersion()
            for name, read in {
                "sm_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM),
                "memory_clock_max_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_MEM),
                "power_cap_w": lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1e3,
            }.items():
                with contextlib.suppress(Exception):  # not every GPU or permission gives each of them
                    row[name] = read()
    row["system_id"] = system_id(row)
    return row
