"""Pictures of a table and of a figure of the paper, as SVG and PNG."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from results.listing.terminal import short_ids
from results.paper.cells import PaperTable
from results.paper.curves import Curve, PaperFigure, groups_of
from results.paper.flow import Flow, FlowFigure, kind_text
from results.paper.layers import Examined, LayerFigure, One, images_text
from results.paper.measured import ENSEMBLE
from results.paper.picture_rates import draw_rates
from results.paper.render import BN, OTHER, REDUCED, SECTIONS, Shown, best_of_runs
from results.paper.responses import ResponseFigure, Responses
from results.paper.throughput import RateTable
from results.paper.words import (
    error_text,
    group_text,
    label_text,
    metric_text,
    protocol_text,
    published_text,
    source_text,
)
from results.plot.picture import GREY, PALE, STYLES, Caption, framed, plain, save, settings
from results.published.figure import Net, Published
from results.words import counted

__all__ = ["draw"]

ROW_IN = 0.185
TABLE_PT = 7.0
# Where the columns of a table begin, as shares of its width.
_COLUMNS = (
    ("system", 0.0),
    ("metric", 0.25),
    ("published", 0.34),
    ("source", 0.5),
    ("measured", 0.67),
    ("protocol", 0.83),
)
_SOURCE_ROOM = 0.17  # of the column of sources
PANEL_IN = 3.4


def draw(found: Shown, folder: Path) -> list[Path]:
    """Write a table or figure as pictures.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    if isinstance(found, PaperTable):
        return draw_table(found, folder)
    if isinstance(found, RateTable):
        return draw_rates(found, folder)
    return draw_figure(found, folder) if isinstance(found, PaperFigure) else draw_layers(found, folder)


def draw_table(found: PaperTable, folder: Path) -> list[Path]:
    """Write a table as a picture: published beside measured, and apart what is not comparable.

    Args:
        folder: is there.

    Returns:
        The files.
    """
    rows: list[tuple[str, ...]] = []
    for line in found.lines:
        one, group = line.published, line.group
        said = (
            (one.system, metric_text(one), published_text(one), source_text(one))
            if one is not None
            else (group.label.system if group else "", group.label.metric if group else "", "-", "-")
        )
        if group is None:
            rows.append((*said, "missing", protocol_text(one) if one else ""))
        else:
            n = len(group.values)
            rows.append((*said, f"{group_text(group, best=best_of_runs(line))}, n {n}", label_text(group.label)))
    for heading, groups in ((REDUCED, found.reduced), (OTHER, found.other)):
        if groups:
            rows.append((heading,))
        rows += [
            (group.label.system, group.label.metric, group.label.why, "",
             f"{group_text(group, best=False)}, n {len(group.values)}", label_text(group.label))
            for group in groups
        ]  # fmt: skip
    runs = {value.run_id for line in found.lines if line.group for value in line.group.values}
    missing = sum(line.group is None for line in found.lines)
    shown = [*(line.group for line in found.lines if line.group is not None), *found.reduced, *found.other]
    made_of = [group for group in shown if group.label.origin == ENSEMBLE]
    caption = Caption(
        title=found.title,
        who=f"published beside measured: {counted(len(runs), 'run')}, {counted(missing, 'cell')} missing",
        notes=[
            f"Errors and mAP in %, of the last epoch; {BN}. "
            f"python -m results.paper {found.word} prints the runs "
            "behind each figure, and what would fill a missing one.",
            *dict.fromkeys(
                f"{line.group.label.system}: {'; '.join(line.group.marks)}."
                for line in found.lines
                if line.group is not None and line.group.marks
            ),
            *(f"{group.label.system}, {group_text(group, best=False)}: {group.values[0].run_id}." for group in made_of),
        ],
    )  # fmt: skip
    with settings(found.word):
        figure, grid = framed(caption, ROW_IN * (len(rows) + 1), [1.0], left_in=0.12, right_in=0.1, foot_axis_in=0.05)
        axes = figure.add_subplot(grid[0])
        axes.set(xlim=(0, 1), ylim=(len(rows) + 1, 0))
        axes.axis("off")
        for name, left in _COLUMNS:
            axes.text(left, 0.5, name, fontsize=TABLE_PT, weight="bold", va="center")
        axes.axhline(1.0, color=GREY, lw=0.6)
        for index, row in enumerate(rows):
            for (name, left), (_, right), text in zip(_COLUMNS, (*_COLUMNS[1:], ("", 1.0)), row, strict=False):
                # A heading stands alone in its row, and has all of it; what keeps a figure apart has two columns, where
                # nothing is published.
                room = (
                    1.0 if len(row) == 1 else right - left + (_SOURCE_ROOM if name == "published" and not row[3] else 0)
                )
                axes.text(left, index + 1.5, plain(text), fontsize=_fitting(text, room), va="center",
                          weight="bold" if len(row) == 1 else "normal")  # fmt: skip
        return save(figure, folder, found.word.replace("=", "-"))


def _fitting(text: str, room: float) -> float:
    """Size at which a text stays in its column: at 7 points a character takes some 0.0077 of the width."""
    return TABLE_PT * min(1.0, room / max(0.0077 * len(text), 1e-9))


def draw_figure(found: PaperFigure, folder: Path) -> list[Path]:
    """Write a figure as pictures: one of the paper's recipe, and one more for each kind that is not comparable.

    Returns:
        The files.
    """
    files: list[Path] = []
    for said, curves in groups_of(found).items():
        stem = found.word.replace("=", "-") + (f"-{_slug(said)}" if said else "")
        files += _draw(found, said, curves, folder, stem)
    return files


def _slug(said: str) -> str:
    return {REDUCED: "reduced", OTHER: "another-recipe"}.get(said, "".join(c if c.isalnum() else "-" for c in said))


def _draw(found: PaperFigure, said: str, curves: Sequence[Curve], folder: Path, stem: str) -> list[Path]:
    drawn = {curve.net for curve in curves}
    ids = short_ids({"run_id": curve.run_id} for curve in [*found.curves, *found.apart])
    absent = [net.name for panel in found.panels for net in panel.nets if net not in drawn]
    notes = ["Test error solid, training error dashed (of the images as they were trained on, augmented)."]
    if not said and found.ends:
        read_off = ", those of plain nets read off the paper's figure" if any(one.bound for one in found.ends) else ""
        notes.append(f"Stars: published errors at the end{read_off}.")
    elif not said and found.unpublished:
        notes.append(f"{found.unpublished[0].upper()}{found.unpublished[1:]}.")
    notes += [f"Missing: {', '.join(dict.fromkeys(absent))}."] if absent else []
    lacking = [curve.run_id for curve in curves if all(point.train_error is None for point in curve.points)]
    notes += [f"Training error not recorded: {', '.join(ids[one] for one in lacking)}."] if lacking else []
    about = {
        ids[curve.run_id]: (*filter(None, (curve.stands.why, curve.stands.copy)), *curve.marks) for curve in curves
    }
    notes += [f"{run}: {', '.join(words)}." for run, words in about.items() if words]
    caption = Caption(
        title=found.title + (f" ({said})" if said else ""),
        who=f"{counted(len(curves), 'run')}: {', '.join(ids[curve.run_id] for curve in curves)}"
        if curves
        else "no run yet",
        notes=notes,
    )
    with settings(stem):
        figure, grid = framed(
            caption, PANEL_IN, [1.0], left_in=0.55, right_in=0.15, foot_axis_in=0.42, head_axis_in=0.2
        )
        # Of what stands apart, a panel that has nothing says nothing; in the paper's own its stars do.
        panels = [panel for panel in found.panels if not said or drawn & set(panel.nets)]
        inner = grid[0].subgridspec(1, len(panels), wspace=0.22)
        for place, panel in enumerate(panels):
            axes = figure.add_subplot(inner[place])
            ends = [] if said else [one for one in found.ends if one.net in panel.nets]
            _panel(axes, panel.nets, [curve for curve in curves if curve.net in panel.nets], ends, place)
            axes.set_title(panel.name, fontsize=9)
            if place == 0:
                axes.set_ylabel("error, %")
        return save(figure, folder, stem)


def _panel(axes: Axes, nets: Sequence[Net], curves: Sequence[Curve], ends: Sequence[Published], place: int) -> None:
    colors = {net: STYLES[index % len(STYLES)] for index, net in enumerate(nets)}
    stepped = all(point.step is not None for curve in curves for point in curve.points)
    last = 0
    for number, curve in enumerate(curves):
        color, _ = colors[curve.net]
        at = [point.step if stepped and point.step is not None else point.epoch for point in curve.points]
        last = max(last, *at)
        first = not any(one.net == curve.net for one in curves[:number])
        for kind, style in (("test", "-"), ("train", "--")):
            known = [(x, 100 * error) for x, point in zip(at, curve.points, strict=True)
                     if (error := getattr(point, f"{kind}_error")) is not None]  # fmt: skip
            if known:
                axes.plot(
                    *zip(*known, strict=True), color=color, lw=1.5 if kind == "test" else 1.0, ls=style,
                    marker="." if len(known) == 1 else None, gid=f"{kind}-{place}-{curve.net.name}-{curve.run_id}",
                    label=_label(curve.net, ends) if kind == "test" and first else None,
                )  # fmt: skip
    drawn = {curve.net for curve in curves}
    for one in ends:
        assert one.net is not None
        axes.plot(
            [last or 1], [100 * one.value], marker="*", ms=9, ls="", color=colors[one.net][0], clip_on=False, zorder=4,
            gid=f"published-{place}-{one.net.name}", label=None if one.net in drawn else _label(one.net, ends),
        )  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, (last or 1) * 1.02)
    axes.set_xlabel("optimizer steps" if stepped else "epochs")
    axes.grid(True, color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if curves or ends:
        axes.legend(loc="upper right", frameon=False, fontsize=7, handlelength=1.2)


def _label(net: Net, ends: Sequence[Published]) -> str:
    """A net with its published error, such as "plain-20, published about 9.50"."""
    one = next((one for one in ends if one.net == net), None)
    return net.name if one is None else f"{net.name}, published {error_text(one)}"


def draw_layers(found: ResponseFigure | FlowFigure, folder: Path) -> list[Path]:
    """Write a figure by layer as pictures, one more for each kind that is not comparable.

    Returns:
        The files.
    """
    if isinstance(found, ResponseFigure):
        return [file for one in _apart(found) for file in _draw_responses(found, *one, folder)]
    return [file for one in _apart(found) for file in _draw_flow(found, *one, folder)]


def _apart(found: LayerFigure[One]) -> list[tuple[str, list[One]]]:
    """What one picture may have together, with what is said of it; "" for the paper's own."""
    groups: dict[str, list[One]] = {"": list(found.shown)}
    for one in found.apart:
        groups.setdefault(one.stands.copy if one.stands.kind == "paper" else SECTIONS[one.stands.kind], []).append(one)
    return list(groups.items())


def _layer_caption(
    found: LayerFigure[One], said: str, group: Sequence[One], what: str, about: Callable[[One], str]
) -> Caption:
    ids = short_ids({"run_id": one.run_id} for one in [*found.shown, *found.apart])
    absent = [net.name for net in found.nets if all(one.net != net for one in group)]
    notes = [what]
    notes += [
        f"{one.net.name}, {ids[one.run_id]}: {about(one)}"
        + "".join(f"; {mark}" for mark in (*filter(None, (one.stands.why, one.stands.copy)), *one.marks))
        + "."
        for one in group
    ]
    notes += [f"Missing: {', '.join(absent)}."] if absent else []
    who = f"{counted(len(group), 'net')}: {', '.join(ids[one.run_id] for one in group)}" if group else "no net yet"
    return Caption(title=found.title + (f" ({said})" if said else ""), who=who, notes=notes)


def _layer_line(axes: Axes, nets: Sequence[Net], one: Examined, values: Sequence[float], gid: str) -> None:
    """Of one net, by layer; a plain one dashed."""
    axes.plot(
        range(1, len(values) + 1), values, color=STYLES[nets.index(one.net) % len(STYLES)][0], lw=1.3,
        label=one.net.name, ls="--" if one.net.shortcut == "none" else "-", gid=f"{gid}-{one.net.name}-{one.run_id}",
    )  # fmt: skip


def _layer_axes(axes: Axes) -> None:
    axes.grid(True, color=PALE, lw=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _stem(found: LayerFigure[One], said: str) -> str:
    return found.word.replace("=", "-") + (f"-{_slug(said)}" if said else "")


def _draw_responses(found: ResponseFigure, said: str, group: Sequence[Responses], folder: Path) -> list[Path]:
    what = "Of each 3x3 layer of a block the standard deviation after BN, before ReLU and addition."
    caption = _layer_caption(found, said, group, what, lambda one: images_text(one.images, "test"))
    with settings(stem := _stem(found, said)):
        figure, grid = framed(caption, PANEL_IN, [1.0], left_in=0.7, right_in=0.15, foot_axis_in=0.42, head_axis_in=0.2)
        inner = grid[0].subgridspec(1, 2, wspace=0.18)
        for place, label in enumerate(("layer, from the first to the last", "layer, from the largest response down")):
            axes = figure.add_subplot(inner[place])
            for one in group:
                values = [value for _, value in one.layers]
                values = sorted(values, reverse=True) if place else values
                _layer_line(axes, found.nets, one, values, f"std-{place}")
            axes.set(xlabel=label, ylim=(0, None), ylabel="" if place else "standard deviation")
            _layer_axes(axes)
            if group and place:
                axes.legend(loc="upper right", frameon=False, fontsize=7)
        return save(figure, folder, stem)


def _draw_flow(found: FlowFigure, said: str, group: Sequence[Flow], folder: Path) -> list[Path]:
    what = "Of each convolution with its BN, in a batch; plain nets dashed. A gap: zero, or not finite."
    caption = _layer_caption(found, said, group, what, _looked_at)
    with settings(stem := _stem(found, said)):
        figure, grid = framed(
            caption, 1.5 * PANEL_IN, [1.0], left_in=0.7, right_in=0.15, foot_axis_in=0.42, head_axis_in=0.2
        )
        inner = grid[0].subgridspec(2, 2, wspace=0.12, hspace=0.16)
        for row, kind in enumerate(("output_gradient", "weight_gradient")):
            first: Axes | None = None
            for column, when in enumerate(("before", "after")):
                axes = figure.add_subplot(inner[row, column], sharey=first)
                first = first or axes
                axes.set_yscale("log", nonpositive="mask")
                for one in group:
                    if (look := one.before if when == "before" else one.after) is not None:
                        values = [math.nan if norm is None else norm for norm in look.norms[kind]]
                        _layer_line(axes, found.nets, one, values, f"{kind}-{when}")
                axes.set(ylabel="" if column else f"norm, {kind_text(kind)}", xlabel="layer" if row else "")
                axes.set_title("" if row else f"{when} training", fontsize=9)
                _layer_axes(axes)
                if axes.lines and not row:
                    axes.legend(loc="best", frameon=False, fontsize=7, ncols=2)
        return save(figure, folder, stem)


def _looked_at(one: Flow) -> str:
    """What a picture shows of a net: after which epoch, and over which images."""
    last = one.looks[-1]
    after = f"after epoch {last.epoch}" if last.epoch else "before training alone"
    return "; ".join(filter(None, (after, one.no_start, images_text(last.images, "train"))))
