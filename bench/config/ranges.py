"""Ranges of numbers and times as they are typed: `>20`, `>=20`, `<20`, `<=20`, `20..56`, and times of some length."""

import calendar
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from results.words import Range

ACCEPTED = "or a range: >V, >=V, <V, <=V or V..V"
TIME = "a time such as 2026-11-30 or 2026-11-30T20:05 (UTC)"

_COMPARISON = re.compile(r"(>=|<=|>|<)(.*)", re.DOTALL)
_TIME = re.compile(
    r"(?P<year>\d{4})-(?P<month>\d{1,2})(?:-(?P<day>\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2})(?::(?P<minute>\d{2})(?::(?P<second>\d{2})(?P<fraction>\.\d{1,6})?)?)?)?)?"
    r"(?P<zone>Z|[+-]\d{2}:?\d{2})?"
)


@dataclass(frozen=True)
class Piece:
    """What stands between two commas.

    Attributes:
        sign: ">=", "<=", ">", "<" or ".."; empty for a value by itself.
        bounds: the one value that is typed, or the two.
        text: all of it.
    """

    sign: str
    bounds: tuple[str, ...]
    text: str


def is_range(text: str) -> bool:
    """Whether a text has a range in it, and must be split by `pieces`."""
    return "<" in text or ">" in text or ".." in text


def pieces(text: str) -> list[Piece]:
    """Split a text at its commas; bounds are as they are typed, and may be empty."""
    found = []
    for part in (part.strip() for part in text.split(",")):
        if match := _COMPARISON.fullmatch(part):
            found.append(Piece(match[1], (match[2].strip(),), part))
        elif ".." in part:
            low, _, high = part.partition("..")
            found.append(Piece("..", (low.strip(), high.strip()), part))
        else:
            found.append(Piece("", (part,), part))
    return found


def joined(piece: Piece, values: list[Any]) -> Any:
    """Return the value or the `Range` of a piece.

    Args:
        values: its bounds, typed; those of times are ranges, from the first to the last moment that they stand for.

    Raises:
        ValueError: the range is empty; the message is the nearest piece that is not.
    """
    if not piece.sign:
        return values[0]
    starts = [value.low if isinstance(value, Range) else value for value in values]
    ends = [value.high if isinstance(value, Range) else value for value in values]
    ends_inside = not isinstance(values[-1], Range)  # the end of a time's length is the next one's start
    if piece.sign == "..":
        if starts[0] > starts[1]:
            raise ValueError(f"{piece.bounds[1]}..{piece.bounds[0]}")
        return Range(starts[0], ends[1], True, ends_inside, piece.text)
    if piece.sign[0] == ">":
        with_low = piece.sign == ">=" or not ends_inside  # ends are outside of what they end
        return Range(starts[0] if piece.sign == ">=" else ends[0], None, with_low, False, piece.text)
    upto, inside = (ends[0], ends_inside) if piece.sign == "<=" else (starts[0], False)
    return Range(None, upto, False, inside, piece.text)


def moment(text: str) -> Range:
    """Return what a time stands for: a month, a day, an hour, a minute, a second or a microsecond, UTC.

    Raises:
        ValueError: it is none; the message is the nearest one, empty where nothing is near.
    """
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(_nearest_time(text))
    part = {name: int(value) for name, value in match.groupdict().items() if value and name not in ("fraction", "zone")}
    zone: tzinfo | None = UTC
    microsecond = round(float(match["fraction"]) * 1e6) if match["fraction"] else 0
    filled = [part["year"], part["month"], part.get("day", 1)]
    filled += [part.get(name, 0) for name in ("hour", "minute", "second")]
    try:
        if match["zone"]:
            zone = datetime.strptime(match["zone"], "%z").tzinfo
        start = datetime(*filled, microsecond, tzinfo=zone).astimezone(UTC)  # type: ignore[misc,arg-type]
        if "day" not in part:
            length = timedelta(days=calendar.monthrange(part["year"], part["month"])[1])
        elif match["fraction"]:
            length = timedelta(microseconds=1)
        else:
            units = {"second": "seconds", "minute": "minutes", "hour": "hours", "day": "days"}
            length = timedelta(**{next(unit for name, unit in units.items() if name in part): 1})
        return Range(start, start + length, True, False, text)
    except (ValueError, OverflowError):
        raise ValueError(_nearest_time(text)) from None


def _nearest_time(text: str) -> str:
    """The date that a text may be a slip of: its digits, brought into the calendar."""
    match = re.match(r"(\d{4})[-/.](\d{1,2})(?:[-/.](\d{1,2}))?", text.strip())
    if match is None or match[1] == "0000":
        return ""
    year, month = int(match[1]), min(max(int(match[2]), 1), 12)
    if match[3] is None:
        return f"{year:04}-{month:02}"
    return f"{year:04}-{month:02}-{min(max(int(match[3]), 1), calendar.monthrange(year, month)[1]):02}"
