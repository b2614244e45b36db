"""Writes a store as a year of nights leaves it: many runs, most of them small files, in twelve months.

    python tests/results/store/year_of_runs.py FOLDER [RUNS] [STEP_FILES] [STEPS]

Figures vary by two percent from run to run; a failure in a hundred runs has none.
"""

import json
import random
import sys
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from results.identity import comparability, config_hash  # noqa: E402
from results.store.files import read_rows, table_path  # noqa: E402
from results.store.schema import FIGURES, file_schema, to_table  # noqa: E402
from results.words import RECORD_ROOT  # noqa: E402

START = datetime(2025, 12, 1, tzinfo=UTC)
CELLS = [(depth, shortcut, seed) for depth in (20, 32, 44, 56, 110) for shortcut in "ABC" for seed in (1, 2, 3)]


def write_year(root: Path, runs: int, step_files: int, steps: int) -> None:
    """Write a store.

    Args:
        root: of the store.
        runs: each with a file of `runs`, `epochs` and `system`.
        step_files: how many of the runs have a file of `steps`.
        steps: rows of `steps` in all.
    """
    parts = [range(first, min(first + 250, runs)) for first in range(0, runs, 250)]
    write = partial(_write, root, runs, step_files, steps)
    if len(parts) == 1:
        write(parts[0])
        return
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(write, parts))


def _write(root: Path, runs: int, step_files: int, steps: int, numbers: range) -> None:
    whole = max(read_rows(RECORD_ROOT, "runs")[0], key=lambda row: row["run_id"])
    system = read_rows(RECORD_ROOT, "system", [whole["run_id"]])[0][0]
    config = json.loads(whole["config_json"])
    for number in numbers:
        chance = random.Random(number)
        depth, shortcut, seed = CELLS[number % len(CELLS)]
        start = START + timedelta(days=365) * number / runs
        month, run_id = f"{start:%Y-%m}", f"{start:%Y%m%dT%H%M%S}-resnet{depth}{shortcut}-digits-{number:08x}"
        cell = {**config, "depth": depth, "shortcut": shortcut, "seed": seed}
        rate, top1 = chance.gauss(1, 0.02) * 40000 / depth, chance.gauss(0.95, 0.004)
        row = {
            **whole, "run_id": run_id, "depth": depth, "shortcut": shortcut, "seed": seed, "init_start": start,
            "init_stop": start + timedelta(seconds=2), "run_start": start + timedelta(seconds=2),
            "run_stop": start + timedelta(seconds=60), "config_json": json.dumps(cell, sort_keys=True),
            "config_hash": config_hash(cell), "images_per_s": rate, "step_ms_p50": 1000 * 128 / rate,
            "step_ms_p95": 1300 * 128 / rate, "final_top1": top1, "best_top1": top1, "status": "completed",
            "git_commit": f"{number // 54:040x}", "slurm_job_id": str(number), "restart_count": 0, "lineage": None,
            "resumed_from": None, "resumed_epoch": None,
        }  # fmt: skip
        row |= comparability(row)
        if number % 100 == 99:
            row |= dict.fromkeys(FIGURES, None)
            row |= {"status": "failed", "failure_kind": "oom", "failure_message": "out of memory"}
            row["null_reasons"] = dict.fromkeys(FIGURES, "failed (oom) before it was measured")
        own = {"run_id": run_id, "restart": 0}
        epochs = [
            {**own, "epoch": one, "elapsed_s": 3.0 * one, "loss": 2.0 / one, "top1": top1 - 0.5 / one, "top5": 0.99,
             "lr": 0.1, "images": 1408, "eval_s": 0.1}
            for one in range(1, 16)
        ]  # fmt: skip
        tables = {
            "runs": to_table("runs", [row]),
            "epochs": to_table("epochs", epochs),
            "system": to_table("system", [{**system, **own}]),
        }
        every = max(1, runs // step_files) if step_files else runs + 1
        if number % every == 0 and number // every < step_files:
            tables["steps"] = _steps(run_id, steps // step_files, 1000 * 128 / rate, chance)
        for table, rows in tables.items():
            path = table_path(root, table, month, run_id, 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, path, compression="zstd")


def _steps(run_id: str, count: int, step_ms: float, chance: random.Random) -> pa.Table:
    took = [chance.gauss(step_ms, step_ms / 20) for _ in range(count)]
    columns = {
        "run_id": [run_id] * count,
        "restart": [0] * count,
        "rank": [0] * count,
        "step": list(range(count)),
        "t_ns": [int(one * 1e6) * place for place, one in enumerate(took)],
        "step_ms": took,
        "data_ms": [one / 50 for one in took],
        "compute_ms": [one * 0.9 for one in took],
        "comm_ms": [None] * count,
        "loss": [2.0 / (1 + place) for place in range(count)],
    }
    schema = file_schema("steps")
    return pa.table([pa.array(columns[field.name], field.type) for field in schema], schema=schema)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[2:]]
    write_year(Path(sys.argv[1]), *(numbers + [20_000, 1_000, 1_000_000][len(numbers) :]))
