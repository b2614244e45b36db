"""Runs that are stopped within an epoch save where they stand, and what goes on from there is the undisturbed run."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from bench.config.paths import ROOT
from results.store.files import journals, read_rows

pytestmark = pytest.mark.ranks

LOCAL = [sys.executable, str(ROOT / "launch" / "local.py")]
SMALL = ["depth=8", "dataset=digits", "image_size=16", "epochs=2", "target=0.5"]
KINDS = {
    "dali": ["loader=dali", "batch=4", "precision=fp32"],
    "torch, ZeRO 2": ["loader=torch", "batch=4", "zero_stage=2", "precision=fp32"],
    "DDP, two micro-batches": ["loader=dali", "batch=2", "grad_accum=2", "engine=ddp", "precision=bf16"],
}


def start(*words: str, root: Path) -> subprocess.Popen[str]:
    command = [*LOCAL, *SMALL, *words, f"results={root}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def ended(launched: subprocess.Popen[str], status: int) -> str:
    said, _ = launched.communicate(timeout=300)
    assert launched.returncode == status, said
    return said


def wait(done: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def steps_written(root: Path) -> bool:
    """Whether the run has written down steps of an epoch that has not ended."""
    return any('{"kind":"steps"' in one.read_text() for one in journals(root))


def losses(*roots: Path) -> dict[tuple[int, int], list[float]]:
    """By rank and step the losses of all attempts."""
    found: dict[tuple[int, int], list[float]] = {}
    for root in roots:
        for row in read_rows(root, "steps")[0]:
            found.setdefault((row["rank"], row["step"]), []).append(row["loss"])
    return found


def epochs(*roots: Path) -> list[dict[str, Any]]:
    rows = [row for root in roots for row in read_rows(root, "epochs")[0]]
    names = ("epoch", "loss", "top1", "top5", "train_top1", "images", "lr")
    return sorted(({name: row[name] for name in names} for row in rows), key=lambda row: row["epoch"])


def row_of(root: Path) -> dict[str, Any]:
    (row,) = read_rows(root, "runs")[0]
    return row


def same_weights(one: Path, other: Path) -> bool:
    ours, theirs = load_file(one), load_file(other)
    return ours.keys() == theirs.keys() and all((ours[name] == theirs[name]).all() for name in ours)


@pytest.mark.parametrize(
    "kind", [kind if kind == "dali" else pytest.param(kind, marks=pytest.mark.soak) for kind in KINDS]
)
def test_what_goes_on_is_the_run_that_was_never_stopped(kind: str, tmp_path: Path) -> None:
    """Stopped twice, in its first and its second epoch: losses of all ranks, epochs and weights are the same bits."""
    words = [*KINDS[kind]]
    whole, parts = tmp_path / "whole", [tmp_path / f"part{place}" for place in range(3)]
    ended(start(*words, f"save={tmp_path}/whole.safetensors", root=whole), 0)
    save = f"save={tmp_path}/part.safetensors"
    resume = f"resume={tmp_path}/part.safetensors"
    per_epoch = row_of(whole)["images_per_epoch"] // row_of(whole)["global_batch"]
    begun = 0
    for place, root in enumerate(parts[:2]):
        launched = start(*words, save, *([resume] if place else []), root=root)
        wait(lambda root=root: steps_written(root))  # type: ignore[misc]
        launched.send_signal(signal.SIGTERM if place else signal.SIGINT)
        said = ended(launched, 128 + (signal.SIGTERM if place else signal.SIGINT))
        row = row_of(root)
        assert (row["status"], row["failure_kind"]) == ("killed", "interrupted")
        state = json.loads(next((tmp_path / "part.checkpoints").glob(f"*-{row['run_id']}.*/state.json")).read_text())
        step = max(json.loads(one.read_text())["state"]["step"] for one in
                   (tmp_path / "part.checkpoints").glob(f"*-{row['run_id']}.*/state.json"))  # fmt: skip
        assert state["version"] == 4 and step > begun
        assert f"saved after step {step}: resume={tmp_path}/part.safetensors goes on" in row["failure_message"]
        assert f"saved after step {step}" in said and row["steps_completed"] == step
        begun = step
    ended(start(*words, save, resume, root=parts[2]), 0)
    row = row_of(parts[2])
    assert (row["restart_count"], row["resumed_step"], row["mixed"]) == (2, begun, None)
    assert row["resumed_epoch"] == begun // per_epoch and row["downtime_s"] > 0
    assert row["steps_completed"] == row_of(whole)["steps_completed"]
    undisturbed, resumed = losses(whole), losses(*parts)
    assert {key: len(values) for key, values in resumed.items()} == dict.fromkeys(undisturbed, 1)  # each step once
    assert resumed == undisturbed
    assert [row["loss"] for row in epochs(*parts)] == pytest.approx([row["loss"] for row in epochs(whole)], rel=1e-12)
    assert [{**row, "loss": 0} for row in epochs(*parts)] == [{**row, "loss": 0} for row in epochs(whole)]
    assert same_weights(tmp_path / "whole.safetensors", tmp_path / "part.safetensors")


def stopped_within(tmp_path: Path) -> Path:
    """The checkpoint of a run that was stopped within its first epoch."""
    launched = start(*KINDS["dali"], f"save={tmp_path}/part.safetensors", root=tmp_path / "rows")
    wait(lambda: steps_written(tmp_path / "rows"))
    launched.send_signal(signal.SIGINT)
    ended(launched, 130)
    (found,) = (tmp_path / "part.checkpoints").glob("0000-*")
    return found


def test_statistics_of_the_ranks_must_be_there_and_whole(tmp_path: Path) -> None:
    """BN's running statistics differ between ranks until an epoch ends: without its own no rank goes on."""
    checkpoint = stopped_within(tmp_path)
    found = load_file(checkpoint / "statistics.safetensors")
    name = next(name.partition("/")[2] for name in found if name.endswith("running_mean"))
    assert (found[f"0/{name}"] != found[f"1/{name}"]).any()
    # The weights have the mean, as at the end of an epoch.
    mean = (found[f"0/{name}"].astype("float64") + found[f"1/{name}"]) / 2
    assert (load_file(checkpoint / "weights.safetensors")[name] == mean.astype("float32")).all()
    again = [*KINDS["dali"], f"resume={tmp_path}/part.safetensors"]
    kept = tmp_path / "kept"
    shutil.copytree(checkpoint, kept)
    (checkpoint / "statistics.safetensors").unlink()
    assert "statistics.safetensors: No such file" in ended(start(*again, root=tmp_path / "no"), 2)
    content = bytearray((kept / "statistics.safetensors").read_bytes())
    content[-1] ^= 1
    (checkpoint / "statistics.safetensors").write_bytes(content)
    assert "its SHA-256 is not sha256 in manifest.json" in ended(start(*again, root=tmp_path / "no"), 2)
    # A checkpoint that never had them, by its own manifest.
    (checkpoint / "statistics.safetensors").unlink()
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    del manifest["files"]["statistics.safetensors"]
    (checkpoint / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
    (checkpoint / "COMPLETE").write_text(hashlib.sha256((checkpoint / "manifest.json").read_bytes()).hexdigest() + "\n")
    said = ended(start(*again, root=tmp_path / "no"), 2)
    assert "the ranks' statistics are missing, though it is of" in said and "steps within an epoch" in said
    assert not (tmp_path / "no" / "runs").exists()


def test_a_run_that_saves_nothing_ends_at_once(tmp_path: Path) -> None:
    launched = start(*KINDS["dali"], root=tmp_path)
    wait(lambda: steps_written(tmp_path))
    launched.send_signal(signal.SIGINT)
    begun = time.monotonic()
    said = ended(launched, 130)
    assert time.monotonic() - begun < 15 and "saved after" not in said


def test_one_rank_that_is_asked_stops_them_all_with_a_checkpoint(tmp_path: Path) -> None:
    launched = start(*KINDS["dali"], f"save={tmp_path}/part.safetensors", root=tmp_path / "rows")
    wait(lambda: steps_written(tmp_path / "rows"))
    ranks = [one for one in psutil.Process(launched.pid).children(recursive=True) if _rank(one) == "1"]
    os.kill(ranks[0].pid, signal.SIGTERM)
    said = ended(launched, 1)
    assert "rank 1 was stopped by SIGTERM; saved after step" in said
    assert row_of(tmp_path / "rows")["failure_kind"] == "interrupted"
    assert list((tmp_path / "part.checkpoints").glob("0000-*"))


def _rank(process: psutil.Process) -> str:
    try:
        return str(process.environ().get("RANK") or process.environ().get("SUBMITIT_LOCAL_GLOBALID"))
    except psutil.Error:
        return ""
