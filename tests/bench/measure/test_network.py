"""What the ranks of several nodes talk over, as the `system` table has it."""

from pathlib import Path

import pytest
import torch

from bench.measure import machine, network


@pytest.fixture
def adapters(tmp_path: Path) -> Path:
    for name, rate in (("mlx5_1", "400 Gb/sec (4X NDR)"), ("mlx5_0", "200 Gb/sec (4X HDR)")):
        (tmp_path / name / "ports" / "1").mkdir(parents=True)
        (tmp_path / name / "ports" / "1" / "rate").write_text(f"{rate}\n")
    (tmp_path / "rdmap0s1").mkdir()
    return tmp_path


def test_nccl_has_what_was_chosen_for_it_and_the_adapters_that_are_there(adapters: Path) -> None:
    chosen = {"NCCL_SOCKET_IFNAME": "ib0", "NCCL_IB_HCA": "mlx5", "GLOO_SOCKET_IFNAME": "eth0", "NCCL_NET": ""}
    there = "mlx5_0 200 Gb/sec (4X HDR); mlx5_1 400 Gb/sec (4X NDR); rdmap0s1"
    said = network.describe(chosen, nccl=True, adapters=adapters)
    assert said == f"NCCL_SOCKET_IFNAME=ib0; NCCL_IB_HCA=mlx5; {there}"
    assert network.describe({}, nccl=True, adapters=adapters) == f"chosen by NCCL; {there}"
    assert network.describe({}, nccl=True, adapters=adapters / "none") == "chosen by NCCL"


def test_gloo_has_its_interface(adapters: Path) -> None:
    assert network.describe({"GLOO_SOCKET_IFNAME": "eth0"}, nccl=False, adapters=adapters) == "GLOO_SOCKET_IFNAME=eth0"


def test_a_run_on_one_machine_talks_over_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "eth0")
    assert machine.describe(torch.device("cpu")).get("nic") is None
    row = machine.describe(torch.device("cpu"), nodes=2)
    assert row["nic"] == "GLOO_SOCKET_IFNAME=eth0" and row.get("topology") is row.get("nccl") is None
