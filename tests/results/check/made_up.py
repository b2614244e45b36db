"""A store of made-up runs, written as the suite writes them."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.store.files import BadFile, table_path, write_once
from results.store.schema import SCHEMA_VERSION, clean_row, to_table

START = datetime(2026, 11, 1, tzinfo=UTC)
CONFIG = {"family": "cifar", "dataset": "digits", "depth": 20, "shortcut": "A", "stride": "v1", "batch": 32, "lr": 0.1}
SYSTEM = "2xSome CPU;torch2.13,deepspeed0.19,dali2.4;python3.11"
OLD, NEW = "a" * 40, "b" * 40


class Store:
    """Made-up runs in a folder; each begins an hour, or as long as is said, after the one before."""

    def __init__(self, root: Path, start: datetime = START, step: timedelta = timedelta(hours=1)) -> None:
        self.root, self.start, self.step = root, start, step
        self.count = 0
        (root / "runs").mkdir(parents=True, exist_ok=True)

    @property
    def now(self) -> datetime:
        """Just after the last run."""
        return self.start + self.count * self.step + timedelta(minutes=1)

    def run(self, images_per_s: float | None = 1000.0, *, config: dict[str, Any] | None = None, **columns: Any) -> str:
        """Write a run and return its id."""
        self.count += 1
        started = columns.pop("started", None) or self.start + self.count * self.step
        whole = {**CONFIG, "seed": self.count, **(config or {})}
        row: dict[str, Any] = {
            "run_id": f"{started:%Y%m%dT%H%M%S}-resnet20A-digits-{self.count:08x}", "schema_version": SCHEMA_VERSION,
            "git_commit": OLD, "dirty": False, "benchmark": "training",
            "config_json": json.dumps(whole, sort_keys=True),
            "status": "completed", "restart_count": 0, "hardware": SYSTEM, "sample": whole["dataset"],
            "dataset": whole["dataset"], "dataset_hash": "d1", "threads_per_rank": 1, "loader_threads": 1,
            "family": whole["family"], "depth": whole["depth"], "shortcut": whole["shortcut"], "stride": "v1",
            "kernels": "torch", "loader": "dali", "engine": "deepspeed", "precision": "bf16", "world_size": 2,
            "seed": whole["seed"], "init_start": started, "init_stop": started + timedelta(seconds=2),
            "run_start": started + timedelta(seconds=2), "run_stop": started + timedelta(seconds=30),
            "elapsed_s": max(28.0, 28e3 / images_per_s) if images_per_s else 28.0, "train_s": 24.0,
            "target_top1": 0.97, "images_per_s": images_per_s,
            "step_ms_p50": 64e3 / images_per_s if images_per_s else None,
            "tta_s": 16e3 / images_per_s if images_per_s else None, "epochs_to_target": 9, "final_top1": 0.99,
            "peak_mem_bytes": 600_000_000,
        }  # fmt: skip
        row |= columns
        self.write("runs", [row], row["run_id"], row["restart_count"] or 0)
        return row["run_id"]

    def write(
        self, table: str, rows: list[dict[str, Any]], name: str, restart: int = 0, month: str = "2026-11"
    ) -> None:
        """Write rows as one file."""
        cleaned = [clean_row(table, row) for row in rows]
        write_once(table_path(self.root, table, month, name, restart), [to_table(table, cleaned)])

    def pairs(self, changes: list[float], *, a: str = OLD, b: str = NEW, **columns: Any) -> str:
        """Write interleaved pairs in which b is slower by these fractions, and return their id."""
        self.count += 1
        name = f"pairs-{self.count:04d}"
        for pair, change in enumerate(changes, start=1):
            ids = {
                "a": self.run(1000.0, git_commit=a, **columns),
                "b": self.run(1000.0 * (1 - change), git_commit=b, **columns),
            }
            rows = [
                {"pairs_id": name, "pair": pair, "side": side, "position": 1, "run_id": run_id, "restart": 0}
                for side, run_id in ids.items()
            ]
            self.write("pairs", rows, f"{name}-p{pair:02d}")
        return name


class Memory(Store):
    """The same without files of runs, pairs and kernels; `read_table` is the store's, of this memory."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rows: dict[str, list[dict[str, Any]]] = {}

    def write(
        self, table: str, rows: list[dict[str, Any]], name: str, restart: int = 0, month: str = "2026-11"
    ) -> None:
        self.rows.setdefault(table, []).extend(clean_row(table, row) for row in rows)

    def read_table(
        self, root: Path, table: str, run_ids: Any = None, columns: Any = None
    ) -> tuple[pa.Table, list[BadFile]]:
        rows = self.rows.get(table, [])
        found = to_table(table, [row for row in rows if run_ids is None or row["run_id"] in set(run_ids)])
        return found.select(columns or found.column_names), []


def recent(root: Path) -> Store:
    """A store whose runs are of the last hours, as commands want them that ask the clock."""
    return Store(root, datetime.now(UTC) - timedelta(hours=12), timedelta(minutes=10))


def spread(count: int, around: float = 1000.0, by: float = 0.004) -> list[float]:
    """Rates in no order, evenly around one: a standard deviation of about `by`, and never two alike."""
    return [around * (1 + by * 1.7 * (2 * ((7 * index) % count + 0.5) / count - 1)) for index in range(count)]
