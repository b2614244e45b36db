"""Top-1 over the run's clock: what it learned, how fast, and when it reached its target."""

import itertools
import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes

from results.plot.picture import (
    GREY,
    PALE,
    STYLES,
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
from results.store.schema import Row
from results.words import ConfigError

BODY_IN = 3.3


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What is drawn.

    Attributes:
        run_id: of the run.
        caption: the words around it.
        attempts: by restart the points (seconds on the clock, top-1 as a fraction, epoch), in the clock's order.
        training: the same of the training images, as they were trained on; without the attempts that do not know it.
        target: top-1, or None.
        reached: where the target was met (seconds, top-1, epoch), or None.
    """

    run_id: str
    caption: Caption
    attempts: dict[int, list[tuple[float, float, int]]]
    training: dict[int, list[tuple[float, float, int]]]
    target: float | None
    reached: tuple[float, float, int] | None

    @property
    def points(self) -> list[tuple[float, float, int]]:
        return sorted(point for points in self.attempts.values() for point in points)


def read(rows: RunRows) -> Curve | None:
    """Read a run's accuracy, that of the runs that it went on from included; None where it has no epochs.

    Raises:
        ConfigError: it has epochs, and none was evaluated.
    """
    epochs = rows.rows("epochs")
    if not epochs:
        return None
    known = [*rows.before("epochs"), *epochs]
    attempts, training = _points(known, "top1"), _points(known, "train_top1")
    about = rows.about
    if not attempts:
        why = (about.get("null_reasons") or {}).get("final_top1") or "no epoch has a top-1 with its time"
        raise ConfigError(f"run={rows.run_id}: {why}")
    caption = Caption(
        title=f"{net_of(about)} on {images_of(about)}: top-1 over the run's clock",
        who=who_of(about, rows.systems, rows.run_id),
        notes=_notes(rows, attempts, training),
    )
    target = about.get("target_top1")
    return Curve(
        run_id=rows.run_id, caption=caption, attempts=attempts, training=training, target=target,
        reached=_reached(rows.attempts, attempts, target),
    )  # fmt: skip


def _points(epochs: list[Row], column: str) -> dict[int, list[tuple[float, float, int]]]:
    """What a column of epochs has, as `Curve.attempts`."""
    found: dict[int, list[tuple[float, float, int]]] = {}
    for row in epochs:
        if row.get("epoch") is not None and _finite(row.get(column)) and _finite(row.get("elapsed_s")):
            found.setdefault(row["restart"] or 0, []).append((row["elapsed_s"], row[column], row["epoch"]))
    return {restart: sorted(points) for restart, points in sorted(found.items())}


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _reached(
    runs: list[Row], attempts: dict[int, list[tuple[float, float, int]]], target: float | None
) -> tuple[float, float, int] | None:
    """What the rows of `runs` say of the target: each attempt knows what those before it came to."""
    row = next((row for row in runs if row.get("tta_s") is not None and row.get("epochs_to_target") is not None), None)
    if row is None or target is None:
        return None
    points = [point for points in attempts.values() for point in points]
    # An epoch that was trained once more after a restart stands twice: its time tells which one is meant. Where its
    # row is lost, no more is known than that the target was met.
    same = [point for point in points if point[2] == row["epochs_to_target"] and math.isclose(point[0], row["tta_s"])]
    return row["tta_s"], same[0][1] if same else target, row["epochs_to_target"]


def _notes(
    rows: RunRows,
    attempts: dict[int, list[tuple[float, float, int]]],
    training: dict[int, list[tuple[float, float, int]]],
) -> list[str]:
    """What lies before the clock, what the clock has in it, and what came between."""
    runs = [*rows.before("runs"), *rows.attempts]
    # Only the first attempt starts up before the clock; what later ones take is downtime.
    first = next((row for row in runs if not row["restart_count"]), {})
    start, stop = first.get("init_start"), first.get("init_stop")
    init = "start-up of unknown length" if start is None or stop is None else (
        f"{(stop - start).total_seconds():.1f} s of start-up (imports, building and compiling the network)"
    )  # fmt: skip
    prepare = first.get("prepare_s")
    prepared = "an unknown time" if not _finite(prepare) else f"{prepare:.1f} s"
    notes = [
        "Each point is the evaluation after an epoch, on all test images. The clock starts before the first training "
        "data and never pauses: evaluation is inside.",
        f"Before the clock: {init} and {prepared} of writing the dataset once.",
    ]
    if training:
        notes.append(
            "Dashed: the epoch's training images as they were trained on (augmented, in training mode, each at the "
            "weights of its step); one minus it is the training error of the paper's figures."
        )
    known = {row["restart_count"] or 0 for row in runs}
    held = sorted({*known, *attempts})
    # Gaps as spans: a damaged number of an attempt must not become as many words.
    gaps = [(low + 1, high - 1) for low, high in itertools.pairwise([-1, *held]) if high - low > 1]
    if lost := ", ".join(f"{low} to {high}" if high > low else str(low) for low, high in gaps):
        notes.append(f"No rows here of the run's attempt {lost}; 0 is the first.")
    if max([*known, *attempts]) > 0:
        downtime_s = rows.about.get("downtime_s")
        away = "an unknown time" if not _finite(downtime_s) else f"{downtime_s:.1f} s"
        notes.append(f"The run was restarted: {away} of the clock went by between a checkpoint and the next start.")
    if rows.lineage:
        chain = ", ".join(f"{run_id} (to epoch {epoch})" for run_id, _, epoch in rows.lineage)
        notes.append(f"It went on from {chain}.")
    if (status := rows.about.get("status")) != "completed":
        kind = rows.about.get("failure_kind")
        notes.append(f"The run's status is {status or 'unknown'}{f' ({kind})' if kind else ''}.")
    return notes


def draw(curve: Curve, folder: Path) -> list[Path]:
    """Write the picture as SVG and PNG.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    with settings(curve.run_id):
        figure, grid = framed(curve.caption, BODY_IN, [1.0], left_in=0.62, right_in=0.2, foot_axis_in=0.42)
        axes = figure.add_subplot(grid[0])
        end_s = max(point[0] for point in curve.points)
        axes.set(xlim=(0, (end_s or 1.0) * 1.04), ylim=(0, 1.0))
        of = "images" if curve.training else "test images"
        axes.set(xlabel="seconds on the run's clock", ylabel=f"top-1 (fraction of {of})")
        axes.grid(True, color=PALE, lw=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        styles = [style for style in STYLES if style[0] != VERMILION]  # which is the target's
        for index, (restart, points) in enumerate(curve.attempts.items()):
            color, marker = styles[index % len(styles)]
            label = "first attempt" if restart == 0 else f"restart {restart}"
            if curve.training:
                label = "test images" if len(curve.attempts) == 1 else f"{label}, test images"
            times, values, _ = zip(*points, strict=True)
            axes.plot(times, values, color=color, marker=marker, ms=4, lw=1.6, label=label, gid=f"attempt-{restart}")
            if restart in curve.training:
                times, values, _ = zip(*curve.training[restart], strict=True)
                label = "training images" if restart == min(curve.training) else "_"  # once in the legend
                gid = f"training-{restart}"
                axes.plot(times, values, color=color, marker=marker, ms=2, lw=1.2, ls="--", label=label, gid=gid)
        if len(curve.attempts) > 1 or curve.training:
            axes.legend(loc="lower right", bbox_to_anchor=(1, 0.12), frameon=False)  # above the words on the target
        _mark_target(axes, curve, end_s)
        _mark_last(axes, curve)
        return save(figure, folder, f"accuracy-{curve.run_id}")


def _mark_target(axes: Axes, curve: Curve, end_s: float) -> None:
    """The target as a line, and where it was met with its seconds."""
    if curve.target is None:
        return
    if curve.reached is None:
        best = max(value for _, value, _ in curve.points)
        said = f"target {curve.target:g}: not reached (best {best:.4f})"
    else:
        said = f"target {curve.target:g}"
        seconds, value, epoch = curve.reached
        axes.plot([seconds, seconds], [0, value], color=VERMILION, lw=1.0, ls=":")
        axes.plot([seconds], [value], marker="*", ms=13, color=VERMILION, ls="", zorder=4, clip_on=False, gid="reached")
        late = seconds > end_s / 2
        axes.annotate(
            plain(f"target reached after {seconds:,.1f} s (epoch {epoch})"),
            (seconds, 0.06), xytext=(-6 if late else 6, 0), textcoords="offset points",
            ha="right" if late else "left", color=VERMILION, weight="bold",
        )  # fmt: skip
    target_line(axes, curve.target, said, above=curve.target < 0.92)


def target_line(
    axes: Axes, height: float, said: str, *, above: bool = True, at_end: bool = False, color: str = VERMILION
) -> None:
    """Draw a target across a picture, and say at its left, or at its end, what it is."""
    axes.axhline(height, color=color, lw=1.2, ls="--", gid="target")
    axes.annotate(
        plain(said), (int(at_end), height), xycoords=("axes fraction", "data"),
        xytext=(-5 if at_end else 5, 3 if above else -4), textcoords="offset points", ha="right" if at_end else "left",
        va="bottom" if above else "top", color=color,
    )  # fmt: skip


def _mark_last(axes: Axes, curve: Curve) -> None:
    seconds, value, epoch = curve.points[-1]
    # Above, where a rising curve leaves room, unless the target's line or the title is there.
    below = value > 0.93 or (curve.target is not None and 0 < curve.target - value < 0.12)
    axes.annotate(
        plain(f"epoch {epoch}: {value:.4f} after {seconds:,.1f} s"),
        (seconds, value), xytext=(0, -24 if below else 9), textcoords="offset points", ha="right", color=GREY,
    )  # fmt: skip
