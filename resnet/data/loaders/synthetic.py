"""Random images that are already on the device: what training costs without a loader."""

from collections.abc import Generator

import numpy as np
import torch

from resnet.data.batch import Batch, Split, Splits
from resnet.data.dataset_table import DATASETS
from resnet.data.loaders.epoch_stream import StreamLoader
from resnet.data.loaders.sampler import Sampler
from results.words import ConfigError

_DISTINCT = 4


def synthetic_splits(dataset: str, *, num_classes: int | None = None) -> Splits:
    """Describe a dataset that is not there, so that a synthetic loader has its sizes.

    Args:
        dataset: One of `resnet.data.dataset_table.DATASETS`; `imagefolder` takes ImageNet's sizes.
        num_classes: Number of classes, or None for the dataset's own.

    Returns:
        Splits without images, named `synthetic`, which only `SyntheticLoader` can read.

    Raises:
        ConfigError: The dataset is unknown.
    """
    if dataset not in DATASETS:
        raise ConfigError(f"dataset={dataset}: expected one of {', '.join(DATASETS)}")
    known = DATASETS[dataset]
    classes = [str(i) for i in range(num_classes or known.num_classes)]
    parts = [
        Split(name=name, dataset=dataset, labels=np.zeros(n, np.int64), classes=classes, hash="synthetic")
        for name, n in (("train", known.train_images), ("test", known.test_images))
    ]
    return Splits(train=parts[0], test=parts[1], name="synthetic", hash="synthetic", classes=classes)


class SyntheticLoader(StreamLoader):
    """Gives a few normal random batches over and over (see `Loader`).

    Args:
        sampler: The sizes of the epoch and, in evaluation, which rows are padding.
        image_size: S.
        num_classes: Labels are uniform in 0 .. num_classes - 1.
        device: Where the batches are made and stay.
        epochs: Number of epochs, or None for no end.
    """

    def __init__(
        self, sampler: Sampler, *, image_size: int, num_classes: int, device: torch.device, epochs: int | None = None
    ) -> None:
        super().__init__(sampler, epochs)
        generator = torch.Generator(device).manual_seed(sampler.seed * 1_000_003 + sampler.rank)
        shape = (sampler.batch, 3, image_size, image_size)
        self._batches = []
        for _ in range(min(_DISTINCT, sampler.batches_per_epoch)):
            images = torch.randn(shape, generator=generator, device=device).to(memory_format=torch.channels_last)
            labels = torch.randint(num_classes, shape[:1], generator=generator, device=device)
            self._batches.append((images, labels))
        self._device = device

    def _open(self, first_epoch: int, first: int) -> Generator[Batch, None, None]:
        while True:
            for index in range(first, self.batches_per_epoch):
                images, labels = self._batches[index % len(self._batches)]
                yield Batch(images, labels, self._valid(index))
            first = 0

    def _valid(self, index: int) -> torch.Tensor | None:
        sampler = self._sampler
        first = (index * sampler.world_size + sampler.rank) * sampler.batch
        if sampler.train or first + sampler.batch <= sampler.n:
            return None
        return (torch.arange(sampler.batch) + first < sampler.n).to(self._device)
