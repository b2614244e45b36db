"""A run as trackers of experiments take one: settings, figures, and a series over the epochs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from results.store.files import read_rows
from results.store.schema import FIGURES, INT, REAL, SCHEMAS, Row
from results.words import ConfigError

__all__ = ["ENDED", "Epoch", "ExportedRun", "Setting", "exported", "last_of"]

Setting = str | int | float | bool
# What was found out, not chosen; the rest of a row is settings.
MEASURED = (
    *FIGURES, "prepare_s", "downtime_s", "epochs_completed", "decoder_warnings", "files_left_out",
)  # fmt: skip
AXES = ("run_id", "restart", "epoch")  # of a row of `epochs`, beside its values
ENDED = ("completed", "failed", "killed")


@dataclass(frozen=True)
class Epoch:
    """A row of `epochs`.

    Attributes:
        epoch: 1 is the first.
        at: when its evaluation had ended, by the run's own clock, UTC. Where the last attempt was killed, epochs of
            those before it are too late by the time between them.
        values: by column; what is not known is left out.
    """

    epoch: int
    at: datetime
    values: dict[str, float | int]


@dataclass(frozen=True)
class ExportedRun:
    """The last attempt of a run.

    Attributes:
        started, ended: UTC; `ended` is None where nobody knows.
        status: completed, failed or killed.
        settings: columns of `runs` that say what it was, and how it ended; times as ISO 8601, the rest as in the row.
            What is null is left out.
        figures: columns of `runs` that were measured.
        epochs: in their order; of an epoch that was trained twice the later one.
    """

    run_id: str
    started: datetime
    ended: datetime | None
    status: str
    settings: dict[str, Setting]
    figures: dict[str, float | int]
    epochs: list[Epoch]


def exported(root: Path, rows: Iterable[Row]) -> list[ExportedRun]:
    """Read runs of a store as they are exported, in the order in which they are given.

    Args:
        rows: of `runs`, whole; of each run the last attempt counts.

    Raises:
        ConfigError: the epochs of one cannot be read, or it does not say when it began.
    """
    last = {row["run_id"]: row for row in last_of(rows)}
    epochs, bad = read_rows(root, "epochs", last)
    if bad:
        raise ConfigError(f"{bad[0].path}: cannot be read: {bad[0].reason}; leave its run out with run= or a filter")
    by_run: dict[str, dict[int, Row]] = {run_id: {} for run_id in last}
    for epoch in sorted(epochs, key=lambda epoch: epoch["restart"] or 0):
        if epoch["epoch"] is not None:
            by_run[epoch["run_id"]][epoch["epoch"]] = epoch
    return [_exported(row, [epoch for _, epoch in sorted(by_run[run_id].items())]) for run_id, row in last.items()]


def last_of(rows: Iterable[Row]) -> list[Row]:
    """Return the last attempt of each run."""
    last: dict[str, Row] = {}
    for row in rows:
        before = last.get(row["run_id"])
        if before is None or (row["restart_count"] or 0) >= (before["restart_count"] or 0):
            last[row["run_id"]] = row
    return list(last.values())


def _exported(row: Row, epochs: list[Row]) -> ExportedRun:
    started = row["run_start"] or row["init_start"] or _began(row["run_id"])
    if started is None:
        raise ConfigError(f"run={row['run_id']}: neither its row nor its id says when it began")
    numbers = {field.name for field in SCHEMAS["runs"] if field.type in (INT, REAL)}
    known = {name: value for name, value in row.items() if value is not None and name in SCHEMAS["runs"].names}
    figures = {name: value for name, value in known.items() if name in MEASURED and name in numbers}
    return ExportedRun(
        run_id=row["run_id"], started=started, ended=row["run_stop"], status=row["status"],
        settings={name: _setting(value) for name, value in known.items() if name not in figures},
        figures=figures,
        epochs=[
            Epoch(
                one["epoch"], _at(_origin(row, started), one["elapsed_s"]),
                {name: one[name] for name in SCHEMAS["epochs"].names if name not in AXES and one[name] is not None},
            )
            for one in epochs
        ],
    )  # fmt: skip


def _origin(row: Row, started: datetime) -> datetime:
    """When the run's clock began, which never pauses: an attempt that goes on has that of the first one."""
    if row["run_stop"] is not None and row["elapsed_s"] is not None:
        return _at(row["run_stop"], -row["elapsed_s"])
    return _at(started, row["prepare_s"])


def _at(origin: datetime, seconds: float | None) -> datetime:
    """A time on a clock; where that cannot be, its origin."""
    try:
        return origin + timedelta(seconds=seconds or 0.0)
    except (ValueError, OverflowError):  # not finite, or beyond the years
        return origin


def _setting(value: Any) -> Setting:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    return value if isinstance(value, str | int | float | bool) else json.dumps(value, sort_keys=True)


def _began(run_id: str) -> datetime | None:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
