"""How the GPUs of a machine are joined, in the words of `nvidia-smi topo -m`."""

import contextlib
import itertools
from typing import Any

# NVML's levels of the nearest common ancestor of two GPUs, and what nvidia-smi calls them.
LEVELS = {
    "NVML_TOPOLOGY_INTERNAL": "PIX", "NVML_TOPOLOGY_SINGLE": "PIX", "NVML_TOPOLOGY_MULTIPLE": "PXB",
    "NVML_TOPOLOGY_HOSTBRIDGE": "PHB", "NVML_TOPOLOGY_NODE": "NODE", "NVML_TOPOLOGY_SYSTEM": "SYS",
}  # fmt: skip


def topology(nvml: Any) -> str | None:
    """Return the joint of each pair of GPUs that this process' machine shows, such as "NV18" or "0-1 PIX, 0-2 SYS".

    One word where all are alike, None of a single GPU or where the driver does not tell.

    Args:
        nvml: the module pynvml, started.
    """
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        joints = {
            f"{one}-{other}": _joint(nvml, handles[one], handles[other])
            for one, other in itertools.combinations(range(len(handles)), 2)
        }
    except Exception:  # in a class of NVML's own: not every driver or permission tells
        return None
    if len(set(joints.values())) == 1:
        return next(iter(joints.values()))
    return ", ".join(f"{pair} {word}" for pair, word in joints.items()) or None


def _joint(nvml: Any, one: Any, other: Any) -> str:
    """NV and the number of links where NVLink leads from one to the other, by itself or through switches."""
    address = nvml.nvmlDeviceGetPciInfo(other).busId
    links = 0
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        with contextlib.suppress(Exception):  # a link that is not there
            if nvml.nvmlDeviceGetNvLinkState(one, link) and (
                nvml.nvmlDeviceGetNvLinkRemotePciInfo(one, link).busId == address
                or nvml.nvmlDeviceGetNvLinkRemoteDeviceType(one, link) == nvml.NVML_NVLINK_DEVICE_TYPE_SWITCH
            ):
                links += 1
    if links:
        return f"NV{links}"
    level = nvml.nvmlDeviceGetTopologyCommonAncestor(one, other)
    return next(word for name, word in LEVELS.items() if getattr(nvml, name) == level)
