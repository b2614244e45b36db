"""Runs a loader's batches as one stream over epochs, so that reading ahead does not stop where an epoch ends."""

import itertools
from collections.abc import Generator, Iterator

from resnet.data.batch import Batch
from resnet.data.loaders.patience import waiting
from resnet.data.loaders.sampler import Rows, Sampler


def requests(sampler: Sampler, first_epoch: int, epochs: int | None, first: int = 0) -> Iterator[tuple[int, Rows]]:
    """Yield (epoch, rows) for every micro-batch of this rank from an epoch on, to the last epoch or for ever.

    Args:
        first: micro-batch of the first epoch to begin with.
    """
    last = itertools.count(first_epoch) if epochs is None else range(first_epoch, max(epochs, first_epoch + 1))
    for epoch in last:
        order = sampler.order(epoch)
        for index in range(first if epoch == first_epoch else 0, sampler.batches_per_epoch):
            yield epoch, sampler.rows(order, index)


class StreamLoader:
    """The part of a loader that is the same below every library: epochs, their sizes, restart and end.

    A subclass gives `_open(first_epoch, first)`, a generator of batches that runs on from that micro-batch of that
    epoch over later epochs and frees what it holds when it is closed, and says in `_describe()` what a wait for the
    next one is for.

    Args:
        sampler: The order.
        epochs: Number of epochs in all, beyond which nothing is read ahead; None for no end.
    """

    def __init__(self, sampler: Sampler, epochs: int | None) -> None:
        self._sampler = sampler
        self._epochs = epochs
        self._stream: Generator[Batch, None, None] | None = None
        self._position: tuple[int, int] | None = None
        self.steps_per_epoch = sampler.steps_per_epoch
        self.batches_per_epoch = sampler.batches_per_epoch
        self.images_per_epoch = sampler.images_per_epoch

    def _open(self, first_epoch: int, first: int) -> Generator[Batch, None, None]:
        raise NotImplementedError

    def _describe(self) -> str:
        """What is waited for, in words, should a wait not end."""
        return "the next batch"

    def epoch(self, epoch: int, first: int = 0) -> Iterator[Batch]:
        """Iterate over this rank's micro-batches of an epoch (see `resnet.data.batch.Loader`)."""
        if not 0 <= first < self.batches_per_epoch:
            raise ValueError(f"first={first}: an epoch has micro-batches 0 to {self.batches_per_epoch - 1}")
        if not self._sampler.train and self._position is not None and self._position[1] == 0:
            # Evaluations are all alike: whichever this is, it is the next one.
            epoch = self._position[0]
        ended = self._epochs is not None and epoch >= self._epochs
        if self._stream is None or self._position != (epoch, first) or ended:
            self._halt()
            self._stream = self._open(epoch, first)
            self._position = (epoch, first)
        stream = self._stream
        for index in range(first, self.batches_per_epoch):
            if self._stream is not stream or self._position != (epoch, index):
                raise RuntimeError(f"epoch {epoch}: the loader went on to another epoch, or was closed, meanwhile")
            # Set first, so that a batch that failed leaves a position that nothing continues from.
            self._position = (epoch, -1)
            with waiting(self._describe):
                batch = next(stream)
            following = index + 1
            self._position = (epoch, following) if following < self.batches_per_epoch else (epoch + 1, 0)
            yield batch

    def _halt(self) -> None:
        """Close the stream, if any, and what it holds."""
        if self._stream is not None:
            with waiting(self._describe):
                self._stream.close()
        self._stream = None
        self._position = None

    def close(self) -> None:
        """End threads and processes; safe to call twice and after an error."""
        self._halt()
