"""Reads images of a split and cuts their crops, ahead of the network, in threads."""

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from bench.evaluation.protocols import Crop, cut, resized
from resnet.data import Split, decode_image

__all__ = ["Normalization", "Piece", "pieces"]

_AHEAD = 2  # pieces that are read while the network computes


@dataclass(frozen=True, kw_only=True)
class Normalization:
    """How pixels become the network's input.

    Attributes:
        mean: by channel, of pixels in [0, 1].
        std: likewise.
        mean_image: float32 [S, S, 3] in [0, 255], which the recipe `paper` subtracts in place of both; None elsewhere.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    mean_image: np.ndarray | None = None

    def __call__(self, pixels: Tensor) -> Tensor:
        """Normalize uint8 [N, h, w, 3] on any device to float32 [N, 3, h, w] in channels_last.

        A mean image is of one size: from crops of another its channels' means are subtracted.
        """
        values = pixels.float() / 255
        if self.mean_image is None:
            mean, std = (torch.tensor(each, device=pixels.device) for each in (self.mean, self.std))
            return ((values - mean) / std).permute(0, 3, 1, 2)
        mean = torch.from_numpy(self.mean_image).to(pixels.device) / 255
        if mean.shape != pixels.shape[1:]:
            mean = mean.mean(dim=(0, 1))
        return (values - mean).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Piece:
    """Some images of a split.

    Attributes:
        rows: int64 [n], their places in the split.
        crops: by height and width the crops of that size: the image's place in `rows`, which crop, and uint8 [h, w, 3].
    """

    rows: np.ndarray
    crops: dict[tuple[int, int], list[tuple[int, Crop, np.ndarray]]]


def pieces(
    split: Split, rows: np.ndarray, crops: Sequence[Crop], *, image_size: int, size: int, threads: int
) -> Iterator[Piece]:
    """Read images once each and cut all crops out of them, in the order of `rows`.

    PIL decodes and resizes outside the interpreter's lock. On a CPU, DALI's decoder gives the same pixels.

    Args:
        rows: int64 [n], which images.
        image_size: S.
        size: images of a piece.
        threads: that read.

    Raises:
        resnet.data.DataError: an image is missing, unreadable or truncated; the message names it.
    """
    parts = deque(rows[start : start + size] for start in range(0, len(rows), size))

    def one(row: int) -> list[np.ndarray]:
        image = decode_image(split.paths[row]) if split.paths is not None else _in_memory(split, row)
        sizes = {shorter: np.asarray(resized(image, shorter, image_size)) for shorter in {c.shorter for c in crops}}
        return [cut(sizes[crop.shorter], crop, image_size) for crop in crops]

    with ThreadPoolExecutor(threads, thread_name_prefix="evaluation-reader") as pool:
        ahead: deque[tuple[np.ndarray, list[Future[list[np.ndarray]]]]] = deque()
        try:
            while parts or ahead:
                while parts and len(ahead) < _AHEAD:
                    part = parts.popleft()
                    ahead.append((part, [pool.submit(one, int(row)) for row in part]))
                part, futures = ahead.popleft()
                found = defaultdict(list)
                for place, future in enumerate(futures):
                    for crop, pixels in zip(crops, future.result(), strict=True):
                        found[pixels.shape[0], pixels.shape[1]].append((place, crop, pixels))
                yield Piece(part, dict(found))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _in_memory(split: Split, row: int) -> Image.Image:
    assert split.images is not None
    return Image.fromarray(split.images[row])
