"""Brings what a file holds into its table's schema: casts what another tool rewrote without loss, refuses the rest."""

import functools
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.store.row_json import EPOCH, MICROSECOND
from results.store.schema import (
    FLAG,
    INT,
    REAL,
    REQUIRED,
    SCHEMA_VERSION,
    TEXT,
    TEXT_MAP,
    TIME,
    table_schema,
)

__all__ = ["ClashError", "fit", "later_types", "one_line", "printable"]

# Microseconds since 1970 of what Python's datetimes hold.
FIRST, LAST = (
    (datetime.fromisoformat(text) - EPOCH) // MICROSECOND for text in ("0001-01-02 00:00Z", "9999-12-31 00:00Z")
)
WHOLE = 2**53  # beyond it a float64 does not hold every whole number
_VIEWS = (pa.types.is_string_view, pa.types.is_binary_view)


class ClashError(ValueError):
    """A column of a later version that has another type than in files read before; said of the two, not of one."""


def one_line(error: object) -> str:
    """Return the first line of a message, its control characters escaped, at most 200 characters."""
    text = next((line for line in str(error).split("\n") if line.strip()), type(error).__name__).strip()
    return printable(text)[:200]


def printable(text: str) -> str:
    """Return a text with each character that would not be seen, or would act on a terminal, as its escape."""
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def later_types(table: str, found: pa.Schema) -> dict[str, pa.DataType]:
    """Return the columns of a file that its table does not have: a later version has written them."""
    own = table_schema(table).names
    later = [name for name in found.names if name not in own and not _of_a_tool(name)]
    return {name: _plain(found.field(name).type) for name in later}


def fit(table: str, found: pa.Table, extras: dict[str, pa.DataType]) -> pa.Table:
    """Bring a file's table into the schema's order.

    - A column that the file lacks is null. One beyond the schema is kept, last; `month`, which some tools make of the
      folder's name, and the index of pandas are not.
    - Text of any encoding, narrower numbers, whole numbers that became floats, lists of any layout, and maps that
      became lists of pairs or structs are cast. So are timestamps of any unit and zone; one without a zone is UTC, as
      all are in this store.
    - What has no equal in the schema's type is refused.

    Args:
        table: name of the table.
        found: as read.
        extras: types of later columns met in other files.

    Raises:
        ClashError: a later column has another type than in `extras`.
        ValueError: it is not a file of this table, or a column does not fit, in one line.
    """
    metadata = found.schema.metadata or {}
    if (named := metadata.get(b"table", table.encode())) != table.encode():
        raise ValueError(f"a file of {named.decode(errors='replace')}, not of {table}")
    _check_version(metadata.get(b"schema_version", str(SCHEMA_VERSION).encode()).decode(errors="replace"))
    if found.schema.equals(table_schema(table)):  # as it is written today: there is nothing to bring into order
        found.validate(full=True)
        rows = found.replace_schema_metadata(None)
        for place, (name, kind) in enumerate(_fields(table)):
            if kind in (TIME, TEXT_MAP):
                _cast(name, rows.column(place), kind)
        return _of_this_version(table, rows)
    if len(set(found.column_names)) != found.num_columns:
        raise ValueError("two columns of one name")
    missing = [name for name in REQUIRED[table] if name not in found.column_names]
    if missing:
        raise ValueError(f"no column {missing[0]}: not a file of {table}")
    found.validate(full=True)  # also text that is not UTF-8
    # By number: to find a column by its name costs more than to read it, and there are thousands of files.
    columns = dict(zip(found.column_names, found.columns, strict=True))
    fitted = [
        _cast(name, columns[name], kind) if name in columns else pa.nulls(found.num_rows, kind)
        for name, kind in _fields(table)
    ]
    later = later_types(table, found.schema)
    for name, kind in later.items():
        if not pa.types.is_null(kind) and extras.get(name, kind) != kind:
            raise ClashError(f"column {name} is {kind}, in other files {extras[name]}")
    rows = pa.table(fitted, names=[name for name, _ in _fields(table)])
    for name, kind in later.items():
        rows = rows.append_column(name, _cast(name, columns[name], kind))
    return _of_this_version(table, rows)


def _of_this_version(table: str, rows: pa.Table) -> pa.Table:
    if table == "runs":
        for version in pc.unique(rows["schema_version"]).to_pylist():
            if version is not None:  # the writer always says it; null is what an older tool may have left
                _check_version(str(version))
    return rows


@functools.cache
def _fields(table: str) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in table_schema(table)]


def _check_version(version: str) -> None:
    if version != str(SCHEMA_VERSION):
        raise ValueError(f"schema version {version}; this reader knows {SCHEMA_VERSION}")


def _of_a_tool(name: str) -> bool:
    return name == "month" or name.startswith("__index_level_")


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of this store that holds all values of another; that type itself where there is none."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return TEXT
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return INT
    return REAL if pa.types.is_floating(kind) else kind


def _cast(name: str, values: pa.ChunkedArray | pa.Array, kind: pa.DataType) -> pa.ChunkedArray:
    """A column as the schema's type, with all of its values."""
    if values.type != kind:
        was = values.type
        try:
            chunks = values.chunks if isinstance(values, pa.ChunkedArray) else [values]
            cast = [_convert(_decoded(chunk), kind) for chunk in chunks]
        except (ValueError, TypeError, pa.ArrowException) as error:
            raise ValueError(f"column {name} is {was}, expected {kind}: {one_line(error)}") from None
        values = pa.chunked_array(cast, type=kind)
    if kind == TIME:
        ends = pc.min_max(values)
        low, high = (ends[name].value for name in ("min", "max"))
        if low is not None and not FIRST <= low <= high <= LAST:
            raise ValueError(f"column {name} has a time outside the years 1 to 9999")
    elif kind == TEXT_MAP:
        for chunk in values.chunks if isinstance(values, pa.ChunkedArray) else [values]:
            _check_keys(name, chunk)
    return values


def _decoded(values: pa.Array) -> pa.Array:
    """Values without an encoding that types alone do not show."""
    if pa.types.is_dictionary(values.type):
        return _decoded(values.dictionary_decode())
    if pa.types.is_run_end_encoded(values.type):
        return _decoded(pc.run_end_decode(values))
    return values


def _convert(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values of one array as another type; raises where one of them has no equal there."""
    was = values.type
    if was == kind:
        return values
    if values.null_count == len(values):
        return pa.nulls(len(values), kind)
    if kind == TEXT_MAP:
        return _map(values)
    if pa.types.is_list(kind):
        return _list(values, kind)
    allowed: Callable[[pa.DataType], bool] = _SOURCES[kind]
    if not allowed(was):
        raise ValueError("another kind of value")
    if kind == INT and pa.types.is_floating(was):
        ends = pc.min_max(values)
        if not -WHOLE <= ends["min"].as_py() <= ends["max"].as_py() <= WHOLE:
            raise ValueError(f"a float holds whole numbers up to {WHOLE}")
    if any(test(was) for test in _VIEWS):  # there is no cast from a view of bytes to text
        values = values.cast(pa.large_binary() if pa.types.is_binary_view(was) else pa.large_string())
    return values.cast(kind)  # safe: raises where a number or a time would change


def _text_like(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary, *_VIEWS)
    return any(test(kind) for test in tests)


def _number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


_SOURCES: dict[pa.DataType, Callable[[pa.DataType], bool]] = {
    TEXT: _text_like,
    INT: _number,
    REAL: _number,
    FLAG: pa.types.is_boolean,
    TIME: pa.types.is_timestamp,
}


def _is_list(kind: pa.DataType) -> bool:
    tests = (
        pa.types.is_list,
        pa.types.is_large_list,
        pa.types.is_fixed_size_list,
        pa.types.is_list_view,
        pa.types.is_large_list_view,
    )
    return any(test(kind) for test in tests)


def _list(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if not _is_list(values.type):
        raise ValueError("not lists")
    item = _plain(values.type.value_type)
    if not (pa.types.is_null(item) or _SOURCES[kind.value_type](item)):
        raise ValueError("items of another kind")
    return values.cast(kind)


def _map(values: pa.Array) -> pa.Array:
    """Maps from maps of other texts, lists of pairs or of structs of two fields, or structs with a field a key."""
    was = values.type
    if not (pa.types.is_map(was) or pa.types.is_struct(was) or _is_list(was)):
        raise ValueError("not a map")
    # Row by row: other tools' layouts are many, and rows that have maps are few.
    return pa.array(
        [None if row is None else _pairs(row, pa.types.is_struct(was)) for row in values.to_pylist()], TEXT_MAP
    )


def _pairs(row: Iterable[Any], struct: bool) -> list[tuple[Any, Any]]:
    if struct and isinstance(row, dict):
        # pandas makes such of dicts: a field for each key that any row has, null in the rows that lack it.
        return [pair for pair in row.items() if pair[1] is not None]
    pairs = [tuple(pair.values() if isinstance(pair, dict) else pair) for pair in row]
    if any(
        len(pair) != 2 or pair[0] is None or not all(isinstance(text, str | None) for text in pair) for pair in pairs
    ):
        raise ValueError("not pairs of texts")
    return pairs


def _check_keys(name: str, maps: pa.Array) -> None:
    """A key that a map has twice would end the reading of the whole table."""
    for row in maps:
        keys = [key for key, _ in row.as_py() or ()]
        if len(set(keys)) < len(keys):
            raise ValueError(f"column {name} has a key twice")
