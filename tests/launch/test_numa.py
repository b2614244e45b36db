"""Ranks on the NUMA node of their GPU: which cores, and what is said where it cannot be."""

import os
from pathlib import Path
from typing import Any

import pytest

from bench.config.slurm import NUMA
from launch import numa

pynvml = pytest.importorskip("pynvml")
# A machine of two nodes with two GPUs each; GPUs are numbered by their addresses.
BUSES = ("00000000:1B:00.0", "00000000:43:00.0", "00000000:9B:00.0", "00000001:C3:00.0")
NODES = {"0000:1b:00.0": 0, "0000:43:00.0": 0, "0000:9b:00.0": 1, "0001:c3:00.0": 1}
CORES = {0: "0-3,8-11", 1: "4-7,12-15"}
ASKED = {NUMA: "1"}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Its /sys, the cores that the task has, and those that it was bound to."""
    for address, node in NODES.items():
        (tmp_path / "bus/pci/devices" / address).mkdir(parents=True)
        (tmp_path / "bus/pci/devices" / address / "numa_node").write_text(f"{node}\n")
    for node, cores in CORES.items():
        (tmp_path / f"devices/system/node/node{node}").mkdir(parents=True)
        (tmp_path / f"devices/system/node/node{node}/cpulist").write_text(f"{cores}\n")
    found: dict[str, Any] = {"sys": tmp_path, "allowed": set(range(16)), "bound": None}
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: found["allowed"])
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: found.update(bound=cores))
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(BUSES))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetUUID", lambda index: f"GPU-{index}")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetPciInfo", lambda index: type("Pci", (), {"busId": BUSES[index]}))
    return found


@pytest.mark.parametrize(
    ("visible", "local_rank", "gpu"),
    [(None, 0, 0), (None, 3, 3), ("2,3", 0, 2), ("2,3", 1, 3), ("1", 1, 1), ("GPU-2", 0, 2), ("3,0", 1, 0)],
)
def test_a_rank_is_bound_to_the_cores_of_its_gpu(
    machine: dict[str, Any], visible: str | None, local_rank: int, gpu: int
) -> None:
    environ = ASKED if visible is None else {**ASKED, "CUDA_VISIBLE_DEVICES": visible}
    said = numa.bind(environ, local_rank, machine["sys"])
    node = gpu // 2
    assert machine["bound"] == {4 * node + index for index in (0, 1, 2, 3, 8, 9, 10, 11)}
    address = list(NODES)[gpu]
    assert said == f"local rank {local_rank} is bound to the 8 cores of NUMA node {node}, that of GPU {address}"


def test_only_cores_that_slurm_gave_are_taken(machine: dict[str, Any]) -> None:
    machine["allowed"] = {2, 3, 4, 5}
    assert "to the 2 cores of NUMA node 1" in numa.bind(ASKED, 2, machine["sys"]) and machine["bound"] == {4, 5}


def test_nobody_asked_and_nothing_is_done(machine: dict[str, Any]) -> None:
    assert numa.bind({}, 0, machine["sys"]) == "" and machine["bound"] is None


def no_driver() -> None:
    raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("other cores", "none of the cores of node 0 is among the 2 that Slurm gave to the task"),
        ("a virtual machine", "this machine does not say which node GPU 0000:1b:00.0 is on"),
        ("no description", "No such file or directory"),
        ("no driver", "the driver names no GPU (NVML Shared Library Not Found)"),
        ("a part of a GPU", "MIG-12 is a part of a GPU"),
        ("fewer GPUs", "it sees 0 GPUs"),
        ("a kernel that refuses", "Operation not permitted"),
    ],
)
def test_where_it_cannot_be_the_log_says_why(
    machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch, what: str, said: str
) -> None:
    environ = dict(ASKED)
    numa_node = machine["sys"] / "bus/pci/devices/0000:1b:00.0/numa_node"
    if what == "other cores":
        machine["allowed"] = {4, 5}
    elif what == "a virtual machine":
        numa_node.write_text("-1\n")
    elif what == "no description":
        numa_node.unlink()
    elif what == "no driver":
        monkeypatch.setattr(pynvml, "nvmlInit", no_driver)
    elif what == "a part of a GPU":
        environ["CUDA_VISIBLE_DEVICES"] = "MIG-12"
    elif what == "fewer GPUs":
        environ["CUDA_VISIBLE_DEVICES"] = ""
    else:

        def refuse(pid: int, cores: set[int]) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(os, "sched_setaffinity", refuse)
    found = numa.bind(environ, 0, machine["sys"])
    assert found.startswith("local rank 0 is bound to no NUMA node: ") and said in found
    assert machine["bound"] is None
