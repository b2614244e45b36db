"""Whole runs over two real ranks: what they leave behind, and how they end when something goes wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

import resnet
from bench.config.paths import ROOT
from bench.training.evaluate import evaluate
from bench.training.process_group import World
from resnet.data import make_loader, open_dataset
from results.store.files import read_rows

pytestmark = pytest.mark.ranks

LOCAL = [sys.executable, str(ROOT / "launch" / "local.py")]
SMALL = ["depth=8", "dataset=digits", "image_size=16", "batch=16"]


def launch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCAL, *words], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def only_row(root: Path) -> dict[str, Any]:
    rows, bad = read_rows(root, "runs")
    assert not bad and len(rows) == 1, (rows, bad)
    return rows[0]


def accuracy_of(weights: Path, precision: str = "bf16") -> float:
    """Top-1 of saved weights in a fresh model, on one rank."""
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    resnet.load_weights(model, weights)
    device = torch.device("cpu")
    loader = make_loader(
        "dali", open_dataset("digits", None, image_size=16).test, train=False, batch=16, rank=0, world_size=1, seed=0,
        augment="shift", image_size=16, device=device, threads=1,
    )  # fmt: skip
    try:
        return evaluate(model, loader, precision, World(0, 1, 0, 1, device, 1)).top1
    finally:
        loader.close()


@pytest.mark.parametrize("zero_stage", [0, 2])
def test_saved_weights_give_the_run_s_accuracy_and_a_resumed_run_its_losses(tmp_path: Path, zero_stage: int) -> None:
    words = [*SMALL, "epochs=3", f"zero_stage={zero_stage}"]
    whole = launch(*words, f"save={tmp_path}/whole.safetensors", f"results={tmp_path}/whole")
    assert whole.returncode == 0, whole.stderr
    row = only_row(tmp_path / "whole")
    assert row["status"] == "completed" and row["final_top1"] == accuracy_of(tmp_path / "whole.safetensors")

    # The same run again, killed once its first checkpoint is there, then resumed from it.
    part = subprocess.Popen(
        [*LOCAL, *words, f"save={tmp_path}/part.safetensors", f"results={tmp_path}/part"], stdout=subprocess.DEVNULL
    )
    wait(lambda: (tmp_path / "part.safetensors").exists())
    marker = json.loads((tmp_path / "part.checkpoints" / "writer.json").read_text())  # others are refused by it
    assert psutil.pid_exists(marker["owner"]["pid"]) and marker["attempt"].endswith(".0")
    part.send_signal(signal.SIGTERM)
    assert part.wait(60) != 0
    assert not (tmp_path / "part.checkpoints" / "writer.json").exists()
    resumed = launch(*words, f"resume={tmp_path}/part.safetensors", f"results={tmp_path}/resumed")
    assert resumed.returncode == 0, resumed.stderr
    row = only_row(tmp_path / "resumed")
    assert row["restart_count"] == 1 and row["downtime_s"] > 0
    parent = only_row(tmp_path / "part")
    assert row["resumed_from"] == f"{parent['run_id']}.0" and row["mixed"] is None
    assert row["lineage"] == f"{row['resumed_from']}@{row['resumed_epoch']}" and row["resumed_epoch"] >= 1
    assert row["elapsed_s"] == pytest.approx(row["active_s"] + row["downtime_s"])
    losses = {epoch["epoch"]: epoch["loss"] for epoch in read_rows(tmp_path / "whole", "epochs")[0]}
    again = {epoch["epoch"]: epoch["loss"] for epoch in read_rows(tmp_path / "resumed", "epochs")[0]}
    assert 1 not in again and 3 in again
    assert again == pytest.approx({epoch: losses[epoch] for epoch in again}, rel=1e-6)


def test_steps_of_all_ranks_and_every_epoch_are_there(tmp_path: Path) -> None:
    done = launch(*SMALL, "steps=70", "grad_accum=2", "engine=ddp", "precision=fp32", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    row = only_row(tmp_path)
    per_epoch = 1437 // (16 * 2 * 2)
    assert (row["steps_completed"], row["images_per_epoch"]) == (70, per_epoch * 64)
    assert row["images_per_s"] > 0 and row["step_ms_p50"] <= row["step_ms_p95"]
    assert 0 <= row["data_wait_frac"] < 1 and 0 < row["instrumentation_s"] < row["elapsed_s"]
    assert row["null_reasons"]["mfu"].startswith("the peak of this CPU")
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [epoch["epoch"] for epoch in epochs] == [1, 2, 3, 4]
    assert [epoch["images"] for epoch in epochs] == [1408, 1408, 1408, 4 * 64]
    elapsed = [epoch["elapsed_s"] for epoch in epochs]
    assert elapsed == sorted(elapsed) and elapsed[0] > 0
    steps, _ = read_rows(tmp_path, "steps")
    assert {rank: [step["step"] for step in steps if step["rank"] == rank] for rank in (0, 1)} == {
        0: list(range(1, 71)),
        1: list(range(1, 71)),
    }
    config = json.loads(row["config_json"])
    assert config["grad_accum"] == 2 and not {"data", "results", "save", "resume"} & set(config)


def test_a_run_no_longer_than_its_warm_up_has_no_throughput(tmp_path: Path) -> None:
    done = launch(*SMALL, "steps=5", "loader=synthetic", f"results={tmp_path}")
    assert done.returncode == 0, done.stderr
    row = only_row(tmp_path)
    assert row["status"] == "completed" and row["images_per_s"] is None
    assert "warm-up" in row["null_reasons"]["images_per_s"]
    assert row["synthetic"] and row["final_top1"] is None and "synthetic" in row["null_reasons"]["final_top1"]


def test_divergence_is_named(tmp_path: Path) -> None:
    done = launch(*SMALL, "epochs=3", "lr=1e30", f"results={tmp_path}")
    assert done.returncode == 1
    assert "diverged" in done.stderr and "lr=1e+30" in done.stderr
    row = only_row(tmp_path)
    assert (row["status"], row["failure_kind"]) == ("failed", "diverged")


def wait(condition: Callable[[], Any], seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"waited {seconds} s in vain")


def ranks_in_training(launcher: int, root: Path) -> list[psutil.Process]:
    """The ranks' processes, rank 0 first, once an epoch is done; none before."""
    progress = list(root.glob("jobs/*/progress.jsonl"))
    if not progress or '"event": "epoch"' not in progress[0].read_text():
        return []
    found = {}
    for process in psutil.Process(launcher).children(recursive=True):
        environment = process.environ()
        if "submitit.core._submit" in " ".join(process.cmdline()):
            found[int(environment["SUBMITIT_LOCAL_GLOBALID"])] = process
    return [found[rank] for rank in sorted(found)] if len(found) == 2 else []


@pytest.mark.parametrize("rank", [0, 1])
def test_a_killed_rank_ends_the_run_and_leaves_its_rows(tmp_path: Path, rank: int) -> None:
    launcher = subprocess.Popen(
        [*LOCAL, *SMALL, "epochs=500", f"results={tmp_path}"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    ranks = wait(lambda: ranks_in_training(launcher.pid, tmp_path))
    os.kill(ranks[rank].pid, signal.SIGKILL)
    start = time.monotonic()
    _, errors = launcher.communicate(timeout=90)
    assert time.monotonic() - start < 90
    assert launcher.returncode == 1
    assert "rank_lost" in errors
    assert not any(process.is_running() and process.status() != "zombie" for process in ranks)
    row = only_row(tmp_path)
    assert row["status"] in ("failed", "killed") and row["failure_kind"] == "rank_lost"
    assert read_rows(tmp_path, "epochs")[0], "the epochs before the loss are kept"
