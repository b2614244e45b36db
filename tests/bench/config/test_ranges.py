"""Ranges of numbers and times on the command line: what lies in them, and what is said of those that are none."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from bench.config import ranges
from bench.config.grammar import WordError, accepts, key, values
from results.words import Range


@dataclass(kw_only=True)
class Keys:
    depth: int | None = key("layers", "any", ranges=True)
    rate: float | None = key("speed", "any", ranges=True, above=-10)
    at: str | None = key("when", "any", ranges=True, time=True)
    lr: float | None = key("no ranges", "any")


def time(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def inside(word: str, value: Any) -> bool:
    """Whether a value is wanted, by bounds that are compared here; typed without the grammar, which takes its time."""
    name, _, text = word.partition("=")
    kind: Any = {"depth": int, "rate": float, "at": ranges.moment}[name]
    for piece in ranges.pieces(text):
        one = ranges.joined(piece, [kind(bound) for bound in piece.bounds])
        if not isinstance(one, Range):
            if one == value:
                return True
            continue
        over = one.low is None or (value >= one.low if one.with_low else value > one.low)
        under = one.high is None or (value <= one.high if one.with_high else value < one.high)
        if over and under:
            return True
    return False


@pytest.mark.parametrize(
    ("word", "those"),
    [
        ("depth=20", [20]),
        ("depth=>20", [21, 56]),
        ("depth=>=20", [20, 21, 56]),
        ("depth=<20", [8, 19]),
        ("depth=<=20", [8, 19, 20]),
        ("depth=20..56", [20, 21, 56]),
        ("depth=8,>20", [8, 21, 56]),
        ("depth=<8", []),
        ("depth= 19 .. 20 ", [19, 20]),
        ("rate=-1.5..20.5", [8, 19, 20]),
        ("rate=>2e1", [21, 56]),
    ],
)
def test_what_lies_in_a_range(word: str, those: list[int]) -> None:
    assert [number for number in (8, 19, 20, 21, 56) if inside(word, number)] == those


@pytest.mark.parametrize(
    ("word", "those"),
    [
        ("at=2026-11-01", "bcd"),
        ("at=>2026-11-01", "ef"),
        ("at=>=2026-11-01", "bcdef"),
        ("at=<2026-11-01", "a"),
        ("at=<=2026-11-01", "abcd"),
        ("at=2026-11-01..2026-11-02", "bcde"),
        ("at=2026-11", "bcdef"),
        ("at=2026-10", "a"),  # a month of 31 days
        ("at=2026-10..2026-11", "abcdef"),
        ("at=2026-11-01T20", "c"),
        ("at=2026-11-01T20:05", "c"),
        ("at=2026-11-01T20:05:30", "c"),
        ("at=2026-11-01 20:06", ""),
        ("at=2026-11-01T21:05+01:00", "c"),
        ("at=>2026-11-01T20:05:30.25", "def"),
        ("at=>=2026-11-01T20:05:30.25Z", "cdef"),
        ("at=2026-10-31,2026-11-30", "af"),
    ],
)
def test_a_time_stands_for_all_of_its_length(word: str, those: str) -> None:
    moments = {
        "a": time("2026-10-31T23:59:59.999999"), "b": time("2026-11-01T00:00"), "c": time("2026-11-01T20:05:30.25"),
        "d": time("2026-11-01T23:59:59.999999"), "e": time("2026-11-02T00:00"), "f": time("2026-11-30T23:59"),
    }  # fmt: skip
    assert "".join(name for name, moment in moments.items() if inside(word, moment)) == those


def test_bounds_have_the_type_of_their_key_and_the_text_that_was_typed() -> None:
    (one,) = values(["rate=>=1"], Keys)["rate"]
    assert isinstance(one.low, float) and str(one) == ">=1"
    (two,) = values(["depth=8..20"], Keys)["depth"]
    assert type(two.low) is type(two.high) is int and str(two) == "8..20"
    (three,) = values(["at=>=2026-11-01"], Keys)["at"]
    assert (three.low, three.high, three.with_low) == (time("2026-11-01T00:00"), None, True)
    assert values(["at=2026-11", "depth=8, >20"], Keys)["at"] == [ranges.moment("2026-11")]
    assert values(["depth=8,>20"], Keys)["depth"] == [8, Range(20, None, False, False, ">20")]
    assert accepts(Keys.__dataclass_fields__["lr"]) == "a number"
    assert values(["depth=range(2,8,3)"], Keys)["depth"] == [2, 5], "a sweep of the grammar's own"


NUMBER = "depth takes a whole number, or a range: >V, >=V, <V, <=V or V..V"
TIME = "at takes a time such as 2026-11-30 or 2026-11-30T20:05 (UTC), or a range: >V, >=V, <V, <=V or V..V"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("depth=>", f"depth=>: {NUMBER}"),
        ("depth=", f"depth=: {NUMBER}; a range stands in quotes: 'depth=>V'"),
        ("depth>=20", "depth>=20: words are key=value; did you mean depth=>=20?"),
        ("depth>20", "depth>20: words are key=value; did you mean depth=>20?"),
        ("dept=>20", "dept=>20: no such key; did you mean depth=>20?"),
        ("depth=>deep", f"depth=deep: {NUMBER}"),
        ("depth=>20.5", f"depth=20.5: {NUMBER} (nearest: depth=20)"),
        ("depth=>=1e400", f"depth=>=1e400: {NUMBER}"),
        ("depth=1e400", f"depth=1e400: {NUMBER}"),
        ("depth=20..1e400", f"depth=20..1e400: {NUMBER}"),
        ("depth=20,1e400", f"depth=20,1e400: {NUMBER}"),
        ("depth=20,>x", f"depth=x: {NUMBER}"),
        ("depth=>[1]", f"depth=[1]: {NUMBER}"),
        ("depth=>null", f"depth=>null: {NUMBER}"),
        ("depth=56..20", "depth=56..20: nothing lies in it (nearest: depth=20..56)"),
        ("depth=20..", f"depth=20..: {NUMBER} (nearest: depth=>=20)"),
        ("depth=..20", f"depth=..20: {NUMBER} (nearest: depth=<=20)"),
        ("rate=>nan", "rate=>nan: rate takes a number, above -10, or a range"),
        ("rate=-11..3", "rate=-11: rate takes a number, above -10, or a range"),
        ("at=2026-13-41", f"at=2026-13-41: {TIME} (nearest: at=2026-12-31)"),
        ("at=2026-02-30..2026-03-01", f"at=2026-02-30: {TIME} (nearest: at=2026-02-28)"),
        ("at=30.11.2026", f"at=30.11.2026: {TIME}"),
        ("at=2026-11-01T25:00", f"at=2026-11-01T25:00: {TIME} (nearest: at=2026-11-01)"),
        ("at=2026-11-01T20+25:00", f"at=2026-11-01T20+25:00: {TIME} (nearest: at=2026-11-01)"),
        ("at=9999-12-31", f"at=9999-12-31: {TIME}"),
        ("at=", f"at=: {TIME}; a range stands in quotes: 'at=>V'"),
        ("lr=>1", "lr=>1: lr takes a number"),
    ],
)
def test_what_is_no_range_is_one_line(word: str, said: str) -> None:
    with pytest.raises(WordError) as caught:
        values([word], Keys)
    assert str(caught.value).startswith(said) and "\n" not in str(caught.value)
