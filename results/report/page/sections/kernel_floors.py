"""Kernels against their floors, who is faster where, and what `kernels=auto` chose."""

import json
from collections import Counter
from collections.abc import Sequence

from matplotlib.ticker import NullLocator

from results.check.runs import Run
from results.plot import kernels
from results.plot.picture import plain
from results.plot.run_rows import RunRows, run_ids
from results.report.page.blocks import Block, Column, Picture, Section, Table, Words
from results.report.page.canvas import COLORS, GREY_INK, drawing, figure, quiet, stem_of
from results.report.page.evidence import Evidence
from results.words import ConfigError, counted, parse_json, printable

__all__ = ["choices_table", "section"]

ROW_PX, HEAD_PX = 34, 96
MOST_DRAWN, MOST_ROWS = 16, 80
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
    labels = _farthest(points)
    styles = dict(zip(sorted({point.backend for point in points}), COLORS, strict=False))
    points = [point for point in points if point.backend in styles]
    stem = stem_of("kernels", run.run_id)
    shown = labels[:MOST_DRAWN]
    with drawing(stem):
        drawn = figure(HEAD_PX + ROW_PX * len(shown))
        axes = drawn.add_subplot()
        kernels.over_floor(axes, points, shown, styles, ink=GREY_INK)
        # Names beside the marks would leave these no room on a phone: each stands above its own.
        axes.set_yticks([])
        dtypes = {point.dtype for point in points}
        same = f"  {next(iter(dtypes))}" if len(dtypes) == 1 else ""  # said below
        for place, label in enumerate(shown):
            axes.annotate(plain(label.removesuffix(same)), (0, place), xycoords=("axes fraction", "data"),
                          xytext=(2, 6), textcoords="offset points")  # fmt: skip
        axes.set_ylim(len(shown) - 0.5, -0.9)
        axes.set_xlabel("time / floor")
        axes.xaxis.set_minor_locator(NullLocator())
        quiet(axes, grid="x")
        axes.spines["left"].set_visible(False)
        handles = kernels.marks(points, styles, GREY_INK)
        drawn.legend(handles=handles, loc="outside upper left", ncols=2, handlelength=1)
    rows, slower = _beside(points)
    said = (
        f"{counted(len(labels), 'kernel')} of {gpu} against their floors; ours is slower than the library in "
        f"{slower} of {len(rows)}"
    )
    left = f" {len(labels) - len(shown)} nearer to it are not drawn." if len(labels) > len(shown) else ""
    note = (
        "Medians; the kernel of ours that is farthest from its floor stands first. eager is the library. The floor is "
        "max(least bytes / copy rate, FLOPs / matrix rate), with rates measured in the same run "
        f"({points[0].copy_bytes_per_s / 1e12:.2f} TB/s copied; {points[0].flops_per_s / 1e12:,.0f} TFLOP/s in "
        f"{points[0].dtype}).{left}"
    )
    picture = Picture(stem=stem, title=f"Kernels against their floors: {gpu}", alt=said, figure=drawn, note=note,
                      runs=[run.run_id])  # fmt: skip
    columns = [
        Column("kernel"),
        *(Column(head, right=True) for head in ("floor, us", "ours, us", "library, us", "library / ours")),
    ]
    left = f"; {len(rows) - MOST_ROWS} more: python -m results.plot draw=kernels" if len(rows) > MOST_ROWS else ""
    table = Table(f"Ours beside the library (cuDNN through PyTorch), {gpu}: in bold the {slower} of {len(rows)} in "
                  "which the library is faster",
                  columns, [row for row, _ in rows][:MOST_ROWS],
                  frozenset(place for place, (_, wins) in enumerate(rows[:MOST_ROWS]) if wins),
                  note=f"Where ours is slowest beside it stands first; run {run.run_id}{left}")  # fmt: skip
    return [picture, table] if rows else [picture]


def _farthest(points: Sequence[kernels.Point]) -> list[str]:
    """Kernels by the time of ours over their floor, the most first; then those that only the library has."""
    ours: dict[str, float] = {}
    for point in points:
        if point.backend not in LIBRARY:
            ours[point.label] = min(point.over_floor, ours.get(point.label, point.over_floor))
    return sorted({point.label for point in points}, key=lambda label: (-ours.get(label, 0.0), label))


def _beside(points: Sequence[kernels.Point]) -> tuple[list[tuple[tuple[str, ...], bool]], int]:
    """For each kernel that both have the best time of ours and of the library, and whether it wins; its wins first."""
    by_kernel: dict[tuple[str, bool], list[kernels.Point]] = {}
    for point in points:
        by_kernel.setdefault((point.label, point.cold), []).append(point)
    rows: list[tuple[tuple[str, ...], bool]] = []
    ratios: list[float] = []
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
            ratios.append(theirs / ours)
    rows = [row for _, row in sorted(zip(ratios, rows, strict=True), key=lambda item: item[0])]
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
    alike: dict[tuple[str, ...], list[str]] = {}
    for name, one in chosen.items():
        config = one.get("config") if isinstance(one.get("config"), dict) else {}
        alike.setdefault(tuple(_who(one.get(each), config.get(each)) for each in passes), []).append(printable(name))
    rows = [(" ".join(names), str(len(names)), *who) for who, names in alike.items()]
    columns = [
        Column("convolutions", code=True, wide=True),
        Column("n", right=True),
        *(Column(name) for name in passes),
    ]
    row = run.row
    caption = (
        f"What kernels={row['kernels']} chose for ResNet-{row['depth']} {row['shortcut']} on "
        f"{run.parts['processors']}: "
        f"{wins} (torch is a win of cuDNN); run {found.short([run.run_id])}"
    )
    return Table(printable(caption), columns, rows)


def _who(computes: object, config: object) -> str:
    who = "-" if computes is None else printable(str(computes))
    return f"{who} {printable(config if isinstance(config, str) else json.dumps(config))}" if config else who
