"""A thread on every rank through which no rank of a run outlives or outwaits another."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

import torch.distributed as dist

from bench.config.environment import RankEnvironment
from bench.config.slurm import is_task
from bench.measure.failure import Failure
from bench.training.group import cuts
from bench.training.group.links import Links
from bench.training.group.stop_request import REQUEST

FAILURE_KEY, HANDLED_KEY, CUTS_KEY = "failure", "handled", "cuts"


class Watchdog:
    """A thread on every rank that beats, listens for a failure, and ends the process when there is one.

    A rank that dies may leave the others in a collective for ever (shared-memory and NCCL collectives see no closed
    socket), so the others leave by `os._exit` from this thread.

    Args:
        store: a client that nobody else uses.
        place: which rank this is.
        links: this node's connections to the other nodes, on its first rank; else None.
        on_failure: see `bench.training.process_group.start_process_group`.
        interval_s: between two beats.
        stale_s: silence after which a rank counts as lost.
        exit: how to end the process; another callable in tests.
    """

    def __init__(
        self,
        store: dist.Store,
        place: RankEnvironment,
        on_failure: Callable[[Failure], None],
        *,
        links: Links | None = None,
        interval_s: float = 1.0,
        stale_s: float = 45.0,
        exit: Callable[[int], object] = os._exit,
    ) -> None:
        self.store, self.place, self.rank, self.size = store, place, place.rank, place.world_size
        self.links = links
        self.on_failure, self.interval_s, self.stale_s, self.exit = on_failure, interval_s, stale_s, exit
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.reported = False
        self.limit: tuple[float, Failure] | None = None
        now = time.monotonic()
        self.beats = [(0, now)] * self.size
        self.cut_since_s: float | None = None
        self.looked_s = self.counted_s = now
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()
        threading.Thread(target=self._guard, name="watchdog-guard", daemon=True).start()

    def report(self, failure: Failure, patience_s: float = 15.0) -> Failure:
        """Tell the other ranks of a failure of this one and wait until rank 0 has written it down.

        Returns:
            The failure that the run ends with: the first one reported, since later ones are often its echo.
        """
        with self.lock:
            self.reported = True
            try:
                self.store.set(f"said/{self.rank}", "1")  # at once: `gone` looks for it
                # Slurm's srun sends all ranks a signal once one of them has ended.
                echoes = ("rank_lost", "timeout", "network", *(["interrupted"] if is_task(os.environ) else []))
                if failure.kind in echoes:
                    time.sleep(2 * self.interval_s)  # the cause may be on its way from the rank that had it
                self._set_first(failure)
                first = Failure.from_json(self.store.get(FAILURE_KEY).decode())
            except Exception:
                return failure  # the store is gone with rank 0
        if self.rank != 0:
            deadline = time.monotonic() + patience_s
            while time.monotonic() < deadline:
                with self.lock:
                    try:
                        if self.store.check([HANDLED_KEY]):
                            break
                    except Exception:
                        break
                time.sleep(0.1)
        return first

    def handled(self) -> None:
        """Say, on rank 0, that the failure is written down; leave the others a moment to hear it."""
        with self.lock:
            self.store.set(HANDLED_KEY, "1")
        time.sleep(2 * self.interval_s)

    def gone(self) -> list[int]:
        """The ranks, asked on rank 0 once there is a failure, that have neither said a word of it nor beaten since."""
        looks = []
        for wait_s in (0.0, 4 * self.interval_s):
            time.sleep(wait_s)
            with self.lock:
                try:
                    looks.append([self.store.add(f"beat/{rank}", 0) for rank in range(self.size)])
                    silent = [rank for rank in range(1, self.size) if not self.store.check([f"said/{rank}"])]
                except Exception:
                    return []
        return [rank for rank in silent if looks[0][rank] == looks[1][rank]]

    @contextlib.contextmanager
    def within(self, limit_s: float, failure: Failure) -> Iterator[None]:
        """End the run with `failure` where the `with` block, which may wait for other ranks, takes longer."""
        self.limit = time.monotonic() + limit_s, failure
        try:
            yield
        finally:
            self.limit = None

    def close(self) -> None:
        """End the thread; a rank that leaves in order says so first."""
        with self.lock:
            self.closed.set()
            try:
                self.store.set(f"left/{self.rank}", "1")
            except Exception:  # noqa: S110 (rank 0 served the store and has left before)
                pass
        self.thread.join()
        if self.links:
            self.links.close()

    def _set_first(self, failure: Failure) -> None:
        if self.store.add("failures", 1) == 1:
            self.store.set(FAILURE_KEY, failure.to_json())

    def _watch(self) -> None:
        # The lock: `report` talks through the same client from the main thread, and a failure that it has reported must
        # not be found here as another rank's.
        while not self.closed.wait(self.interval_s):
            with self.lock:
                if self.closed.is_set() or self.reported:
                    self.looked_s = time.monotonic()
                    continue
                failure = self._look()
                self.looked_s = time.monotonic()
                if failure is None:
                    continue
                self.reported = True
                with contextlib.suppress(Exception):  # the store may be gone with rank 0
                    self.store.set(f"said/{self.rank}", "1")
            print(f"rank {self.rank}: run {failure}", file=sys.stderr, flush=True)
            # Rank 0 writes the run's rows before it goes, and with it the store: the others have left by then or leave
            # when the store closes. Nothing may keep it from going, not even rows that cannot be written.
            if self.rank == 0:
                try:
                    self.on_failure(failure)
                finally:
                    self.handled()
            self.exit(1)
            return

    def _guard(self) -> None:
        """End the process where the store no longer answers: a stopped rank 0 closes no connection, and calls wait."""
        woke_s = time.monotonic()
        while not self.closed.wait(self.interval_s):
            before_s, woke_s = woke_s, time.monotonic()
            if woke_s - before_s > self.stale_s / 2:  # it is this process that was suspended, as by Ctrl-Z
                self.looked_s = woke_s
            elif woke_s - self.looked_s > self.stale_s:
                lost = f"rank 0, which serves the store, has been silent for {self.stale_s:.0f} s"
                failure = Failure("failed", "rank_lost", lost, self.rank)
                print(f"rank {self.rank}: run {failure}", file=sys.stderr, flush=True)
                self.exit(1)
                return

    def _look(self) -> Failure | None:
        try:
            # A beat is a counter, not a time: clocks of nodes differ, and rank 0 only asks whether it went on.
            self.store.add(f"beat/{self.rank}", 1)
            if stopped := REQUEST.overdue():
                self._set_first(stopped)
            if (limit := self.limit) and time.monotonic() > limit[0]:
                self._set_first(limit[1])
            for node in self.links.lost() if self.links else []:
                cut = cuts.Cut(self.place.node, node)
                self.store.set(f"cut/{self.store.add(CUTS_KEY, 1)}", cut.to_text())
            if self.store.check([FAILURE_KEY]):
                return Failure.from_json(self.store.get(FAILURE_KEY).decode())
            if self.rank == 0:
                self._count_beats()
                return self._cut() or self._silent()
        except Exception:  # whatever the store's client raises: its server is part of rank 0
            return Failure("failed", "rank_lost", "rank 0, which serves the store, is gone", self.rank)
        return None

    def _count_beats(self) -> None:
        now = time.monotonic()
        if now - self.counted_s > self.stale_s / 2:  # this rank was suspended itself, and the others with it perhaps
            self.beats = [(count, now) for count, _ in self.beats]
        self.counted_s = now
        for rank in range(1, self.size):
            count = self.store.add(f"beat/{rank}", 0)
            if count != self.beats[rank][0]:
                self.beats[rank] = (count, now)

    def _cut(self) -> Failure | None:
        """What the nodes say of connections that they have lost, once all that lose one have had the time to say so."""
        now = time.monotonic()
        if not (count := self.store.add(CUTS_KEY, 0)):
            return None
        self.cut_since_s = self.cut_since_s or now
        if now - self.cut_since_s < cuts.SETTLE_S:
            return None
        keys = [f"cut/{number}" for number in range(1, count + 1)]
        found = {cuts.Cut.from_text(self.store.get(key).decode()) for key in keys if self.store.check([key])}
        heard = {
            rank // self.place.local_world_size
            for rank in range(self.size)
            if rank == 0 or now - self.beats[rank][1] < cuts.SILENT_S
        }
        failure = cuts.failure_of(found, heard, self.place)
        self._set_first(failure)
        return failure

    def _silent(self) -> Failure | None:
        now = time.monotonic()
        for rank in range(1, self.size):
            if now - self.beats[rank][1] > self.stale_s and not self.store.check([f"left/{rank}"]):
                who = self.place.named(rank)
                lost = Failure("failed", "rank_lost", f"{who} has been silent for {self.stale_s:.0f} s", 0)
                self._set_first(lost)
                return lost
        return None
