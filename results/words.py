"""The nearest valid choice for a mistyped word, and the folders that `python -m results.*` reads by default."""

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from os.path import expanduser
from pathlib import Path

DEFAULT_ROOT = Path(__file__).resolve().parent / "v1"
RECORD_ROOT = Path(__file__).resolve().parent / "record"
# Of a run's configuration: particulars of one machine, which are neither measured nor kept in a row.
PATH_KEYS = ("data", "results", "save", "resume")


class ConfigError(ValueError):
    """What was asked for cannot be done; one line that names the word and what would do instead.

    Whoever runs a command or a run tells it from a fault of ours by this class alone: any other ValueError is one.
    """


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


def _ratio(word: str, choice: str) -> float:
    return SequenceMatcher(None, word.lower(), choice.lower()).ratio()


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
