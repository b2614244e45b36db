"""Published training rates of ResNet-50, to stand beside measured ones of the same GPU."""

from dataclasses import dataclass

__all__ = ["RATES", "TIMES", "Rate", "Time"]


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Training images a second and GPU, data loading included.

    Attributes:
        who: published it, and with which framework.
        gpu: as the vendor calls it.
        gpus: in one system; None where that is not recorded.
        read: how it came here, one of `results.published.figure.READ`.
    """

    who: str
    gpu: str
    gpus: int | None
    precision: str
    images_per_s: float
    source: str
    read: str = "unstated"


@dataclass(frozen=True, kw_only=True)
class Time:
    """Minutes of training until the top-1 of ImageNet is reached, by MLPerf's clock."""

    who: str
    gpu: str
    gpus: int
    top1: float
    minutes: float
    source: str
    read: str = "unstated"


_MLPERF = "MLPerf Training {}"
_NVIDIA = "NVIDIA DeepLearningExamples"
# ResNet-50 v1.5 all of them, at 224 pixels.
RATES: tuple[Rate, ...] = (
    Rate(who="MLPerf, MXNet", gpu="H100", gpus=8, precision="fp16", images_per_s=7160, source=_MLPERF.format("v4.0")),
    Rate(who="MLPerf, MXNet", gpu="H200", gpus=8, precision="fp16", images_per_s=7950, source=_MLPERF.format("v4.0")),
    Rate(who="NVIDIA, PyTorch", gpu="A100", gpus=None, precision="AMP", images_per_s=2470, source=_NVIDIA),
    Rate(who="NVIDIA, MXNet", gpu="A100", gpus=None, precision="AMP", images_per_s=3411, source=_NVIDIA),
    Rate(
        who="timm, PyTorch, channels_last", gpu="A100", gpus=None, precision="AMP", images_per_s=2600,
        source="timm",
    ),
)  # fmt: skip
TIMES: tuple[Time, ...] = (
    Time(who="MLPerf, MXNet", gpu="H100", gpus=8, top1=0.759, minutes=13.5, source=_MLPERF.format("v3.0")),
)
