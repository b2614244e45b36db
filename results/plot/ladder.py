"""The ladder of fusion: the bytes that one training step must move at each level, as `bench.roofline` computes them.

Nothing in it is measured, and the picture says so.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.plot.picture import BLUE, GREY, PALE, Caption, framed, net_of, plain, save, settings
from results.words import ConfigError

BAR_IN = 0.34
MAKE = "python -m bench.roofline depth=50 stride=v1.5 batch=256 --json"


@dataclass(frozen=True, kw_only=True)
class Rung:
    """One level: its name, what is fused, GB moved, and the least milliseconds at the assumed rates."""

    level: str
    what: str
    gb: float
    ideal_ms: float


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """What is drawn; `stem` names the file."""

    stem: str
    caption: Caption
    rungs: list[Rung]


def read(source: str, words: str) -> list[Ladder]:
    """Read ladders from the lines of `bench.roofline --json`.

    Args:
        source: where the words come from, for messages.
        words: a line of JSON a net.

    Raises:
        ConfigError: a line is none; names the line and what it lacks.
    """
    lines = [(number, line) for number, line in enumerate(words.splitlines(), 1) if line.strip()]
    if not lines:
        raise ConfigError(f"ladder={source}: it is empty; make one with: {MAKE}")
    found: dict[str, Ladder] = {}
    for number, line in lines:
        one = _ladder(f"ladder={source}: line {number}", line)
        if one.stem in found:
            raise ConfigError(
                f"ladder={source}: line {number} would be written over {one.stem}, which differs in the chip or in "
                "what its name does not say; draw them into folders of their own"
            )
        found[one.stem] = one
    return list(found.values())


def _ladder(where: str, line: str) -> Ladder:
    try:
        found = json.loads(line)
        net, chip, rungs = found["net"], found["chip"], found["ladder"]
        measured = found["measured"]
        ladder = [Rung(level=str(one["level"]), what=str(one["what"]), gb=_positive(one, "gb"),
                       ideal_ms=_positive(one, "ideal_ms")) for one in rungs]  # fmt: skip
        copy, matrix = _positive(chip, "copy_bytes_per_s"), _positive(chip, "flops_per_s")
        side, batch, precision = _whole(net, "image_size"), _whole(net, "batch"), str(net["precision"])
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where} is no JSON ({error.msg}); make it with: {MAKE}") from None
    except KeyError as error:
        raise ConfigError(f"{where} has no {error.args[0]!r}; make it with: {MAKE}") from None
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"{where} is no ladder ({error}); make it with: {MAKE}") from None
    if measured is not False:
        raise ConfigError(f"{where} says measured={json.dumps(measured)}: only what is computed is drawn; {MAKE}")
    if not ladder:
        raise ConfigError(f"{where} has no level; make it with: {MAKE}")
    rates = f"{copy / 1e12:.4g} TB/s and {matrix / 1e12:.4g} TFLOP/s"
    caption = Caption(
        title=f"{net_of(net)}: bytes that one training step moves, by what is fused",
        who=f"computed, not measured: batch {batch}, {side} x {side}, {precision}, on a chip assumed to have {rates}",
        notes=[
            f"GB: the least that the passes of a step read and write. Ideal ms: each pass takes the longer of its "
            f"bytes at {copy / 1e12:.4g} TB/s and its FLOPs at {matrix / 1e12:.4g} TFLOP/s. Launches are in no figure.",
        ],
    )
    name = f"ladder-{net_of(net)}-batch{batch}-{side}-{precision}"
    return Ladder(stem=re.sub(r"[^A-Za-z0-9._]+", "-", name), caption=caption, rungs=ladder)


def _whole(values: Mapping[str, Any], name: str) -> int:
    value = values[name]
    if type(value) is not int or value < 1:
        raise ValueError(f"{name}={json.dumps(value)}, expected a whole number from 1 on")
    return value


def _positive(values: Mapping[str, Any], name: str) -> float:
    value = values[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={json.dumps(value)}, expected a number above 0")
    return float(value)


def draw(found: Ladder, folder: Path) -> list[Path]:
    """Write the picture as SVG and PNG.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    count = len(found.rungs)
    with settings(found.stem):
        figure, grid = framed(
            found.caption, BAR_IN * count, [1.0], left_in=3.5, right_in=1.3, foot_axis_in=0.42
        )  # fmt: skip
        axes = figure.add_subplot(grid[0])
        for place, rung in enumerate(found.rungs):
            axes.barh(place, rung.gb, 0.66, color=BLUE, gid=f"level-{place}")
            axes.annotate(
                f"{rung.gb:.1f} GB, {rung.ideal_ms:.1f} ms", (rung.gb, place), xytext=(5, 0),
                textcoords="offset points", va="center", annotation_clip=False,
            )  # fmt: skip
        axes.set_yticks(range(count), [plain(f"{rung.level}: {rung.what}") for rung in found.rungs])
        axes.set(ylim=(count - 0.4, -0.6), xlim=(0, None), xlabel="GB moved in one step (ideal ms beside it)")
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x", color=PALE, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.label.set_color(GREY)
        return save(figure, folder, found.stem)
