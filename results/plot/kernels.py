"""Measured kernels against their floors: a roofline, and each kernel's time over the least it could be.

The floor of a kernel is max(bytes_min / copy rate, flops / matrix rate), with the rates that its own run measured.
"""

import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter
from matplotlib.transforms import Bbox

from results.plot.picture import GREY, STYLES, plain, save, settings
from results.plot.run_rows import RunRows
from results.store.schema import Row
from results.words import ConfigError

RATES = ("copy_bytes_per_s", "matrix_flops_per_s")
COLUMN_PX = 10.0  # closer kernels share a number's text
WIDTH_IN, ROOF_IN, ROW_IN = 12.0, 6.2, 0.23
TICKS = (0.1, 0.2, 0.5, 1, 1.5, 2, 3, 5, 7, 10, 20, 50, 100, 200, 500, 1000)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measured kernel.

    Attributes:
        label: op, shape and dtype; the same for all backends.
        op, dtype: by themselves.
        backend: what computed it.
        cold: whether the L2 cache was flushed before.
        time_s: median.
        bytes_min, flops: the least that it has to move and compute.
        copy_bytes_per_s, flops_per_s: rates of its run.
    """

    label: str
    op: str
    dtype: str
    backend: str
    cold: bool
    time_s: float
    bytes_min: int
    flops: int
    copy_bytes_per_s: float
    flops_per_s: float

    @property
    def floor_s(self) -> float:
        return max(self.bytes_min / self.copy_bytes_per_s, self.flops / self.flops_per_s)

    @property
    def over_floor(self) -> float:
        return self.time_s / self.floor_s


@dataclass(frozen=True, kw_only=True)
class Roofline:
    """What is drawn: measured kernels, the GPU as the driver names it, and their run."""

    run_id: str
    gpu_model: str
    points: list[Point]


def read(rows: RunRows) -> Roofline | None:
    """Read a run's kernels; None where it has none. Those that cannot be drawn are named on stderr.

    Raises:
        ConfigError: none of them has a time, or there is no floor to hold them against.
    """
    kernels = rows.rows("kernels")
    if not kernels:
        return None
    found, left = points(kernels)
    for line in left:
        print(f"not drawn: {line}", file=sys.stderr)
    if not found:
        raise ConfigError(f"run={rows.run_id}: none of its kernels has a time")
    return Roofline(run_id=rows.run_id, gpu_model=gpu_of(rows.systems, rows.run_id), points=found)


def points(rows: Sequence[Row]) -> tuple[list[Point], list[str]]:
    """The rows that can be drawn, and a line about each that cannot.

    Args:
        rows: of `kernels`, of one run.

    Raises:
        ConfigError: the run has no measured rates to hold its kernels against.
    """
    layouts = {row.get("layout") for row in rows}
    found, left = [], []
    for row in rows:
        words = [row["op"], row.get("shape"), row.get("dtype"), row.get("layout") if len(layouts) > 1 else None]
        label = "  ".join(word for word in words if word)
        if row.get("status") != "ok" or not (_positive(row.get("p50")) and _positive(row.get("bytes_min"))):
            left.append(f"{label}, {row.get('backend')}: no time ({row.get('status') or 'no status'})")
            continue
        if not all(_positive(row.get(name)) for name in RATES):
            raise ConfigError(
                f"run={row['run_id']}: no {' or '.join(RATES)} beside its kernels, so there is no floor to draw; "
                "measure again with bench.micro"
            )
        found.append(
            Point(
                label=label,
                op=row["op"],
                dtype=row.get("dtype") or "",
                backend=row.get("backend") or "unknown",
                cold=row.get("l2") == "cold",
                time_s=row["p50"] * 1e-6,
                bytes_min=row["bytes_min"],
                flops=max(row.get("flops") or 0, 0),
                copy_bytes_per_s=row["copy_bytes_per_s"],
                flops_per_s=row["matrix_flops_per_s"],
            )
        )
    return found, left


def _positive(value: float | None) -> bool:
    return value is not None and math.isfinite(value) and value > 0


def draw(roofline: Roofline, folder: Path) -> list[Path]:
    """Write the picture as SVG and PNG.

    Args:
        roofline: at least one kernel.
        folder: is there.

    Returns:
        The files.
    """
    found, run_id = roofline.points, roofline.run_id
    ops = list(dict.fromkeys(point.op for point in found))  # one op's kernels stand together
    labels = list(dict.fromkeys(point.label for point in sorted(found, key=lambda point: ops.index(point.op))))
    backends = sorted({point.backend for point in found})
    styles = {backend: STYLES[index % len(STYLES)] for index, backend in enumerate(backends)}
    rows_in = ROW_IN * len(labels) + 0.6
    with settings(run_id), plt.rc_context({"font.size": 9.0, "axes.titlesize": 10.0}):
        figure, (roof, ratio) = plt.subplots(
            2, 1, figsize=(WIDTH_IN, ROOF_IN + rows_in + 1.6), height_ratios=(ROOF_IN, rows_in), layout="constrained"
        )
        title = f"{roofline.gpu_model}: measured kernels against their floors\nrun {run_id}, medians"
        figure.suptitle(plain(title), fontsize=12)
        _draw_ratio(ratio, found, labels, styles)
        _draw_roof(roof, found, labels, styles)
        return save(figure, folder, f"roofline-{run_id}")


def _draw_roof(axes: Axes, found: Sequence[Point], labels: Sequence[str], styles: dict[str, tuple[str, str]]) -> None:
    """FLOP/byte against TFLOP/s under the two ceilings; numbers are those of the panel below."""
    placed = [point for point in found if point.flops]
    ridges = [point.flops_per_s / point.copy_bytes_per_s for point in found]
    intensities = [point.flops / point.bytes_min for point in placed]
    left, right = min([*intensities, *ridges]) / 2, max([*intensities, *ridges]) * 3
    axes.set(xscale="log", yscale="log", xlim=(left, right))
    roofs: dict[tuple[float, float], list[str]] = {}
    for point in found:
        dtypes = roofs.setdefault((point.copy_bytes_per_s, point.flops_per_s), [])
        if point.dtype not in dtypes:
            dtypes.append(point.dtype)
    lines = []
    for (copy, matrix), dash in zip(roofs, ("-", "--", ":", "-.") * len(roofs), strict=False):
        ridge = matrix / copy
        axes.plot([left, ridge, right], [left * copy / 1e12, matrix / 1e12, matrix / 1e12], dash, color=GREY, lw=1.4)
        text = f"{copy / 1e12:.3g} TB/s and {matrix / 1e12:.3g} TFLOP/s, {', '.join(roofs[copy, matrix])}"
        lines.append(Line2D([], [], color=GREY, ls=dash, label=plain(f"ceilings: {text}")))
    for point in placed:
        _mark(axes, point, point.flops / point.bytes_min, point.flops / point.time_s / 1e12, styles)
    bottom = min([point.flops / point.time_s / 1e12 for point in placed], default=1e-3)
    axes.set_ylim(bottom / 3, max(point.flops_per_s for point in found) / 1e12 * 4)
    axes.set(xlabel="FLOP / byte (the least bytes)", ylabel="TFLOP/s", title="roofline; numbers as below")
    axes.grid(True, which="major", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)
    axes.legend(handles=[*marks(found, styles), *lines], loc="upper left", fontsize=8.5, framealpha=0.95)
    _number(axes, placed, labels)


def _draw_ratio(axes: Axes, found: Sequence[Point], labels: Sequence[str], styles: dict[str, tuple[str, str]]) -> None:
    """Time over floor, with the numbers by which the roofline names its kernels."""
    over_floor(axes, found, labels, styles, ink=GREY)
    axes.set_title("time over floor")
    numbered = [plain(f"{label}  ({number})") for number, label in enumerate(labels, 1)]
    axes.set_yticks(range(len(labels)), numbered, fontsize=8)
    axes.grid(True, axis="both", color="#dddddd", lw=0.6)
    axes.set_axisbelow(True)


def over_floor(
    axes: Axes, found: Sequence[Point], labels: Sequence[str], styles: dict[str, tuple[str, str]], *, ink: str
) -> None:
    """Draw time over floor, one line a kernel, and the floor.

    Args:
        labels: kernels, from the top down; each has a point.
        styles: colour and marker by backend.
        ink: colour of the floor.
    """
    places = {label: place for place, label in enumerate(labels)}
    shown_points = [point for point in found if point.label in places]
    for point in shown_points:
        _mark(axes, point, point.over_floor, places[point.label], styles)
    ratios = [point.over_floor for point in shown_points]
    left, right = min(1.0, *ratios) / 1.15, max(1.5, *ratios) * 1.15
    axes.axvline(1, color=ink, lw=1.4)
    axes.set(xscale="log", xlim=(left, right), ylim=(len(labels) - 0.4, -0.6))
    axes.set_xlabel("time / floor (1: as fast as memory or matrix units allow)")
    shown = [tick for tick in TICKS if left <= tick <= right]
    if right > 20:  # there is no room for those between
        shown = [tick for tick in shown if tick not in (1.5, 3, 7)]
    axes.xaxis.set_major_locator(FixedLocator(shown))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_yticks(range(len(labels)), [plain(label) for label in labels])


def marks(found: Sequence[Point], styles: dict[str, tuple[str, str]], ink: str = GREY) -> list[Line2D]:
    """Return what a legend says of the marks of these points."""
    handles = [Line2D([], [], color=c, marker=m, ls="", label=plain(backend)) for backend, (c, m) in styles.items()]
    for cold, text in ((True, "filled: L2 cold"), (False, "hollow: L2 warm")):
        if any(point.cold == cold for point in found):
            handles.append(Line2D([], [], color=ink, marker="o", mfc=ink if cold else "none", ls="", label=text))
    return handles


def _mark(axes: Axes, point: Point, x: float, y: float, styles: dict[str, tuple[str, str]]) -> None:
    color, marker = styles[point.backend]
    face = color if point.cold else "none"
    axes.plot([x], [y], marker=marker, color=color, mfc=face, ms=6, mew=1.2, ls="", clip_on=False, zorder=3)


def _number(axes: Axes, placed: Sequence[Point], labels: Sequence[str]) -> None:
    """Numbers over the points of each kernel, clear of all others; kernels of about one intensity share a text."""
    axes.figure.canvas.draw()  # positions in pixels are known only then
    columns: list[tuple[list[float], list[float], set[int]]] = []
    for point in sorted(placed, key=lambda point: point.flops / point.bytes_min):
        x, y = axes.transData.transform((point.flops / point.bytes_min, point.flops / point.time_s / 1e12))
        if not columns or x - columns[-1][0][-1] > COLUMN_PX:
            columns.append(([], [], set()))
        xs, ys, numbers = columns[-1]
        xs.append(x)
        ys.append(y)
        numbers.add(labels.index(point.label) + 1)
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for xs, ys, _ in columns for x, y in zip(xs, ys, strict=True)]
    for xs, ys, numbers in columns:
        x, y = axes.transData.inverted().transform((sum(xs) / len(xs), max(ys)))
        text = axes.annotate(
            _ranges(numbers), (x, y), xytext=(0, 6), textcoords="offset points", ha="center", va="bottom",
            fontsize=7.5, color="#222222", zorder=4, bbox={"fc": "white", "ec": "none", "alpha": 0.8, "pad": 0.6},
        )  # fmt: skip
        if text.get_window_extent().x0 < axes.bbox.x0:
            text.set_horizontalalignment("left")
        for lift in range(6, 120, 4):
            text.set_position((0, lift))
            if not any(text.get_window_extent().overlaps(other) for other in taken):
                break
        taken.append(text.get_window_extent())


def _ranges(numbers: Iterable[int]) -> str:
    """1, 2, 3, 7 as "1-3, 7"."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][-1] + 1:
            spans[-1].append(number)
        else:
            spans.append([number])
    return ", ".join(f"{span[0]}-{span[-1]}" if len(span) > 1 else str(span[0]) for span in spans)


def gpu_of(rows: Sequence[Row], run_id: str) -> str:
    """The GPU model in a run's row of `system`.

    Raises:
        ConfigError: there is none, so nobody could say what was measured.
    """
    models = [row.get("gpu_model") for row in rows if row.get("run_id") == run_id]
    model: Any = next(filter(None, models), None)
    if model is None:
        raise ConfigError(f"run={run_id}: no GPU model in its system table; choose a run of bench.micro on a GPU")
    return str(model)
