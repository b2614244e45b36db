"""Gathers the rows of many files: from an index where it holds, else file by file, each attempt once."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from results.store.fit import ClashError
from results.store.index import Entry, Index, load, save
from results.store.load import SMALL_BYTES, BadFile, fitted, load_file
from results.store.schema import table_schema, to_table

__all__ = ["Gathering"]

BATCH = 256  # files opened at once
UNINDEXED = 32  # new files of a month that are read again each time; with as many its index is written again


class Span(NamedTuple):
    """Whose rows come next in some table: those of a file of a month's folder; `kept` where they are to be read."""

    folder: Path
    name: str
    rows: int
    kept: bool = True


@dataclass
class Gathering:
    """The rows of some files of a table.

    Args:
        name: of the table.
        columns: of the schema, if only these are wanted.

    Attributes:
        bad: files set aside.
    """

    name: str
    columns: Sequence[str] | None
    bad: list[BadFile] = field(default_factory=list)
    _extras: dict[str, pa.DataType] = field(default_factory=dict)
    _blocks: list[pa.Table] = field(default_factory=list)
    _spans: list[Span] = field(default_factory=list)

    def files(self, folder: Path, names: Sequence[str]) -> None:
        """Add files, each of them read."""
        for _ in self._read(folder, names):
            pass

    def month(self, folder: Path, names: Sequence[str], path: Path, *, update: bool) -> None:
        """Add the files of a month's folder, from its index as far as that holds.

        Args:
            folder: of the month.
            names: of the files.
            path: of the index.
            update: whether to write the index where it is not up to date; `names` are all files of the folder then.
        """
        index = load(path, self.name)
        known = _unchanged(index, folder, names) if index is not None else {}
        later = self._later(index) if index is not None else {}
        if later and index is not None and len(known) < len(index.entries):
            known = {}  # a column may have been that of a file which is gone
        elif any(self._extras.get(name, kind) != kind for name, kind in later.items()):
            # Which of two files is set aside depends on which is read first: no index knows that.
            self.files(folder, names)
            return
        if index is None or not known:
            index = None
        else:
            self._take(index, folder, known)
            self._extras |= later
        rest = [name for name in names if name not in known]
        entries, blocks = list[Entry](), list[pa.Table]()
        for new, block in self._read(folder, rest):
            if update:
                entries += new
                blocks.append(block)
        if entries and (index is None or len(entries) >= UNINDEXED):
            self._save(path, folder, index, known, entries, blocks)

    def table(self) -> pa.Table:
        """Return the rows in the order of months and names; of an attempt in two months the earlier is kept."""
        first: dict[str, Path] = {}
        for span in sorted(span for span in self._spans if span.kept):
            month = first.setdefault(span.name, span.folder)
            if month != span.folder:
                why = f"a copy: this attempt lies in {month.name} too, which is read"
                self.bad.append(BadFile(span.folder / span.name, why))
        spans = [span._replace(kept=span.kept and first[span.name] == span.folder) for span in self._spans]
        self.bad.sort(key=lambda bad: bad.path)
        return _arranged([self._chosen(self._empty()), *self._blocks], spans)

    def _empty(self) -> pa.Table:
        return to_table(self.name, []).replace_schema_metadata(None)

    def _later(self, index: Index) -> dict[str, pa.DataType]:
        own = table_schema(self.name).names
        return {one.name: one.type for one in index.schema if one.name not in own and not pa.types.is_null(one.type)}

    def _take(self, index: Index, folder: Path, known: dict[str, Entry]) -> None:
        """Add what an index holds of the files that are as they were."""
        self._blocks.append(index.read(self.columns))
        self._spans += [Span(folder, entry.name, entry.rows, entry.name in known) for entry in index.entries]
        for entry in known.values():
            if entry.reason is not None:
                self.bad.append(BadFile(folder / entry.name, entry.reason))

    def _read(self, folder: Path, names: Sequence[str]) -> Iterator[tuple[list[Entry], pa.Table]]:
        """Read files and add them; yields, batch by batch, what an index may hold of them."""
        if not names:
            return
        with ThreadPoolExecutor(max(1, min(4, len(names) // 8))) as pool:
            for batch in (names[first : first + BATCH] for first in range(0, len(names), BATCH)):
                entries: list[Entry] = []
                parts: dict[bool, list[pa.Table]] = {True: [], False: []}  # by whether an index may hold them
                spans: dict[bool, list[Span]] = {True: [], False: []}
                for name, loaded in zip(batch, pool.map(load_file, [folder / name for name in batch]), strict=True):
                    lasting, reason, rows = loaded.size is not None and loaded.size <= SMALL_BYTES, None, None
                    if isinstance(loaded.content, str):
                        reason = loaded.content
                    else:
                        try:
                            rows = fitted(self.name, name, loaded.content, self._extras)
                        except ClashError as error:
                            reason, lasting = str(error), False
                        except ValueError as error:
                            reason = str(error)
                    if reason is not None:
                        self.bad.append(BadFile(folder / name, reason))
                    elif rows is not None:
                        parts[lasting].append(rows)
                        spans[lasting].append(Span(folder, name, rows.num_rows))
                    if lasting and loaded.size is not None:
                        count = rows.num_rows if rows is not None else 0
                        entries.append(Entry(name, loaded.size, loaded.mtime_ns, count, reason))
                for indexable in (True, False):
                    whole = _joined([self._empty(), *parts[indexable]])
                    self._blocks.append(self._chosen(whole))
                    self._spans += spans[indexable]
                    if indexable:
                        yield entries, whole

    def _save(
        self,
        path: Path,
        folder: Path,
        index: Index | None,
        known: dict[str, Entry],
        new: Sequence[Entry],
        blocks: Sequence[pa.Table],
    ) -> None:
        before = [index.read()] if index is not None else []
        old = index.entries if index is not None else []
        spans = [Span(folder, entry.name, entry.rows, entry.name in known) for entry in old]
        spans += [Span(folder, entry.name, entry.rows) for entry in new]
        entries = sorted([*known.values(), *new])
        save(path, self.name, entries, _arranged([*before, *blocks], spans))

    def _chosen(self, rows: pa.Table) -> pa.Table:
        return rows if self.columns is None else rows.select(list(self.columns))


def _unchanged(index: Index, folder: Path, names: Sequence[str]) -> dict[str, Entry]:
    """The entries of an index whose files are wanted and are as they were."""
    wanted, known = set(names), {}
    for entry in index.entries:
        if entry.name in wanted:
            with contextlib.suppress(OSError):
                found = os.stat(f"{folder}/{entry.name}")
                if (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime_ns):
                    known[entry.name] = entry
    return known


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _arranged(tables: Sequence[pa.Table], spans: Sequence[Span]) -> pa.Table:
    """The rows of the spans that are kept, of tables one after the other, in the order of folders and names."""
    whole = _joined(tables)
    starts = [0, *accumulate(span.rows for span in spans)]
    kept = [place for place, span in enumerate(spans) if span.kept]
    order = sorted(kept, key=lambda place: (spans[place].folder, spans[place].name))
    if order == list(range(len(spans))):
        return whole
    rows = [np.arange(starts[place], starts[place + 1]) for place in order]
    return whole.take(pa.array(np.concatenate(rows) if rows else np.array([], np.int64)))
