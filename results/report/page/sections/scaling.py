"""Throughput against world size, with the line that twice the ranks would be twice as fast."""

from collections.abc import Mapping, Sequence

from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator

from results.check.runs import Run
from results.identity import canonical, flat_parts
from results.listing.terminal import rate_text
from results.report.page.blocks import Column, Picture, Section, Table, Words
from results.report.page.canvas import COLORS, GREY_INK, drawing, figure, quiet, stem_of
from results.report.page.evidence import Evidence, marks_of
from results.report.page.sections.grid import cell_of
from results.words import printable

__all__ = ["section"]

MOST_PANELS = 6
# Of a cell's comparability, what changes with the number of ranks.
_OF_SIZE = ("configuration.nodes", "configuration.ranks_per_node", "threads.per_rank", "threads.loader", "version")


def section(found: Evidence) -> Section:
    """Draw each configuration that ran at several world sizes with the same batch on each rank."""
    made = Section("scaling", "World size")
    series = {key: sizes for key, sizes in _series(found.training).items() if len(sizes) > 1}
    if not series:
        made.status = "one size"
        made.blocks.append(
            Words(
                "No configuration ran at two world sizes: python launch/slurm.py depth=50 nodes=1,2,4,8 measures some."
            )
        )
        return made
    made.blocks.append(
        Words("The batch on each rank is the same at all sizes. Efficiency is throughput over that of the smallest, "
              "over the ratio of the ranks.")
    )  # fmt: skip
    rows = []
    newest = sorted(series.values(), key=lambda sizes: max(run.started for runs in sizes.values() for run in runs))
    for place, sizes in enumerate(reversed(newest)):
        points = {size: cell_of(runs, "images_per_s") for size, runs in sorted(sizes.items())}
        known = {size: (value, of) for size, (value, of) in points.items() if value is not None}
        if len(known) < 2:
            continue
        least = min(known)
        base = known[least][0] / least
        for size, (value, of) in known.items():
            nodes, efficiency = str(of[-1].row["nodes"]), f"{value / size / base:.1%}"
            began = " to ".join(dict.fromkeys(f"{run.started:%Y-%m-%d}" for run in (of[0], of[-1])))
            rows.append((of[-1].label, str(size), nodes, rate_text(value), efficiency, str(len(of)), began,
                         found.short(run.run_id for run in of)))  # fmt: skip
        if place < MOST_PANELS:
            made.blocks.append(_picture(known, base))
    heads = ("cell", "ranks", "nodes", "images/s", "efficiency", "n", "began", "runs")
    columns = [Column(head, right=head not in ("cell", "began", "runs"), code=head == "runs") for head in heads]
    made.blocks.append(Table("Throughput and efficiency by world size", columns, rows))
    return made


def _series(runs: Sequence[Run]) -> dict[str, dict[int, list[Run]]]:
    found: dict[str, dict[int, list[Run]]] = {}
    keys: dict[str, str] = {}
    for run in runs:
        if run.row["world_size"] is None:
            continue
        if run.key not in keys:
            flat = {name: value for name, value in flat_parts(run.parts).items() if name not in _OF_SIZE}
            keys[run.key] = canonical(flat)
        found.setdefault(keys[run.key], {}).setdefault(run.row["world_size"], []).append(run)
    return found


def _picture(known: Mapping[int, tuple[float, list[Run]]], base: float) -> Picture:
    runs = [run for _, of in known.values() for run in of]
    label = printable(runs[-1].label.rpartition(" x")[0])
    stem = stem_of("scaling", runs[-1].run_id)
    sizes, values = list(known), [value for value, _ in known.values()]
    with drawing(stem):
        drawn = figure(250)
        axes = drawn.add_subplot()
        axes.plot(sizes, [base * size for size in sizes], color=GREY_INK, ls="--", lw=1.2, label="ideal")
        axes.plot(sizes, values, color=COLORS[0][0], marker="o", lw=2, label="measured")
        for size, value in zip(sizes, values, strict=True):
            axes.annotate(f"{value / size / base:.0%}", (size, value), xytext=(0, -16), textcoords="offset points",
                          ha="center")  # fmt: skip
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_locator(FixedLocator(sizes))
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.margins(0.15)
        axes.set_xlabel("ranks")
        axes.set_ylabel("images/s")
        quiet(axes)
        axes.legend(loc="upper left")
    said = "; ".join(f"{size} ranks {rate_text(value)} images/s, {value / size / base:.1%} efficiency"
                     for size, value in zip(sizes, values, strict=True))  # fmt: skip
    marks = dict.fromkeys(mark for run in runs for mark in marks_of(run))
    return Picture(stem=stem, title=f"Throughput by world size: {label}", alt=said, figure=drawn,
                   note=f"{', '.join(marks)}." if marks else "", runs=[run.run_id for run in runs])  # fmt: skip
