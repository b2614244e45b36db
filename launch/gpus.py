"""The GPUs of this machine that a process may use, without starting CUDA."""

import os
import re
from collections.abc import Sequence

__all__ = ["gpus_here", "visible_gpus"]


def gpus_here() -> int:
    """GPUs of this machine that a process may use, counted by the driver without starting CUDA."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return int(count)
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        return len(visible_gpus(visible, [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]))
    except Exception:  # no driver, in one of NVML's own classes, or no NVML
        return 0


def visible_gpus(visible: str, uuids: Sequence[str]) -> list[str]:
    """What CUDA makes of CUDA_VISIBLE_DEVICES.

    Args:
        visible: indices, or the beginnings of UUIDs, with commas between them.
        uuids: of the GPUs that are there, such as "GPU-1b0c...", by index.

    Returns:
        The UUIDs of those before the first entry that names none: that entry hides the rest. None where one is named
        twice. A MIG instance stands for itself, and a process has only one.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
    """
    found: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        if entry.startswith("MIG-"):
            return found or [entry]
        number = re.match(r"[+-]?\d+", entry)
        alike = [uuid for uuid in uuids if entry.startswith("GPU-") and uuid.startswith(entry)]
        if number:
            index = int(number[0])
            alike = [uuids[index]] if 0 <= index < len(uuids) else []
        if len(alike) != 1:
            break
        if alike[0] in found:
            return []
        found += alike
    return found
