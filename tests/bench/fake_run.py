"""A Trainer's surroundings in which time passes only where it is told to: clock, loader, engine, evaluation."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import bench.measure.clock
import bench.training.dataset
import bench.training.trainer
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.measure.metrics import WARMUP_STEPS
from bench.training.checkpoint import tensors
from bench.training.checkpoint.contents import Checkpoint
from bench.training.evaluate import Accuracy
from bench.training.process_group import World
from bench.training.recorder import Recorder
from bench.training.trainer import Trainer
from resnet.data import Batch, Split, Splits
from results.store.files import read_rows

CPU = torch.device("cpu")
STEPS, EPOCHS, BATCH = 12, 3, 4
PREPARE_S, OPEN_S, BUILD_S, DATA_S, EVAL_S, SAVE_S = 5.0, 3.0, 1.0, 0.25, 4.0, 2.0
SLOW_S, FAST_S, LATE_S = (
    2.75,
    0.75,
    2.75,
)  # of a step beside its data: in the warm-up, after it, twice in the last epoch
TOP1 = (0.5, 0.9, 0.8)


def config(tmp_path: Path, **changes: Any) -> RunConfig:
    keys = RunKeys(
        depth=8, dataset="digits", batch=BATCH, precision="fp32", engine="ddp", epochs=EPOCHS, target=0.85, seed=3,
        results=str(tmp_path), save=str(tmp_path / "w.safetensors"), ranks_per_node=1,
    )  # fmt: skip
    resolved, _ = resolve(keys, Host(ranks_per_node=1))
    return dataclasses.replace(resolved, **changes)


class FakeRun:
    """The world around a Trainer, in which time passes only where it is told to.

    Attributes:
        now: seconds of the monotonic clock.
        saved: checkpoints, as they were when they were written.
        step_s: of optimizer step n (from 1), its data left out.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.wall, self.steps, self.evaluations = 1000.0, 5e8, 0, 0
        self.grad_accum = 1
        self.saved: list[Checkpoint] = []
        self.step_s: Callable[[int], float] = lambda step: (
            SLOW_S if step <= WARMUP_STEPS else LATE_S if step in (30, 31) else FAST_S
        )
        labels = torch.zeros(STEPS * BATCH, dtype=torch.int64).numpy()
        split = Split(name="train", dataset="digits", labels=labels, classes=[str(n) for n in range(10)], hash="abc")
        self.splits = Splits(
            train=split, test=dataclasses.replace(split, name="test"), name="digits", hash="abc", classes=split.classes
        )
        for module in (bench.training.trainer, bench.measure.clock):
            monkeypatch.setattr(module, "now_s", lambda: self.now)
        for name, fake in {
            "wall_s": lambda: self.wall,
            "prepare": self.prepare,
            "evaluate": self.evaluate,
            "build": self.build,
            "build_model": lambda config: nn.Linear(3, 10),
            "warm_up": lambda *arguments: self.pass_time(100.0),
        }.items():
            monkeypatch.setattr(bench.training.trainer, name, fake)
        monkeypatch.setattr(bench.training.dataset, "make_loader", self.make_loader)
        counts = SimpleNamespace(multiply_adds=7, parameters=40)
        monkeypatch.setattr(bench.training.trainer.resnet, "count", lambda *arguments: counts)
        monkeypatch.setattr(tensors, "save", self.save)
        machine = bench.training.trainer.machine
        monkeypatch.setattr(machine, "energy_j", lambda device: 2.0 * self.now)
        monkeypatch.setattr(machine, "peak_memory_bytes", lambda device: 1234)

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.wall += seconds

    def prepare(self, config: RunConfig, world: World) -> tuple[Splits, None, float]:
        self.pass_time(PREPARE_S + OPEN_S)
        return self.splits, None, PREPARE_S

    def make_loader(self, kind: str, split: Split, **_: Any) -> Any:
        self.pass_time(BUILD_S)

        def epoch(number: int, first: int = 0) -> Iterator[Batch]:
            for _ in range(STEPS * self.grad_accum):
                self.pass_time(DATA_S)
                yield Batch(torch.zeros(BATCH, 3), torch.zeros(BATCH, dtype=torch.int64))

        return SimpleNamespace(
            epoch=epoch, close=lambda: None, steps_per_epoch=STEPS, images_per_epoch=STEPS * BATCH
        )  # fmt: skip

    def build(self, config: RunConfig, model: nn.Module, device: torch.device) -> Any:
        def forward(images: torch.Tensor) -> torch.Tensor:
            self.steps += 1
            self.pass_time(self.step_s(-(-self.steps // self.grad_accum)) - 0.25)
            return model(images)

        def backward(loss: torch.Tensor) -> None:
            self.pass_time(0.25)

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return SimpleNamespace(model=model, optimizer=optimizer, forward=forward, backward=backward)

    def evaluate(self, *_: Any) -> Accuracy:
        self.pass_time(EVAL_S)
        top1 = TOP1[self.evaluations]
        self.evaluations += 1
        return Accuracy(top1, 1.0, STEPS * BATCH)

    def save(self, path: str, engine: Any, world: World, found: Checkpoint) -> None:
        state = dataclasses.replace(found.state, top1=list(found.state.top1))
        self.saved.append(dataclasses.replace(found, state=state))
        self.pass_time(SAVE_S)

    def train(self, config: RunConfig, restart: int = 0, world: World | None = None) -> dict[str, Any]:
        """The row that a run leaves."""
        recorder = Recorder(config, f"run-{config.seed}", restart)
        Trainer(config, world or World(0, 1, 0, 1, CPU, 3), recorder, f"run-{config.seed}", restart).fit()
        rows, bad = read_rows(config.results, "runs")
        assert not bad
        return next(row for row in rows if row["restart_count"] == restart)
