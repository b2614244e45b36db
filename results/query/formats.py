"""How the rows of an answer are written: as CSV, JSON, Parquet, or a table for people."""

import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

__all__ = ["as_csv", "as_json", "as_parquet", "as_table"]

MOST_ROWS = 1000  # of a table for people
MOST_COLUMNS = 12  # of it; with more each row is a block
BLOCK = 10_000  # rows turned into Python's values at once


def as_csv(rows: pa.Table) -> Iterator[str]:
    """Yield lines: a null is an empty field, an empty text is "", a list or a map is JSON."""
    yield ",".join(map(_quoted, rows.column_names)) + "\n"
    for row in _rows(rows):
        yield ",".join("" if value is None else _quoted(_text(value)) for value in row) + "\n"


def as_json(rows: pa.Table) -> Iterator[str]:
    """Yield an array of objects, one a line: a number that JSON has not is a text, NaN or Infinity."""
    names = rows.column_names
    between = "[\n"
    for row in _rows(rows):
        values = dict(zip(names, map(_plain, row), strict=True))
        yield between + json.dumps(values, ensure_ascii=False, allow_nan=False)
        between = ",\n"
    yield "\n]\n" if between == ",\n" else "[]\n"


def as_parquet(rows: pa.Table) -> bytes:
    """Return a file."""
    file = BytesIO()
    pq.write_table(rows, file, compression="zstd")
    return file.getvalue()


def as_table(rows: pa.Table) -> list[RenderableType]:
    """Return the first rows as a table, block by block where the columns are many, and how many there are."""
    more = rows.num_rows - MOST_ROWS
    first = rows.slice(0, MOST_ROWS)
    numbers = [pa.types.is_integer(one) or pa.types.is_floating(one) or pa.types.is_decimal(one)
               for one in rows.schema.types]  # fmt: skip
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    if rows.num_columns > MOST_COLUMNS:
        table.add_column("row", justify="right")
        table.add_column("column", no_wrap=True)
        table.add_column("value", overflow="fold")
        for number, row in enumerate(_rows(first), 1):
            for name, value in zip(rows.column_names, row, strict=True):
                table.add_row(Text(str(number)), Text(name), _cell(value))
    else:
        for name, number in zip(rows.column_names, numbers, strict=True):
            table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
        for row in _rows(first):
            table.add_row(*map(_cell, row))
    notes = [f"{rows.num_rows} {'row' if rows.num_rows == 1 else 'rows'}"]
    if more > 0:
        notes.append(f"the first {MOST_ROWS} are shown; format=csv, json and parquet write all")
    return [table, Text("; ".join(notes), style="dim")]


def _rows(rows: pa.Table) -> Iterator[tuple[Any, ...]]:
    for first in range(0, rows.num_rows, BLOCK):
        block = rows.slice(first, BLOCK)
        yield from zip(*(column.to_pylist(maps_as_pydicts="lossy") for column in block.columns), strict=True)


def _cell(value: Any) -> Text:
    return Text("-", style="dim") if value is None else Text(_text(value))


def _quoted(text: str) -> str:
    """A field of CSV (RFC 4180)."""
    return '"' + text.replace('"', '""') + '"' if not text or set(text) & set(',"\r\n') else text


def _text(value: Any) -> str:
    plain = _plain(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """A value that JSON has. Times are ISO 8601, those with a zone in UTC; bytes are hexadecimal."""
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, dict):
        return {_text(key): _plain(item) for key, item in value.items()}
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return str(value)
