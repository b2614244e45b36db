"""A thread that ends a run whose main thread waits for data where no exception reaches it, as in a read for ever."""

import threading
import time
from collections.abc import Callable

from bench.measure.failure import Failure
from resnet.data import LOOK_S, STALL_S, waited_for

# Loaders look for themselves, and end a wait with an error that can be handled: they come first.
LIMIT_S = STALL_S + 2 * LOOK_S


class Starvation:
    """Watches the main thread of a rank while it waits for data (`resnet.data.waiting`).

    A thread that is blocked uses no processor time at all, and one that gets on uses some, however slow the disk: what
    lists a million files for minutes is not ended, a single read that never returns is. A loader's own waits wake up
    every few seconds.

    Args:
        end: What ends the run; called once, from this thread.
        rank: Of this process.
        limit_s: Seconds without processor time.
        interval_s: Between two looks.
    """

    def __init__(
        self, end: Callable[[Failure], object], rank: int, *, limit_s: float = LIMIT_S, interval_s: float = 1.0
    ) -> None:
        self.end, self.rank, self.limit_s, self.interval_s = end, rank, limit_s, interval_s
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="starvation", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """End the thread."""
        self.closed.set()
        self.thread.join()

    def _watch(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        clock = time.pthread_getcpuclockid(main)
        used_s, moved_s, woke_s = 0.0, time.monotonic(), time.monotonic()
        while not self.closed.wait(self.interval_s):
            before_s, woke_s = woke_s, time.monotonic()
            what, spent_s = waited_for(), time.clock_gettime(clock)
            suspended = woke_s - before_s > self.limit_s / 2  # this whole process, as by Ctrl-Z
            if what is None or spent_s != used_s or suspended:
                used_s, moved_s = spent_s, woke_s
            elif woke_s - moved_s > self.limit_s:
                message = f"waiting for data has been stuck for {woke_s - moved_s:.0f} s; {what()}"
                self.end(Failure("failed", "data", message, self.rank))
                return
