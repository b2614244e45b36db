"""Kernels against their floors, who is faster where, and what `kernels=auto` chose."""

import json
from collections import Counter
from collections.abc import Sequence

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from results.check.runs import Run
from results.plot import kernels
from results.plot.run_rows import RunRows, run_ids
from results.report.page.blocks import Block, Column, Picture, Section, Table, Words
from results.report.page.canvas import COLORS, GREY_INK, drawing, figure, quiet, stem_of
from results.report.page.evidence import Evidence
from results.words import ConfigError, counted, parse_json, printable

__all__ = ["choices_table", "section"]

ROW_PX, HEAD_PX = 20, 96
MOST_ROWS = 80
TICKS = (0.5, 1, 2, 5, 10, 20, 50, 100, 1000)
LIBRARY = ("eager", "compile")  # backends that are not ours


def section(found: Evidence) -> Section:
    """Draw the newest kernel benchmark of each GPU model, and list the choices of the newest runs that made some."""
    made = Section("kernels", "Kernels")
    with_kernels = set(run_ids(found.root, ["kernels"]))
    newest: dict[str, Run] = {}
    for run in reversed(found.runs):
        if run.run_id in with_kernels and run.parts["benchmark"] == "micro" and run.completed:
            newest.setdefault(str(run.parts["processors"]), run)
    for run in newest.values():
        try:
            rows = RunRows(found.root, run.run_id)
            gpu = kernels.gpu_of(rows.systems, run.run_id)
            points, left = kernels.points(rows.rows("kernels"))
        except ConfigError as error:
            found.faults.append(str(error))
            continue
        if points:
            made.blocks += _of_gpu(run, gpu, points)
        if left:
            made.blocks.append(
                Words(f"{counted(len(left), 'kernel')} without a time: {'; '.join(map(printable, left[:4]))}", "note")
            )
    chosen: dict[tuple[object, ...], Run] = {}
    for run in reversed(found.runs):
        if run.row["kernels"] in ("auto", "triton") and run.row["kernels_choices"]:
            row = run.row
            chosen.setdefault(
                (row["family"], row["depth"], row["shortcut"], row["kernels"], run.parts["processors"]), run
            )
    for run in chosen.values():
        if (table := choices_table(run, found)) is not None:
            made.blocks.append(table)
    if not made.blocks:
        made.status = "no GPU rows"
        made.blocks.append(Words("No kernel was timed: python -m bench.micro needs a GPU."))
    return made


def _of_gpu(run: Run, gpu: str, points: Sequence[kernels.Point]) -> list[Block]:
    labels = list(dict.fromkeys(point.label for point in points))
    styles = dict(zip(sorted({point.backend for point in points}), COLORS, strict=False))
    stem = stem_of("kernels", run.run_id)
    shown = labels[:MOST_ROWS]
    with drawing(stem):
        drawn = figure(HEAD_PX + ROW_PX * len(shown), wide=True)
        axes = drawn.add_subplot()
        for point in points:
            if point.label in shown and point.backend in styles:
                color, marker = styles[point.backend]
                axes.plot([point.over_floor], [shown.index(point.label)], marker=marker, color=color, ls="", ms=6,
                          mfc=color if point.cold else "none")  # fmt: skip
        axes.axvline(1, color=GREY_INK, lw=1.2)
        axes.set(xscale="log", ylim=(len(shown) - 0.4, -0.6))
        low, high = axes.get_xlim()
        axes.set_xlim(min(low, 0.9), max(high, 1.6))
        axes.xaxis.set_major_locator(FixedLocator([tick for tick in TICKS if min(low, 0.9) <= tick <= max(high, 1.6)]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_yticks(range(len(shown)), shown)
        axes.set_xlabel("time / floor; 1 is as fast as memory or matrix units allow")
        quiet(axes)
        handles = [Line2D([], [], color=c, marker=m, ls="", label=backend) for backend, (c, m) in styles.items()]
        if len({point.cold for point in points}) > 1:
            handles += [Line2D([], [], color=GREY_INK, marker="o", mfc=face, ls="", label=text)
                        for face, text in ((GREY_INK, "L2 cold"), ("none", "L2 warm"))]  # fmt: skip
        drawn.legend(handles=handles, loc="outside upper left", ncols=len(handles))
    rows, slower = _beside(points)
    said = (
        f"{counted(len(labels), 'kernel')} of {gpu} against their floors; ours is slower than the library in "
        f"{slower} of {len(rows)}"
    )
    note = (
        "Medians. The floor is max(least bytes / copy rate, FLOPs / matrix rate), with rates measured in the same run "
        f"({points[0].copy_bytes_per_s / 1e12:.2f} TB/s copied; {points[0].flops_per_s / 1e12:,.0f} TFLOP/s in "
        f"{points[0].dtype})."
    )
    picture = Picture(stem=stem, title=f"Kernels against their floors: {gpu}", alt=said, figure=drawn, note=note,
                      runs=[run.run_id], wide=True)  # fmt: skip
    columns = [
        Column("kernel"),
        *(Column(head, right=True) for head in ("floor, us", "ours, us", "library, us", "library / ours")),
    ]
    table = Table(f"Ours beside the library (cuDNN through PyTorch), {gpu}; bold: the library wins", columns,
                  [row for row, _ in rows][:MOST_ROWS],
                  frozenset(place for place, (_, wins) in enumerate(rows[:MOST_ROWS]) if wins),
                  note=f"run {run.run_id}")  # fmt: skip
    return [picture, table] if rows else [picture]


def _beside(points: Sequence[kernels.Point]) -> tuple[list[tuple[tuple[str, ...], bool]], int]:
    """For each kernel that both have the best time of ours and of the library, and whether the library wins."""
    by_kernel: dict[tuple[str, bool], list[kernels.Point]] = {}
    for point in points:
        by_kernel.setdefault((point.label, point.cold), []).append(point)
    rows: list[tuple[tuple[str, ...], bool]] = []
    for (label, cold), own in by_kernel.items():
        ours = min((one.time_s for one in own if one.backend not in LIBRARY), default=None)
        theirs = min((one.time_s for one in own if one.backend in LIBRARY), default=None)
        if ours is not None and theirs is not None:
            heat = ", L2 cold" if cold else ", L2 warm"
            cells = (
                label + heat,
                f"{1e6 * own[0].floor_s:.1f}",
                f"{1e6 * ours:.1f}",
                f"{1e6 * theirs:.1f}",
                f"{theirs / ours:.2f}",
            )
            rows.append((cells, theirs < ours))
    return rows, sum(wins for _, wins in rows)


def choices_table(run: Run, found: Evidence) -> Table | None:
    """Return what a run's kernels chose for each convolution; None where the row does not say it by convolution."""
    try:
        chosen = parse_json(run.row["kernels_choices"])
    except ValueError:
        return None
    if not isinstance(chosen, dict) or not all(isinstance(one, dict) for one in chosen.values()):
        return None
    passes = ("forward", "dgrad", "inference")
    counts = {name: Counter(str(one.get(name)) for one in chosen.values()) for name in passes}
    wins = "; ".join(
        f"{name}: {', '.join(f'{who} {count}' for who, count in counts[name].most_common())}" for name in passes
    )
    rows = []
    for name, one in list(chosen.items())[:MOST_ROWS]:
        config = one.get("config") if isinstance(one.get("config"), dict) else {}
        rows.append((printable(name), *(_who(one.get(each), config.get(each)) for each in passes)))
    columns = [Column("convolution", code=True), *(Column(name) for name in passes)]
    row = run.row
    caption = (
        f"What kernels={row['kernels']} chose for ResNet-{row['depth']} {row['shortcut']} on "
        f"{run.parts['processors']}: "
        f"{wins} (torch is a win of cuDNN); run {found.short([run.run_id])}"
    )
    left = f"{len(chosen) - MOST_ROWS} more convolutions" if len(chosen) > MOST_ROWS else ""
    return Table(printable(caption), columns, rows, note=left)


def _who(computes: object, config: object) -> str:
    who = "-" if computes is None else printable(str(computes))
    return f"{who} {printable(config if isinstance(config, str) else json.dumps(config))}" if config else who
