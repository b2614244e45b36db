"""A picture of training rates: published bars beside measured ones, what is not comparable apart."""

import textwrap
from pathlib import Path

from results.paper.throughput import Measured, RateTable
from results.plot.picture import BLUE, GREY, PALE, VERMILION, Caption, framed, plain, save, settings
from results.words import counted

__all__ = ["bar_name", "draw_rates"]

BAR_IN = 0.24
MOST, MOST_OF_TWO = 60, 72  # characters beside a bar; a longer name has two lines of a smaller size


def draw_rates(found: RateTable, folder: Path) -> list[Path]:
    """Write the table as SVG and PNG.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    shown = [one for _, _, own in found.gpus.values() for one in own]
    bars = [
        *((f"{rate.who}, {gpu}, {rate.precision}", rate.images_per_s, GREY, "published")
          for gpu, (rates, _, _) in found.gpus.items() for rate in rates),
        *((bar_name(one), one.images_per_s, BLUE, "measured") for one in shown),
        *((bar_name(one), one.images_per_s, VERMILION, "apart") for one in found.apart),
    ]  # fmt: skip
    notes = [
        "Grey: published, whole training. Blue: measured here, whole training. Vermilion: measured here, and not "
        f"comparable with them (no images read, or another GPU). python -m results.paper {found.word} names the runs.",
    ]
    marks: dict[str, int] = {}
    for one in (*shown, *found.apart):
        for mark in one.marks:
            marks[mark] = marks.get(mark, 0) + len(one.run_ids)
    notes += [f"Of groups with {mark}: {counted(runs, 'run')}." for mark, runs in marks.items()]
    if found.missing:
        notes.append(f"No whole training was measured on: {', '.join(found.missing)}.")
    runs = {run_id for one in (*shown, *found.apart) for run_id in one.run_ids}
    caption = Caption(
        title=found.title, who=f"published beside the median of {counted(len(runs), 'run')}", notes=notes
    )  # fmt: skip
    with settings(found.word):
        figure, grid = framed(
            caption, BAR_IN * len(bars), [1.0], left_in=3.75, right_in=0.5, foot_axis_in=0.42, head_axis_in=0.1
        )
        axes = figure.add_subplot(grid[0])
        for place, (name, rate, color, kind) in enumerate(bars):
            axes.barh(place, rate, height=0.66, color=color, gid=f"rate-{kind}-{place}")
            axes.text(rate, place, f" {rate:,.0f}", va="center", fontsize=7)
            long = len(name) > MOST
            lines = textwrap.wrap(plain(name), MOST_OF_TWO) if long else [plain(name)]
            axes.text(
                0, place, "\n".join(f"{line}  " for line in lines), va="center", ha="right", multialignment="right",
                linespacing=1.0, fontsize=5.8 if long else 7,
            )  # fmt: skip
        axes.set(ylim=(len(bars) - 0.4, -0.6), yticks=[], xlabel="images/s and GPU")
        axes.grid(True, axis="x", color=PALE, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        return save(figure, folder, found.word.replace("=", "-"))


def bar_name(one: Measured) -> str:
    """What a group of runs is called beside its bar: as no other group is."""
    target = "" if one.top1 is None else f", to {100 * one.top1:g}%"
    return f"{one.gpus} x {one.gpu}, {one.precision}, {one.setting}{target}: {one.what}"
