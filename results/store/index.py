"""A derived copy of many small files in one a month, so that a store of many runs is read in seconds.

ROOT/.index/TABLE/month=YYYY-MM.index is a Parquet file, and after it the SHA-256 of it. It holds the rows of that
month's files, as `results.store.fit` made them, and of each file its name, size and time of change. It is never the
truth: a file is taken from it only while its size and time are as they were, whatever else it is read again. It can be
deleted at any time, and one that is damaged, or was made by other code, is as good as none.
"""

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from results.durable import replace_file
from results.store.schema import SCHEMA_VERSION, table_schema

__all__ = ["FOLDER", "Entry", "Index", "index_path", "load", "save"]

FOLDER = ".index"  # no reader takes a hidden folder for a table
DIGEST_BYTES = hashlib.sha256().digest_size
VERSION = 1  # of what `fit` makes of a file: to be raised with it


class Entry(NamedTuple):
    """A file as it was when it was read; `reason` says why it was set aside, and is null where it was not."""

    name: str
    size: int
    mtime_ns: int
    rows: int
    reason: str | None = None


@dataclass(frozen=True)
class Index:
    """The index of a month: its files in the order of their rows.

    Attributes:
        content: a Parquet file.
        schema: of its rows.
    """

    content: bytes
    entries: list[Entry]
    schema: pa.Schema

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return its rows, with these columns or all."""
        with pq.ParquetFile(pa.BufferReader(self.content)) as file:
            return file.read(columns=columns).replace_schema_metadata(None)


def index_path(root: Path, table: str, month: str) -> Path:
    """Return where the index of a month's folder is."""
    return root / FOLDER / table / f"{month}.index"


def load(path: Path, table: str) -> Index | None:
    """Return the index at a path; None where there is none that can be used."""
    try:
        signed = path.read_bytes()
    except OSError:
        return None
    content = signed[:-DIGEST_BYTES]
    if hashlib.sha256(content).digest() != signed[-DIGEST_BYTES:]:
        return None
    with pq.ParquetFile(pa.BufferReader(content)) as file:  # whole, since it is as it was written
        schema = file.schema_arrow
    if (schema.metadata or {}).get(b"made_by") != _made_by(table):
        return None
    return Index(content, _entries(schema), schema.remove_metadata())


def save(path: Path, table: str, entries: Sequence[Entry], rows: pa.Table) -> None:
    """Write an index, unless the store cannot be written to."""
    metadata = {"made_by": _made_by(table), "files": json.dumps(entries)}
    content = BytesIO()
    pq.write_table(rows.replace_schema_metadata(metadata), content, compression="zstd")
    signed = content.getvalue() + hashlib.sha256(content.getvalue()).digest()
    with contextlib.suppress(OSError):  # a store that cannot be written to, or a full disk: the files are read instead
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda file: file.write(signed))


def _entries(schema: pa.Schema) -> list[Entry]:
    return [Entry(*entry) for entry in json.loads((schema.metadata or {})[b"files"])]


def _made_by(table: str) -> bytes:
    columns = [f"{field.name}:{field.type}" for field in table_schema(table)]
    return json.dumps([VERSION, SCHEMA_VERSION, table, columns]).encode()
