"""What fusion can win at most: bytes, FLOPs and least time of a training step at each level of fusion.

    python -m bench.roofline depth=50 stride=v1.5 batch=256 [--layers level=f] [--json]

--json prints a line of JSON a net; --layers adds every pass of one level. Nothing is measured. Ideal times take the
chip's copy and matrix rates whole, calibrated ones the given fractions of them, and no level counts launches;
`bench.roofline_passes` says what is in a step and what is not.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import WordError, key, parse
from bench.roofline_net import Layer, layers
from bench.roofline_ops import Shape, op_bytes, op_flops
from bench.roofline_passes import Level, Pass, ladder, passes
from bench.roofline_table import LEVELS
from kernels.chips import measured_rates
from kernels.dtypes import PRECISIONS
from resnet.architecture import FAMILIES, IMAGENET_STAGES, SHORTCUTS, STRIDES, Architecture
from resnet.datasets import DATASETS, dataset_of_family

__all__ = ["LEVELS", "Layer", "Level", "Pass", "Shape", "ladder", "layers", "op_bytes", "op_flops", "passes"]

BATCHES = {"cifar": 128, "imagenet": 256}
DEFAULT_GPU = "H100"  # whose measured rates are taken where none are given
COPY_TB_S, MATRIX_TFLOP_S = measured_rates(DEFAULT_GPU)
PIPE_WIDTH = 120
FLAGS = ("--json", "--layers")


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    depth: int | None = key(
        "18, 34, 50, 101, 152 (imagenet family); 6n+2 from 8 on (cifar family)",
        "required",
        unit="layers",
        least=8,
        most=12_002,
    )
    shortcut: str | None = key("none (plain net), A, B or C", "A (cifar), B (imagenet)", choices=SHORTCUTS)
    stride: str = key("where a bottleneck halves the image", "v1", default="v1", choices=STRIDES)
    family: str | None = key(
        "which of the paper's two families of networks", "the dataset's; else the depth's", choices=FAMILIES
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
            shortcut=keys.shortcut or ("A" if family == "cifar" else "B"),
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


def as_json(step: Step, level: str | None) -> dict[str, Any]:
    """The ladder as plain values; with `level`, its passes too."""
    ideal, calibrated = step.levels(), step.levels(calibrated=True)
    compiled = list(LEVELS).index("compile")
    found = layers(step.architecture, step.image_size)
    rungs = [
        {
            "level": one.level,
            "what": one.what,
            "gb": one.bytes / 1e9,
            "ideal_ms": one.ideal_s * 1e3,
            "calibrated_ms": other.ideal_s * 1e3,
            "ideal_speedup": ideal[compiled].ideal_s / one.ideal_s,
            "calibrated_speedup": calibrated[compiled].ideal_s / other.ideal_s,
        }
        for one, other in zip(ideal, calibrated, strict=True)
    ]
    shown = {
        "net": {
            **asdict(step.architecture),
            "image_size": step.image_size,
            "batch": step.batch,
            "precision": step.precision,
            "parameters": sum(layer.parameters for layer in found),
            "multiply_adds": sum(layer.multiply_adds for layer in found),
        },
        "chip": {
            "copy_bytes_per_s": step.copy_bytes_per_s,
            "flops_per_s": step.flops_per_s,
            "copy_frac": step.copy_frac,
            "matrix_frac": step.matrix_frac,
        },
        "measured": False,
        "ladder": rungs,
    }
    return shown if level is None else {**shown, "level": level, "passes": [asdict(one) for one in step.passes(level)]}


def ladder_table(step: Step) -> Table:
    """The ladder for people."""
    rates = f"{step.copy_bytes_per_s / 1e12:g} TB/s, {step.flops_per_s / 1e12:g} TFLOP/s"
    table = Table(
        title=f"floors of one training step, computed and not measured\n{step.name()}; {rates}",
        caption=f"calibrated: {step.copy_frac:g} of the copy rate, {step.matrix_frac:g} of the matrix rate. "
        "Launches are in no figure.",
        box=box.SIMPLE,
    )
    table.add_column("level")
    table.add_column("what", no_wrap=True)
    for head in ("GB", "ideal\nms", "calibrated\nms", "speed-up over compile,\nideal / calibrated"):
        table.add_column(head, justify="right")
    for rung in as_json(step, None)["ladder"]:
        gain = f"{rung['ideal_speedup']:.2f} / {rung['calibrated_speedup']:.2f}"
        table.add_row(
            rung["level"], rung["what"], *(_three(rung[name]) for name in ("gb", "ideal_ms", "calibrated_ms")), gain
        )
    return table


def passes_table(step: Step, level: str) -> Table:
    """Every pass of one level, with what bounds it."""
    table = Table(title=f"passes of level {level} ({LEVELS[level]}): {step.name()}", box=box.SIMPLE)
    table.add_column("layer")
    table.add_column("pass")
    for head in ("MB", "GFLOP", "FLOP/byte", "ideal us"):
        table.add_column(head, justify="right")
    table.add_column("bound by")
    before = None
    for one in step.passes(level):
        memory_s, matrix_s = one.bytes / step.copy_bytes_per_s, one.flops / step.flops_per_s
        figures = (one.bytes / 1e6, one.flops / 1e9, one.flops / one.bytes, max(memory_s, matrix_s) * 1e6)
        name = one.layer if one.layer != before else ""
        bound = "memory" if memory_s >= matrix_s else "matrix"
        table.add_row(name, one.op, *(_three(figure) if figure else "-" for figure in figures), bound)
        before = one.layer
    return table


def _three(value: float) -> str:
    """At least three digits."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.3g}"


@dataclass(frozen=True)
class Shown:
    """One net, and how it is shown: `level` is the one whose passes are."""

    step: Step
    level: str | None
    json: bool


def plan(words: Sequence[str]) -> list[Shown]:
    """Read a command line.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    shown = []
    for keys in parse([word for word in words if word not in FLAGS], Keys):
        if keys.level and "--layers" not in words:
            raise WordError(f"level={keys.level}: says which level --layers shows; add --layers")
        shown.append(Shown(resolve(keys), (keys.level or "f") if "--layers" in words else None, "--json" in words))
    return shown


def show(nets: Sequence[Shown]) -> int:
    """Print the ladder of each net."""
    console = Terminal(PIPE_WIDTH)
    for net in nets:
        if net.json:
            print(json.dumps(as_json(net.step, net.level)))
            continue
        console.print(ladder_table(net.step))
        if net.level:
            console.print(passes_table(net.step, net.level))
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.roofline", __doc__, Keys, plan, show, words)


if __name__ == "__main__":
    sys.exit(main())
