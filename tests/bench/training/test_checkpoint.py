"""Checkpoints that cannot be resumed from say so in one line, and leave no traceback."""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import resnet
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.training import checkpoint
from bench.training.state import RunState

CONFIG, _ = resolve(RunKeys(depth=8, dataset="digits"), Host(ranks_per_node=2))
STATE = RunState(epoch=1, step=22, elapsed_s=3.0, top1=[0.5])
SAVED = checkpoint.Checkpoint(
    run_id="r", restart=0, net=checkpoint.net_of(CONFIG), saved_at=1.0, state=STATE, momentum="w.momentum"
)
# As it was written before the state had a place of its own.
VERSION_1 = {
    "run_id": "r", "restart": 0, "net": " ".join(f"{k}={v}" for k, v in SAVED.net.items() if k not in checkpoint.LATER),
    "epoch": 1, "step": 22, "elapsed_s": 3.0, "saved_at": 1.0, "cold": False, "tta_s": None, "epochs_to_target": None,
    "top1": [0.5], "state": "w.momentum",
}  # fmt: skip
# What a resumed run may have otherwise than the one that wrote its checkpoint, and why.
FREE = {
    "data": "the images may lie elsewhere",
    "results": "so may the rows",
    "save": "and the weights",
    "resume": "a first attempt resumes from nothing",
    "kernels": "the same network, up to rounding",
    "loader": "the same images in the same order",
    "engine": "the same optimizer step",
    "zero_stage": "likewise",
    "precision": "weights and momentum are fp32 in all of them",
    "nodes": "only the number of ranks counts",
    "ranks_per_node": "likewise",
}


def written(folder: Path, training: str) -> str:
    path = folder / "w.safetensors"
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    resnet.save_weights(model, path, {checkpoint.KEY: training})
    return str(path)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, SAVED.to_json())
    with pytest.raises(checkpoint.CheckpointError, match="momentum w.momentum is missing"):
        checkpoint.read(path)
    (tmp_path / "w.momentum").touch()
    assert checkpoint.read(path) == SAVED
    checkpoint.check(path, SAVED, CONFIG)


def test_a_checkpoint_of_version_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.momentum").touch()
    found = checkpoint.read(written(tmp_path, json.dumps(VERSION_1)))
    assert found == dataclasses.replace(SAVED, net={k: v for k, v in SAVED.net.items() if k not in checkpoint.LATER})
    checkpoint.check("w", found, CONFIG)
    with pytest.raises(checkpoint.CheckpointError, match=r"has seed=0 \(here 1\)$"):
        checkpoint.check("w", found, dataclasses.replace(CONFIG, seed=1))


@pytest.mark.parametrize("fails_at", [1, 2, 3])  # the momentum file, its folder, the weights
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    engine = trained()
    path = tmp_path / "w.safetensors"
    checkpoint.save(str(path), engine, world(0), SAVED)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert set(before) == {path.name, checkpoint.read(str(path)).momentum} and len(before) == 2
    synced: list[int] = []
    real = os.fsync

    def full(fd: int) -> None:
        synced.append(fd)
        if len(synced) == fails_at:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    later = dataclasses.replace(SAVED, state=dataclasses.replace(STATE, epoch=2))
    with pytest.raises((OSError, resnet.WeightsError), match="No space left"):
        checkpoint.save(str(path), engine, world(0), later)
    found = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    assert {name: found[name] for name in before} == before
    assert not [name for name in found if name.startswith(".")]
    assert checkpoint.read(str(path)).state.epoch == 1


def trained() -> Any:
    """An engine after a step of SGD with momentum, and all its parameters different from another's."""
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    engine: Any = SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    engine.optimizer.step()
    return engine


def world(rank: int) -> Any:
    return SimpleNamespace(rank=rank, barrier=lambda: None)


def momenta(engine: Any) -> list[torch.Tensor]:
    return [engine.optimizer.state[parameter]["momentum_buffer"] for parameter in engine.model.parameters()]


def test_momentum_comes_back_with_the_weights_parameter_by_parameter(tmp_path: Path) -> None:
    path, engine, other = str(tmp_path / "a" / "b" / "w.safetensors"), trained(), trained()
    checkpoint.save(path, engine, world(0), SAVED)
    saved = checkpoint.read(path)
    assert saved.state == STATE and saved.momentum == "w.r.0001.momentum.safetensors"
    before = momenta(other)
    checkpoint.load_momentum(path, saved, other)
    resnet.load_weights(other.model, path)
    for ours, theirs, was in zip(momenta(engine), momenta(other), before, strict=True):
        assert torch.equal(ours, theirs) and ours.abs().sum() > 0 and not torch.equal(theirs, was)
    for ours, theirs in zip(engine.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "dtype"])
def test_momentum_that_does_not_fit_is_refused_and_nothing_of_it_taken(tmp_path: Path, damage: str) -> None:
    path, engine, other = str(tmp_path / "w.safetensors"), trained(), trained()
    checkpoint.save(path, engine, world(0), SAVED)
    file = tmp_path / checkpoint.read(path).momentum
    stored = load_file(file)
    if damage == "missing":
        del stored["fc.bias"]
    elif damage == "unknown":
        stored["fc.scale"] = torch.ones(1)
    else:
        stored["fc.bias"] = torch.ones(7) if damage == "shape" else torch.ones(10, dtype=torch.int64)
    save_file(stored, file)
    before = [value.clone() for value in momenta(other)]
    with pytest.raises(checkpoint.CheckpointError, match=r"momentum .* does not fit the network: fc\.(bias|scale) is "):
        checkpoint.load_momentum(path, checkpoint.read(path), other)
    assert all(torch.equal(value, was) for value, was in zip(momenta(other), before, strict=True))


@pytest.mark.parametrize(
    ("top1", "reached", "target", "fits"),
    [
        ([0.5, 0.9], None, 0.95, True),
        ([0.5, 0.9], 2, 0.9, True),
        ([0.5, 0.9], 2, None, False),
        ([0.5, 0.9], None, 0.9, False),  # reached, and the time is not known
        ([0.5, 0.9], 1, 0.9, False),  # of a lower target
    ],
)
def test_a_time_to_target_is_not_taken_over_for_another_target(
    top1: list[float], reached: int | None, target: float | None, fits: bool
) -> None:
    config = dataclasses.replace(CONFIG, target=target)
    state = RunState(epoch=2, step=44, top1=top1, epochs_to_target=reached, tta_s=reached and 7.0)
    older = {word: value for word, value in checkpoint.net_of(config).items() if word not in checkpoint.LATER}
    saved = dataclasses.replace(SAVED, net=older, state=state)
    if fits:
        checkpoint.check("w", saved, config)
    else:
        with pytest.raises(checkpoint.CheckpointError, match="was written for another target than target="):
            checkpoint.check("w", saved, config)


def test_a_later_version_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "w.momentum").touch()
    later = json.dumps(json.loads(SAVED.to_json()) | {"version": 3})
    with pytest.raises(checkpoint.CheckpointError, match="has version 3 of .* this reader knows 1 and 2"):
        checkpoint.read(written(tmp_path, later))


def test_only_rank_0_writes_and_only_the_last_momentum_stays(tmp_path: Path) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    checkpoint.save(str(path), engine, world(1), SAVED)
    assert not list(tmp_path.iterdir())
    for epoch in (1, 2, 2):  # the last one under the name that is there
        checkpoint.save(str(path), engine, world(0), dataclasses.replace(SAVED, state=RunState(epoch=epoch)))
        assert {each.name for each in tmp_path.iterdir()} == {path.name, f"w.r.000{epoch}.momentum.safetensors"}
    (tmp_path / "w.r.0002.momentum.safetensors").unlink()
    checkpoint.save(str(path), engine, world(0), dataclasses.replace(SAVED, state=RunState(epoch=3)))
    assert checkpoint.read(str(path)).momentum == "w.r.0003.momentum.safetensors"


def test_what_is_no_checkpoint_or_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    path.write_text("no tensors")
    with pytest.raises(checkpoint.CheckpointError, match="^resume=.*w.safetensors: not a readable safetensors file"):
        checkpoint.read(str(path))
    path.unlink()
    with pytest.raises(checkpoint.CheckpointError, match="^resume=.*w.safetensors: no such checkpoint"):
        checkpoint.read(str(path))
    resnet.save_weights(trained().model, path)
    with pytest.raises(checkpoint.CheckpointError, match="weights without a training state"):
        checkpoint.read(str(path))
    checkpoint.save(str(path), trained(), world(0), SAVED)
    saved = checkpoint.read(str(path))
    (tmp_path / saved.momentum).write_text("no tensors")
    with pytest.raises(checkpoint.CheckpointError, match="its momentum .* cannot be read"):
        checkpoint.load_momentum(str(path), saved, trained())

    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(checkpoint, "load_file", refuse)
    monkeypatch.setattr(checkpoint, "safe_open", refuse)
    with pytest.raises(checkpoint.CheckpointError, match="its momentum .* cannot be read: .*Input/output error"):
        checkpoint.load_momentum(str(path), saved, trained())
    with pytest.raises(checkpoint.CheckpointError, match="not a readable safetensors file: .*Input/output error"):
        checkpoint.read(str(path))


def test_a_restarted_run_is_resumed_again(tmp_path: Path) -> None:
    path = str(tmp_path / "w.safetensors")
    checkpoint.save(path, trained(), world(0), dataclasses.replace(SAVED, restart=2))
    assert checkpoint.read(path).restart == 2


def damaged() -> Iterator[str]:
    yield from ("{", "[]", '"x"', "null", "7", json.dumps({"epoch": 1}), "[" * 100_000)
    whole = json.loads(SAVED.to_json())
    yield from (json.dumps(whole | {"version": version}) for version in (0, "2", True, None))
    for change in (
        {"momentum": ""},
        {"restart": -1},
        {"restart": True},
        {"net": "depth=8"},
        {"x": 1},
        {"saved_at": "1"},
        {"saved_at": float("nan")},
        {"saved_at": -1.0},
        {"saved_at": 1e30},
        {"momentum": "../x"},
        {"momentum": 5},
    ):
        yield json.dumps(whole | change)
    states: list[dict[str, object]] = [
        {"epoch": -5}, {"step": "3"}, {"step": True}, {"x": 1}, {"top1": ["0.5"]}, {"elapsed_s": -1.0}, {"cold": 1},
        {"tta_s": "x"}, {"tta_s": 1.0}, {"tta_s": -1.0, "epochs_to_target": 1}, {"epochs_to_target": 1}, {"top1": {}},
        {"top1": [float("nan")]}, {"top1": [7.0]}, {"elapsed_s": True},
        {"downtime_s": None}, {"elapsed_s": float("nan")}, {"elapsed_s": float("inf")}, {"epoch": -1}, {"step": -1},
    ]  # fmt: skip
    for change in states:
        yield json.dumps(whole | {"state": whole["state"] | change})
    for change in ({"epoch": -5}, {"step": "3"}, {"state": ""}, {"x": 1}, {"net": None}):
        yield json.dumps(VERSION_1 | change)


@pytest.mark.parametrize("training", list(damaged()))
def test_a_damaged_training_state_is_named(tmp_path: Path, training: str) -> None:
    (tmp_path / "w.momentum").touch()
    with pytest.raises(checkpoint.CheckpointError, match="w.safetensors: its training state is damaged"):
        checkpoint.read(written(tmp_path, training))


def changed(name: str) -> RunConfig:
    """The configuration with another value of one field, whether that makes sense or not."""
    value = getattr(CONFIG, name)
    recipe = dataclasses.replace(CONFIG.recipe, name="paper")
    other = value + 1 if isinstance(value, int | float) else recipe if name == "recipe" else "other"
    found = object.__new__(RunConfig)  # without its checks
    for field in dataclasses.fields(RunConfig):
        object.__setattr__(found, field.name, other if field.name == name else getattr(CONFIG, field.name))
    return found


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(RunConfig)])
def test_every_key_keeps_a_checkpoint_from_being_resumed_or_is_free_to_differ(name: str) -> None:
    other = changed(name)
    if name in FREE and name not in ("nodes", "ranks_per_node"):
        checkpoint.check("w", SAVED, other)
    else:
        with pytest.raises(checkpoint.CheckpointError, match=r"^resume=w: the checkpoint has .*\(here "):
            checkpoint.check("w", SAVED, other)


def test_the_same_number_of_ranks_may_lie_on_other_nodes() -> None:
    checkpoint.check("w", SAVED, dataclasses.replace(CONFIG, nodes=2, ranks_per_node=1))


def test_another_configuration_is_refused_word_by_word() -> None:
    with pytest.raises(checkpoint.CheckpointError, match=r"has depth=8 \(here 20\), batch=32 \(here 16\)$"):
        checkpoint.check("w", SAVED, dataclasses.replace(CONFIG, depth=20, batch=16))
    with pytest.raises(checkpoint.CheckpointError, match=r"family=None \(here cifar\)"):
        checkpoint.check("w", dataclasses.replace(SAVED, net={"depth": "8"}), CONFIG)


@pytest.mark.parametrize(
    ("done", "steps", "complete"),
    [
        (RunState(epoch=15, step=100), None, True),
        (RunState(epoch=14, step=100), None, False),
        (RunState(epoch=16, step=100), None, True),
        (RunState(epoch=1, step=30), 30, True),
        (RunState(epoch=1, step=29), 30, False),
        (RunState(epoch=1, step=1000), int("1000"), True),
        (RunState(epoch=1, step=1001), 1000, True),
    ],
)
def test_a_run_that_was_complete_is_not_resumed(done: RunState, steps: int | None, complete: bool) -> None:
    config = dataclasses.replace(CONFIG, steps=steps)
    saved = dataclasses.replace(SAVED, state=done, net=checkpoint.net_of(config))
    if not complete:
        checkpoint.check("w", saved, config)
        return
    with pytest.raises(checkpoint.CheckpointError, match=f"was complete at epoch {done.epoch}, step {done.step}"):
        checkpoint.check("w", saved, config)
