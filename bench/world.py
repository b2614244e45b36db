"""The ranks of one run: the process group, and a watchdog through which no rank outlives or outwaits another."""

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from bench.config.environment import JobEnvironment, RankEnvironment
from bench.measure.failure import Failure
from results.words import ConfigError

FAILURE_KEY, HANDLED_KEY = "failure", "handled"


@dataclass
class World:
    """This process among the ranks of a run.

    Attributes:
        device: the rank's accelerator, or the CPU.
        threads: CPU threads that this rank may keep busy.
        watchdog: None where there is one rank.
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    device: torch.device
    threads: int
    watchdog: "Watchdog | None" = field(default=None, repr=False)

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        """Sum of each value over the ranks, in float64."""
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor.tolist()

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        """One float64 [steps, columns] tensor a rank, equally long on all of them; on every rank, in rank order."""
        if self.size == 1:
            return [rows]
        mine = rows.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        dist.all_gather(parts, mine)
        return [part.cpu() for part in parts]

    def barrier(self) -> None:
        """Wait for every rank."""
        if self.size > 1:
            self.all_reduce([0.0])

    def close(self) -> None:
        """Leave the process group once all ranks have come here."""
        if self.watchdog:
            self.watchdog.close()
        if dist.is_initialized():
            if dist.get_backend() == "gloo":
                wait_for_idle("pt_gloo_runloop")
            dist.destroy_process_group()


def wait_for_idle(name: str, *, looks: int = 3, patience_s: float = 5.0) -> bool:
    """Wait until this process's threads of that name sleep.

    A gloo thread lets go of a collective's tensors after the collective is over, and needs the GIL for it. If the
    interpreter has begun to end by then, the process is aborted ("terminate called without an active exception",
    pytorch/pytorch#190489) and a finished run looks failed. Destroying the group does not join the threads as long as
    DDP or DeepSpeed refers to it.

    Args:
        name: of the threads, as in /proc/self/task/*/comm.
        looks: how often in a row, 10 ms apart, all are found asleep; one that waits for the GIL gets it in between.
        patience_s: how long to wait at most.

    Returns:
        Whether all sleep; True where the system does not tell.
    """
    deadline = time.monotonic() + patience_s
    asleep = 0
    while asleep < looks:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
        asleep = 0 if "R" in _states(name) else asleep + 1
    return True


def _states(name: str) -> str:
    states = ""
    for stat in Path("/proc/self/task").glob("*/stat"):
        with contextlib.suppress(OSError):  # a thread may end while it is looked at
            comm, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(") ")
            states += rest[0] if comm == name else ""
    return states


def join(on_failure: Callable[[Failure], None]) -> World:
    """Join the run that the environment describes (see `bench.config.environment`).

    Rank 0 serves the store that the others meet at. Collectives themselves have no short timeout, since a compile may
    take one rank minutes longer than another; it is the watchdog that ends a run whose rank is gone.

    Args:
        on_failure: called on rank 0's watchdog thread when another rank reported a failure or went silent; the process
            ends after it.

    Raises:
        ConfigError: more ranks on this node than GPUs, or a variable that is missing or wrong.
        torch.distributed.DistNetworkError, DistStoreError: the ranks did not meet within 5 minutes.
    """
    job, place = JobEnvironment.from_env(os.environ), RankEnvironment.from_env(os.environ)
    rank, size, local_rank, local_size = place.rank, place.world_size, place.local_rank, place.local_world_size
    if torch.cuda.is_available():
        if local_size > torch.cuda.device_count():
            raise ConfigError(
                f"ranks_per_node={local_size} exceeds the {torch.cuda.device_count()} GPUs here: "
                f"at most ranks_per_node={torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    # Slurm may have bound the task to its own cores already; the affinity is then not to be shared.
    cores = os.environ.get("SLURM_CPUS_PER_TASK")
    threads = int(cores) if cores else max(1, len(os.sched_getaffinity(0)) // local_size)
    torch.set_num_threads(job.threads or threads)

    address, port = job.rendezvous()
    wait = timedelta(minutes=5)
    store = dist.TCPStore(address, port, size, is_master=rank == 0, timeout=wait, wait_for_workers=False)
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo",
        store=dist.PrefixStore("group", store),
        rank=rank,
        world_size=size,
        timeout=timedelta(hours=2),
        device_id=device if device.type == "cuda" else None,
    )
    watchdog = None
    if size > 1:
        # A client of its own: a blocking call on the first one would hold up the heartbeat.
        client = dist.TCPStore(address, port, size, is_master=False, timeout=wait, wait_for_workers=False)
        watchdog = Watchdog(dist.PrefixStore("watchdog", client), rank, size, on_failure)
    return World(rank, size, local_rank, local_size, device, threads, watchdog)


class Watchdog:
    """A thread on every rank that beats, listens for a failure, and ends the process when there is one.

    A rank that dies may leave the others in a collective for ever (shared-memory and NCCL collectives see no closed
    socket), so the others leave by `os._exit` from this thread.

    Args:
        store: a client that nobody else uses.
        on_failure: see `join`.
        interval_s: between two beats.
        stale_s: silence after which a rank counts as lost.
        exit: how to end the process; another callable in tests.
    """

    def __init__(
        self,
        store: dist.Store,
        rank: int,
        size: int,
        on_failure: Callable[[Failure], None],
        *,
        interval_s: float = 1.0,
        stale_s: float = 45.0,
        exit: Callable[[int], object] = os._exit,
    ) -> None:
        self.store, self.rank, self.size = store, rank, size
        self.on_failure, self.interval_s, self.stale_s, self.exit = on_failure, interval_s, stale_s, exit
        self.lock = threading.Lock()
        self.closed = threading.Event()
        self.reported = False
        now = time.monotonic()
        self.beats = [(0, now)] * size
        self.looked_s = now
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
                if failure.kind in ("rank_lost", "timeout", "network"):
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

    def close(self) -> None:
        """End the thread; a rank that leaves in order says so first."""
        with self.lock:
            self.closed.set()
            try:
                self.store.set(f"left/{self.rank}", "1")
            except Exception:  # noqa: S110 (rank 0 served the store and has left before)
                pass
        self.thread.join()

    def _set_first(self, failure: Failure) -> None:
        if self.store.add("failures", 1) == 1:
            self.store.set(FAILURE_KEY, failure.to_json())

    def _watch(self) -> None:
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
            print(f"rank {self.rank}: run {failure}", file=sys.stderr, flush=True)
            if self.rank == 0:
                try:
                    self.on_failure(failure)
                finally:
                    self.handled()
            self.exit(1)
            return

    def _guard(self) -> None:
        """End the process where the store no longer answers: a stopped rank 0 closes no connection, and calls wait."""
        while not self.closed.wait(self.interval_s):
            if time.monotonic() - self.looked_s > self.stale_s:
                lost = f"rank 0, which serves the store, has been silent for {self.stale_s:.0f} s"
                failure = Failure("failed", "rank_lost", lost, self.rank)
                print(f"rank {self.rank}: run {failure}", file=sys.stderr, flush=True)
                self.exit(1)
                return

    def _look(self) -> Failure | None:
        try:
            self.store.add(f"beat/{self.rank}", 1)
            if self.store.check([FAILURE_KEY]):
                return Failure.from_json(self.store.get(FAILURE_KEY).decode())
            if self.rank == 0:
                return self._silent()
        except Exception:
            return Failure("failed", "rank_lost", "rank 0, which serves the store, is gone", self.rank)
        return None

    def _silent(self) -> Failure | None:
        now = time.monotonic()
        for rank in range(1, self.size):
            count = self.store.add(f"beat/{rank}", 0)
            if count != self.beats[rank][0]:
                self.beats[rank] = (count, now)
            elif now - self.beats[rank][1] > self.stale_s and not self.store.check([f"left/{rank}"]):
                lost = Failure("failed", "rank_lost", f"rank {rank} has been silent for {self.stale_s:.0f} s", 0)
                self._set_first(lost)
                return lost
        return None
