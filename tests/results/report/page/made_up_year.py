"""Writes a store as nights of 45 runs leave it, in which a few things happen that a page has to tell.

    python tests/results/report/page/made_up_year.py FOLDER [NIGHTS [LAST_NIGHT]]

LAST_NIGHT is when it begins, such as 2026-11-27T02:00, UTC; without it the first night is that of 2026-01-01.

Each night trains 5 depths with 3 shortcuts and 3 seeds. Figures vary by one percent from run to run. In the last three
nights ResNet-56 with shortcut B is 8% slower, ResNet-110 with shortcut C runs out of memory, and ResNet-44 with
shortcut A is not measured; halfway torch is renewed, which changes no figure. The first 20 nights are accepted.
"""

import json
import random
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[4]))

from results.check.baselines import append  # noqa: E402
from results.identity import comparability, config_hash, system_id  # noqa: E402
from results.store.files import read_rows, table_path  # noqa: E402
from results.store.schema import FIGURES, to_table  # noqa: E402
from results.words import RECORD_ROOT  # noqa: E402

FIRST = datetime(2026, 1, 1, 2, tzinfo=UTC)
DEPTHS, SHORTCUTS, SEEDS = (20, 32, 44, 56, 110), "ABC", (1, 2, 3)
SLOWER, LACKING, FAILING = (56, "B"), (44, "A"), (110, "C")
LAST = 3  # nights in which these are so
NIGHTS, ACCEPTED = 8, 5  # of the store that tests share
DROP = 0.08
EPOCHS, EVERY, TARGET = 165, 6, 0.9  # trained; evaluated each so many; top-1
TOP1 = {20: 0.9125, 32: 0.9249, 44: 0.9283, 56: 0.9303, 110: 0.9357}


def run_name(first: datetime, night: int, depth: int, shortcut: str, seed: int) -> str:
    """The id of a run."""
    start = first + timedelta(days=night)
    number = 1000 * night + 9 * DEPTHS.index(depth) + 3 * SHORTCUTS.index(shortcut) + seed
    return f"{start:%Y%m%dT%H%M%S}-resnet{depth}{shortcut}-cifar10-{number:08x}"


def write_year(root: Path, nights: int, accepted: int = 20, first: datetime = FIRST) -> None:
    """Write a store.

    Args:
        nights: of 45 runs.
        accepted: of these, the first ones.
        first: when the first one begins.
    """
    spans = [range(first, min(first + 10, nights)) for first in range(0, nights, 10)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(_write, root, nights, first), spans))
    keys: dict[str, list[str]] = {}
    rows = read_rows(root, "runs", columns=["run_id", "comparability_key", "run_start", "status"])[0]
    until = first + timedelta(days=accepted)
    for row in sorted(rows, key=lambda row: row["run_start"]):
        if first <= row["run_start"] < until and row["status"] == "completed":
            keys.setdefault(row["comparability_key"], []).append(row["run_id"])
    append(root, "accept", keys, reason="the first nights")


def _write(root: Path, nights: int, first: datetime, span: Sequence[int]) -> None:
    whole = max(read_rows(RECORD_ROOT, "runs")[0], key=lambda row: row["run_id"])
    system = read_rows(RECORD_ROOT, "system", [whole["run_id"]])[0][0]
    config = {
        name: value for name, value in json.loads(whole["config_json"]).items() if name not in ("scale", "examine")
    }  # fmt: skip
    config |= {"kernels": "torch", "epochs": EPOCHS, "steps": 64_000, "target": TARGET}
    for night in span:
        last = night >= nights - LAST
        own = {**system, "torch": "2.13.0" if night < nights // 2 else "2.13.1", "hostname": "node07"}
        own["system_id"] = system_id(own)
        for depth in DEPTHS:
            for shortcut in SHORTCUTS:
                for seed in SEEDS:
                    if not (last and (depth, shortcut) == LACKING):
                        _write_run(root, whole, config, own, first, night, depth, shortcut, seed, last)


def _write_run(
    root: Path, whole: dict[str, Any], config: dict[str, Any], system: dict[str, Any], first: datetime, night: int,
    depth: int, shortcut: str, seed: int, last: bool,
) -> None:  # fmt: skip
    chance = random.Random(f"{night} {depth} {shortcut} {seed}")
    run_id = run_name(first, night, depth, shortcut, seed)
    start = first + timedelta(days=night, minutes=10 * seed + depth / 20)
    cell = {**config, "depth": depth, "shortcut": shortcut, "seed": seed}
    slower = last and (depth, shortcut) == SLOWER
    rate = chance.gauss(1, 0.01) * 400_000 / depth * (1 - DROP * slower)
    top1 = TOP1[depth] + chance.gauss(0, 0.001)
    epoch_s = 50000 / rate
    tops = {epoch: top1 - 0.3 / epoch**1.5 - _above(epoch) for epoch in range(1, EPOCHS + 1, EVERY)}
    reached = next(epoch for epoch, one in tops.items() if one >= TARGET)
    seconds = epoch_s * EPOCHS
    row = {
        **whole, "run_id": run_id, "sample": "made-up images", "family": "cifar", "depth": depth, "shortcut": shortcut,
        "seed": seed, "scale": None,
        "experiment": None, "init_start": start, "init_stop": start + timedelta(seconds=2),
        "run_start": start + timedelta(seconds=2), "run_stop": start + timedelta(seconds=2 + seconds),
        "config_json": json.dumps(cell, sort_keys=True), "config_hash": config_hash(cell),
        "system_id": system["system_id"],
        "images_per_s": rate, "step_ms_p50": 128e3 / rate, "step_ms_p95": 130e3 / rate, "final_top1": top1,
        "best_top1": top1, "target_top1": TARGET, "tta_s": epoch_s * reached, "epochs_to_target": reached,
        "elapsed_s": seconds, "active_s": seconds, "train_s": 0.95 * seconds, "status": "completed", "dirty": False,
        "null_reasons": None,
        "git_commit": f"{night // 5 + 1:08x}{0:032x}", "slurm_job_id": str(45 * night + 3 * depth + seed),
        "array_task": None, "mixed": None, "lineage": None, "resumed_from": None, "resumed_epoch": None,
        "restart_count": 0, "downtime_s": None, "kernels": "torch", "epochs": EPOCHS, "epochs_completed": EPOCHS,
        "steps_cap": 64_000, "steps_completed": 64_000, "images_per_epoch": 49_920,
    }  # fmt: skip
    row |= comparability(row)
    if last and (depth, shortcut) == FAILING:
        row |= dict.fromkeys(FIGURES, None)
        row |= {"status": "failed", "failure_kind": "oom", "failure_message": "out of memory: 24,071 MiB of 24,105"}
        row["null_reasons"] = dict.fromkeys(FIGURES, "failed (oom) before it was measured")
    own = {"run_id": run_id, "restart": 0}
    epochs = [
        {**own, "epoch": one, "elapsed_s": epoch_s * one, "loss": 2.0 / one, "top1": top, "top5": 0.99, "lr": 0.1,
         "images": 50000, "eval_s": 0.1, "train_top1": top - 0.05 / one**1.5 + 0.05 * one / EPOCHS}
        for one, top in tops.items()
    ]  # fmt: skip
    tables = {
        "runs": to_table("runs", [row]),
        "epochs": to_table("epochs", epochs if row["status"] == "completed" else epochs[:1]),
        "system": to_table("system", [{**system, **own}]),
    }
    for table, rows in tables.items():
        path = table_path(root, table, f"{start:%Y-%m}", run_id, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, path, compression="zstd")


def _above(epoch: int) -> float:
    """What the error is above its last one while the learning rate is still high."""
    return 0.08 if epoch < EPOCHS / 2 else 0.008 if epoch < EPOCHS * 3 / 4 else 0.0


if __name__ == "__main__":
    folder, count, *night = sys.argv[1:] if len(sys.argv) > 2 else (*sys.argv[1:], "250")
    begin = datetime.fromisoformat(night[0]).replace(tzinfo=UTC) - timedelta(days=int(count) - 1) if night else FIRST
    write_year(Path(folder), int(count), first=begin)
