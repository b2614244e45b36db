"""How long a loader may give no sign of life before its run ends, and what is waited for meanwhile."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from resnet.data.errors import DataError

# A loader of whose images not one has gone on for so long is stalled. Neither a slow disk nor a large batch is: each
# image counts, not the batch. Runs end within 90 s of whatever happens, the writing of rows included.
STALL_S = 45.0
# Between two looks, meanwhile.
LOOK_S = 5.0
# Of a core, on average over STALL_S: threads that compute more are alive, though a library says nothing of them. It is
# little, because a machine may have more to do than it has cores; threads that wait take less than a tenth of it.
_BUSY = 0.02

_waits: list[Callable[[], str]] = []


@contextlib.contextmanager
def waiting(what: Callable[[], str]) -> Iterator[None]:
    """Note, for the `with` block, that the main thread waits for data, for whoever watches that it goes on.

    Args:
        what: It waits for, in words; called from another thread.
    """
    _waits.append(what)
    try:
        yield
    finally:
        _waits.pop()


def waited_for() -> Callable[[], str] | None:
    """What the main thread waits for, innermost; None where it does not wait for data."""
    return _waits[-1] if _waits else None


class Signs:
    """Signs of life of a loader's threads, and the files that they are at.

    Args:
        loader: Its name.
    """

    def __init__(self, loader: str) -> None:
        self._loader = loader
        self._at: dict[int, tuple[str, float]] = {}
        self._moved_s = time.monotonic()
        self._used_s = time.process_time()

    def begin(self, path: str) -> None:
        """Say that this thread begins to read a file."""
        self._at[threading.get_ident()] = path, time.monotonic()

    def moved(self) -> None:
        """Say that this thread has done something, and is at no file."""
        self._at.pop(threading.get_ident(), None)
        self._moved_s = time.monotonic()

    def look(self, waited_s: float) -> None:
        """See that something has moved.

        Args:
            waited_s: When this wait began, of `time.monotonic`: nobody need have moved before.

        Raises:
            DataError: Nothing has, for `STALL_S`; one line with the file that has been read for longest.
        """
        now, used_s = time.monotonic(), time.process_time()
        # Decoders of whole batches give no sign in between, but use the processor, as threads that wait do not.
        if used_s - self._used_s > _BUSY * STALL_S:
            self._moved_s, self._used_s = now, used_s
        reads = sorted(self._at.copy().values(), key=lambda read: read[1])
        idle_s = now - max([waited_s, self._moved_s, *(began_s for _, began_s in reads)])
        if idle_s >= STALL_S:
            raise DataError(f"loader={self._loader}: nothing has moved for {idle_s:.0f} s; {self.describe()}")

    def describe(self) -> str:
        """What the threads are at, in words."""
        reads = sorted(self._at.copy().values(), key=lambda read: read[1])
        if not reads:
            return "none of its threads is at a file: the decoder does not answer"
        path, began_s = reads[0]
        return f"reading {path} has taken {time.monotonic() - began_s:.0f} s: does its file system answer?"
