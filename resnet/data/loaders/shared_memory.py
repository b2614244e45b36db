"""Room in /dev/shm, through which the workers of `loader=torch` hand over their batches."""

import mmap
import shutil
import sys

import torch

from resnet.data.errors import DataError

FOLDER = "/dev/shm"  # noqa: S108 (where POSIX shared memory lies on Linux)
# Batches that a worker prepares ahead.
PREFETCH = 4


def room() -> tuple[int, int]:
    """Free bytes and all bytes of /dev/shm; none where there is no such folder."""
    try:
        usage = shutil.disk_usage(FOLDER)
    except OSError:
        return 0, 0
    # A file system in memory that has no limit says that it has no blocks.
    return (usage.free, usage.total) if usage.total else (sys.maxsize, sys.maxsize)


def needed(batch: int, image_size: int, workers: int) -> int:
    """The most bytes that one loader's batches take there: all that are read ahead, and the one that is in use.

    Args:
        batch: Images.
        image_size: Side, pixels of three bytes.
        workers: Processes; without any nothing is shared.
    """
    parts = (batch * image_size * image_size * 3, batch * 8, batch)  # pixels, labels, which rows count
    return (PREFETCH * workers + 1) * sum(map(_pages, parts)) if workers else 0


def check_room(*, batch: int, image_size: int, workers: int, loaders: int, ranks: int, any_batch: bool = True) -> None:
    """See that the batches of a node's loaders fit, before any of them has started.

    Args:
        batch, image_size, workers: Of each loader, see `needed`.
        loaders: Of a rank, at a time.
        ranks: Of this node.
        any_batch: Whether another batch would do.

    Raises:
        DataError: They do not; one line with what is needed, what is there, and the nearest remedies.
    """
    free, total = room()

    def most(batch: int, workers: int) -> int:
        return ranks * loaders * needed(batch, image_size, workers)

    if most(batch, workers) <= free:
        return
    sizes = range(batch - 1, 0, -1) if any_batch else ()
    remedies = [f"batch={size}" for size in sizes if most(size, workers) <= free][:1]
    remedies += [f"loader_threads={count}" for count in range(workers - 1, -1, -1) if most(batch, count) <= free][:1]
    raise DataError(
        f"loader=torch: its workers hand batches over in {FOLDER}, where {shown(free)} of {shown(total)} are free and "
        f"up to {shown(most(batch, workers))} needed ({ranks} ranks x {loaders} loaders x ({workers} workers x "
        f"{PREFETCH} batches + 1) x batch={batch} x {image_size} x {image_size} x 3 bytes); nearest is "
        f"{' or '.join(remedies)}, a larger {FOLDER} (a container's --shm-size), or loader=dali"
    )


def share(*tensors: torch.Tensor) -> None:
    """Move tensors to shared memory, which their process would do unseen otherwise, where no error is heard.

    Raises:
        DataError: There is no room; one line.
    """
    try:
        for tensor in tensors:
            tensor.share_memory_()
    except RuntimeError as error:
        free, total = map(shown, room())
        size = shown(sum(map(_bytes, tensors)))
        raise DataError(
            f"loader=torch: a worker cannot put {size} into {FOLDER}: {_reason(error)} ({free} of {total} free); "
            f"nearest is a smaller batch=, a larger {FOLDER} (a container's --shm-size), or loader=dali"
        ) from None


def shown(size: float) -> str:
    """Bytes, such as "38.5 MB" and "0.4 kB"."""
    return f"{size / 1e6:,.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _reason(error: RuntimeError) -> str:
    """What the system says, at the end of torch's own words."""
    return str(error).splitlines()[0].rpartition(": ")[2]


def _pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()
