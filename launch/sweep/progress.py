"""How far a run has come, from the journal that it writes while it goes, or from its row."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from results.store.journal import Contents
from results.store.schema import Row

__all__ = ["Progress", "of_journal", "of_row"]

TAIL = 262144  # bytes of a journal that have its last steps
LAST_STEPS = 50  # whose mean time the rate is


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run has come; None is what is not known, or not yet.

    Attributes:
        epoch: epochs done.
        epochs, steps: planned.
        step: optimizer steps done.
        images_per_s: of the last steps where it runs, of all that count where it is over.
        top1: of the last evaluation, a fraction.
        left_s: seconds that the rest will take.
    """

    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    images_per_s: float | None = None
    top1: float | None = None
    left_s: float | None = None


def of_row(row: Row) -> Progress:
    """Return how far a run came that has its row.

    Args:
        row: with `last_top1`, of its last epoch, where it did not come to its end.
    """
    top1 = row.get("final_top1")
    return Progress(
        epoch=row.get("epochs_completed"),
        epochs=row.get("epochs"),
        step=row.get("steps_completed"),
        steps=_planned(row),
        images_per_s=row.get("images_per_s"),
        top1=row.get("last_top1") if top1 is None else top1,  # never the best
    )


def of_journal(contents: Contents, file: BinaryIO) -> Progress:
    """Return how far a run has come that has no row yet.

    Args:
        contents: the journal, read.
        file: the open journal, for its last steps.
    """
    row, epochs = contents.row, contents.epochs
    step, step_ms = _last_steps(file)
    batch, steps = row.get("global_batch"), _planned(row)
    mean_ms = sum(step_ms) / len(step_ms) if step_ms else None
    tops = [epoch["top1"] for epoch in epochs if epoch.get("top1") is not None]
    return Progress(
        epoch=epochs[-1]["epoch"] if epochs else row.get("epochs_completed") or 0,
        epochs=row.get("epochs"),
        step=step,
        steps=steps,
        images_per_s=1000 * batch / mean_ms if batch and mean_ms else None,
        top1=tops[-1] if tops else None,
        left_s=_left_s(contents, step, steps, mean_ms),
    )


def _planned(row: Mapping[str, Any]) -> int | None:
    """Optimizer steps of a whole run."""
    images, batch, epochs = row.get("images_per_epoch"), row.get("global_batch"), row.get("epochs")
    whole = images // batch * epochs if images and batch and epochs else None
    caps = [each for each in (whole, row.get("steps_cap")) if each]
    return min(caps, default=None)


def _last_steps(file: BinaryIO) -> tuple[int | None, list[float]]:
    """The number of rank 0's last step, and the times of some before it, in milliseconds."""
    file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
    last: int | None = None
    times: list[float] = []
    for line in file.read().split(b"\n")[-1::-1]:
        if len(times) >= LAST_STEPS:
            break
        if not line.startswith(b'{"kind":"steps"'):
            continue
        try:
            columns = json.loads(line)["columns"]
            own = [at for at, rank in enumerate(columns["rank"]) if rank == 0]
            found: Sequence[float] = [float(columns["step_ms"][at]) for at in own]
            number = max((int(columns["step"][at]) for at in own), default=None)
        except (ValueError, KeyError, TypeError, IndexError):  # torn, or of a writer that is none of ours
            continue
        times += reversed(found)
        last = number if last is None else last
    return last, times[:LAST_STEPS]


def _left_s(contents: Contents, step: int | None, steps: int | None, mean_ms: float | None) -> float | None:
    """Seconds from the last line on: the steps that are left, and the evaluations and checkpoints behind them."""
    if step is None or steps is None or mean_ms is None:
        return None
    epochs, planned = contents.epochs, contents.row.get("epochs")
    aside = [(epoch.get("eval_s") or 0.0) + (epoch.get("checkpoint_s") or 0.0) for epoch in epochs]
    rest = max(0, planned - epochs[-1]["epoch"]) if planned and epochs else 0
    mean_s = sum(aside) / len(aside) if aside else 0.0
    return max(0, steps - step) * mean_ms / 1000 + rest * mean_s


def age_s(contents: Contents, now: datetime) -> float:
    """Seconds since the journal's last line, by the clocks of two machines."""
    return max(0.0, (now - contents.last_at).total_seconds())
