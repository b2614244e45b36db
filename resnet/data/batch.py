"""The shapes that datasets, loaders and the training loop hand to each other."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:  # a launcher opens datasets too, without torch
    import torch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Split:
    """The images and labels of one part of a dataset.

    Attributes:
        name: `train` or `test`.
        dataset: The dataset's name; it decides geometry and normalization (see `resnet.data.images.augment`).
        labels: int64 [n], in 0 .. len(classes) - 1.
        classes: The class names in label order.
        paths: n encoded image files, or None.
        images: uint8 [n, H, W, 3] in memory, or None. Never both; neither is given where only synthetic images of
            the dataset's size are wanted.
        hash: The dataset's content hash, the same for both splits.
    """

    name: str
    dataset: str
    labels: np.ndarray
    classes: list[str]
    paths: list[str] | None = None
    images: np.ndarray | None = None
    hash: str = ""

    def __post_init__(self) -> None:
        if self.paths is not None and self.images is not None:
            raise ValueError(f"split {self.name!r} of {self.dataset!r}: both paths and images; expected one of them")
        for held in (self.paths, self.images):
            if held is not None and len(held) != len(self.labels):
                counts = f"{len(held)} images but {len(self.labels)} labels"
                raise ValueError(f"split {self.name!r} of {self.dataset!r}: {counts}")

    def __len__(self) -> int:
        return len(self.labels)

    def describe(self, index: int) -> str:
        """Name image `index` for an error message: its file, or its place in memory."""
        return self.paths[index] if self.paths is not None else f"{self.dataset} {self.name} image {index}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Splits:
    """A dataset that is ready to be read.

    Attributes:
        train: The training split.
        test: The evaluation split.
        name: The name that results carry; `cifar10-jpeg` for CIFAR-10 read from image folders.
        hash: Content hash, 16 hexadecimal digits (see `resnet.data.datasets.folders.hash_files`).
        classes: Class names in label order.
        prepare_s: Seconds of one-time preparation that this call spent (0.0 where it was found in the cache).
        left_out: Files of the folder that are no images by their ending and were not taken, by ending.
    """

    train: Split
    test: Split
    name: str
    hash: str
    classes: list[str]
    prepare_s: float = 0.0
    left_out: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch of one rank.

    Attributes:
        images: float32 [N, 3, S, S] in channels_last memory format on the loader's device, normalized.
        labels: int64 [N] on the loader's device.
        valid: bool [N] on the loader's device, or None where every row counts; the padding rows of an evaluation
            are False.
    """

    images: "torch.Tensor"
    labels: "torch.Tensor"
    valid: "torch.Tensor | None" = None


class Loader(Protocol):
    """What every loader offers, whichever library is below.

    Attributes:
        steps_per_epoch: Optimizer steps of an epoch (an evaluation counts batches).
        batches_per_epoch: Micro-batches that each rank sees in an epoch.
        images_per_epoch: Images that all ranks together see in an epoch, padding not counted.
    """

    steps_per_epoch: int
    batches_per_epoch: int
    images_per_epoch: int

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's micro-batches of an epoch, counted from 0.

        Args:
            first: micro-batches that are left out, as they were seen before; the others are what they are without it.

        Raises:
            DataError: While iterating, for a missing, unreadable or truncated image; the message names it.
        """
        ...

    def close(self) -> None:
        """End threads and processes; safe to call twice and after an error."""
        ...
