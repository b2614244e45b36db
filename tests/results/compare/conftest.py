"""Stores with rows of chosen values, written as no run would write them where that is wanted."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.compare import cells, command, render, sides
from results.store.files import table_path, write_once
from results.store.schema import to_table

START = datetime(2026, 11, 20, 2, 0, tzinfo=UTC)
CONFIG = {"depth": 20, "dataset": "digits", "lr": 0.1, "recipe": {"anneal": "linear"}, "kernels": "torch", "seed": 0}
SYSTEM = {
    "cpu_model": "EPYC", "gpu_model": "H100", "gpu_count": 8, "memory_bytes": 2**40, "driver": "570.1",
    "torch": "2.13.0", "python": "3.11.7", "power_cap_w": 700.0, "versions": {"numpy": "2.0", "scipy": "1.14"},
}  # fmt: skip
FIGURES = {
    "images_per_s": 1000.0, "step_ms_p50": 64.0, "step_ms_p95": 80.0, "data_wait_frac": 0.02, "tta_s": 20.0,
    "epochs_to_target": 10, "final_top1": 0.98, "best_top1": 0.985, "peak_mem_bytes": 2**30,
}  # fmt: skip
REASONS = {"mfu": "the peak of this CPU is not known", "energy_j": "no energy counter"}
Add = Callable[..., str]


@pytest.fixture
def add() -> Add:
    """Write a run: `config` and `system` are laid over what is usual, any other word is a column of `runs`."""
    count = 0

    def write(
        root: Path, run_id: str, config: dict[str, Any] | None = None, system: dict[str, Any] | None = None, **row: Any
    ) -> str:
        nonlocal count
        count += 1
        start = START + timedelta(hours=count)
        content = CONFIG | (config or {})
        whole: dict[str, Any] = {
            "run_id": run_id, "schema_version": 1, "restart_count": 0, "status": "completed", "benchmark": "training",
            "config_json": json.dumps(content), "family": "cifar", "depth": content["depth"], "shortcut": "A",
            "sample": "digits", "dataset": "digits", "dataset_hash": "d1", "loader": "dali", "kernels": "torch",
            "engine": "deepspeed", "precision": "bf16", "world_size": 8, "git_commit": "a" * 40, "dirty": False,
            "hardware": "8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11", "target_top1": 0.97, "init_start": start,
            "run_start": start, "run_stop": start + timedelta(minutes=1), "null_reasons": REASONS, **FIGURES, **row,
        }  # fmt: skip
        write_once(table_path(root, "runs", "2026-11", run_id, whole["restart_count"]), [to_table("runs", [whole])])
        attempt = {"run_id": run_id, "restart": whole["restart_count"]}
        machine = {**SYSTEM, **attempt, "system_id": "s", "hostname": f"node{count}", **(system or {})}
        path = table_path(root, "system", "2026-11", run_id, whole["restart_count"])
        write_once(path, [to_table("system", [machine])])
        return run_id

    return write


@pytest.fixture
def kernels() -> Callable[..., None]:
    """Write what kernels took, from a row each; `p50` is in microseconds."""

    def write(root: Path, run_id: str, *rows: dict[str, Any]) -> None:
        usual = {"backend": "triton", "shape": "64x56", "dtype": "bf16", "layout": "nhwc", "l2": "cold", "status": "ok"}
        whole = [{"run_id": run_id, **usual, **row} for row in rows]
        write_once(table_path(root, "kernels", "2026-11", run_id, 0), [to_table("kernels", whole)])

    return write


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command; returns its status and what it printed."""

    def call(*words: Any) -> tuple[int, str, str]:
        status = command.main([str(word) for word in words])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def stores(tmp_path, add):
    """Two folders, three runs each: B is a tenth faster, on another driver."""
    a, b = tmp_path / "before", tmp_path / "after"
    for number, rate in enumerate((990.0, 1000.0, 1010.0)):
        add(a, f"a{number}", images_per_s=rate, config={"seed": number}, seed=number)
    for number, rate in enumerate((1089.0, 1100.0, 1111.0)):
        add(b, f"b{number}", images_per_s=rate, system={"driver": "580.2"}, config={"seed": number}, seed=number)
    return a, b


@pytest.fixture
def compared():
    """Compare as the command does with format=json, without the time that it takes to read words."""

    def call(*words: Any, **keys: Any) -> dict[str, Any]:
        a, b = (
            sides.read(name, str(word), keys.get("results", Path())) for name, word in zip("AB", words, strict=True)
        )
        return json.loads(render.json_text(cells.compare(a, b, keys.get("without", ()))))

    return call
