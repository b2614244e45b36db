"""The table of what kernels may take and do at most, kept beside this module, and the check against it."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import triton

from kernels.aot.counts import CODE, EDGES, OPS, PATH, WHOLE, WIDEST, WIDTHS
from results.durable import replace_file
from results.words import ConfigError

TABLE = Path(__file__).with_name("limits.csv")
MOST_WORSE = 0.1  # part of a count by which it may be above the table's
KEY = ("chip", "kernel", "dtype", "shape_class")
RESOURCES = ("regs", "shared_bytes", "stack_bytes", "spills", "resident")
NUMBERS = (*RESOURCES, *WHOLE, *PATH)
COLUMNS = (*KEY, "config", *NUMBERS, "narrow")
# Held as they are. Widths are held by how many accesses are at most so wide: fewer and wider ones are no regression.
MORE_IS_WORSE = (
    "regs", "shared_bytes", "stack_bytes", "spills", *CODE, "instructions_inside", "instructions_outside",
    "instructions_tail", "shuffles", "barriers",
)  # fmt: skip
LESS_IS_WORSE = ("resident", *EDGES)
WRITE = "python -m kernels.aot per=first limits=write"
Limits = dict[tuple[str, ...], dict[str, Any]]


def version() -> str:
    """Of the compiler that the code is from."""
    return str(triton.__version__)


def read(path: Path) -> tuple[str, Limits]:
    """The version of Triton that a table is of, and its rows by `KEY`; a number is None where there was none.

    Raises:
        ConfigError: it cannot be read, or is none; one line.
    """
    try:
        first, _, rest = path.read_text(encoding="utf-8").partition("\n")
        found: Limits = {}
        if not re.match(r"# Triton \S+; ", first):
            raise ValueError("its first line names no version of Triton")
        for row in csv.DictReader(io.StringIO(rest)):
            if tuple(row) != COLUMNS or None in row.values():
                raise ValueError("its columns are others")
            numbers = {name: int(row[name]) if row[name] else None for name in NUMBERS}
            found[_key(row)] = {**row, **numbers}
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{path}: no table of limits: {why}; it is written by {WRITE}") from None
    return first.split()[2].rstrip(";"), found


def write(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write rows in place of a table; equal rows are equal text, whatever their order.

    Raises:
        OSError: the disk refuses.
    """
    text = io.StringIO()
    text.write(f"# Triton {version()}; written by {WRITE}\n")
    lines = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
    lines.writeheader()
    for row in sorted(rows, key=lambda row: (row["kernel"], row["shape_class"], row["chip"], row["dtype"])):
        lines.writerow({name: "" if row.get(name) is None else row[name] for name in COLUMNS})
    replace_file(path, lambda file: file.write(text.getvalue().encode()))


def _key(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(row[name] for name in KEY)


def named(key: Sequence[str]) -> str:
    chip, kernel, dtype, shape_class = key
    return f"{kernel} {chip} {dtype} {shape_class}"


def chosen(limits: Limits, chips: Sequence[str], kernels: Iterable[str] | None) -> Limits:
    """The part of a table that is of chosen chips and kernels; None for all kernels."""
    some = None if kernels is None else set(kernels)
    return {key: row for key, row in limits.items() if row["chip"] in chips and (some is None or row["kernel"] in some)}


def regressions(limits: Limits, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The launches that are worse than a table allows, a line each with all that is.

    A count may be up to `MOST_WORSE` above the table's. Fewer programs on a multiprocessor, narrower accesses and
    another tile config are worse at any rate, and so is an operand whose channels would allow 16 bytes at a time,
    where the table does not say that it is accessed in less. What was told before and is not now is worse too.

    Args:
        rows: columns of `COLUMNS` by name.
    """
    lines = []
    left = dict(limits)
    for row in rows:
        name = named(_key(row))
        before = left.pop(_key(row), None)
        if before is None:
            lines.append(f"{name}: not in the table")
            continue
        if worse := list(_worse(before, row)):
            lines.append(f"{name}: {'; '.join(worse)}")
    return lines + [f"{named(key)}: in the table, and compiled no more" for key in left]


def _worse(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    if now["config"] != before["config"]:
        yield f"config {now['config']} (table: {before['config']})"
    for name, old, new, sign in _pairs(before, now):
        if old is None:
            continue
        if new is None:
            yield f"{name} not told: {now.get('reason') or now.get('status')} (table: {old})"
        elif sign > 0 and new > old * (1 + MOST_WORSE) or sign < 0 and new < old:
            change = f", {(new - old) / old:+.1%}" if old else ""
            yield f"{name} {new} (table: {old}{change})"
    known = _sizes(before["narrow"])
    for operand, size in _sizes(now.get("narrow")).items():
        if size < known.get(operand, WIDEST):
            yield f"{operand} in accesses of {size} bytes (table: {known.get(operand, WIDEST)})"


def _pairs(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[tuple[str, int | None, int | None, int]]:
    """Name, value of the table, value now, and 1 where more is worse or -1 where less is."""
    for names, sign in ((MORE_IS_WORSE, 1), (LESS_IS_WORSE, -1)):
        for name in names:
            yield name, before[name], now.get(name), sign
    for kind in OPS:
        old, new = (_at_most(row, kind) for row in (before, now))
        for width, was, is_now in zip(WIDTHS, old, new, strict=True):
            yield f"{kind} of at most {width} bytes", was, is_now, 1


def _at_most(row: Mapping[str, Any], kind: str) -> list[int | None]:
    """Of each of `WIDTHS`, how many loads or stores are at most so wide."""
    each = [row.get(f"{kind}_{width}b") for width in WIDTHS]
    return [None] * len(WIDTHS) if None in each else list(accumulate(each))


def _sizes(narrow: str | None) -> dict[str, int]:
    """Of a cell such as "y_ptr=8 dy_ptr=4"."""
    return {name: int(size) for name, _, size in (word.partition("=") for word in (narrow or "").split())}


def changes(limits: Limits, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """How a table changes where rows take its place, a line for each row that does."""
    lines = []
    for row in rows:
        before = limits.get(_key(row))
        if before is None:
            lines.append(f"{named(_key(row))}: new")
            continue
        names = [name for name in COLUMNS if name not in KEY and (before[name] or None) != (row.get(name) or None)]
        if names:
            lines.append(f"{named(_key(row))}: " + ", ".join(f"{n} {before[n]} -> {row.get(n)}" for n in names))
    return lines
