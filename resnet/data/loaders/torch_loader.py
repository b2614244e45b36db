"""The peer: a torch DataLoader whose workers decode with PIL, with the same order and the same augmentation as DALI."""

import contextlib
import signal
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from resnet.data.batch import Batch, Split
from resnet.data.errors import DataError
from resnet.data.images.augment import Augmentation, Placement, draws, place, windows
from resnet.data.images.colour import Colour
from resnet.data.images.encoded import load_image, open_image, read_file
from resnet.data.images.resample import resize
from resnet.data.loaders import sampler as order
from resnet.data.loaders import shared_memory
from resnet.data.loaders.epoch_stream import StreamLoader, requests
from resnet.data.loaders.patience import LOOK_S
from resnet.data.loaders.workers import Marks, Workers, death_of_worker

# As PIL's thumbnails have it: the filter still averages over this many pixels each way, at hardly any difference.
_REDUCING_GAP = 2
# In torch's words for a wait of LOOK_S.
_TIMED_OUT = "timed out"
# And where a process may not open as many files as batches are under way.
_TOO_MANY_FILES = "Too many open files"


class _Batches(Dataset[dict[str, Any]]):
    """Whole batches by request: one item is one micro-batch, so that a worker returns one array and not N."""

    def __init__(self, split: Split, augmentation: Augmentation, seed: int, marks: Marks | None) -> None:
        self._split = split
        self._augmentation = augmentation
        self._seed = seed
        self._marks = marks

    def __getitem__(self, request: tuple[int, order.Rows]) -> dict[str, Any]:
        epoch, rows = request
        size = self._augmentation.image_size
        u = draws(self._seed, epoch, rows.positions)
        placement = place(self._augmentation, u)
        pixels = torch.empty(len(u), size, size, 3, dtype=torch.uint8)
        pictures = self._windows if self._augmentation.geometry == "window" else self._wholes
        try:
            for i, picture in enumerate(pictures(rows.indices, u, placement)):
                resize(picture, pixels[i], bool(placement.flips[i]))
            self._at(-1)
            batch = {"pixels": pixels, "labels": torch.from_numpy(self._split.labels[rows.indices])}
            if rows.valid is not None:
                batch["valid"] = torch.from_numpy(rows.valid)
            if get_worker_info():
                shared_memory.share(*batch.values())
        except DataError as error:
            # Raised in a worker it would arrive wrapped in a traceback; as a value it stays one line.
            return {"failure": str(error)}
        return {**batch, "placement": placement}

    def _at(self, image: int) -> None:
        if self._marks:
            self._marks.at(image)

    def _open(self, index: int) -> tuple[str, Image.Image]:
        """Read an image's file and header."""
        self._at(index)
        if self._split.images is not None:
            return "", Image.fromarray(self._split.images[index])
        assert self._split.paths is not None
        path = self._split.paths[index]
        return path, open_image(path, read_file(path))

    def _wholes(self, indices: np.ndarray, u: np.ndarray, placement: Placement) -> Iterator[np.ndarray]:
        """Decode images, bring them to S x S and shift them: uint8 [S, S, 3] each."""
        size = self._augmentation.image_size
        for index, shift in zip(indices.tolist(), placement.shifts, strict=True):
            image = load_image(*self._open(index))
            if image.size != (size, size):
                image = image.resize((size, size), Image.Resampling.BILINEAR)
            yield _shifted(np.array(image), shift)

    def _windows(self, indices: np.ndarray, u: np.ndarray, placement: Placement) -> Iterator[np.ndarray]:
        """Decode images and cut their windows: uint8 [h, w, 3] each."""
        size = self._augmentation.image_size
        # All headers first: the windows are chosen for the whole batch in one go.
        opened = [self._open(index) for index in indices.tolist()]
        sizes = np.array([(image.height, image.width) for _, image in opened])
        boxes = windows(self._augmentation, u, sizes).tolist()
        for index, (path, image), (top, left, tall, wide) in zip(indices.tolist(), opened, boxes, strict=True):
            self._at(index)
            width, height = image.size
            # A JPEG that stays larger than needed by _REDUCING_GAP is decoded at half its size, a quarter or an eighth.
            image.draft("RGB", (_REDUCING_GAP * width * size // wide, _REDUCING_GAP * height * size // tall))
            image = load_image(path, image)
            if image.size == (width, height):
                yield np.array(image.crop((left, top, left + wide, top + tall)))
            else:
                # Here the window's edges are between pixels, which only PIL's own resize can do.
                x, y = image.width / width, image.height / height
                box = (left * x, top * y, (left + wide) * x, (top + tall) * y)
                yield np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _shifted(image: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Move an image's crop down and right by `shift` (either sign) over zeros."""
    down, right = shift.tolist()
    if down == 0 and right == 0:
        return image
    height, width = image.shape[:2]
    moved = np.zeros_like(image)
    moved[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)] = image[
        max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)
    ]
    return moved


class _Requests(Sampler[Any]):
    """The rest of the run's requests, as the DataLoader wants them."""

    def __init__(self, sampler: order.Sampler, first_epoch: int, epochs: int | None, first: int) -> None:
        self._sampler = sampler
        self._first_epoch = first_epoch
        self._epochs = epochs
        self._first = first

    def __iter__(self) -> Iterator[tuple[int, order.Rows]]:
        return requests(self._sampler, self._first_epoch, self._epochs, self._first)


def _as_is(batch: Any) -> Any:
    return batch


class TorchLoader(StreamLoader):
    """A DataLoader of whole batches over worker processes (see `Loader`).

    Workers return uint8, a quarter of the bytes through shared memory; the consumer normalizes on its device. They
    live for the whole run.

    Args:
        split: What to read.
        sampler: In which order.
        augmentation: With which changes.
        colour: How to normalize.
        workers: Worker processes; 0 reads in the consumer's own.
        device: Where the batches go.
        epochs: Number of epochs, or None for no end.
    """

    def __init__(
        self,
        split: Split,
        sampler: order.Sampler,
        augmentation: Augmentation,
        colour: Colour,
        *,
        workers: int,
        device: torch.device,
        epochs: int | None = None,
    ) -> None:
        super().__init__(sampler, epochs)
        self._split = split
        self._marks = Marks(workers) if workers else None
        self._batches = _Batches(split, augmentation, sampler.seed, self._marks)
        self._colour = colour
        self._workers = workers
        self._device = device
        self._awaited = 0  # batches, each of which comes from the next worker in turn
        self._processes: Workers | None = None

    def _describe(self) -> str:
        processes = self._processes
        return processes.describe(self._awaited % self._workers) if processes else "loader=torch: its next batch"

    def _open(self, first_epoch: int, first: int) -> Generator[Batch, None, None]:
        on_gpu = self._device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            self._batches,
            sampler=_Requests(self._sampler, first_epoch, self._epochs, first),
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_as_is,
            pin_memory=on_gpu,
            timeout=LOOK_S if self._workers else 0,
            worker_init_fn=self._marks.begin if self._marks else None,
            prefetch_factor=shared_memory.PREFETCH if self._workers else None,
        )
        try:
            stream = iter(loader)
        except (OSError, RuntimeError) as error:
            raise DataError(f"loader=torch: {_not_started(self._workers, error)}") from None
        if self._marks:
            self._processes = Workers(self._split, self._marks, stream._workers)  # type: ignore[attr-defined]
        self._awaited, failed = 0, True
        try:
            while (batch := self._next(stream)) is not None:
                self._awaited += 1
                pixels, labels = batch["pixels"], batch["labels"]
                valid = batch.get("valid")
                if on_gpu:
                    pixels = pixels.to(self._device, non_blocking=True)
                    labels = labels.to(self._device, non_blocking=True)
                    valid = None if valid is None else valid.to(self._device, non_blocking=True)
                yield Batch(self._colour(pixels, batch["placement"]), labels, valid)
            failed = False
        except GeneratorExit:
            failed = False
        finally:
            # The iterator's end is the workers' end; its own finalizer runs late where a traceback still holds it.
            if self._processes:
                with _deaths_unheard():
                    self._processes.end_hung(all_of_them=failed)
                    stream._shutdown_workers()  # type: ignore[attr-defined]
                    self._processes.end_hung(all_of_them=True)
                self._processes = None

    def _next(self, stream: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
        """Return what the next worker has prepared; None at the end.

        Raises:
            DataError: An image is broken, a worker has died, or nothing has moved for too long; one line.
        """
        waited_s = time.monotonic()
        while True:
            try:
                batch = next(stream, None)
            except (EOFError, OSError) as error:  # its worker, which holds it, may be gone
                if death := self._processes and self._processes.death_of_any():
                    raise death from None
                raise DataError(f"loader=torch: a worker's batch cannot be taken over ({_words(error)})") from error
            except RuntimeError as error:
                if death := death_of_worker(error):
                    raise death from None
                if _TOO_MANY_FILES in str(error):
                    raise DataError(f"loader=torch: {_words(error)}; nearest is a higher `ulimit -n`") from None
                if self._processes is None or _TIMED_OUT not in str(error):
                    raise
                self._processes.look(self._awaited % self._workers, waited_s)
                continue
            if batch and "failure" in batch:
                raise DataError(batch["failure"])
            return batch


def _not_started(workers: int, error: Exception) -> str:
    free, total = (shared_memory.shown(size) for size in shared_memory.room())
    return (
        f"its {workers} worker processes cannot be started ({_words(error)}); {free} of {total} in "
        f"{shared_memory.FOLDER} are free; nearest is fewer loader_threads=, or loader=dali"
    )


def _words(error: Exception) -> str:
    """What an error of the system says, in one line."""
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return lines[0] if lines else type(error).__name__


@contextlib.contextmanager
def _deaths_unheard() -> Iterator[None]:
    """Keep torch, for the `with` block, from raising in this thread because a worker has been killed as it should."""
    if threading.current_thread() is not threading.main_thread():  # where it listens to none
        yield
        return
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)
