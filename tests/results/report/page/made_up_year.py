"""Writes a store as nights of 45 runs leave it, in which a few things happen that a page has to tell.

    python tests/results/report/page/made_up_year.py FOLDER [NIGHTS]

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
TOP1 = {20: 0.9125, 32: 0.9249, 44: 0.9283, 56: 0.9303, 110: 0.9357}


def run_name(night: int, depth: int, shortcut: str, seed: int) -> str:
    """The id of a run."""
    start = FIRST + timedelta(days=night)
    number = 1000 * night + 9 * DEPTHS.index(depth) + 3 * SHORTCUTS.index(shortcut) + seed
    return f"{start:%Y%m%dT%H%M%S}-resnet{depth}{shortcut}-digits-{number:08x}"


def write_year(root: Path, nights: int, accepted: int = 20) -> None:
    """Write a store.

    Args:
        nights: of 45 runs.
        accepted: of these, the first ones.
    """
    spans = [range(first, min(first + 10, nights)) for first in range(0, nights, 10)]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(partial(_write, root, nights), spans))
    keys: dict[str, list[str]] = {}
    rows = read_rows(root, "runs", columns=["run_id", "comparability_key", "run_start", "status"])[0]
    for row in sorted(rows, key=lambda row: row["run_start"]):
        if row["run_start"] < FIRST + timedelta(days=accepted) and row["status"] == "completed":
            keys.setdefault(row["comparability_key"], []).append(row["run_id"])
    append(root, "accept", keys, reason="the first nights")


def _write(root: Path, nights: int, span: Sequence[int]) -> None:
    whole = max(read_rows(RECORD_ROOT, "runs")[0], key=lambda row: row["run_id"])
    system = read_rows(RECORD_ROOT, "system", [whole["run_id"]])[0][0]
    config = json.loads(whole["config_json"])
    for night in span:
        last = night >= nights - LAST
        own = {**system, "torch": "2.13.0" if night < nights // 2 else "2.13.1", "hostname": "node07"}
        own["system_id"] = system_id(own)
        for depth in DEPTHS:
            for shortcut in SHORTCUTS:
                for seed in SEEDS:
                    if not (last and (depth, shortcut) == LACKING):
                        _write_run(root, whole, config, own, night, depth, shortcut, seed, last)


def _write_run(
    root: Path, whole: dict[str, Any], config: dict[str, Any], system: dict[str, Any], night: int, depth: int,
    shortcut: str, seed: int, last: bool,
) -> None:  # fmt: skip
    chance = random.Random(f"{night} {depth} {shortcut} {seed}")
    run_id = run_name(night, depth, shortcut, seed)
    start = FIRST + timedelta(days=night, minutes=10 * seed + depth / 20)
    cell = {**config, "depth": depth, "shortcut": shortcut, "seed": seed}
    cell.pop("scale", None)
    slower = last and (depth, shortcut) == SLOWER
    rate = chance.gauss(1, 0.01) * 40000 / depth * (1 - DROP * slower)
    top1 = TOP1[depth] + chance.gauss(0, 0.001)
    target, seconds = 0.91, 24 * 50000 / rate
    row = {
        **whole, "run_id": run_id, "family": "cifar", "depth": depth, "shortcut": shortcut, "seed": seed, "scale": None,
        "experiment": None, "init_start": start, "init_stop": start + timedelta(seconds=2),
        "run_start": start + timedelta(seconds=2), "run_stop": start + timedelta(seconds=2 + 2 * seconds),
        "config_json": json.dumps(cell, sort_keys=True), "config_hash": config_hash(cell),
        "system_id": system["system_id"],
        "images_per_s": rate, "step_ms_p50": 128e3 / rate, "step_ms_p95": 130e3 / rate, "final_top1": top1,
        "best_top1": top1, "target_top1": target, "tta_s": seconds, "epochs_to_target": 24, "elapsed_s": 2 * seconds,
        "active_s": 2 * seconds, "train_s": 1.9 * seconds, "status": "completed", "dirty": False, "null_reasons": None,
        "git_commit": f"{night // 5 + 1:08x}{0:032x}", "slurm_job_id": str(45 * night + 3 * depth + seed),
        "array_task": None, "mixed": None, "lineage": None, "resumed_from": None, "resumed_epoch": None,
        "restart_count": 0, "downtime_s": None, "kernels": "torch", "epochs": 165, "epochs_completed": 165,
        "steps_cap": 64_000, "steps_completed": 64_000, "images_per_epoch": 49_920,
    }  # fmt: skip
    row |= comparability(row)
    if last and (depth, shortcut) == FAILING:
        row |= dict.fromkeys(FIGURES, None)
        row |= {"status": "failed", "failure_kind": "oom", "failure_message": "out of memory: 81,559 MiB of 81,920"}
        row["null_reasons"] = dict.fromkeys(FIGURES, "failed (oom) before it was measured")
    own = {"run_id": run_id, "restart": 0}
    epochs = [
        {**own, "epoch": one, "elapsed_s": seconds * one / 24, "loss": 2.0 / one, "top1": top1 - 0.3 / one**1.5,
         "top5": 0.99, "lr": 0.1, "images": 50000, "eval_s": 0.1,
         "train_top1": top1 - 0.35 / one**1.5 + 0.002 * one / 24}
        for one in range(1, 49, 3)
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


if __name__ == "__main__":
    write_year(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 250)
