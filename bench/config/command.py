"""How every command goes: its help, its words, what it prints and how it ends.

A body that raises is no traceback where a person can mend what is wrong: see `run` for what ends with which status.
"""

import contextlib
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TextIO, TypeVar

from rich.console import Console

from bench.config.grammar import WordError
from bench.config.help_text import help_text
from results.words import ConfigError, printable

Task = TypeVar("Task")

HELP = ("-h", "--help", "help")
UNREAD = (errno.EPIPE, errno.EIO)  # of a pipe without a reader, and of a terminal that has closed
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Failure(Exception):
    """What ends a command with exit status 1; the message is one line."""


class _Unread(BrokenPipeError):
    """Nobody reads stdout any more."""


class Terminal(Console):
    """Stdout for tables.

    Args:
        pipe_width: characters of a line where stdout is no terminal.
    """

    def __init__(self, pipe_width: int) -> None:
        super().__init__(width=None if sys.stdout.isatty() else pipe_width, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leave it to `run`, to which it is no error."""
        raise


def run(
    program: str,
    about: str | None,
    keys: type,
    read: Callable[[list[str]], Task],
    do: Callable[[Task], int],
    words: Sequence[str] | None = None,
    *,
    goes_on: bool = False,
    kept: str = "it went on to its end",
    failed: int = 1,
) -> int:
    """Run a command from its words to its exit status.

    - A word `-h`, `--help` or `help`, wherever it stands, prints the help alone: 0.
    - A word that cannot be used is one line on stderr, `PROGRAM: ...`: 2. So is any ValueError of `read`.
    - `Failure`, and a file or folder that fails, are one line: `failed`.
    - SIGTERM, SIGHUP and SIGINT end it through `finally` clauses: 128 + the signal. What it was started to ignore, as
      SIGHUP is under nohup, stays ignored.
    - A reader of stdout that has read enough is no error: 0, or the body's status where that is known.
    - A disk that is too full for stdout is one line: 1. A command that goes on does so to its end first, and keeps its
      body's status where that is not 0; else it is `failed`.
    - Else it is the body's.

    Args:
        program: begins each line of error.
        about: for the help: purpose, usage with an example, and what else there is to know.
        keys: a dataclass of keys, for the help.
        read: turns words into what is to be done; writes nothing.
        do: does it.
        words: of the command line; None for those of this process.
        goes_on: whether the command does more than print: it then goes on to its end whatever becomes of stdout.
        kept: what there is where it went on so and all else is well.
        failed: exit status where a file, a folder or stdout fails, and the body has no other.

    Raises:
        SystemExit: a signal.
    """
    given = list(sys.argv[1:] if words is None else words)
    status = 0
    with _streams(goes_on) as output, _exit_on_signals():
        try:
            if any(word in HELP for word in given):
                print(f"{(about or program).strip()}\n\n{help_text(keys)}")
            else:
                try:
                    task = read(given)
                except ValueError as error:
                    raise WordError(str(error)) from None
                status = do(task)
            sys.stdout.flush()
        except ConfigError as error:
            status = _complain(program, error, 2)
        except _Unread:
            pass
        except (Failure, OSError) as error:
            status = _complain(program, error, failed)
        if output is not None and output.error is not None:
            said = f"{output.error}{'' if status else f'; {kept}, only what was printed is lost'}"
            status = _complain(program, OSError(said), status or failed)
    return status


def _complain(program: str, error: Exception, status: int) -> int:
    text = printable(str(error))
    if isinstance(error, OSError) and "No usable temporary directory" in text:  # Python tells what it tried alone
        text += ": TMPDIR=FOLDER, a variable, names another"
    print(f"{program}: {text}", file=sys.stderr)
    return status


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    owner = os.getpid()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def leave(number: int, frame: FrameType | None) -> None:
        # What a terminal sends reaches forked workers too: their parent ends them, and none may seem to have failed.
        if number == signal.SIGTERM or os.getpid() == owner:
            raise SystemExit(128 + number)

    try:
        for number, handler in before.items():
            if handler != signal.SIG_IGN:
                signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Output(io.FileIO):
    """A descriptor of stdout or stderr that nobody may read any more, or whose disk is full.

    Args:
        goes_on: whether that is no error of whoever writes.
        what: it is, for an error's message.

    Attributes:
        error: the first that a writer that goes on did not hear of, and a person should.
    """

    def __init__(self, descriptor: int, goes_on: bool, what: str) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self.goes_on, self.what = goes_on, what
        self.error: OSError | None = None

    def write(self, data) -> int:  # type: ignore[no-untyped-def,override]
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self.what
            if not self.goes_on:
                if isinstance(error, BrokenPipeError):
                    raise _Unread from None
                raise
            if error.errno not in UNREAD:
                self.error = self.error or error
            return len(data)


@contextlib.contextmanager
def unfailing_streams() -> Iterator[None]:
    """Stdout and stderr, for the `with` block, that fail nobody who writes to them: viewing never ends measuring."""
    with _streams(True):
        yield


@contextlib.contextmanager
def _streams(goes_on: bool) -> Iterator[_Output | None]:
    """Stdout and stderr that can be printed to, also where they are closed, unread or cannot write every character.

    Returns:
        What stdout ends in; None where it is closed or in memory.
    """
    _reserve_descriptors()
    before = sys.stdout, sys.stderr
    with contextlib.ExitStack() as stack:
        try:
            sys.stdout, output = stack.enter_context(_stream(sys.stdout, goes_on))
            sys.stderr, _ = stack.enter_context(_stream(sys.stderr, True))
            yield output
        finally:
            sys.stdout, sys.stderr = before


def _reserve_descriptors() -> None:
    """Keep files from getting the number of a standard stream that was closed: libraries print to these numbers."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
            os.set_inheritable(descriptor, True)


@contextlib.contextmanager
def _stream(stream: TextIO | None, goes_on: bool) -> Iterator[tuple[TextIO, _Output | None]]:
    if stream is None:  # closed before this process began; print(file=None) would go to the other one
        with open(os.devnull, "w", errors="backslashreplace") as nowhere:
            yield nowhere, None
        return
    try:
        stream.flush()
        output = _Output(stream.fileno(), goes_on, str(getattr(stream, "name", "stream")).strip("<>"))
    except (OSError, ValueError):  # in memory
        yield stream, None
        return
    raw = isinstance(getattr(stream, "buffer", None), io.RawIOBase)  # python -u
    text = io.TextIOWrapper(
        output if raw else io.BufferedWriter(output),  # type: ignore[arg-type]
        encoding=stream.encoding,
        errors="backslashreplace" if stream.errors == "strict" else stream.errors,
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=raw,
    )
    try:
        yield text, output
    finally:
        try:
            text.flush()
        except OSError:  # said already, where it was met first; what is left goes nowhere
            sink = os.open(os.devnull, os.O_WRONLY)
            os.dup2(sink, output.fileno())
            os.close(sink)
            text.flush()
