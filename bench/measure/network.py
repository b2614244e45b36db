"""What the ranks of several nodes talk over, as text for the `system` table."""

from collections.abc import Mapping
from pathlib import Path

INFINIBAND = Path("/sys/class/infiniband")
# What chooses NCCL's network, where somebody said so.
OF_NCCL = ("NCCL_SOCKET_IFNAME", "NCCL_IB_HCA", "NCCL_IB_DISABLE", "NCCL_NET", "NCCL_NET_PLUGIN", "FI_PROVIDER")


def describe(environ: Mapping[str, str], *, nccl: bool, adapters: Path = INFINIBAND) -> str:
    """Name the network of a run, such as "NCCL_SOCKET_IFNAME=ib0; mlx5_0 400 Gb/sec (4X NDR)".

    Args:
        nccl: whether NCCL talks; what nobody chose for it is its own choice. Else gloo, whose interface is known.
        adapters: where the kernel lists those for InfiniBand, RoCE and EFA, with the rate of each.
    """
    if not nccl:
        return f"GLOO_SOCKET_IFNAME={environ.get('GLOO_SOCKET_IFNAME', '')}"
    said = [f"{name}={environ[name]}" for name in OF_NCCL if environ.get(name)] or ["chosen by NCCL"]
    return "; ".join(said + [f"{path.name}{_rate(path)}" for path in sorted(adapters.glob("*"))])


def _rate(adapter: Path) -> str:
    for rate in sorted(adapter.glob("ports/*/rate")):
        try:
            return f" {rate.read_text().strip()}"
        except OSError:  # a port that is down may have none
            continue
    return ""
