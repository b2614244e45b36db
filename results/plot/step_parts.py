"""Where a step's time goes: the wait for its data and the rest, for each rank, after the warm-up.

The parts are the columns of table `steps`: `step_ms` is the whole step, from the end of the one before it to its own;
`data_ms` is the time in which the training loop waited for a batch; `compute_ms` is the difference, whatever it went
into. On a GPU the step is the device's and the wait is the host's, which the device may hide.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from matplotlib.axes import Axes

from results.plot.picture import (
    BLUE,
    GREY,
    PALE,
    VERMILION,
    Caption,
    framed,
    images_of,
    net_of,
    plain,
    save,
    settings,
    who_of,
)
from results.plot.run_rows import RunRows
from results.statistics import percentile, quartiles
from results.words import ConfigError

# The columns, what they are called in the picture, and their colours.
PARTS = {
    "step_ms": ("whole step", GREY),
    "data_ms": ("waiting for the batch", VERMILION),
    "compute_ms": ("the rest of the step", BLUE),
}
MOST_RANKS = 12  # that fit a screen
BAR_IN, TITLE_IN = 0.27, 0.34  # height of a rank's line, and of what stands above a panel


@dataclass(frozen=True, kw_only=True)
class Part:
    """What the samples of one part on one rank come to, milliseconds.

    Attributes:
        mean, p5, lower, median, upper, p95: quartiles are `lower` and `upper`.
    """

    mean: float
    p5: float
    lower: float
    median: float
    upper: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class RankSteps:
    """One rank in one attempt.

    Attributes:
        restart, rank: which.
        steps: samples after the warm-up.
        parts: by column of PARTS.
    """

    restart: int
    rank: int
    steps: int
    parts: dict[str, Part]


@dataclass(frozen=True, kw_only=True)
class StepParts:
    """What is drawn, with the words around it."""

    run_id: str
    caption: Caption
    ranks: list[RankSteps]

    def label(self, one: RankSteps) -> str:
        several = len({each.restart for each in self.ranks}) > 1
        return f"restart {one.restart}, rank {one.rank}" if several else f"rank {one.rank}"


def read(rows: RunRows) -> StepParts | None:
    """Read the parts of a run's steps; None where it has no steps.

    Raises:
        ConfigError: it has steps, and none after the warm-up that has a time.
    """
    table = rows.table("steps")
    if not table.num_rows:
        return None
    warmups = {row["restart_count"] or 0: row.get("warmup_steps") for row in rows.attempts}
    found, timeless = rank_steps(table, warmups)
    if not found:
        raise ConfigError(f"run={rows.run_id}: no step after the warm-up with its three times")
    drawn = found
    if len(found) > MOST_RANKS:
        longest = sorted(found, key=lambda one: one.parts["step_ms"].median, reverse=True)[:MOST_RANKS]
        drawn = [one for one in found if one in longest]
    about = rows.about
    caption = Caption(
        title=f"{net_of(about)} on {images_of(about)}: where a training step's time goes",
        who=who_of(about, rows.systems, rows.run_id),
        notes=_notes(rows, warmups, found, len(drawn), timeless),
    )
    return StepParts(run_id=rows.run_id, caption=caption, ranks=drawn)


def rank_steps(table: pa.Table, warmups: dict[int, int | None]) -> tuple[list[RankSteps], int]:
    """Each rank's samples after the warm-up, summed up.

    Args:
        table: of `steps`, of one run.
        warmups: by restart the leading steps of the attempt that are left out; each attempt warms up by itself.

    Returns:
        The ranks that have samples, by restart and rank; and how many steps lack one of the three times.
    """
    restarts, ranks, steps = (
        np.asarray(table[name].fill_null(0), dtype=np.int64) for name in ("restart", "rank", "step")
    )
    times = np.stack([np.asarray(table[name].cast(pa.float64()).fill_null(np.nan)) for name in PARTS])
    found, timeless = [], 0
    for restart, rank in sorted(set(zip(restarts.tolist(), ranks.tolist(), strict=True))):
        mine = np.flatnonzero((restarts == restart) & (ranks == rank))
        counted = times[:, mine[np.argsort(steps[mine], kind="stable")]][:, warmups.get(restart) or 0 :]
        whole = np.isfinite(counted).all(axis=0)
        timeless += int((~whole).sum())
        if whole.any():
            parts = {name: _part(samples) for name, samples in zip(PARTS, counted[:, whole].tolist(), strict=True)}
            found.append(RankSteps(restart=restart, rank=rank, steps=int(whole.sum()), parts=parts))
    return found, timeless


def _part(samples: list[float]) -> Part:
    lower, middle, upper = quartiles(samples)
    p5, p95 = percentile(samples, 0.05), percentile(samples, 0.95)
    return Part(mean=float(np.mean(samples)), p5=p5, lower=lower, median=middle, upper=upper, p95=p95)


def _notes(
    rows: RunRows, warmups: dict[int, int | None], found: list[RankSteps], drawn: int, timeless: int
) -> list[str]:
    least, most = min(one.steps for one in found), max(one.steps for one in found)
    steps = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    known = sorted({warmup for warmup in warmups.values() if warmup is not None})
    warm = f"those after the first {' or '.join(map(str, known))} (warm-up)" if known else "all, the warm-up is unknown"
    notes = [
        f"{steps} optimizer steps a rank are counted: {warm}. Box: quartiles; line in it: median; whiskers: 5th and "
        "95th percentile.",
        "The rest is the step less the wait: forward, backward, exchange of gradients between ranks, update. These "
        "were not timed apart. Evaluation and checkpoints are in no step.",
    ]
    if any(row.get("gpu_model") for row in rows.systems):
        notes.append("On a GPU the wait is the host's: the device may have been busy meanwhile, which hides it.")
    if drawn < len(found):
        notes.append(f"{drawn} of {len(found)} ranks are drawn: those with the longest median step.")
    if timeless:
        notes.append(f"Left out: {timeless} steps without all three times.")
    return notes


def ms(value: float) -> str:
    """Milliseconds with as many digits as help."""
    size = abs(value)
    return f"{value:,.1f}" if size >= 10 else f"{value:.2f}" if size >= 1 else f"{value:.3f}"


def draw(found: StepParts, folder: Path) -> list[Path]:
    """Write the picture as SVG and PNG.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    panel_in = BAR_IN * len(found.ranks)
    left_in = 0.3 + 0.07 * max(len(found.label(one)) for one in found.ranks)
    count = 1 + len(PARTS)
    with settings(found.run_id):
        figure, grid = framed(
            found.caption, panel_in * count + TITLE_IN * (count - 1), [1.0] * count, left_in=left_in, right_in=2.35,
            head_axis_in=0.22, foot_axis_in=0.42, gap=TITLE_IN / panel_in,
        )  # fmt: skip
        # One scale for all, from 0 on: what is short looks short.
        first = figure.add_subplot(grid[0])
        panels = [first, *(figure.add_subplot(grid[place], sharex=first) for place in range(1, count))]
        _draw_means(first, found)
        for axes, (column, (name, color)) in zip(panels[1:], PARTS.items(), strict=True):
            _draw_spread(axes, found, column, name, color)
        for axes in panels[:-1]:
            axes.tick_params(axis="x", labelbottom=False, length=0)
        panels[-1].set_xlabel("ms")
        lowest = min(part.p5 for one in found.ranks for part in one.parts.values())
        first.set_xlim(min(0.0, lowest * 1.05), None)
        return save(figure, folder, f"steps-{found.run_id}")


def _lines(axes: Axes, found: StepParts, title: str, numbers: list[str]) -> None:
    """One line a rank, with its numbers at the right."""
    count = len(found.ranks)
    axes.set_title(plain(title), loc="left", fontsize=9, weight="bold")
    axes.set_yticks(range(count), [found.label(one) for one in found.ranks])
    axes.set_ylim(count - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(True, axis="x", color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for place, number in enumerate(numbers):
        axes.annotate(number, (1, place), xycoords=("axes fraction", "data"), xytext=(8, 0),
                      textcoords="offset points", va="center")  # fmt: skip


def bars(axes: Axes, ranks: Sequence[RankSteps]) -> None:
    """Draw the mean step of each rank, a line a rank: the wait, and what is left of it."""
    for place, one in enumerate(ranks):
        wait, rest = one.parts["data_ms"].mean, one.parts["compute_ms"].mean
        waiting, working = ("wait for data", "the rest") if place == 0 else (None, None)  # once in a legend
        axes.barh(place, wait, 0.62, color=VERMILION, gid=f"wait-{place}", label=waiting)
        # A wait that a GPU hid may be longer than the step; numbers then say what a bar cannot.
        axes.barh(place, max(rest, 0.0), 0.62, left=wait, color=BLUE, gid=f"rest-{place}", label=working)


def _draw_means(axes: Axes, found: StepParts) -> None:
    """The mean step of each rank, whose parts add up to it."""
    bars(axes, found.ranks)
    numbers = []
    for one in found.ranks:
        wait, rest = one.parts["data_ms"].mean, one.parts["compute_ms"].mean
        numbers.append(f"{ms(wait)} wait + {ms(rest)} rest = {ms(one.parts['step_ms'].mean)} ms")
    _lines(axes, found, "mean step: waiting for the batch, then the rest", numbers)


def _draw_spread(axes: Axes, found: StepParts, column: str, name: str, color: str) -> None:
    """How the samples of one part spread on each rank."""
    parts = [one.parts[column] for one in found.ranks]
    boxes = [
        {"med": p.median, "q1": p.lower, "q3": p.upper, "whislo": p.p5, "whishi": p.p95, "fliers": []} for p in parts
    ]
    drawn = axes.bxp(
        boxes, positions=range(len(parts)), widths=0.55, orientation="horizontal", showfliers=False, manage_ticks=False,
        patch_artist=True, boxprops={"fc": color, "ec": color, "alpha": 0.55},
        medianprops={"color": "black", "lw": 1.6}, whiskerprops={"color": color}, capprops={"color": color},
    )  # fmt: skip
    for kind in ("boxes", "medians", "whiskers"):
        for place, artist in enumerate(drawn[kind]):  # of the whiskers two a box, the lower first
            artist.set_gid(f"{column}-{kind}-{place}")
    numbers = [f"median {ms(part.median)} ms ({ms(part.lower)} to {ms(part.upper)})" for part in parts]
    _lines(axes, found, name, numbers)
