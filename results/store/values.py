"""The types of the store's columns, and values of Python as those take them."""

import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

TEXT, INT, REAL, FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
TEXTS, REALS, TEXT_MAP = pa.list_(TEXT), pa.list_(REAL), pa.map_(TEXT, TEXT)


def is_number(value: Any, kind: type) -> bool:
    """Whether a value is a number of some kind; a bool is none."""
    return isinstance(value, kind) and not isinstance(value, bool)


def real(value: Any) -> float | None:
    """A number as a float; None of anything else."""
    if type(value) is float:
        return value
    return float(value) if is_number(value, numbers.Real) else None


def text_map(value: Any) -> dict[str, str] | None:
    """Texts by text as a dict; None of anything else."""
    if not isinstance(value, Mapping):
        return None
    fits = all(isinstance(key, str) and isinstance(item, str) for key, item in value.items())
    return dict(value) if fits else None


def list_of(value: Any, item: pa.DataType) -> list[Any] | None:
    """A list whose items are texts or numbers; None of anything else."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        return None
    cleaned = [(real(entry) if item == REAL else entry if isinstance(entry, str) else None) for entry in value]
    return None if any(entry is None for entry in cleaned) else cleaned


def describe(kind: pa.DataType) -> str:
    """What a type takes, in words."""
    names = {
        REAL: "a float", INT: "an int of 64 bits", FLAG: "a bool", TEXT: "a str", TIME: "a datetime with a time zone",
        TEXT_MAP: "a dict of str to str", TEXTS: "a list of str", REALS: "a list of floats",
    }  # fmt: skip
    return names[kind]
