"""The worker processes of `loader=torch`, as their parent sees them: what each is at, how it died, and its end."""

import multiprocessing
import re
import signal
import time
import weakref
from collections.abc import Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess

import numpy as np
import psutil
import torch

from kernels.child_process import die_with_parent
from resnet.data.batch import Split
from resnet.data.errors import DataError
from resnet.data.loaders import shared_memory
from resnet.data.loaders.patience import LOOK_S, STALL_S

_DEATH = re.compile(r"DataLoader worker \(pid(?:\(s\))? (\d+)")
_CRASHES = ("SIGSEGV", "SIGABRT", "SIGILL", "SIGFPE")


class Marks:
    """What each worker is at, written by the worker, in memory that it shares with its parent.

    Args:
        workers: How many.

    Raises:
        DataError: There is no shared memory for it.
    """

    def __init__(self, workers: int) -> None:
        # Of each the image that it is at (-1: none), and when it began with it, ns of the monotonic clock.
        self._table = torch.full((workers, 2), -1, dtype=torch.int64)
        shared_memory.share(self._table)
        self._own: np.ndarray | None = None  # the row of the worker that this process is

    def begin(self, worker: int) -> None:
        """In a worker, first: say which one this is, and see that it does not outlive its parent.

        A parent that is killed ends nobody, and a worker that is suspended or waits for a disk does not look for it.
        """
        parent = multiprocessing.parent_process()
        die_with_parent(parent.pid if parent else None)
        self._own = self._table[worker].numpy()
        self.at(-1)

    def at(self, image: int) -> None:
        """Say which image is next; -1 where a batch is whole. Outside of a worker nobody asks."""
        if self._own is not None:
            self._own[:] = image, time.monotonic_ns()

    def of(self, worker: int) -> tuple[int, float]:
        """A worker's image, and since when, in seconds of `time.monotonic`."""
        image, began_ns = self._table[worker].tolist()
        return image, began_ns / 1e9


class Workers:
    """The workers of one loader.

    Args:
        split: What they read.
        marks: Where they say what they are at.
        processes: Themselves, in their order.
    """

    def __init__(self, split: Split, marks: Marks, processes: Sequence[BaseProcess]) -> None:
        self._split, self._marks, self._processes = split, marks, processes
        _living.add(self)

    def look(self, worker: int, waited_s: float) -> None:
        """See that a worker whose batch is waited for goes on.

        Args:
            worker: Which.
            waited_s: When the wait began, of `time.monotonic`.

        Raises:
            DataError: It has been at one image, or at none, for `STALL_S`; one line.
        """
        idle_s = time.monotonic() - max(waited_s, self._marks.of(worker)[1])
        if idle_s >= STALL_S:
            raise DataError(f"loader=torch: nothing has moved for {idle_s:.0f} s; {self.describe(worker)}")

    def describe(self, worker: int) -> str:
        """What a worker is at, in words."""
        image, began_s = self._marks.of(worker)
        what = "has handed over no batch"
        if image >= 0:
            what = f"has been at {self._split.describe(image)} for {time.monotonic() - began_s:.0f} s"
        if _suspended(self._processes[worker]):
            return f"{self._name(worker)} is suspended, as by SIGSTOP; it {what}"
        return f"{self._name(worker)} {what}{': does its file system answer?' if image >= 0 else ''}"

    def death(self, process: int) -> DataError | None:
        """How the worker that is, or was, a process died; None where none of them is it."""
        for worker, each in enumerate(self._processes):
            if each.pid == process:
                image, _ = self._marks.of(worker)
                at = f" at {self._split.describe(image)}" if image >= 0 else ""
                return DataError(f"loader=torch: {self._name(worker)} {_ended(each)[0]}{at}{_ended(each)[1]}")
        return None

    def death_of_any(self) -> DataError | None:
        """How a worker died that is about to be known as dead; None where all of them live."""
        try:
            ended = connection.wait([each.sentinel for each in self._processes], LOOK_S)
            return next((self.death(each.pid) for each in self._processes if each.pid and each.sentinel in ended), None)
        except RuntimeError as error:  # torch's, which hears of it now
            return death_of_worker(error)

    def end_hung(self, *, all_of_them: bool) -> None:
        """Kill the workers that will not end when they are asked to: suspended, or at one image for some time."""
        for worker, process in enumerate(self._processes):
            image, began_s = self._marks.of(worker)
            hung = image >= 0 and time.monotonic() - began_s > LOOK_S
            if all_of_them or hung or _suspended(process):
                process.kill()

    def _name(self, worker: int) -> str:
        return f"worker {worker + 1} of {len(self._processes)} (process {self._processes[worker].pid})"


_living: "weakref.WeakSet[Workers]" = weakref.WeakSet()


def death_of_worker(error: BaseException) -> DataError | None:
    """What an error of torch's DataLoader says of a worker's death, in one line; None where it is another error.

    It comes out of whatever the main thread does when the worker dies, not only out of the loader.
    """
    if not isinstance(error, RuntimeError) or not (match := _DEATH.search(str(error))):
        return None
    found = (workers.death(int(match[1])) for workers in list(_living))
    return next(filter(None, found), None) or DataError(f"loader=torch: {str(error).splitlines()[0].strip()}")


def _suspended(process: BaseProcess) -> bool:
    try:
        return bool(psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


def _ended(process: BaseProcess) -> tuple[str, str]:
    """How a process ended, and what that hints at."""
    process.join(LOOK_S)  # its death is known before its status is
    if process.exitcode is None or process.exitcode >= 0:
        return f"ended with exit status {process.exitcode}", ""
    name = signal.Signals(-process.exitcode).name
    if name == "SIGKILL":
        return f"was killed ({name})", ", as the kernel does where memory runs out (its log says so)"
    if name == "SIGBUS":
        free, total = shared_memory.room()
        shm = f"{shared_memory.shown(free)} of {shared_memory.shown(total)} are free there"
        return f"crashed ({name})", f", as where {shared_memory.FOLDER} is full ({shm})"
    if name in _CRASHES:
        return f"crashed ({name})", "; python -m bench.check_data names images that a decoder crashes on"
    return f"was ended ({name})", ""
