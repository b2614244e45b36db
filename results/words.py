"""The `key=value` command lines of `python -m results.*`, and the nearest valid choice for a mistyped word."""

import difflib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
    """Returns the choice most like `word`, however unlike (empty when there are no choices)."""
    found = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=0.0)
    return found[0] if found else ""


def suggestion(word: str, choices: Iterable[str]) -> str:
    """Returns the choice that `word` may be a slip of, or "" where none is like it."""
    found = difflib.get_close_matches(word.lower(), list(choices), n=1, cutoff=CUTOFF)
    return found[0] if found else ""


def parse(argv: Sequence[str], keys: Iterable[str]) -> dict[str, str]:
    """Parses `key=value` words.

    Args:
        argv: words after the program's name.
        keys: every key that is known.

    Returns:
        The value of each given key, as typed.

    Raises:
        ValueError: a word without `=`, an empty value, an unknown or repeated key.
    """
    known = list(keys)
    given: dict[str, str] = {}
    for word in argv:
        key, equals, value = word.partition("=")
        if key not in known:
            raise ValueError(f"{word}: no key {key!r}; did you mean {nearest(key, known)}=?")
        if not equals or not value:
            raise ValueError(f"{word}: expected {key}=VALUE")
        if key in given:
            raise ValueError(f"{word}: {key} is given twice")
        given[key] = value
    return given


def root_from(given: Mapping[str, str], key: str = "results", default: Path = DEFAULT_ROOT) -> Path:
    """Returns the folder named by a key.

    Raises:
        ValueError: the key names something that is not a folder.
    """
    if key not in given:
        return default
    root = Path(given[key]).expanduser()
    if not root.is_dir():
        raise ValueError(f"{key}={given[key]}: no such folder")
    return root


def command(program: str, body: Callable[[Sequence[str]], int], usage: str, argv: Sequence[str] | None) -> int:
    """Runs a command's body and turns bad input into one line on stderr and exit status 2."""
    words = sys.argv[1:] if argv is None else list(argv)
    if any(word in ("-h", "--help", "help") for word in words):
        print(usage.strip())
        return 0
    try:
        return body(words)
    except BrokenPipeError:  # `... | head` has read enough; later flushes must not complain either
        sys.stdout = None  # type: ignore[assignment]
        return 0
    except (ValueError, OSError) as error:
        line = " ".join(str(error).split())
        print(f"{program}: {line}", file=sys.stderr)
        return 2
