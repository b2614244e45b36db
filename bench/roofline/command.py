"""What fusion can win at most: bytes, FLOPs and least time of a training step at each level of fusion.

    python -m bench.roofline depth=50 stride=v1.5 batch=256 [--layers level=f] [--json]

--json prints a line of JSON a net; --layers adds every pass of one level. Nothing is measured. Ideal times take the
chip's copy and matrix rates whole, calibrated ones the given fractions of them, and no level counts launches;
`bench.roofline.passes` says what is in a step and what is not.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich import box
from rich.table import Table

from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import WordError, parse
from bench.roofline.layers import layers
from bench.roofline.levels import LEVELS
from bench.roofline.step import Keys, Step, resolve

PIPE_WIDTH = 120
FLAGS = ("--json", "--layers")


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
