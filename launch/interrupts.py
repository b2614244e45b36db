"""The signals that stop a launcher: what they say, and when it hears of them."""

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from types import FrameType

from launch.job import Cause

SAME_S = 1.0  # signals no further apart are of one doing
TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGHUP)
STOP_SIGNALS = (*TERMINAL_SIGNALS, signal.SIGTERM)


class Interrupted(BaseException):
    """A signal told the launcher to stop.

    Args:
        number: of the signal.
        cause: what it says.
    """

    def __init__(self, number: int, cause: Cause) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_status = 128 + number
        self.cause = cause


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Turn the signals that stop a command into `Interrupted`, but for those that it was started to ignore.

    A second one hurries what the first one ends. What follows at once is of the same doing: a terminal that closes may
    say so twice. More than two change nothing.
    """
    raised: list[float] = []
    had_terminal = _has_terminal()

    def interrupt(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if len(raised) == 2 or (raised and now - raised[-1] < SAME_S):
            return
        raised.append(now)
        cause = Cause.of_signal(number, "the launcher")
        if number == signal.SIGHUP and had_terminal and not _has_terminal():
            cause = Cause("interrupted", "the terminal of the launcher was closed (SIGHUP)")
        raise Interrupted(number, cause)

    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, before[number])


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Let the signals that stop a command wait until the `with` block is over."""
    waiting: list[int] = []
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        if before[number] != signal.SIG_IGN:
            # Not blocked: what is started in the meantime would inherit that.
            signal.signal(number, lambda number, frame: waiting.append(number))
    try:
        yield
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, before[number])
        if waiting:
            os.kill(os.getpid(), waiting[0])


def _has_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
