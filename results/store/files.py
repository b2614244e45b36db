"""Names, write-once writing and reading of the store's Parquet files.

Layout: ROOT/TABLE/month=YYYY-MM/RUN.RESTART.parquet, one file per attempt and table, and ROOT/journal/RUN.RESTART.jsonl
while the attempt goes. No locks: a file appears complete under its name, or not at all, and is never replaced.
"""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from results.durable import create_file, sync_folder
from results.store.schema import REQUIRED, SCHEMA_VERSION, Row, table_schema, to_rows, to_table

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class BadFile:
    """A file that a reader set aside, where it lies; `reason` is one line."""

    path: Path
    reason: str


def attempt_name(run_id: str, restart: int) -> str:
    """Return the stem of an attempt's files.

    Raises:
        ValueError: the id cannot be a file's name, or the restart is negative.
    """
    if not _RUN_ID.fullmatch(run_id):
        raise ValueError(f"run_id {run_id!r}: expected up to 128 letters, digits, '.', '_' or '-', no other first")
    if restart < 0:
        raise ValueError(f"restart_count {restart}: expected 0 or more")
    return f"{run_id}.{restart}"


def journal_path(root: Path, run_id: str, restart: int) -> Path:
    """Return where an attempt's journal is."""
    return root / "journal" / f"{attempt_name(run_id, restart)}.jsonl"


def journals(root: Path) -> list[Path]:
    """Return the journals under a root, of live and of dead attempts."""
    return sorted((root / "journal").glob("[!.]*.jsonl"))


def table_path(root: Path, table: str, month: str, run_id: str, restart: int) -> Path:
    """Return where an attempt's file of a table is."""
    return root / table / f"month={month}" / f"{attempt_name(run_id, restart)}.parquet"


def table_files(root: Path, table: str, run_ids: Iterable[str] | None = None) -> list[Path]:
    """Return the files of a table, of chosen runs or of all."""
    table_schema(table)
    files = sorted((root / table).glob("month=*/[!.]*.parquet"))
    if run_ids is None:
        return files
    chosen = set(run_ids)
    return [path for path in files if path.name.removesuffix(".parquet").rpartition(".")[0] in chosen]


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


def read_table(root: Path | str, table: str, run_ids: Iterable[str] | None = None) -> tuple[pa.Table, list[BadFile]]:
    """Read all files of a table, by column name.

    A column that a file lacks is null; one that it has beyond the schema (written by a later version) is kept, last.
    A file that cannot be read or does not fit is set aside and listed; nothing is moved.

    Args:
        root: of the store; a missing one holds no rows.
        table: name of the table.
        run_ids: read the files of these runs only.

    Returns:
        The table, and the files set aside.

    Raises:
        ValueError: there is no such table.
    """
    tables: list[pa.Table] = [to_table(table, [])]
    extras: dict[str, pa.DataType] = {}
    bad: list[BadFile] = []
    for path in table_files(Path(root), table, run_ids):
        try:
            tables.append(read_file(path, table, extras))
        except ValueError as error:
            bad.append(BadFile(path, str(error)))
    return pa.concat_tables(tables, promote_options="default"), bad


def read_file(path: Path, table: str, extras: dict[str, pa.DataType] | None = None) -> pa.Table:
    """Read one file of a table into the schema's order, columns of later versions last.

    Args:
        path: the file.
        table: name of the table.
        extras: types of later columns met in other files; those of this one are added.

    Raises:
        ValueError: it cannot be read or is not a file of this table, in one line.
    """
    if not path.is_file():  # a pipe would be waited for
        raise ValueError("not a file")
    try:
        with pq.ParquetFile(path) as file:  # not pq.read_table, which makes a column of the folder's month=
            return _fit(table, file.read(), {} if extras is None else extras)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]) from None


def _fit(table: str, found: pa.Table, extras: dict[str, pa.DataType]) -> pa.Table:
    """Bring a file's table into the schema's order; see `read_table`."""
    version = (found.schema.metadata or {}).get(b"schema_version", str(SCHEMA_VERSION).encode()).decode()
    if version != str(SCHEMA_VERSION):
        raise ValueError(f"schema version {version}; this reader knows {SCHEMA_VERSION}")
    if len(set(found.column_names)) != found.num_columns:
        raise ValueError("two columns of one name")
    missing = [name for name in REQUIRED[table] if name not in found.column_names]
    if missing:
        raise ValueError(f"no column {missing[0]}: not a file of {table}")
    schema = table_schema(table)
    expected = {**extras, **{field.name: field.type for field in schema}}
    for field in found.schema:
        if field.type != expected.get(field.name, field.type):
            raise ValueError(f"column {field.name} is {field.type}, expected {expected[field.name]}")
    later = [name for name in found.column_names if schema.get_field_index(name) < 0]
    extras.update({name: found.schema.field(name).type for name in later})
    columns = {
        field.name: found[field.name] if field.name in found.column_names else pa.nulls(found.num_rows, field.type)
        for field in schema
    }
    return pa.table({**columns, **{name: found[name] for name in later}})


def read_rows(root: Path | str, table: str, run_ids: Iterable[str] | None = None) -> tuple[list[Row], list[BadFile]]:
    """Read a table as `read_table` does, as one dict a row (maps as dicts, times as datetimes)."""
    found, bad = read_table(root, table, run_ids)
    return to_rows(found), bad
