"""How commands print and end: through `finally` clauses, quietly at a closed pipe, with one line on bad news."""

import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from rich.console import Console


class Terminal(Console):
    """Stdout for tables.

    Args:
        pipe_width: characters of a line where stdout is no terminal.
    """

    def __init__(self, pipe_width: int) -> None:
        super().__init__(width=None if sys.stdout.isatty() else pipe_width, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `run_command`, to which it is no error."""
        raise BrokenPipeError


def exit_on_signals() -> None:
    """Let SIGTERM, SIGHUP and SIGINT end this process through `finally` clauses: exit status 128 + the signal."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, leave)


def run_command(program: str, main: Callable[[list[str]], int]) -> NoReturn:
    """Run a command on the words of this process and leave with its exit status.

    A reader of stdout that has read enough is no error; a file or folder that fails is one line and exit status 1.
    """
    try:
        status = main(sys.argv[1:])
        if sys.stdout:
            sys.stdout.flush()
    except BrokenPipeError:  # `... | head`; later flushes must not complain either
        sys.stdout = None  # type: ignore[assignment]
        status = 0
    except OSError as error:
        print(f"{program}: {' '.join(str(error).split())}", file=sys.stderr)
        status = 1
    raise SystemExit(status)
