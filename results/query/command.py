"""Asks the tables of a store in SQL.

    python -m results.query "SELECT ..." [results=PATH] [format=table|csv|json|parquet]
    python -m results.query "SELECT depth, median(images_per_s) FROM runs WHERE status = 'completed' GROUP BY depth"
    python -m results.query "SELECT * FROM epochs" format=csv > epochs.csv

Without SQL it lists the tables and their columns. The SQL is one statement of DuckDB's dialect that reads: a SELECT, or
DESCRIBE, SUMMARIZE, SHOW TABLES, EXPLAIN. It sees the tables and nothing else: no file, no network, no extension. Files
of every age are in the tables, columns that they lack null; files that are set aside are listed on stderr.

Values that a format has no word for: in CSV a null is an empty field and an empty text "", a list or a map is JSON. In
CSV and JSON a time is ISO 8601 in UTC (2026-11-26T09:26:13.123456Z), a number that is none is NaN, Infinity or
-Infinity (in JSON a text; null is a null). Parquet keeps the types. A column name that stands twice gets a number:
run_id, run_id_2. The table for people shows 1000 rows, each as a block where it has more than 12 columns; the other
formats write all.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from results.listing.terminal import show
from results.query.database import SQL_TYPES, ask
from results.query.formats import as_csv, as_json, as_parquet, as_table
from results.store.files import BadFile, table_files
from results.store.schema import SCHEMAS
from results.words import root_from

FORMATS = ("table", "csv", "json", "parquet")


@dataclass(frozen=True)
class Task:
    """What is to be printed, and how; `rows` is None where the tables are to be listed."""

    root: Path
    rows: pa.Table | None
    bad: list[BadFile]
    form: str


def split(words: Sequence[str], keys: Sequence[str]) -> tuple[str, list[str]]:
    """Return the SQL among words, and the others.

    A word that begins with a key and "=" is a key's. Of the others one with a blank is the SQL, or, where none has one,
    all of them are: SQL has "=" of its own.
    """
    rest = [word for word in words if word.partition("=")[0] not in keys]
    sql = [word for word in rest if any(map(str.isspace, word.strip()))]
    sql = sql[:1] if sql else rest
    typed = [word for word in words if not any(word is one for one in sql)]
    return " ".join(sql), typed


def _columns() -> pa.Table:
    lines = [
        {"table": table, "column": field.name, "type": SQL_TYPES[field.type]}
        for table, schema in SCHEMAS.items()
        for field in schema
    ]
    return pa.Table.from_pylist(lines)


def _listing(root: Path) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, pad_edge=False, show_lines=True)
    table.add_column("table")
    table.add_column("files", justify="right")
    table.add_column("columns")
    for name, schema in SCHEMAS.items():
        columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in schema)
        table.add_row(Text(name), Text(str(len(table_files(root, name)))), Text(columns))
    return table


def _print(task: Task) -> int:
    for file in task.bad:
        print(f"cannot be read: {file}", file=sys.stderr)
    rows = _columns() if task.rows is None else task.rows
    if task.form == "table":
        show(*([_listing(task.root)] if task.rows is None else as_table(rows)))
    elif task.form == "parquet":
        sys.stdout.flush()
        sys.stdout.buffer.write(as_parquet(rows))
    else:
        for line in (as_csv if task.form == "csv" else as_json)(rows):
            sys.stdout.write(line)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`; exit status 2 also where the SQL fails."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values

    @dataclass
    class Keys:
        results: str | None = key("the store", "results/v1 of the checkout", path=True, one=True)
        format: str | None = key("how the rows are written to stdout", "table", choices=FORMATS, one=True)

    def read(typed: list[str]) -> Task:
        sql, rest = split(typed, ("results", "format"))
        given = values(rest, Keys)
        form = given.get("format", ["table"])[0]
        if form == "parquet" and sys.stdout.isatty():
            raise WordError("format=parquet: bytes are not for a terminal; write > FILE")
        root = root_from(given)
        rows, bad = ask(root, sql) if sql.strip() else (None, [])
        return Task(root, rows, bad, form)

    return command.run("results.query", __doc__, Keys, read, _print, words)
