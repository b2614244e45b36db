"""The figures of an attempt that did not complete, whatever ended it: what its journal holds and honestly follows.

A signal, an exception, the watchdog, the death of another rank, and a `kill -9` followed by `results.recover` all come
here, so that the same run has the same figures however it ended.
"""

import itertools
import math
from collections.abc import Mapping
from typing import Any, BinaryIO

from results.statistics import percentile
from results.store.journal import Contents, read_steps
from results.store.schema import FIGURES, Row, merge

__all__ = ["row_of"]

Figures = dict[str, float | int | str]  # by column the figure, or the reason why there is none


def row_of(contents: Contents, file: BinaryIO, ended: Mapping[str, Any] | None = None) -> Row:
    """Return the row of `runs` of an attempt that did not complete.

    What the row has already stands, but for a best accuracy, which grows. Each other figure follows from the journalled
    epochs and steps, or has a reason to be null.

    Args:
        contents: the journal, read.
        file: the open journal, for the steps.
        ended: how it ended where its journal does not say: `status`, `failure_kind` and `failure_message`; reasons that
            are known better than here in `null_reasons`.

    Raises:
        ValueError: a value that does not fit.
    """
    row = merge("runs", contents.row, ended or {})
    status = row["status"]
    epochs = sorted(contents.epochs, key=lambda epoch: epoch["epoch"])
    found: Figures = {}
    # Benchmarks without training have rows of `runs` too, and neither epochs nor steps.
    if row.get("benchmark") in (None, "training"):
        found = {
            "steps_completed": f"{status}; the last steps were not journalled",
            **_of_epochs(row, epochs),
            **_throughput(row, epochs),
            **_of_steps(row, file),
        }
    for column, value in found.items():  # JSON has them, and a row of `runs` refuses them
        if isinstance(value, float) and not math.isfinite(value):
            found[column] = f"{status}; what it follows from in the journal is not a finite number"
    known = {
        column: value
        for column, value in found.items()
        if not isinstance(value, str) and (row.get(column) is None or column == "best_top1")
    }
    known |= _that_follow({**row, **known})
    if row.get("benchmark") in (None, "training"):
        known["epochs_completed"] = _done(row, epochs)
    whole = {**row, **known}
    reasons = dict.fromkeys(FIGURES, f"{status} ({row.get('failure_kind')}) before it was measured")
    reasons |= {column: value for column, value in found.items() if isinstance(value, str)}
    if whole.get("peak_flops_per_s") is None and (unknown := (row.get("null_reasons") or {}).get("peak_flops_per_s")):
        reasons["mfu"] = unknown
    elif isinstance(why := found.get("images_per_s"), str):
        reasons["mfu"] = why
    reasons |= row.get("null_reasons") or {}
    return merge(
        "runs", row, {**known, "null_reasons": {name: why for name, why in reasons.items() if whole.get(name) is None}}
    )


def _that_follow(row: Row) -> Row:
    """Figures that follow from others of the row."""
    figures: Row = {}
    if row.get("active_s") is None and row.get("elapsed_s") is not None:
        figures["active_s"] = row["elapsed_s"] - (row.get("downtime_s") or 0.0)
    names = ("images_per_s", "flops_per_image", "peak_flops_per_s", "world_size")
    if row.get("mfu") is None and all(row.get(name) for name in names):
        rate, flops, peak, ranks = (float(row[name]) for name in names)
        figures["mfu"] = rate / ranks * flops / peak
    return figures


def _done(row: Row, epochs: list[Row]) -> int:
    """Epochs done, those of the attempt from which this one went on included."""
    return epochs[-1]["epoch"] if epochs else row.get("epochs_completed") or 0


def _of_epochs(row: Row, epochs: list[Row]) -> Figures:
    """Accuracy and time figures."""
    status, done, target = row["status"], _done(row, epochs), row.get("target_top1")
    measured = [epoch for epoch in epochs if epoch.get("top1") is not None]
    figures: Figures = {}
    if epochs and epochs[-1].get("elapsed_s") is not None:
        figures["elapsed_s"] = epochs[-1]["elapsed_s"]
    if row.get("synthetic"):
        none = "synthetic images: nothing to evaluate"
        return figures | dict.fromkeys(("best_top1", "final_top1", "epochs_to_target", "tta_s"), none)
    if measured:  # and what an attempt before had, from which this one went on
        figures["best_top1"] = max([*(epoch["top1"] for epoch in measured), row.get("best_top1") or 0.0])
    if measured and measured[-1]["epoch"] == row.get("epochs"):
        figures["final_top1"] = measured[-1]["top1"]
    else:
        whole = f"of {row.get('epochs') or 'an unknown number'}"
        if row.get("steps_cap") is not None:  # which ends it before those epochs do
            whole = f"in a run of {row['steps_cap']} steps"
        figures["final_top1"] = f"{status} after epoch {done} {whole}"
    reached = next((epoch for epoch in measured if target is not None and epoch["top1"] >= target), None)
    why = "no target" if target is None else f"{status} after epoch {done}, before top-1 {target:g} was reached"
    figures["epochs_to_target"] = reached["epoch"] if reached else why
    figures["tta_s"] = reached["elapsed_s"] if reached and reached.get("elapsed_s") is not None else why
    if reached and reached.get("elapsed_s") is None:
        figures["tta_s"] = "the epoch's time was not journalled"
    return figures


def _throughput(row: Row, epochs: list[Row]) -> Figures:
    """Images over time of whole epochs after the first (and after the warm-up).

    The time is that between their ends, less evaluation and checkpoints.
    """
    status = row["status"]

    def none(why: str) -> Figures:
        return {"images_per_s": why, "train_s": why}

    if any(epoch.get(column) is None for epoch in epochs for column in ("elapsed_s", "images")):
        return none(f"{status}; times or images of its epochs were not journalled")
    if any(later["epoch"] != epoch["epoch"] + 1 for epoch, later in itertools.pairwise(epochs)):
        return none(f"{status}; its journal lacks epochs")
    warmup, batch = row.get("warmup_steps") or 0, row.get("global_batch")
    if warmup and not batch:
        return none(f"{status}; the end of its warm-up is not known")
    images = itertools.accumulate(epoch["images"] for epoch in epochs)
    base = next((index for index, total in enumerate(images) if total >= warmup * (batch or 0)), len(epochs))
    counted = epochs[base + 1 :]
    if not counted:
        return none(f"{status} before a whole epoch after the warm-up")
    if any(epoch.get("top1") is not None and epoch.get("eval_s") is None for epoch in counted):
        return none(f"{status}; the time of its evaluations was not journalled")
    took = [epoch.get("checkpoint_s") for epoch in epochs[base:-1]]  # each comes after its epoch's clock
    if None in took and any(epoch.get("checkpoint_s") is not None for epoch in epochs):
        return none(f"{status}; the time of its checkpoints was not journalled")
    seconds = counted[-1]["elapsed_s"] - epochs[base]["elapsed_s"]
    seconds -= sum(epoch.get("eval_s") or 0.0 for epoch in counted)
    seconds -= sum(each or 0.0 for each in took)
    if seconds <= 0:
        return none(f"{status}; the times of its epochs contradict each other")
    return {"images_per_s": sum(epoch["images"] for epoch in counted) / seconds, "train_s": seconds}


def _of_steps(row: Row, file: BinaryIO) -> Figures:
    """Percentiles of rank 0's steps after the warm-up, and its wait for data over all of them."""
    status = row["status"]
    step_ms: list[float] = []
    data_ms: list[float] = []
    for columns in read_steps(file):
        ranks, whole = columns.get("rank", []), columns.get("step_ms", [])
        waits = columns.get("data_ms") or [None] * len(whole)
        for rank, step, wait in zip(ranks, whole, waits, strict=False):
            if rank == 0 and step is not None:
                step_ms.append(step)
                data_ms.append(float("nan") if wait is None else wait)
    figures: Figures = {}
    if step_ms and 0 <= sum(data_ms) <= sum(step_ms) < math.inf:
        figures["data_wait_frac"] = sum(data_ms) / sum(step_ms)
    warmup = row.get("warmup_steps")
    counted = step_ms[warmup:] if warmup is not None else []
    why = f"{status}; its warm-up is not known" if warmup is None else f"{status} before two steps after the warm-up"
    if not all(map(math.isfinite, counted)):
        counted, why = [], f"{status}; a step's time in the journal is not a finite number"
    for column, fraction in (("step_ms_p50", 0.5), ("step_ms_p95", 0.95)):
        figures[column] = percentile(counted, fraction) if len(counted) > 1 else why
    return figures
