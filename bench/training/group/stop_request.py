"""A signal that asks a run to stop, for a main thread that never gets to Python's handler: it waits in a collective."""

import threading
import time

from bench.measure.failure import Failure

# The handler and what it raises come first where they can; a launcher kills after 10 s, Slurm after 30.
PATIENCE_S = 4.0


class StopRequest:
    """What the watchdog asks after; see `launch.job.stop_on_signals` for who answers."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: tuple[float, Failure] | None = None

    def ask(self, failure: Failure) -> None:
        """Note that the run is to stop; the first reason stands."""
        with self._lock:
            self._asked = self._asked or (time.monotonic(), failure)

    def overdue(self) -> Failure | None:
        """Why the run is to stop, once its main thread has had the time for it."""
        with self._lock:
            if self._asked is None or time.monotonic() - self._asked[0] < PATIENCE_S:
                return None
            return self._asked[1]


REQUEST = StopRequest()
