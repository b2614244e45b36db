"""Throughput, time to accuracy and what follows from them, as pure functions of measured numbers."""

from dataclasses import dataclass, field

from kernels.chips import gpu_named

WARMUP_STEPS = 10  # optimizer steps before throughput counts: allocators, kernel choice, prefetch queues


def peak_flops(gpu: str | None, precision: str) -> float | None:
    """Dense peak of a GPU in FLOP/s, or None where `kernels.chips` has none.

    Args:
        gpu: the device's name as the driver gives it, e.g. "NVIDIA H100 80GB HBM3"; None on a CPU.
    """
    known = gpu_named(gpu) if gpu is not None else None
    return known.peak_flops_per_s.get(precision) if known else None


def mfu(images_per_s: float, multiply_adds: int, peak: float) -> float:
    """Model FLOPs utilisation of one device: forward takes 2 and backward 4 FLOPs a multiply-add.

    Args:
        images_per_s: of one device.
        multiply_adds: of one image's forward pass, convolutions and fc only.
        peak: dense peak in FLOP/s.
    """
    return images_per_s * 6 * multiply_adds / peak


@dataclass
class Throughput:
    """Training images over wall time of training after the first `WARMUP_STEPS` steps.

    Evaluation and checkpoints are outside: `begin` and `end` frame each stretch of pure training.
    """

    images: int = 0
    seconds: float = 0.0
    waited_s: float = 0.0
    whole_s: float = 0.0
    step_ms: list[float] = field(default_factory=list)
    _counting_from: float | None = None
    _begun: float = 0.0
    _steps: int = 0

    def begin(self, at_s: float) -> None:
        """Training starts or goes on, at a time of the suite's clock."""
        self._begun = at_s
        self._counting_from = at_s if self._steps >= WARMUP_STEPS else None

    def step(self, images: int) -> bool:
        """Count a step of `images` over all ranks. True: the warm-up ends here, so `warm` is due."""
        self._steps += 1
        if self._counting_from is not None:
            self.images += images
        return self._steps == WARMUP_STEPS

    def warm(self, at_s: float) -> None:
        """The device has finished the last step of the warm-up."""
        self._counting_from = at_s

    def end(self, at_s: float, waited_s: float) -> None:
        """Training pauses; `waited_s` of this stretch went into waiting for batches."""
        self.whole_s += at_s - self._begun
        self.waited_s += waited_s
        if self._counting_from is not None:
            self.seconds += at_s - self._counting_from

    @property
    def images_per_s(self) -> float | None:
        """None for a run no longer than its warm-up."""
        return self.images / self.seconds if self.images else None

    @property
    def data_wait_frac(self) -> float | None:
        """Share of the loop's whole time spent waiting for a batch, warm-up included."""
        return self.waited_s / self.whole_s if self.whole_s else None
