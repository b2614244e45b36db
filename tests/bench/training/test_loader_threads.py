"""How many threads a run's loaders have, and that its row says so."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_run import BATCH, CPU, FakeRun, config

import bench.training.dataset
from bench.training import dataset
from bench.training.process_group import World
from resnet.data import Split

CORES = 3


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({}, CORES), ({"loader_threads": 1}, 1), ({"loader_threads": 48}, BATCH), ({"loader": "torch"}, CORES),
        ({"loader": "torch", "loader_threads": 48}, 48), ({"loader": "torch", "loader_threads": 0}, 0),
        ({"batch": 2}, 2), ({"batch": 2, "loader": "torch"}, 2),
    ],
)  # fmt: skip
def test_every_loader_has_the_threads_that_the_row_says(
    changes: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = FakeRun(monkeypatch)
    asked: list[tuple[str, int]] = []

    def make(kind: str, split: Split, **options: Any) -> Any:
        asked.append((split.name, options["threads"]))
        return fake.make_loader(kind, split, **options)

    monkeypatch.setattr(bench.training.dataset, "make_loader", make)
    row = fake.train(config(tmp_path, save=None, **changes), world=World(0, 1, 0, 1, CPU, CORES))
    assert row["loader_threads"] == threads
    assert asked == [("train", threads), ("test", threads)]


@pytest.mark.parametrize(
    ("changes", "threads"),
    [
        ({}, CORES), ({"batch": 2}, CORES), ({"loader_threads": 48}, 48), ({"loader_threads": 1}, 1),
        ({"loader": "torch", "loader_threads": 0}, 0),
    ],
)  # fmt: skip
def test_so_has_the_one_that_reads_for_the_mean_image(
    changes: dict[str, Any], threads: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In batches of its own, which are no smaller than a run's and bound the threads by themselves."""
    asked: list[tuple[int, str]] = []

    def mean_image(split: Split, *, threads: int, kind: str, **_: Any) -> tuple[np.ndarray, float]:
        asked.append((threads, kind))
        return np.zeros((32, 32, 3), np.float32), 1.0

    monkeypatch.setattr(dataset, "compute_mean_image", mean_image)
    recipe = dataclasses.replace(config(tmp_path).recipe, augment="paper")
    chosen = config(tmp_path, recipe=recipe, **changes)
    dataset.prepare(chosen, World(0, 1, 0, 1, CPU, CORES))
    assert asked == [(threads, chosen.loader)]
