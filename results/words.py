"""What typed words mean to `python -m results.*`: the nearest valid choice, runs, ranges, and the folders read."""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from os.path import expanduser
from pathlib import Path
from typing import Any

DEFAULT_ROOT = Path(__file__).resolve().parent / "v1"
RECORD_ROOT = Path(__file__).resolve().parent / "record"
# Of a run's configuration: particulars of one machine, which are neither measured nor kept in a row.
PATH_KEYS = ("data", "results", "save", "resume")


class ConfigError(ValueError):
    """What was asked for cannot be done; one line that names the word and what would do instead.

    Whoever runs a command or a run tells it from a fault of ours by this class alone: any other ValueError is one.
    """


DEEPEST = 100  # levels of a JSON text
SHORT = 8  # characters of an id's end, which are chance, and of its day
NAMES_ONE = "an id, its start (the day) or its whole short end names one"
CUTOFF = 0.6  # of difflib's ratio, below which a guess helps nobody


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return the choice most like `word`, however unlike (empty when there are no choices).

    Case does not count; among equals the one whose first letter is closest.
    """

    def likeness(choice: str) -> tuple[float, int]:
        return _ratio(word, choice), -abs(ord(choice[:1].lower() or "a") - ord(word[:1].lower() or "a"))

    return max(choices, key=likeness, default="")


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Return the choice that `word` may be a slip of, or "" where none is like it."""
    found = nearest(word, choices)
    return found if _ratio(word, found) >= CUTOFF else ""


def like_id(word: str, ids: Iterable[str], others: Iterable[str] = ()) -> str:
    """Return what names the run that `word` may be a slip of, or "" where none is like it.

    That is the short end of an id, its day or all of it. Whoever typed the start of a short end meant that one.

    Args:
        ids: of runs, or of baselines.
        others: what else would do, such as commits.
    """
    ids = sorted(set(ids))
    ends = Counter(one[-SHORT:] for one in ids)
    alone = [end for end, count in ends.items() if count == 1]
    if len(word) >= 3 and (begun := [end for end in alone if end.startswith(word)]):
        return begun[-1]
    return suggestion(word, [*alone, *sorted({one[:SHORT] for one in ids}, reverse=True), *ids, *others])


def _ratio(word: str, choice: str) -> float:
    return SequenceMatcher(None, word.lower(), choice.lower()).ratio()


@dataclass(frozen=True)
class Range:
    """Values between two bounds.

    Attributes:
        low, high: bounds of one type; None where there is none on that side.
        with_low, with_high: whether the bound itself is inside.
        text: as it was typed, such as ">20", "20..56" or a time, which stands for all of its day.
    """

    low: Any
    high: Any
    with_low: bool
    with_high: bool
    text: str

    def __str__(self) -> str:
        return self.text


def counted(count: int, noun: str) -> str:
    """Return a number with its noun, such as "1 run" or "1,200 runs"."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def meant_ids(word: str, ids: Iterable[str]) -> list[str]:
    """Return the runs that a whole id, or the start or the end of one, means: one, several or none."""
    ids = list(ids)
    return [word] if word in ids else [one for one in ids if word and (one.startswith(word) or one.endswith(word))]


def chosen_ids(words: Iterable[str], ids: Iterable[str], key: str = "run") -> list[str]:
    """Return the run that each `run=` word means, each once.

    Args:
        words: whole ids, or the start or the end of one.
        ids: of the runs that there are.
        key: what has these ids, if not a run: "evaluation".

    Raises:
        ConfigError: no run is meant, or more than one.
    """
    ids = list(ids)
    chosen: list[str] = []
    for word in words:
        found = meant_ids(word, ids)
        if len(found) > 1:
            raise ConfigError(f"{key}={word}: {len(found)} {key}s have it; choose from {', '.join(found[-4:])}")
        if not found:
            near = f"; nearest is {key}={like}" if (like := like_id(word, ids)) else ""
            raise ConfigError(f"{key}={word}: no such {key}; {NAMES_ONE if ids else 'there are none'}{near}")
        chosen += [one for one in found if one not in chosen]
    return chosen


def printable(text: str) -> str:
    """Return a text on one line that a terminal shows and does not obey, and that XML 1.0 allows.

    Control characters, and what is no character (https://www.unicode.org/faq/private_use#nonchar1), are written out.
    """
    return "".join(
        char.encode("unicode_escape").decode()
        if unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") or _is_none(ord(char))
        else char
        for char in " ".join(text.split())
    )


def _is_none(code: int) -> bool:
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def parse_json(text: str) -> Any:
    """Return the value of a JSON text that a row holds.

    Raises:
        ValueError: it is not JSON, or nested deeper than what reads it goes.
    """
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if text.count("{") + text.count("[") > DEEPEST:  # most texts have a few: no time is spent on these
        level = [value] if isinstance(value, dict | list) else []
        for _ in range(DEEPEST):
            inside = (inner for one in level for inner in (one.values() if isinstance(one, dict) else one))
            level = [inner for inner in inside if isinstance(inner, dict | list)]
        if level:
            raise ValueError("nested too deep")
    return value


def root_from(given: Mapping[str, Sequence[str]], key: str = "results", default: Path = DEFAULT_ROOT) -> Path:
    """Return the folder named by a key.

    Args:
        given: values of each typed key.

    Raises:
        ValueError: the key names something that is not a folder.
    """
    if key not in given:
        return default
    root = Path(expanduser(given[key][0]))
    try:
        there = root.is_dir()
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{key}={given[key][0]}: {error.strerror}") from None
    if not there:
        raise ValueError(f"{key}={given[key][0]}: no such folder")
    return root
