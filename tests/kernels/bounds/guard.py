"""Memory that is exactly as large as a tensor, between pages that nobody may touch: whatever goes beyond it faults."""

import ctypes
import mmap
import os

import torch
from torch import Tensor

PLACES = ("end", "start")  # which side of a tensor the pages begin at; beyond the other is the rest of its own page
# Bytes on each side: more than a kernel is off by at the shapes of the cases, or it would meet another's memory.
REACH = 1 << 22
PROT_NONE = 0  # sys/mman.h

_libc = ctypes.CDLL(None, use_errno=True)
_kept: list[mmap.mmap] = []  # until the process ends, which runs one case


def span(tensor: Tensor) -> Tensor:
    """The elements of a tensor's memory from its first to its last, in a row; what lies between is the tensor's too."""
    steps = ((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.as_strided((1 + sum(steps),), (1,))


def guarded(tensor: Tensor, place: str) -> Tensor:
    """A copy of a tensor, of the same strides, in memory of its own.

    Args:
        tensor: on the CPU, not empty.
        place: one of `PLACES`: the memory ends, or begins, where the pages are that nobody may touch. Its address is a
            multiple of an element's size and of nothing more.

    Raises:
        OSError: the system gives no such memory.
    """
    flat = span(tensor)
    size = flat.numel() * flat.itemsize
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    whole = mmap.mmap(-1, pages + 2 * REACH)
    _kept.append(whole)
    first = ctypes.addressof(ctypes.c_char.from_buffer(whole)) + REACH
    for beyond in (first - REACH, first + pages):
        if _libc.mprotect(ctypes.c_void_p(beyond), ctypes.c_size_t(REACH), PROT_NONE):
            raise OSError(ctypes.get_errno(), f"mprotect: {os.strerror(ctypes.get_errno())}")
    begin = first if place == "start" else first + pages - size
    memory = torch.frombuffer((ctypes.c_char * size).from_address(begin), dtype=tensor.dtype)
    return memory.copy_(flat).as_strided(tensor.shape, tensor.stride())
