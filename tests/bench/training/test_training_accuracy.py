"""Accuracy over the training images: in training mode, at the weights of each step, each image once."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fake_run import CPU, EPOCHS, STEPS, FakeRun, config
from torch import nn

import bench.training.trainer
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.training.checkpoint.of_run import claim
from bench.training.process_group import World
from bench.training.recorder import Recorder
from bench.training.trainer import Trainer
from bench.training.training_accuracy import TrainingAccuracy
from resnet.data import Batch, Split
from results.store.files import read_rows

ALONE = World(0, 1, 0, 1, CPU, 1)


def scored(right: list[int], valid: list[int] | None = None) -> Batch:
    """A batch whose images are class scores: the label's is the highest where `right` has 1, the lowest elsewhere."""
    labels = torch.arange(len(right)) % 10
    sign = torch.tensor(right) * 2.0 - 1.0
    scores = nn.functional.one_hot(labels, 10) * sign[:, None]
    return Batch(scores, labels, None if valid is None else torch.tensor(valid, dtype=torch.bool))


def test_hits_are_counted_by_hand() -> None:
    accuracy = TrainingAccuracy(CPU)
    for batch in (scored([1, 0, 1]), scored([0, 1])):
        accuracy.add(batch.images, batch)
    assert accuracy.take(ALONE) == (3, 5)
    padded = scored([1, 1, 0, 1], valid=[1, 0, 1, 0])
    accuracy.add(padded.images, padded)
    assert accuracy.take(ALONE) == (1, 2)  # of this epoch alone
    assert accuracy.take(ALONE) == (0, 0)


def test_counting_never_asks_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU each of these would wait for all that was started before."""
    accuracy = TrainingAccuracy(CPU)
    for name in ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "nonzero"):
        monkeypatch.setattr(torch.Tensor, name, lambda *_: pytest.fail("waits for the device"))
    batch = scored([1, 0], valid=[1, 1])
    accuracy.add(batch.images, batch)


class Scores(nn.Module):
    """Its scores are its images, which `sign` turns; in evaluation mode it says class 9, which no image is of."""

    def __init__(self) -> None:
        super().__init__()
        self.sign = nn.Parameter(torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images * self.sign if self.training else nn.functional.one_hot(torch.full((len(images),), 9), 10) * 1.0


class ScoredRun(FakeRun):
    """A run whose every hit is known: the network turns its answers round after each micro-batch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        monkeypatch.setattr(bench.training.trainer, "build_model", lambda config: Scores())

    def make_loader(self, kind: str, split: Split, *, train: bool, **_: Any) -> Any:
        def epoch(number: int, first: int = 0) -> Iterator[Batch]:
            for _ in range(STEPS // 2 * self.grad_accum):
                # Of the first batch all but one are right; of the second, which meets the opposite, one is.
                yield scored([1, 1, 1, 0]) if train else scored([0, 0, 0, 0])
                last = [0, 1, 1, 1] if number else [1, 1, 1, 1]
                yield scored(last, valid=[1, 1, 0, 1] if number == 2 else None)

        return SimpleNamespace(epoch=epoch, close=lambda: None, steps_per_epoch=STEPS, images_per_epoch=4 * STEPS)

    def build(self, config: Any, model: Scores, device: torch.device) -> Any:
        engine = super().build(config, model, device)

        def backward(loss: torch.Tensor) -> None:
            with torch.no_grad():
                model.sign.neg_()

        engine.backward = backward
        return engine


# Epoch by epoch, of a pair of batches: 3 of 4 and 0 of 4; 3 of 4 and 1 of 4; 3 of 4 and, without its padding, 1 of 3.
BY_HAND = [3 / 8, 4 / 8, 4 / 7]


@pytest.mark.parametrize("changes", [{}, {"grad_accum": 2}, {"recipe": 0.1}, {"engine": "deepspeed"}])
def test_a_run_has_it_by_epoch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any]) -> None:
    fake = ScoredRun(monkeypatch)
    chosen = config(tmp_path, save=None)
    if "recipe" in changes:
        changes = {"recipe": dataclasses.replace(chosen.recipe, label_smoothing=changes["recipe"])}
    fake.grad_accum = changes.get("grad_accum", 1)
    fake.train(dataclasses.replace(chosen, **changes))
    epochs, _ = read_rows(tmp_path, "epochs")
    assert len(epochs) == EPOCHS and [epoch["train_top1"] for epoch in epochs] == BY_HAND
    assert [epoch["top1"] for epoch in epochs] == [0.5, 0.9, 0.8]


def test_synthetic_images_have_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ScoredRun(monkeypatch).train(config(tmp_path, target=None, save=None, loader="synthetic"))
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [epoch["train_top1"] for epoch in epochs] == [None] * EPOCHS


def test_a_run_that_is_not_measured_counts_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ScoredRun(monkeypatch)
    monkeypatch.setattr(TrainingAccuracy, "add", lambda *_: pytest.fail("counts"))
    trainer = Trainer(config(tmp_path, save=None), ALONE, None, measured=False)
    assert trainer.train_epoch(0).top1 is None


@pytest.mark.slow
def test_a_resumed_run_has_that_of_the_run_that_was_not_stopped(tmp_path: Path) -> None:
    keys = RunKeys(
        depth=8, dataset="digits", batch=128, precision="fp32", engine="ddp", epochs=2, loader="torch",
        loader_threads=0, ranks_per_node=1, results=str(tmp_path), save=str(tmp_path / "w.safetensors"),
    )  # fmt: skip
    whole, _ = resolve(keys, Host(ranks_per_node=1))

    def train(chosen: Any, run_id: str, restart: int = 0) -> dict[int, float]:
        writer = claim(chosen, run_id, restart)
        Trainer(chosen, ALONE, Recorder(chosen, run_id, restart), run_id, restart, writer=writer).fit()
        if writer:
            writer.release()
        epochs, _ = read_rows(tmp_path, "epochs")
        return {epoch["epoch"]: epoch["train_top1"] for epoch in epochs if epoch["run_id"] == run_id}

    found = train(whole, "whole")
    first = min((tmp_path / "w.checkpoints").glob("*/w*.safetensors"))
    again = train(dataclasses.replace(whole, resume=str(first), save=None), "again", restart=1)
    assert set(found) == {1, 2} and 0 < found[1] < found[2] < 1
    assert again == {2: found[2]}
