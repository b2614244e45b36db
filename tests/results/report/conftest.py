"""Rows of runs, and the command run over them."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from results.report import command
from results.store.writer import RunWriter

START = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
CONFIG = {"depth": 20, "lr": 0.1, "seed": 0, "recipe": {"momentum": 0.9, "name": "fast"}}
RUN = {
    "family": "cifar", "depth": 20, "shortcut": "A", "dataset": "digits", "loader": "dali", "kernels": "torch",
    "engine": "deepspeed", "benchmark": "training", "precision": "bf16", "world_size": 2, "target_top1": 0.97,
    "dirty": False, "git_commit": "1" * 40, "hardware": "2xEPYC;torch2.13,deepspeed0.19,dali2.4;python3.11",
    "seed": 0, "lr": 0.1, "batch_per_device": 32, "epochs": 15, "nodes": 1,
}  # fmt: skip
FIGURES = {"images_per_s": 1000.0, "final_top1": 0.98, "epochs_to_target": 9, "tta_s": 20.0}


@pytest.fixture(scope="session")
def add_in():
    """Of a folder, `add`."""

    def into(root):
        def write(run_id, config=None, status="completed", figures=None, **row):
            number = len(list(root.rglob("*.parquet")))
            configuration = {**CONFIG, "seed": row.get("seed", 0), **(config or {})}
            start = {"run_start": START + timedelta(minutes=number)}
            row = {**RUN, **start, "config_json": json.dumps(configuration), **row}
            writer = RunWriter(root, {"run_id": run_id, **row})
            writer.finish(status, **(FIGURES if figures is None else figures))

        return write

    return into


@pytest.fixture
def add(add_in, tmp_path):
    """Writes a run: its id, its configuration's keys, and columns."""
    return add_in(tmp_path)


@pytest.fixture
def report(tmp_path, capsys, monkeypatch):
    """Runs the command over these rows: status, stdout, stderr."""

    def call(*words, width="160"):
        monkeypatch.setenv("COLUMNS", width)
        status = command.main([f"results={tmp_path}", *words])
        return status, *capsys.readouterr()

    return call
