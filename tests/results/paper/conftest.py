"""Stores of made-up runs of the paper's nets. No error here was measured anywhere."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.paper import command
from results.published.schedules import SCHEDULES
from results.store.files import table_path, write_once
from results.store.schema import to_table
from results.store.writer import RunWriter

START = datetime(2000, 1, 1, tzinfo=UTC)
COMMIT = "1" * 40


def _hash_of(row: dict[str, Any]) -> str:
    """That of a file: another one for each attempt and epoch."""
    attempt = row.get("trained_by")
    return "ab" * 32 if attempt is None else hashlib.sha256(f"{attempt}@{row.get('epoch')}".encode()).hexdigest()


class PaperStore:
    """Writes runs as the suite does, each as the paper would have it unless it is told otherwise."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.count = 0

    def train(
        self,
        run_id: str,
        top1: float | None,
        *,
        dataset: str = "cifar10",
        status: str = "completed",
        epochs: list[dict[str, Any]] | None = None,
        **row: Any,
    ) -> str:
        """Add a training run whose last epoch had this accuracy."""
        paper = SCHEDULES[dataset]
        each = paper.train_images // paper.global_batch
        self.count += 1
        start = START + timedelta(days=self.count)
        whole = -(-paper.steps // each)
        known: dict[str, Any] = {
            "benchmark": "training", "family": "cifar" if dataset == "cifar10" else dataset, "depth": 20,
            "shortcut": "A", "stride": "v1", "recipe": "paper", "dataset": dataset, "sample": paper.sample,
            "image_size": paper.image_size, "num_classes": paper.num_classes, "loader": "dali", "synthetic": False,
            "global_batch": paper.global_batch, "lr": paper.lr, "weight_decay": paper.weight_decay, "epochs": whole,
            "steps_cap": paper.steps if dataset == "cifar10" else None, "images_per_epoch": each * paper.global_batch,
            "eval_protocol": "whole image" if dataset == "cifar10" else "1-crop", "git_commit": COMMIT, "dirty": False,
            "bn_span": 64, "seed": 0, "init_start": start, "run_start": start, "scale": "paper",
        }  # fmt: skip
        writer = RunWriter(self.root, {**known, "run_id": run_id, **row})
        for one in epochs or []:
            writer.epoch({"elapsed_s": float(one["epoch"]), **one})
        kind = None if status == "completed" else "diverged"
        steps = min(paper.steps, row.get("steps_cap") or paper.steps)
        ended = {"steps_completed": row.get("steps_completed", steps), "epochs_completed": whole, "final_top1": top1}
        if status != "completed":
            ended = {"final_top1": top1}
        writer.finish(status, failure_kind=kind, **ended)
        return run_id

    def evaluate(self, evaluation_id: str, *rows: dict[str, Any]) -> None:
        """Add evaluations of test images; each row is laid over what is usual."""
        self.count += 1
        whole = []
        for row in rows:
            paper = SCHEDULES[row.get("dataset", "imagenet")]
            usual = {
                "evaluation_id": evaluation_id, "created": START + timedelta(days=self.count), "member": 1,
                "members": 1, "weights": [_hash_of(row)], "family": "imagenet", "depth": 34, "shortcut": "B",
                "stride": "v1", "num_classes": paper.num_classes, "dataset": paper.dataset, "sample": paper.sample,
                "split": "test", "images": paper.test_images, "protocol": "10-crop", "bn": "running", "top1": 0.75,
                "top5": 0.92, "git_commit": COMMIT, "dirty": False,
            }  # fmt: skip
            whole.append({**usual, **row})
        write_once(table_path(self.root, "evaluations", "2000-01", evaluation_id, 0), [to_table("evaluations", whole)])


@pytest.fixture
def store(tmp_path: Path) -> PaperStore:
    """An empty store that runs can be added to."""
    (tmp_path / "store").mkdir()
    return PaperStore(tmp_path / "store")


@pytest.fixture
def run(
    store: PaperStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command over the store; returns its status and what it printed."""
    monkeypatch.setenv("COLUMNS", "250")  # no cell is folded

    def call(*words: str) -> tuple[int, str, str]:
        where = [] if any(word.startswith("results=") for word in words) else [f"results={store.root}"]
        status = command.main([*words, *where])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def rows(run: Callable[..., tuple[int, str, str]]) -> Callable[..., list[dict[str, Any]]]:
    """The rows of a table or figure, from its JSON; keywords choose those with these values."""

    def call(word: str, **wanted: Any) -> list[dict[str, Any]]:
        status, out, err = run(word, "format=json")
        assert (status, err) == (0, "")
        found: list[dict[str, Any]] = json.loads(out)["rows"]
        return [row for row in found if all(row[name] == value for name, value in wanted.items())]

    return call
