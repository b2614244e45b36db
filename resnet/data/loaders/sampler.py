"""Which image goes to which rank, and when: pure arithmetic, the same for every loader."""

import dataclasses

import numpy as np

from results.words import ConfigError


def training_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """Return the global reshuffle of an epoch: int64 [n], a permutation that depends on seed and epoch alone."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch]))).permutation(n)


@dataclasses.dataclass(frozen=True, slots=True)
class Rows:
    """The samples of one micro-batch.

    Attributes:
        indices: int64 [N] into the split.
        positions: int64 [N], the samples' places in the epoch's global order; augmentation is drawn from them, so
            that it does not depend on how many ranks share the work.
        valid: bool [N] or None where all rows count.
    """

    indices: np.ndarray
    positions: np.ndarray
    valid: np.ndarray | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler:
    """Shards a split over ranks and micro-batches.

    In training, optimizer step s, micro-batch m and rank r take the permutation's rows
    `s*G + m*N*W + r*N` and the N-1 after it, with G = N*W*A; the remainder below G is dropped, so that an image is
    seen at most once an epoch, and one rank at 2N sees the same global batches as two ranks at N. In evaluation the
    split is cut in order into global batches of N*W; rows past the end repeat the last image with valid=False, and
    every rank has the same number of batches.

    Attributes:
        n: Images in the split.
        train: Training order, otherwise evaluation order.
        batch: N, images per rank and micro-batch.
        rank: r, this rank.
        world_size: W, number of ranks.
        seed: Seed of the reshuffle.
        grad_accum: A, micro-batches per optimizer step (1 in evaluation).
        steps: Upper bound of optimizer steps per epoch, or None.
    """

    n: int
    train: bool
    batch: int
    rank: int
    world_size: int
    seed: int
    grad_accum: int = 1
    steps: int | None = None

    def __post_init__(self) -> None:
        for name in ("n", "batch", "world_size", "grad_accum"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected 1 or more")
        if not 0 <= self.rank < self.world_size:
            raise ConfigError(f"rank={self.rank}: expected 0 to {self.world_size - 1}")
        if not self.train and self.grad_accum != 1:
            raise ConfigError(f"grad_accum={self.grad_accum}: expected 1 in evaluation")
        if self.train and self.n < self.global_batch:
            most = self.n // (self.world_size * self.grad_accum)
            raise ConfigError(
                f"batch={self.batch}: with {self.world_size} ranks and grad_accum={self.grad_accum} a step takes "
                f"{self.global_batch} of {self.n} training images; expected batch={most} or less"
            )
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"steps_per_epoch={self.steps}: expected 1 or more")

    @property
    def global_batch(self) -> int:
        """G: images of one optimizer step over all ranks."""
        return self.batch * self.world_size * self.grad_accum

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of an epoch; in evaluation, batches per rank."""
        whole = self.n // self.global_batch if self.train else -(-self.n // self.global_batch)
        return whole if self.steps is None else min(whole, self.steps)

    @property
    def batches_per_epoch(self) -> int:
        """Micro-batches per rank of an epoch."""
        return self.steps_per_epoch * self.grad_accum

    @property
    def images_per_epoch(self) -> int:
        """Images of an epoch over all ranks; padding rows are not counted."""
        return min(self.n, self.steps_per_epoch * self.global_batch)

    def order(self, epoch: int) -> np.ndarray:
        """Return the epoch's global order: int64 [n]."""
        return training_order(self.n, self.seed, epoch) if self.train else np.arange(self.n)

    def rows(self, order: np.ndarray, index: int) -> Rows:
        """Return micro-batch `index` (0 .. batches_per_epoch - 1) of this rank, out of `order(epoch)`."""
        positions = (index * self.world_size + self.rank) * self.batch + np.arange(self.batch)
        if self.train or positions[-1] < self.n:
            return Rows(order[positions], positions, None)
        valid = positions < self.n
        positions = np.minimum(positions, self.n - 1)
        return Rows(order[positions], positions, valid)
