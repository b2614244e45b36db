"""How the GPUs of a machine are joined, from a stand-in for NVML."""

from types import SimpleNamespace

import pytest

from bench.measure.gpu_links import topology


class Nvml:
    """GPUs of which each pair has a level, and NVLinks to a switch or to another GPU."""

    NVML_NVLINK_MAX_LINKS, NVML_NVLINK_DEVICE_TYPE_SWITCH = 6, 2
    NVML_TOPOLOGY_INTERNAL, NVML_TOPOLOGY_SINGLE, NVML_TOPOLOGY_MULTIPLE = 0, 10, 20
    NVML_TOPOLOGY_HOSTBRIDGE, NVML_TOPOLOGY_NODE, NVML_TOPOLOGY_SYSTEM = 30, 40, 50

    def __init__(self, count: int, levels: dict[tuple[int, int], int], links: dict[int, list[int | str]]) -> None:
        self.count, self.levels, self.links = count, levels, links

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 (NVML's names)
        return self.count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=f"0000:{handle}")

    def _link(self, handle: int, link: int) -> int | str:
        return self.links.get(handle, [])[link]  # an IndexError, where NVML has one of its own

    def nvmlDeviceGetNvLinkState(self, handle: int, link: int) -> bool:  # noqa: N802
        return self._link(handle, link) != "off"

    def nvmlDeviceGetNvLinkRemotePciInfo(self, handle: int, link: int) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=f"0000:{self._link(handle, link)}")

    def nvmlDeviceGetNvLinkRemoteDeviceType(self, handle: int, link: int) -> int:  # noqa: N802
        return 2 if self._link(handle, link) == "switch" else 0

    def nvmlDeviceGetTopologyCommonAncestor(self, one: int, other: int) -> int:  # noqa: N802
        return self.levels[one, other]


CASES = {
    "one GPU": (Nvml(1, {}, {}), None),
    "through switches": (Nvml(3, {}, {gpu: ["switch"] * 4 + ["off"] for gpu in range(3)}), "NV4"),
    "some directly": (
        Nvml(3, {(0, 2): 50, (1, 2): 40}, {0: [1, 1], 1: [0, 0]}), "0-1 NV2, 0-2 SYS, 1-2 NODE",
    ),
    "over PCIe": (Nvml(2, {(0, 1): 20}, {}), "PXB"),
    "the driver does not tell": (Nvml(2, {}, {}), None),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_joints_have_the_words_of_nvidia_smi(name: str) -> None:
    nvml, expected = CASES[name]
    assert topology(nvml) == expected
