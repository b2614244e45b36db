"""Checkpoints that cannot be resumed from say so in one line, and leave no traceback."""

import dataclasses
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import resnet
from bench import checkpoint
from bench.config import Place, resolve
from bench.keys import RunKeys

CONFIG, _ = resolve(RunKeys(depth=8, dataset="digits"), Place(ranks_per_node=2))
PROGRESS = checkpoint.Progress(
    run_id="r", restart=0, net=checkpoint.net_of(CONFIG), epoch=1, step=22, elapsed_s=3.0, saved_at=1.0, cold=False,
    tta_s=None, epochs_to_target=None, top1=[0.5], state="w.momentum",
)  # fmt: skip
CHANGES: list[dict[str, object]] = [{"epoch": -5}, {"step": "3"}, {"state": ""}, {"x": 1}]


def written(folder: Path, training: str) -> str:
    path = folder / "w.safetensors"
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    resnet.save_weights(model, path, {checkpoint.KEY: training})
    return str(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, json.dumps(dataclasses.asdict(PROGRESS)))
    with pytest.raises(checkpoint.CheckpointError, match="momentum w.momentum is missing"):
        checkpoint.read(path)
    (tmp_path / "w.momentum").touch()
    assert checkpoint.read(path) == PROGRESS
    checkpoint.check(path, PROGRESS, CONFIG)


@pytest.mark.parametrize("fails_at", [1, 2, 3])  # the momentum file, its folder, the weights
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    engine: Any = SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    engine.optimizer.step()
    world: Any = SimpleNamespace(rank=0, barrier=lambda: None)
    path = tmp_path / "w.safetensors"
    checkpoint.save(str(path), engine, world, PROGRESS)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert set(before) == {path.name, checkpoint.read(str(path)).state} and len(before) == 2
    synced: list[int] = []
    real = os.fsync

    def full(fd: int) -> None:
        synced.append(fd)
        if len(synced) == fails_at:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, resnet.WeightsError), match="No space left"):
        checkpoint.save(str(path), engine, world, dataclasses.replace(PROGRESS, epoch=2))
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert {name: found[name] for name in before} == before
    assert not [name for name in found if name.startswith(".")]
    assert checkpoint.read(str(path)).epoch == 1


@pytest.mark.parametrize(
    "training",
    ["{", "[]", '"x"', json.dumps({"epoch": 1})]
    + [json.dumps(dataclasses.asdict(PROGRESS) | change) for change in CHANGES],
)
def test_a_damaged_training_state_is_named(tmp_path: Path, training: str) -> None:
    with pytest.raises(checkpoint.CheckpointError, match="w.safetensors: its training state is damaged"):
        checkpoint.read(written(tmp_path, training))


def test_another_configuration_is_refused_word_by_word() -> None:
    with pytest.raises(checkpoint.CheckpointError, match=r"has depth=8 \(here 20\), batch=32 \(here 16\)$"):
        checkpoint.check("w", PROGRESS, dataclasses.replace(CONFIG, depth=20, batch=16))
    short = dataclasses.replace(PROGRESS, net="depth=8")
    with pytest.raises(checkpoint.CheckpointError, match=r"family=None \(here cifar\)"):
        checkpoint.check("w", short, CONFIG)


def test_a_run_that_was_complete_is_not_resumed() -> None:
    with pytest.raises(checkpoint.CheckpointError, match="was complete at epoch 15"):
        checkpoint.check("w", dataclasses.replace(PROGRESS, epoch=15), CONFIG)
