"""Names, write-once writing and reading of the store's Parquet files.

Layout: ROOT/TABLE/month=YYYY-MM/RUN.RESTART.parquet, one file per attempt and table, and ROOT/journal/RUN.RESTART.jsonl
while the attempt goes. No locks: a file appears complete under its name, or not at all, and is never replaced.
"""

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from results.durable import create_file, sync_folder
from results.store.fit import one_line
from results.store.gather import Gathering
from results.store.index import index_path
from results.store.load import RUN_ID, BadFile, fitted, load_file, stem
from results.store.schema import Row, check_column, table_schema, to_rows

INDEXED_FROM = 256  # files of a table: fewer are read in about a second, so that a small store never gets an index


def attempt_name(run_id: str, restart: int) -> str:
    """Return the stem of an attempt's files.

    Raises:
        ValueError: the id cannot be a file's name, or the restart is negative.
    """
    if not RUN_ID.fullmatch(run_id):
        raise ValueError(f"run_id {run_id!r}: expected up to 128 letters, digits, '.', '_' or '-', no other first")
    if restart < 0:
        raise ValueError(f"restart_count {restart}: expected 0 or more")
    return f"{run_id}.{restart}"


def journal_path(root: Path, run_id: str, restart: int) -> Path:
    """Return where an attempt's journal is."""
    return root / "journal" / f"{attempt_name(run_id, restart)}.jsonl"


def journals(root: Path) -> list[Path]:
    """Return the journals under a root, of live and of dead attempts.

    Raises:
        OSError: their folder cannot be listed.
    """
    try:
        names = os.listdir(root / "journal")
    except FileNotFoundError:
        return []
    return [root / "journal" / name for name in sorted(names) if name.endswith(".jsonl") and name[0] != "."]


def table_path(root: Path, table: str, month: str, run_id: str, restart: int) -> Path:
    """Return where an attempt's file of a table is."""
    return root / table / f"month={month}" / f"{attempt_name(run_id, restart)}.parquet"


def table_files(root: Path, table: str, run_ids: Iterable[str] | None = None) -> list[Path]:
    """Return the files of a table, of chosen runs or of all."""
    months, _ = _listed(root, table, run_ids)
    return [folder / name for folder, names in months for name in names]


def _listed(
    root: Path, table: str, run_ids: Iterable[str] | None
) -> tuple[list[tuple[Path, list[str]]], list[BadFile]]:
    """The folders of months of a table, each with the names of its files, both sorted; and folders that fail."""
    table_schema(table)
    chosen = None if run_ids is None else set(run_ids)
    bad: list[BadFile] = []

    def names(folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except FileNotFoundError:
            return []
        except OSError as error:
            bad.append(BadFile(folder, error.strerror or one_line(error)))
            return []

    months = []
    for month in names(root / table):
        if month.startswith("month="):
            files = [one for one in names(root / table / month) if one.endswith(".parquet") and one[0] != "."]
            if chosen is not None:
                files = [one for one in files if stem(one)[0] in chosen]
            months.append((root / table / month, files))
    return months, bad


def write_once(path: Path, tables: Iterable[pa.Table]) -> bool:
    """Write tables of one schema as one zstd file, durably and atomically.

    Args:
        path: the file's name.
        tables: row groups; with no rows in them nothing is written.

    Returns:
        Whether the file was written; False where there were no rows.

    Raises:
        FileExistsError: `path` exists and is as it was.
    """
    rest = (table for table in tables if table.num_rows)
    first = next(rest, None)
    if first is None:
        return False

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, first.schema, compression="zstd") as writer:
            for table in itertools.chain([first], rest):
                writer.write_table(table)

    taken = FileExistsError(f"{path}: exists already, and rows are written once")
    if path.exists():
        raise taken
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        create_file(path, write)
    except FileExistsError:
        raise taken from None
    for folder in (path.parent.parent, path.parent.parent.parent):  # either may be new
        sync_folder(folder)
    return True


def read_table(
    root: Path | str, table: str, run_ids: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> tuple[pa.Table, list[BadFile]]:
    """Read all files of a table, by column name, in the order of their months and names.

    A column that a file lacks is null; one that it has beyond the schema (written by a later version) is kept, last.
    What another tool wrote again is cast where nothing is lost, see `results.store.fit`. A file that cannot be read,
    does not fit, or is a copy of another is set aside and listed; nothing is moved. Of many files an index is kept,
    see `results.store.index`.

    Args:
        root: of the store; a missing one holds no rows.
        table: name of the table.
        run_ids: read the files of these runs only.
        columns: of the schema, to read only these, in this order.

    Returns:
        The table, and the files set aside.

    Raises:
        ValueError: there is no such table or column.
    """
    root = Path(root)
    months, bad = _listed(root, table, run_ids)
    for name in columns or ():
        check_column(table, name)
    gathering = Gathering(table, columns, bad)
    indexed = sum(len(names) for _, names in months) >= INDEXED_FROM
    for folder, names in months:
        if indexed:
            gathering.month(folder, names, index_path(root, table, folder.name), update=run_ids is None)
        else:
            gathering.files(folder, names)
    return gathering.table(), gathering.bad


def read_rows(
    root: Path | str, table: str, run_ids: Iterable[str] | None = None, columns: Sequence[str] | None = None
) -> tuple[list[Row], list[BadFile]]:
    """Read a table as `read_table` does, as one dict a row (maps as dicts, times as datetimes)."""
    found, bad = read_table(root, table, run_ids, columns)
    return to_rows(found), bad


def read_file(path: Path, table: str) -> pa.Table:
    """Read one file of a table into the schema's order, columns of later versions last.

    Raises:
        ValueError: it cannot be read or is not a file of this table, in one line.
    """
    content = load_file(path).content
    if isinstance(content, str):
        raise ValueError(content)
    return fitted(table, path.name, content, {})
