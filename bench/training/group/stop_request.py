"""A signal that asks a run to stop: for a training loop that saves first, and for a main thread that waits for ever."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator

from bench.measure.failure import Failure

# The handler and what it raises come first where they can; a launcher kills after 10 s, Slurm after 30.
PATIENCE_S = 4.0


class StopRequest:
    """What the watchdog and the training loop ask after; see `launch.job.stop_on_signals` for who answers."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may come while its own thread asks
        self._asked: tuple[float, Failure] | None = None
        self._heeded = self._alone = False

    @contextlib.contextmanager
    def heeded(self, alone: bool = False) -> Iterator[None]:
        """For the `with` block the training loop looks whether the run is to stop; it ends it where all ranks agree.

        Args:
            alone: whether there is one rank, which no watchdog ends when its time is over.
        """
        with self._lock:
            self._heeded, self._alone = True, alone
        try:
            yield
        finally:
            with self._lock:
                self._heeded = False

    def ask(self, failure: Failure, patience_s: float = PATIENCE_S) -> bool:
        """Note that the run is to stop; the first reason stands.

        Args:
            patience_s: what a training loop that heeds it has, for its step and for its checkpoint.

        Returns:
            Whether it is heeded, so that the main thread is to go on.
        """
        with self._lock:
            patience_s = patience_s if self._heeded else PATIENCE_S
            deadline = time.monotonic() + patience_s
            if self._asked is None:
                self._asked = deadline, failure
                if self._heeded and self._alone:
                    hurry = threading.Timer(patience_s, self._hurry)
                    hurry.daemon = True
                    hurry.start()
            self._asked = min(self._asked[0], deadline), self._asked[1]  # a later one may leave less time
            return self._heeded

    def _hurry(self) -> None:
        """End a run whose training loop has not ended it in time, as if it heeded nothing."""
        with self._lock:
            if not self._heeded:
                return
            self._heeded = False
        os.kill(os.getpid(), signal.SIGTERM)

    def asked(self) -> Failure | None:
        """Why the run is to stop; None where nobody asked."""
        with self._lock:
            return self._asked[1] if self._asked else None

    def overdue(self) -> Failure | None:
        """Why the run is to stop, once its main thread has had the time for it."""
        with self._lock:
            if self._asked is None or time.monotonic() < self._asked[0]:
                return None
            return self._asked[1]


REQUEST = StopRequest()
