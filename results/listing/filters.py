"""Which runs are shown, and in which order: filters and sorting of the table `runs` before it becomes rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.store.files import BadFile, journals, read_table
from results.store.schema import CHOICES, FLAG, INT, REAL, SCHEMAS, TEXT, TEXT_MAP, TIME, check_column
from results.words import NAMES_ONE, Range, like_id, meant_ids, nearest, suggestion

SORT = ("family", "depth", "shortcut", "run_start", "run_id")
COLUMNS = tuple(field.name for field in SCHEMAS["runs"])
SORTED = tuple(field.name for field in SCHEMAS["runs"] if field.type != TEXT_MAP)
KINDS = {TEXT: str, INT: int, REAL: float, FLAG: bool, TIME: str}
FILTERS: dict[str, pa.DataType] = {
    field.name: field.type for field in SCHEMAS["runs"] if field.type in KINDS and field.name != "run_id"
}
Filters = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Found:
    """What the command is to show.

    Attributes:
        table: rows of `runs` that were asked for, in order.
        bad: files that cannot be read.
        open_journals: how many runs have no rows yet.
    """

    root: Path
    table: pa.Table
    bad: list[BadFile]
    open_journals: int


def column_named(key: str, word: str, columns: Sequence[str] = COLUMNS) -> str:
    """Return the column of `runs` that a word names.

    Raises:
        ValueError: no such column; the line names the key, the word and the nearest column.
    """
    if word not in columns:
        near = suggestion(word, columns)
        hint = f"; did you mean {near}?" if near else ""
        raise ValueError(f"{key}={word}: no such column of runs{hint} (--help lists every column)")
    return word


def find(root: Path, sort: Sequence[str], filters: Filters, run: Sequence[str] = ()) -> Found:
    """Read the runs of a store that have one of the wanted values in every filtered column, in order.

    Args:
        root: of the store.
        sort: columns, with "-" before one for descending; nulls come last.
        filters: values and ranges by column.
        run: whole ids, starts or ends of ids; none for all runs.

    Raises:
        ValueError: there are none; the line says what there is.
    """
    keys = [(column_named("sort", word.removeprefix("-"), SORTED), _direction(word)) for word in sort]
    found, bad = read_table(root, "runs")
    found = found.combine_chunks()
    wanted = found
    if run:
        ids = [one for one in found["run_id"].unique().to_pylist() if one is not None]
        meant = {word: meant_ids(word, ids) for word in run}
        for word in (word for word in run if ids and not meant[word]):
            near = f"; nearest is run={like}" if (like := like_id(word, ids)) else ""
            raise ValueError(f"no run with run={word}; {NAMES_ONE}{near}{_spoilt(bad)}")
        chosen = {one for those in meant.values() for one in those}
        wanted = wanted.filter(_among(wanted["run_id"], chosen))
    for column, values in filters.items():
        wanted = wanted.filter(matching(wanted[column], values))
    try:
        count = len(journals(root))
    except OSError as error:
        count, bad = 0, [*bad, BadFile(root / "journal", error.strerror or str(error))]
    if not wanted.num_rows:
        dead = f"; {count} without rows yet: python -m results.recover results={root}" if count else ""
        raise ValueError(_nothing(root, filters, run, found, bad) + dead)
    return Found(root, ordered(wanted, keys), bad, count)


def _direction(word: str) -> str:
    return "descending" if word.startswith("-") else "ascending"


def ordered(table: pa.Table, keys: Sequence[tuple[str, str]]) -> pa.Table:
    """Sort rows by columns, each "ascending" or "descending"; nulls and what is not a number come last."""
    columns = {}
    for name, _ in keys:
        column = table[name]
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        elif pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
        columns[name] = column
    order = pc.sort_indices(pa.table(columns), sort_keys=list(dict(keys).items()))
    return table.take(order)


def matching(column: pa.ChunkedArray, wanted: Sequence[Any]) -> pa.ChunkedArray:
    """Return for each row whether it has one of the values, or lies in one of the ranges; a null does not."""
    kinds = [_among(column, {one for one in wanted if not isinstance(one, Range)})]
    for one in (one for one in wanted if isinstance(one, Range)):
        inside = pc.is_finite(column) if pa.types.is_floating(column.type) else pc.is_valid(column)
        if one.low is not None:
            bound = pa.scalar(one.low, column.type)
            inside = pc.and_(inside, (pc.greater_equal if one.with_low else pc.greater)(column, bound))
        if one.high is not None:
            bound = pa.scalar(one.high, column.type)
            inside = pc.and_(inside, (pc.less_equal if one.with_high else pc.less)(column, bound))
        kinds.append(pc.fill_null(inside, False))
    return reduce(pc.or_, kinds)


def _among(column: pa.ChunkedArray, values: set[Any]) -> pa.ChunkedArray:
    return pc.fill_null(pc.is_in(column, value_set=pa.array(sorted(values), column.type)), False)


def _nothing(root: object, filters: Filters, run: Sequence[str], found: pa.Table, bad: Sequence[BadFile]) -> str:
    spoilt = _spoilt(bad)
    for column, wanted in filters.items():
        present = found[column].drop_null()
        if len(present) and not pc.any(matching(present, wanted)).as_py():
            given = ",".join(map(typed, wanted))
            return f"no run with {column}={given}; the nearest there is {column}={_nearest(wanted, present)}{spoilt}"
    words = [*(f"{column}={','.join(map(typed, wanted))}" for column, wanted in filters.items())]
    words += [f"run={','.join(run)}"] if run else []
    which = f" with {' '.join(words)}" if words else ""
    return f"no runs{which} in {root}{spoilt}"


def _spoilt(bad: Sequence[BadFile]) -> str:
    return f"; {len(bad)} files cannot be read, the first is {bad[0].path}: {bad[0].reason}" if bad else ""


def _nearest(wanted: Sequence[Any], present: pa.ChunkedArray) -> str:
    """The value there that comes closest to what was asked for: by size where there is one, else by letters."""
    values = present.unique().to_pylist()
    first = wanted[0]
    if pa.types.is_boolean(present.type) or pa.types.is_string(present.type):
        return nearest(typed(first), sorted(map(typed, values)))
    bounds = [bound for bound in (first.low, first.high) if bound is not None] if isinstance(first, Range) else [first]
    values = [value for value in values if value == value]  # NaN is near to nothing
    if not values:
        return "null"
    return typed(min(values, key=lambda value: (min(abs(value - bound) for bound in bounds), value)))


def typed(value: Any) -> str:
    """Return a value as it is typed."""
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_number(column: str) -> bool:
    """Whether a column of `runs` is one of numbers or of times, which can lie in a range."""
    kind = check_column("runs", column)
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_timestamp(kind)


def filter_options(key: Callable[..., Any]) -> dict[str, tuple[type, Any]]:
    """Return the fields of a dataclass of keys that filter runs by their columns, with the type of each.

    Args:
        key: `bench.config.grammar.key`, which only a command's `main` may import.
    """
    options = {}
    for column, kind in FILTERS.items():
        choices = CHOICES.get(("runs", column), ())
        text = "" if choices or kind != TEXT else "a text"
        ranges = kind in (INT, REAL, TIME)
        option = key(
            "only runs that have this", "all runs", choices=choices, text=text, ranges=ranges, time=kind == TIME
        )
        options[column] = (KINDS[kind], option)
    return options
