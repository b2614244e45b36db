"""The peer: a torch DataLoader whose workers decode with PIL, with the same order and the same augmentation as DALI."""

from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from resnet.data.batch import Batch, Split
from resnet.data.errors import DataError
from resnet.data.images.augment import Augmentation, Placement, draws, place, windows
from resnet.data.images.colour import Colour
from resnet.data.images.encoded import load_image, open_image, read_file
from resnet.data.images.resample import resize
from resnet.data.loaders import sampler as order
from resnet.data.loaders.epoch_stream import StreamLoader, requests

# Batches a worker prepares ahead.
_PREFETCH = 4
# As PIL's thumbnails have it: the filter still averages over this many pixels each way, at hardly any difference.
_REDUCING_GAP = 2


class _Batches(Dataset[dict[str, Any]]):
    """Whole batches by request: one item is one micro-batch, so that a worker returns one array and not N."""

    def __init__(self, split: Split, augmentation: Augmentation, seed: int) -> None:
        self._split = split
        self._augmentation = augmentation
        self._seed = seed

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
        except DataError as error:
            # Raised in a worker it would arrive wrapped in a traceback; as a value it stays one line.
            return {"failure": str(error)}
        batch = {
            "pixels": pixels,
            "labels": torch.from_numpy(self._split.labels[rows.indices]),
            "placement": placement,
        }
        if rows.valid is not None:
            batch["valid"] = torch.from_numpy(rows.valid)
        return batch

    def _open(self, index: int) -> tuple[str, Image.Image]:
        """Read an image's file and header."""
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
        for (path, image), (top, left, tall, wide) in zip(opened, boxes, strict=True):
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

    def __init__(self, sampler: order.Sampler, first_epoch: int, epochs: int | None) -> None:
        self._sampler = sampler
        self._first_epoch = first_epoch
        self._epochs = epochs

    def __iter__(self) -> Iterator[tuple[int, order.Rows]]:
        return requests(self._sampler, self._first_epoch, self._epochs)


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
        self._batches = _Batches(split, augmentation, sampler.seed)
        self._colour = colour
        self._workers = workers
        self._device = device

    def _open(self, first_epoch: int) -> Generator[Batch, None, None]:
        on_gpu = self._device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            self._batches,
            sampler=_Requests(self._sampler, first_epoch, self._epochs),
            batch_size=None,
            num_workers=self._workers,
            collate_fn=_as_is,
            pin_memory=on_gpu,
            prefetch_factor=_PREFETCH if self._workers else None,
        )
        stream = iter(loader)
        try:
            for batch in stream:
                if "failure" in batch:
                    raise DataError(batch["failure"])
                pixels, labels = batch["pixels"], batch["labels"]
                valid = batch.get("valid")
                if on_gpu:
                    pixels = pixels.to(self._device, non_blocking=True)
                    labels = labels.to(self._device, non_blocking=True)
                    valid = None if valid is None else valid.to(self._device, non_blocking=True)
                yield Batch(self._colour(pixels, batch["placement"]), labels, valid)
        finally:
            # The iterator's end is the workers' end; its own finalizer runs late where a traceback still holds it.
            if self._workers:
                stream._shutdown_workers()  # type: ignore[attr-defined]
