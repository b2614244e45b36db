"""The ranks of one run as one process group, and what they do together."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist

from bench.config.environment import JobEnvironment, RankEnvironment
from bench.config.slurm import task_cores
from bench.measure.failure import Failure
from bench.training.group import rendezvous
from bench.training.group.device import check_devices, device_of, tell_device
from bench.training.group.links import connect_links, open_links
from bench.training.group.watchdog import Watchdog


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
    watchdog: Watchdog | None = field(default=None, repr=False)

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


def _opened(address: str, port: int, place: RankEnvironment, run: str, *, exact: bool) -> tuple[dist.TCPStore, int]:
    """The store that the ranks meet at, and its port; a rank that cannot reach the others tells rank 0 first."""
    try:
        rendezvous.choose_interface(address, place, exact=exact)
    except rendezvous.Unreachable as fault:
        if place.rank:
            with contextlib.suppress(rendezvous.Unreachable):
                rendezvous.tell(rendezvous.open_store(address, port, place, run)[0], fault)
        raise
    return rendezvous.open_store(address, port, place, run)


def start_process_group(on_failure: Callable[[Failure], None], run: str = "") -> World:
    """Start this rank's part of the run that the environment describes (see `bench.config.environment`).

    Rank 0 serves the store that the others meet at; see `bench.training.group.rendezvous`. Collectives themselves have
    no short timeout, since a compile may take one rank minutes longer than another; it is the watchdog that ends a run
    whose rank is gone.

    Args:
        on_failure: called on rank 0's watchdog thread when another rank reported a failure or went silent; the process
            ends after it.
        run: the same on all ranks, and of no other run: what else listens at the meeting place is told by it.

    Raises:
        ConfigError: fewer GPUs than ranks, or a variable that is missing or wrong.
        RankLost, rendezvous.Unreachable: the ranks did not meet.
    """
    job, place = JobEnvironment.from_env(os.environ), RankEnvironment.from_env(os.environ)
    rank, size, local_rank, local_size = place.rank, place.world_size, place.local_rank, place.local_world_size
    device = device_of(place)
    # A rank that srun started is a task by itself. Slurm may have bound it to its own cores: they are not to be shared.
    threads = job.cores or task_cores(os.environ) or max(1, len(os.sched_getaffinity(0)) // local_size)
    torch.set_num_threads(job.threads or threads)

    address, port = job.rendezvous()
    store, port = _opened(address, port, place, run, exact=device.type == "cpu")
    os.environ["MASTER_PORT"] = str(port)
    watchdog = None
    if size > 1:
        links = open_links(store, address, place, run) if place.nodes > 1 and local_rank == 0 else None
        tell_device(store, place, device)
        rendezvous.meet(store, place)
        check_devices(store, place, device)
        if links:
            connect_links(links, store, place.nodes)
        # A client of its own: a blocking call on the first one would hold up the heartbeat.
        client = dist.TCPStore(
            address, port, size, is_master=False, timeout=timedelta(minutes=5), wait_for_workers=False
        )
        watchdog = Watchdog(dist.PrefixStore("watchdog", client), place, on_failure, links=links)
    with watchdog.within(rendezvous.MESH_S, rendezvous.no_mesh(place)) if watchdog else contextlib.nullcontext():
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            store=dist.PrefixStore("group", store),
            rank=rank,
            world_size=size,
            timeout=timedelta(hours=2),
            device_id=device if device.type == "cuda" else None,
        )
    return World(rank, size, local_rank, local_size, device, threads, watchdog)
