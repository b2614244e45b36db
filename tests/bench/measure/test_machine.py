"""What stands beside every figure: the machine's description, its counters, and the state of the checkout."""

import importlib.metadata
import os
import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.measure import machine
from results import identity
from results.store.schema import clean_row

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def test_a_machine_without_a_gpu_is_described_by_its_processor_and_versions() -> None:
    row = machine.describe(CPU)
    assert row["system_id"] == identity.system_id(row)
    assert row["torch"] == torch.__version__ and row["python"] == platform.python_version()
    for name in ("triton", "deepspeed"):
        assert row[name] == importlib.metadata.version(name)
    assert row["dali"] == importlib.metadata.version("nvidia-dali-cuda130")
    assert row["cpu_cores"] == len(os.sched_getaffinity(0)) and row["cpu_model"] and row["gpu_count"] == 0
    assert row["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert row["hostname"] == platform.node() and row["os"].startswith(platform.system())
    assert clean_row("system", row)["torch"] == row["torch"]
    majors = [".".join(row[name].split(".")[:2]) for name in ("torch", "deepspeed", "dali", "python")]
    said = "torch{},deepspeed{},dali{};python{}".format(*majors)
    assert identity.system_class(row) == f"{row['cpu_cores']}x{row['cpu_model']};{said}"


class Nvml:
    """NVML with a card whose clocks, cap and counter are known, found by its UUID alone."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        assert uuid == "GPU-b"
        return "handle"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetMaxClockInfo(self, handle: str, clock: int) -> int:
        assert handle == "handle"
        return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[clock]

    def nvmlDeviceGetPowerManagementLimit(self, handle: str) -> int:
        return 700_000  # mW

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return 1_234_500  # mJ


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> None:
    cards = [SimpleNamespace(uuid="a", total_memory=1), SimpleNamespace(uuid="b", total_memory=85_000_000_000)]
    monkeypatch.setattr(machine, "_nvml", lambda: Nvml())
    for name, value in {
        "device_count": lambda: 2,
        "get_device_properties": lambda device: cards[device if isinstance(device, int) else device.index],
        "get_device_name": lambda device: "NVIDIA H100 80GB HBM3",
        "max_memory_allocated": lambda device: 77,
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 27, 5))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91_100)


@pytest.mark.usefixtures("card")
def test_a_machine_with_gpus_is_described_by_them() -> None:
    row = machine.describe(GPU)
    expected = {
        "gpu_model": "NVIDIA H100 80GB HBM3", "gpu_count": 2, "gpu_uuids": ["a", "b"],
        "gpu_memory_bytes": 85_000_000_000, "cuda": "13.0", "cudnn": "91100", "nccl": "2.27.5", "driver": "570.1",
        "sm_clock_max_mhz": 1980, "memory_clock_max_mhz": 2619, "power_cap_w": 700.0,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert identity.system_class(row).startswith("2xNVIDIA H100 80GB HBM3;torch")
    assert clean_row("system", row)["power_cap_w"] == 700.0


@pytest.mark.usefixtures("card")
def test_counters_of_a_gpu_are_in_joules_and_bytes() -> None:
    assert machine.energy_j(GPU) == 1234.5
    assert machine.peak_memory_bytes(GPU) == 77
    assert machine.gpu_name(GPU) == "NVIDIA H100 80GB HBM3"


def test_a_cpu_has_no_energy_counter_and_counts_its_resident_memory() -> None:
    assert machine.energy_j(CPU) is None and machine.gpu_name(CPU) is None
    kib = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line).split()[1])
    assert machine.peak_memory_bytes(CPU) == pytest.approx(1024 * kib, rel=0.05)


def test_a_gpu_without_nvml_or_counter_says_nothing(card: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Nvml, "nvmlDeviceGetTotalEnergyConsumption", lambda self, handle: 1 // 0)
    assert machine.energy_j(GPU) is None
    monkeypatch.setattr(machine, "_nvml", lambda: None)
    assert machine.energy_j(GPU) is None and "driver" not in machine.describe(GPU)
