"""Rows for other programs: CSV and JSON with exact values."""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from results.listing.settings import clean
from results.listing.terminal import NOT_FINITE
from results.store.schema import Row

REASONS = "null_reasons"
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def exact(row: Mapping[str, Any], names: Sequence[str]) -> Row:
    """Return the named columns of a row and the reasons for those of them that are null.

    Numbers are as they are stored, times in ISO 8601 (UTC, microseconds), and what is not a finite number is null.
    """
    values = {name: _plain(row.get(name)) for name in names if name != REASONS}
    reasons = {name: reason for name, reason in (row.get(REASONS) or {}).items() if name in values}
    reasons |= {name: NOT_FINITE for name in values if values[name] is None and row.get(name) is not None}
    order = [*names, *([] if REASONS in names else [REASONS])]
    return {name: reasons if name == REASONS else values[name] for name in order}


def _plain(value: Any) -> Any:
    value = clean(value)
    return value.astimezone(UTC).isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def write_json(rows: Iterable[Row], stream: TextIO) -> None:
    """Write rows as one JSON array, an object a line."""
    start = "["
    for row in rows:
        stream.write(f"{start}\n{json.dumps(row, allow_nan=False)}")
        start = ","
    stream.write("\n]\n" if start == "," else "[]\n")


def write_csv(rows: Iterable[Row], names: Sequence[str], stream: TextIO) -> None:
    """Write rows as CSV below a line of names; null is an empty field, maps are JSON, lists have blanks between."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(names)
    for row in rows:
        writer.writerow([_field(row[name]) for name in names])


def _field(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return json.dumps(value) if value else ""
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    # What a terminal would obey is written out; line breaks stay, in quotes.
    return _CONTROL.sub(lambda char: char[0].encode("unicode_escape").decode(), text)
