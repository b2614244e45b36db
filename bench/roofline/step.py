"""A training step on a chip: which network, how large a batch, and the rates that its floors are reckoned with."""

from dataclasses import dataclass
from typing import Any

from bench.config.grammar import WordError, key
from bench.roofline.levels import LEVELS
from bench.roofline.passes import Level, Pass, ladder, passes
from kernels.chips import measured_rates
from kernels.dtypes import PRECISIONS
from resnet import Architecture
from resnet.architecture import FAMILIES, IMAGENET_STAGES, SHORTCUTS, STRIDES
from resnet.data import DATASETS, dataset_of_family

BATCHES = {"cifar": 128, "one-layer": 128, "imagenet": 256}
DEFAULT_GPU = "H100"  # whose measured rates are taken where none are given
COPY_TB_S, MATRIX_TFLOP_S = measured_rates(DEFAULT_GPU)


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    depth: int | None = key(
        "18, 34, 50, 101, 152 (imagenet family); 6n+2 from 8 on (cifar, one-layer)",
        "required",
        unit="layers",
        least=8,
        most=12_002,
    )
    shortcut: str | None = key("none (plain net), A, B or C", "A (cifar), B (imagenet)", choices=SHORTCUTS)
    stride: str = key("where a bottleneck halves the image", "v1", default="v1", choices=STRIDES)
    family: str | None = key(
        "of networks: the paper's two, or one-layer", "the dataset's; else the depth's", choices=FAMILIES
    )
    dataset: str | None = key("whose family, image size and classes are meant", "none", choices=tuple(DATASETS))
    num_classes: int | None = key("outputs of the network", "1000 (imagenet), 10 (cifar)", unit="classes", least=2)
    image_size: int | None = key("side of the images", "224 (imagenet), 32 (cifar)", unit="pixels", least=8)
    batch: int | None = key("images of a step on one device", "256 (imagenet), 128 (cifar)", unit="images", least=1)
    precision: str = key("of activations", "bf16", default="bf16", choices=tuple(PRECISIONS))
    copy_tb_s: float = key(
        "rate of the chip's memory, bytes read and written together", f"{COPY_TB_S} ({DEFAULT_GPU}, measured)",
        default=COPY_TB_S, unit="TB/s", above=0,
    )  # fmt: skip
    matrix_tflop_s: float | None = key(
        "rate of its matrix units at this precision", f"{MATRIX_TFLOP_S:g} ({DEFAULT_GPU}, measured; not of fp32)",
        unit="TFLOP/s", above=0,
    )  # fmt: skip
    copy_frac: float = key(
        "part of copy_tb_s that real kernels reach", "0.90", default=0.90, unit="fraction", above=0, most=1
    )
    matrix_frac: float = key(
        "part of matrix_tflop_s that real kernels reach", "0.35", default=0.35, unit="fraction", above=0, most=1
    )
    level: str | None = key(f"which level --layers shows: {', '.join(LEVELS)}", "f", choices=tuple(LEVELS))


@dataclass(frozen=True, kw_only=True)
class Step:
    """A training step on a chip: the keys, resolved.

    Attributes:
        copy_bytes_per_s, flops_per_s: rates of the chip.
        copy_frac, matrix_frac: parts of them for calibrated times.
    """

    architecture: Architecture
    image_size: int
    batch: int
    precision: str
    copy_bytes_per_s: float
    flops_per_s: float
    copy_frac: float
    matrix_frac: float

    @property
    def element_bytes(self) -> int:
        return PRECISIONS[self.precision].element_bytes

    def name(self) -> str:
        net = self.architecture
        shortcut = "" if net.shortcut == "none" else f" {net.shortcut}"
        return (
            f"{'plain' if net.shortcut == 'none' else 'ResNet'}-{net.depth}{shortcut} {net.stride} ({net.family}), "
            f"batch {self.batch}, {self.image_size} x {self.image_size}, {self.precision}"
        )

    def levels(self, *, calibrated: bool = False) -> list[Level]:
        """The ladder at the chip's whole rates, or at the parts of them that are reached."""
        copy, matrix = (self.copy_frac, self.matrix_frac) if calibrated else (1.0, 1.0)
        rates = self.copy_bytes_per_s * copy, self.flops_per_s * matrix
        return ladder(self.architecture, self.batch, self.image_size, self.element_bytes, *rates)

    def passes(self, level: str) -> list[Pass]:
        return passes(self.architecture, self.batch, self.image_size, self.element_bytes, level)


def resolve(keys: Keys) -> Step:
    """Fill in what was not typed.

    Raises:
        WordError, ValueError: words that do not go together; one line with what would do instead.
    """
    if keys.depth is None:
        raise WordError("depth is missing: add depth=50, or depth=20 for a net of the cifar family")
    guess = "cifar" if keys.depth not in IMAGENET_STAGES and keys.depth % 6 == 2 else "imagenet"
    meant = DATASETS[keys.dataset] if keys.dataset else None
    family = keys.family or (meant.family if meant else guess)
    usual = dataset_of_family(family)
    if keys.matrix_tflop_s is None and keys.precision == "fp32":
        raise WordError(
            f"precision=fp32: the default matrix_tflop_s={MATRIX_TFLOP_S:g} is of 16 bits; "
            "add matrix_tflop_s=, or precision=bf16"
        )
    return Step(
        architecture=Architecture(
            family=family,
            depth=keys.depth,
            shortcut=keys.shortcut or ("B" if family == "imagenet" else "A"),
            stride=keys.stride,
            num_classes=keys.num_classes or (meant if meant and not meant.counted else usual).num_classes,
        ),
        image_size=keys.image_size or (meant or usual).image_size,
        batch=keys.batch or BATCHES[family],
        precision=keys.precision,
        copy_bytes_per_s=keys.copy_tb_s * 1e12,
        flops_per_s=(keys.matrix_tflop_s or MATRIX_TFLOP_S) * 1e12,
        copy_frac=keys.copy_frac,
        matrix_frac=keys.matrix_frac,
    )


def net(
    *,
    depth: int,
    stride: str | None = None,
    family: str | None = None,
    shortcut: str | None = None,
    image_size: int | None = None,
    batch: int | None = None,
    precision: str = "bf16",
) -> Step:
    """The network of a benchmark and its floors; what is None follows from the depth (bottlenecks: stride v1.5).

    Raises:
        ValueError: words that do not go together; one line with what would do instead.
    """
    keys: dict[str, Any] = {
        "depth": depth, "family": family, "shortcut": shortcut, "image_size": image_size, "batch": batch,
    }  # fmt: skip
    step = resolve(Keys(**keys, stride=stride or "v1", precision=precision))
    if stride is None and step.architecture.bottleneck:
        step = resolve(Keys(**keys, stride="v1.5", precision=precision))
    return step
