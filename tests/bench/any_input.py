"""How tests with made-up input go: a few examples, always the same, or new ones for minutes under `make soak`."""

import contextlib
import io
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, given, seed, settings

from results.words import printable

SOAK_S = float(os.environ.get("RESNET_BENCH_SOAK_S", "300"))
HANGS_S = 60


def short(examples: int) -> settings:
    """Settings under which the same examples are tried each time."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def soak(test: Callable[..., None], what: str, **strategies: Any) -> int:
    """Try new examples for `SOAK_S`; says how many, and returns it."""
    count, end = 0, time.monotonic() + SOAK_S
    while time.monotonic() < end:

        @seed(time.time_ns())
        @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(**strategies)
        def tried(**drawn: Any) -> None:
            nonlocal count
            if time.monotonic() > end:
                return
            count += 1
            test(**drawn)

        tried()
    print(f"{count} {what}")
    return count


@contextlib.contextmanager
def limited(seconds: int = HANGS_S) -> Iterator[None]:
    """A hang is a failure."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still at it after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class Said:
    """How a command ended; `fault` is the traceback of what it raised, else empty."""

    status: int
    out: str
    err: str
    fault: str = ""


def called(main: Callable[[list[str]], int], words: list[str]) -> Said:
    """Call a command's entry point, with stdout and stderr in memory."""
    out, err, status, fault = io.StringIO(), io.StringIO(), -1, ""
    with limited(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except AssertionError:
            raise
        except BaseException:
            fault = traceback.format_exc()
    return Said(status, out.getvalue(), err.getvalue(), fault)


def is_line(text: str) -> bool:
    """Whether a text is one line that a terminal shows and does not obey."""
    line = text.removesuffix("\n")
    return line != text and line.strip() != "" and "\n" not in line and printable(line) == " ".join(line.split())


def names_one(line: str, words: list[str]) -> bool:
    """Whether a line of error names one of the words, by its key, whole or by what stands between its commas."""
    for word in words:
        key, equals, value = word.partition("=")
        if equals and key.strip() and f"{printable(key)}=" in line:
            return True
        if any(printable(part)[:60] in line for part in (word, *filter(str.strip, word.split(",")))):
            return True
    return False
