"""Throughput, time to accuracy and what follows from them, as pure functions of measured numbers."""

from dataclasses import dataclass, field

WARMUP_STEPS = 10  # optimizer steps before throughput counts: allocators, kernel choice, prefetch queues

# Dense peaks (FLOP/s) of tensor cores without sparsity, from the vendors' data sheets. fp32 is TF32 where torch uses it
# for convolutions (its default).
PEAKS: dict[str, dict[str, float]] = {
    "V100": {"fp16": 125e12, "fp32": 15.7e12},
    "A100": {"bf16": 312e12, "fp16": 312e12, "fp32": 156e12},
    "H100 PCIe": {"bf16": 756e12, "fp16": 756e12, "fp32": 378e12},
    "H100": {"bf16": 989.4e12, "fp16": 989.4e12, "fp32": 494.7e12},
    "H200": {"bf16": 989.4e12, "fp16": 989.4e12, "fp32": 494.7e12},
    "B200": {"bf16": 2250e12, "fp16": 2250e12, "fp32": 1125e12},
}


def peak_flops(gpu: str | None, precision: str) -> float | None:
    """Dense peak of a GPU in FLOP/s, or None where it is not in the table.

    Args:
        gpu: the device's name as the driver gives it, e.g. "NVIDIA H100 80GB HBM3"; None on a CPU.
    """
    if gpu is None:
        return None
    for name, peaks in PEAKS.items():
        if all(word in gpu for word in name.split()):
            return peaks.get(precision)
    return None


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
