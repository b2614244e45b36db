"""What the rows of `runs` of early ends should say, computed again from the tables `epochs` and `steps` alone."""

import math
from pathlib import Path
from typing import Any

import numpy as np

from results.store.files import read_rows
from results.store.schema import FIGURES

# Of a run that did not complete, what follows from its tables; null where the tables do not have enough.
COLUMNS = (
    "epochs_completed", "elapsed_s", "active_s", "best_top1", "final_top1", "epochs_to_target", "tta_s", "train_s",
    "images_per_s", "step_ms_p50", "step_ms_p95", "data_wait_frac",
)  # fmt: skip
# Of them those that do not change with the end of the training.
OF_EPOCHS = ("epochs_completed", "best_top1", "final_top1", "epochs_to_target", "tta_s")


def figures(row: dict[str, Any], epochs: list[dict[str, Any]], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of one attempt that did not go on from another."""
    epochs = sorted(epochs, key=lambda epoch: epoch["epoch"])
    own = sorted((step for step in steps if step["rank"] == 0), key=lambda step: step["step"])
    found: dict[str, Any] = dict.fromkeys(COLUMNS)
    found["epochs_completed"] = len(epochs)
    if epochs:
        found["elapsed_s"] = found["active_s"] = epochs[-1]["elapsed_s"]
        found["best_top1"] = max(epoch["top1"] for epoch in epochs)
    if len(epochs) == row["epochs"]:
        found["final_top1"] = epochs[-1]["top1"]
    for epoch in epochs:
        if epoch["top1"] >= row["target_top1"]:
            found |= {"epochs_to_target": epoch["epoch"], "tta_s": epoch["elapsed_s"]}
            break
    warm = 0
    while warm < len(epochs) and sum(epoch["images"] for epoch in epochs[: warm + 1]) < (
        row["warmup_steps"] * row["global_batch"]
    ):
        warm += 1
    if len(epochs) > warm + 1:
        found["train_s"] = sum(
            later["elapsed_s"] - before["elapsed_s"] - later["eval_s"] - (before["checkpoint_s"] or 0.0)
            for before, later in zip(epochs[warm:], epochs[warm + 1 :], strict=False)
        )
        found["images_per_s"] = sum(epoch["images"] for epoch in epochs[warm + 1 :]) / found["train_s"]
    if own:
        found["data_wait_frac"] = sum(step["data_ms"] for step in own) / sum(step["step_ms"] for step in own)
    counted = [step["step_ms"] for step in own][row["warmup_steps"] :]
    if len(counted) > 1:
        found["step_ms_p50"], found["step_ms_p95"] = (float(np.quantile(counted, share)) for share in (0.5, 0.95))
    return found


def differences(root: Path) -> list[str]:
    """Where rows of runs that did not complete differ from their own tables, or a missing figure has no reason."""
    rows, bad = read_rows(root, "runs")
    tables = {table: read_rows(root, table)[0] for table in ("epochs", "steps")}
    found = [f"{file.path}: {file.reason}" for file in bad]
    for row in rows:
        if row["status"] == "completed":
            continue
        key = row["run_id"], row["restart_count"]
        epochs, steps = (
            [each for each in table if (each["run_id"], each["restart"]) == key] for table in tables.values()
        )
        expected = figures(row, epochs, steps)
        if row["steps_completed"] is not None:  # it ended after its training, of which the whole figures were there
            expected = {column: expected[column] for column in OF_EPOCHS}
            expected["steps_completed"] = len({step["step"] for step in steps})
        for column, value in expected.items():
            same = row[column] == value or (value and row[column] and math.isclose(row[column], value, rel_tol=1e-9))
            if not same:
                found.append(f"{key}: {column} is {row[column]}, its tables say {value}")
        missing = {column for column in FIGURES if row[column] is None}
        if missing != set(row["null_reasons"] or {}) & set(FIGURES):
            found.append(f"{key}: null are {sorted(missing)}, with reasons {sorted(row['null_reasons'] or {})}")
    return found
