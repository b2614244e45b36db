"""Reads one file of the store: opens it, fits it to its table, and sees that its rows are of whom its name says."""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from results.store.fit import ClashError, fit, later_types, one_line, printable
from results.store.schema import table_schema

__all__ = ["RUN_ID", "SMALL_BYTES", "BadFile", "Loaded", "fitted", "load_file", "stem"]

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
SMALL_BYTES = 2**17  # below it opening a file costs more than its rows
# The column that holds RESTART of the name RUN.RESTART, of tables whose files belong to one run. The files of
# `kernels` are numbered; those of `baselines` and `pairs` are named by their command.
_RESTART: dict[str, str | None] = {
    "runs": "restart_count",
    "epochs": "restart",
    "steps": "restart",
    "system": "restart",
    "kernels": None,
}


@dataclass(frozen=True)
class BadFile:
    """A file that a reader set aside, where it lies; `reason` is one printable line, and so is its text as a whole."""

    path: Path
    reason: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", one_line(self.reason))

    def __str__(self) -> str:
        return f"{printable(str(self.path))}: {self.reason}"


class Loaded(NamedTuple):
    """What a file holds, or in one line why that cannot be known.

    Attributes:
        size: bytes; None where the file could not even be opened, which may be otherwise the next time.
        mtime_ns: its time of change, in ns since 1970.
    """

    content: pa.Table | str
    size: int | None = None
    mtime_ns: int = 0


def stem(name: str) -> tuple[str, str]:
    """Return RUN and RESTART of a file's name; RUN is empty where it has none."""
    run_id, _, restart = name.removesuffix(".parquet").rpartition(".")
    return run_id, restart


def load_file(path: Path) -> Loaded:
    """Read a file as it is."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):  # a pipe would be waited for
            return Loaded("not a file")
        small = found.st_size <= SMALL_BYTES
        source = pa.BufferReader(path.read_bytes()) if small else pa.OSFile(str(path))
    except FileNotFoundError:
        return Loaded("a link to nothing" if path.is_symlink() else "gone since it was listed")
    except OSError as error:
        return Loaded(error.strerror or one_line(error))
    content: pa.Table | str
    try:
        # Not pq.read_table, which makes a column of the folder's month=.
        with source, pq.ParquetFile(source) as file:
            content = file.read(use_threads=not small)
    except (OSError, ValueError, pa.ArrowException) as error:
        content = one_line(error)
    return Loaded(content, found.st_size, found.st_mtime_ns)


def fitted(table: str, name: str, content: pa.Table, extras: dict[str, pa.DataType]) -> pa.Table:
    """Return a file's rows as those of its table, and of the run that it is named after; see `fit`.

    Args:
        table: name of the table.
        name: of the file.
        content: as read.
        extras: types of later columns met in other files; those of this one are added.

    Raises:
        ClashError: a later column has another type than in `extras`.
        ValueError: it is not a file of this table, or not named after its rows, in one line.
    """
    try:
        rows = fit(table, content, extras)
        _check_ids(table, name, rows, content.column_names)
    except ClashError:
        raise
    except (ValueError, pa.ArrowException) as error:
        raise ValueError(one_line(error)) from None
    later = later_types(table, content.schema)
    extras.update({column: kind for column, kind in later.items() if not pa.types.is_null(kind)})
    return rows


def _check_ids(table: str, name: str, rows: pa.Table, present: Sequence[str]) -> None:
    """Refuse ids that no writer gives, and rows of another attempt than the file's name says."""
    run_id, restart = stem(name)
    if not (RUN_ID.fullmatch(run_id) and re.fullmatch(r"[0-9]+", restart)):
        raise ValueError("not named RUN.RESTART.parquet")
    for column in ("run_id", "pairs_id", "baseline_id", "evaluation_id"):
        if column not in present or column not in table_schema(table).names:
            continue
        for one in pc.unique(rows[column]).to_pylist():
            if one is None and column != "baseline_id":  # which older files lack
                raise ValueError(f"a row has no {column}")
            if one is not None and not RUN_ID.fullmatch(one):
                raise ValueError(
                    f"{column} {one!r}: expected up to 128 letters, digits, '.', '_' or '-', no other first"
                )
            if column == "run_id" and table in _RESTART and one != run_id:
                raise ValueError(f"a copy: its rows are of {one}, by its name of {run_id}")
    if column := _RESTART.get(table) or "":
        for one in pc.unique(rows[column]).to_pylist():
            if one is not None and one != int(restart):
                raise ValueError(f"a copy: its rows are of {run_id}.{one}, by its name of {run_id}.{restart}")
    if table == "runs" and rows.num_rows > 1:
        raise ValueError(f"{rows.num_rows} rows of one attempt, expected one")
