"""A rank on the NUMA node of its GPU: `numa: true` of a site profile, in the job.

Memory is taken on the node of the core that first writes it, so that binding a process to cores binds its memory too.
"""

import os
from collections.abc import Mapping
from pathlib import Path

from bench.config.slurm import NUMA
from launch.gpus import visible_gpus

__all__ = ["bind", "cores_of", "pci_address"]


class Unknown(RuntimeError):
    """It cannot be said which cores are near a rank's GPU; the message says why."""


def bind(environ: Mapping[str, str], local_rank: int, system: Path = Path("/sys")) -> str:
    """Bind this process, and what it starts, to the cores of its GPU's NUMA node, as far as it may use them.

    Args:
        environ: its variables.
        local_rank: the number of the rank among those of its host.
        system: where the kernel describes the machine.

    Returns:
        One line for the rank's log: what was done, or why nothing was. Empty where nobody asked.
    """
    if environ.get(NUMA) != "1":
        return ""
    try:
        gpu = _gpu(environ.get("CUDA_VISIBLE_DEVICES"), local_rank)
        node, cores = cores_of(gpu, system)
        allowed = os.sched_getaffinity(0)
        if not cores & allowed:
            raise Unknown(f"none of the cores of node {node} is among the {len(allowed)} that Slurm gave to the task")
        os.sched_setaffinity(0, cores & allowed)
    except (Unknown, OSError, ValueError) as error:
        return f"local rank {local_rank} is bound to no NUMA node: {error}"
    return (
        f"local rank {local_rank} is bound to the {len(cores & allowed)} cores of NUMA node {node}, that of GPU {gpu}"
    )


def _gpu(visible: str | None, local_rank: int) -> str:
    """The PCI address of a rank's GPU: the one of its number among those that it sees, or the only one."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        by_uuid = {pynvml.nvmlDeviceGetUUID(handle): handle for handle in handles}
        seen = list(by_uuid) if visible is None else visible_gpus(visible, list(by_uuid))
        mine = seen[0] if len(seen) == 1 else seen[local_rank] if local_rank < len(seen) else None
        if mine is None:
            raise Unknown(f"it sees {len(seen)} GPUs")
        return pci_address(pynvml.nvmlDeviceGetPciInfo(by_uuid[mine]).busId)
    except Unknown:
        raise
    except KeyError as error:  # a MIG instance
        raise Unknown(f"{error.args[0]} is a part of a GPU") from None
    except Exception as error:  # no driver, in one of NVML's own classes, or no NVML
        raise Unknown(f"the driver names no GPU ({error})") from None


def pci_address(bus_id: str | bytes) -> str:
    """Return the kernel's name of a device, such as 0000:1b:00.0, from NVML's, 00000000:1B:00.0."""
    text = bus_id.decode() if isinstance(bus_id, bytes) else bus_id
    domain, _, rest = text.lower().partition(":")
    return f"{int(domain, 16):04x}:{rest}"


def cores_of(gpu: str, system: Path) -> tuple[int, set[int]]:
    """Return the NUMA node of a PCI device, and that node's cores.

    Raises:
        Unknown: the kernel knows of none, as in many virtual machines.
        OSError: it does not describe the device.
    """
    node = int((system / "bus/pci/devices" / gpu / "numa_node").read_text())
    if node < 0:
        raise Unknown(f"this machine does not say which node GPU {gpu} is on")
    cores: set[int] = set()
    for part in (system / f"devices/system/node/node{node}/cpulist").read_text().strip().split(","):
        first, _, last = part.partition("-")
        cores |= set(range(int(first), int(last or first) + 1)) if first else set()
    return node, cores
