"""Output buffers that come back by themselves when the last tensor on them is gone."""

import weakref

import numpy as np


class BufferPool:
    """Hands out float32 arrays of one shape and uses their memory again: fresh pages cost more than filling them.

    An array's memory returns to the pool when the array, and whatever tensor was made of it, has been freed; a
    consumer that keeps its batches just makes the pool larger.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        self._free: list[np.ndarray] = []

    def take(self) -> np.ndarray:
        """Return an array with undefined content."""
        # list.pop and list.append are atomic: the finalizer may run in any thread.
        try:
            memory = self._free.pop()
        except IndexError:
            memory = np.empty(self._shape, np.float32)
        lease = memory.view()
        weakref.finalize(lease, self._free.append, memory).atexit = False
        return lease
