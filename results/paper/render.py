"""A table or figure of the paper as text for people, and as JSON and CSV with every run behind each number."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from results.history.render import new_table
from results.listing.terminal import short_ids
from results.paper.cells import Line, PaperTable
from results.paper.curves import Curve, PaperFigure
from results.paper.fill import FIVE
from results.paper.flow import KINDS, Flow, FlowFigure, Look, kind_text
from results.paper.layers import LayerFigure, One, images_text
from results.paper.measured import Group
from results.paper.render_rates import rate_records
from results.paper.responses import ResponseFigure, Responses
from results.paper.throughput import RateTable
from results.paper.words import (
    UNCHECKED,
    group_text,
    label_text,
    metric_text,
    percent,
    protocol_text,
    published_text,
    short,
    source_text,
)
from results.published.figure import ERRORS, READ, Published
from results.words import printable

__all__ = ["OTHER", "REDUCED", "csv_text", "figure_parts", "json_text", "layer_parts", "records", "table_parts"]

REDUCED = "reduced, not comparable"
BN = "running averages of batch normalization, exact ones where said"
OTHER = "another recipe, not the paper's"
SECTIONS = {"reduced": REDUCED, "other": OTHER, "paper": "another copy of the images"}
_NOT_OF_CODE = ("BN over ", "evaluated in ")  # beginnings of marks
Shown = PaperTable | RateTable | PaperFigure | ResponseFigure | FlowFigure


class _Missing:
    """Numbers what would fill missing cells, each command once, in the order in which they are met."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def cell(self, command: str) -> str:
        return f"missing [{self.numbers.setdefault(command, len(self.numbers) + 1)}]"

    def legend(self) -> list[RenderableType]:
        if not self.numbers:
            return []
        lines = [f"[{number}] {printable(command)}" for command, number in self.numbers.items()]
        return [Text("\nmissing, and what would fill it:", style="bold"), *map(Text, lines)]


def best_of_runs(line: Line) -> bool:
    """Whether a cell is shown as "best (mean ± deviation)": as the paper does, and from as many seeds."""
    one, group = line.published, line.group
    return one is not None and group is not None and one.mean is not None and len(group.values) >= FIVE


def table_parts(found: PaperTable) -> list[RenderableType]:
    """Return what is printed one under the other."""
    missing = _Missing()
    groups = [line.group for line in found.lines if line.group is not None]
    ids = short_ids(
        {"run_id": value.run_id} for group in [*groups, *found.reduced, *found.other] for value in group.values
    )
    shown: list[RenderableType] = [
        Text(found.title, style="bold"),
        Text(f"errors and mAP in %, of the last epoch; {BN}", style="dim"),
    ]
    shown.append(_lines(found.lines, missing, ids))
    shown += missing.legend()
    for heading, apart in ((REDUCED, found.reduced), (OTHER, found.other)):
        if apart:
            shown += [Text(f"\n{heading}", style="bold"), _apart(apart, ids)]
    shown += _marks([*groups, *found.reduced, *found.other])
    shown += [Text(f"note: {printable(note)}", style="yellow") for note in found.notes]
    sources = dict.fromkeys(one.source for line in found.lines if (one := line.published) is not None)
    shown.append(Text("\nsources: " + "; ".join(sources), style="dim"))
    if any(line.published is not None and line.published.read == "rec" for line in found.lines):
        shown.append(Text(READ["rec"], style="dim"))
    if any(line.published is not None and line.published.read == "unstated" for line in found.lines):
        shown.append(Text(f"{UNCHECKED.strip()} {READ['unstated']}", style="dim"))
    return shown


def _lines(lines: Sequence[Line], missing: _Missing, ids: Mapping[str, str]) -> Table:
    table = new_table("system", "metric", "published>", "source", "measured>", "n>", "protocol", "seeds", "runs")
    for column in table.columns[:2]:
        column.no_wrap = True
    for column in (table.columns[3], table.columns[6], table.columns[7]):  # a word stays whole
        column.min_width = 11
    for line in lines:
        one, group = line.published, line.group
        system = one.system if one is not None else group.label.system if group is not None else ""
        metric = metric_text(one) if one is not None else group.label.metric if group is not None else ""
        head = (
            Text(printable(system)),
            short(metric),
            published_text(one) if one else "-",
            source_text(one) if one else "-",
        )
        if group is None:
            assert one is not None
            table.add_row(*head, Text(missing.cell(line.fill)), "0", protocol_text(one), "", "")
            continue
        said = _measured(group, best=best_of_runs(line))
        measured = f"{said}, more {missing.cell(line.fill)}" if line.fill else said
        table.add_row(*head, Text(measured), *_who(group, ids))
    return table


def _measured(group: Group, *, best: bool) -> str:
    """A figure, with a star where its code has to be told of."""
    return group_text(group, best=best) + "*" * any(not mark.startswith(_NOT_OF_CODE) for mark in group.marks)


def _who(group: Group, ids: Mapping[str, str]) -> tuple[Any, ...]:
    label = Text(printable(label_text(group.label)))
    runs = " ".join(ids.get(value.run_id, value.run_id) for value in group.values)
    return (
        str(len(group.values)),
        label,
        Text(",".join(map(str, group.seeds)) or "-"),
        Text(printable(runs)),
    )


def _marks(groups: Sequence[Group]) -> list[RenderableType]:
    said = dict.fromkeys(
        f"{group.label.system}, {label_text(group.label)}: {'; '.join(group.marks)}" for group in groups if group.marks
    )
    return (
        [Text("\nof these runs (* where it concerns their code):"), *(Text(printable(one)) for one in said)]
        if said
        else []
    )


def _apart(groups: Iterable[Group], ids: Mapping[str, str]) -> Table:
    table = new_table("system", "metric", "why", "measured>", "n>", "protocol", "seeds", "runs")
    for group in groups:
        label = group.label
        measured = _measured(group, best=False)
        table.add_row(
            Text(printable(label.system)), short(label.metric), Text(printable(label.why)), measured, *_who(group, ids)
        )
    return table


def figure_parts(found: PaperFigure) -> list[RenderableType]:
    """Return a figure as text: where each curve ends, and which are missing."""
    missing, ids = _Missing(), short_ids({"run_id": curve.run_id} for curve in [*found.curves, *found.apart])
    table = new_table("net", "run", "seed>", "epochs>", "training error>", "test error>", "published", "marks")
    published = {one.net: one for one in found.ends}
    # A net may be in two panels.
    for net in dict.fromkeys(net for panel in found.panels for net in panel.nets):
        one = published.get(net)
        said = f"{published_text(one)}, {source_text(one)}" if one else "-"
        if net in found.missing:
            table.add_row(net.name, Text(missing.cell(found.missing[net])), "", "", "", "", said, "")
        for curve in (curve for curve in found.curves if curve.net == net):
            table.add_row(*_curve_cells(curve, ids), said, Text("; ".join(curve.marks)))
    shown: list[RenderableType] = [Text(found.title, style="bold"), Text("errors in %, last epoch", style="dim"), table]
    shown += [Text(found.unpublished)] if found.unpublished else []
    shown += missing.legend()
    if found.apart:
        apart = new_table("net", "run", "seed>", "epochs>", "training error>", "test error>", "why")
        for curve in found.apart:
            heading = SECTIONS[curve.stands.kind]
            why = ", ".join(filter(None, (heading, curve.stands.why, curve.stands.copy, *curve.marks)))
            apart.add_row(*_curve_cells(curve, ids), Text(printable(why)))
        shown += [Text("\napart", style="bold"), apart]
    return shown + [Text(f"note: {printable(note)}", style="yellow") for note in found.notes]


def _curve_cells(curve: Curve, ids: Mapping[str, str]) -> tuple[Any, ...]:
    last = curve.points[-1]
    errors = ("not recorded" if one is None else percent(one) for one in (last.train_error, last.test_error))
    seed = "-" if curve.seed is None else str(curve.seed)
    return (curve.net.name, Text(ids[curve.run_id]), seed, str(last.epoch), *errors)


Cells = Callable[[One, Mapping[str, str]], list[tuple[Any, ...]]]


def layer_parts(found: ResponseFigure | FlowFigure) -> list[RenderableType]:
    """Return a figure by layer as text: of each net the first layer, the last and more, and what is missing."""
    if isinstance(found, ResponseFigure):
        return _layer_parts(found, ("net", "run", "layers>", "mean>", "first>", "last>", "over"), _response_cells)
    heads = ("net", "run", "seed>", "epoch>", *map(kind_text, KINDS), "images>")
    told = (
        "of each convolution with its BN, in a batch of training images: first layer, last layer; the smallest, and "
        "where it is; epoch 0 is before training"
    )
    return _layer_parts(found, heads, _flow_cells, told)


def _layer_parts(
    found: LayerFigure[One], heads: Sequence[str], cells: Cells[One], told: str = ""
) -> list[RenderableType]:
    missing, ids = _Missing(), short_ids({"run_id": one.run_id} for one in [*found.shown, *found.apart])
    table = new_table(*heads, "marks")
    for net in found.nets:
        if net in found.missing:
            table.add_row(net.name, Text(missing.cell(found.missing[net])))
        for one in (one for one in found.shown if one.net == net):
            for row in cells(one, ids):
                table.add_row(*row, Text(printable("; ".join(one.marks))))
    shown: list[RenderableType] = [Text(found.title, style="bold"), *([Text(told, style="dim")] if told else []), table]
    shown += missing.legend()
    if found.apart:
        apart = new_table(*heads, "why")
        for one in found.apart:
            why = ", ".join(filter(None, (SECTIONS[one.stands.kind], one.stands.why, one.stands.copy, *one.marks)))
            for row in cells(one, ids):
                apart.add_row(*row, Text(printable(why)))
        shown += [Text("\napart", style="bold"), apart]
    return shown + [Text(f"note: {printable(note)}", style="yellow") for note in found.notes]


def _response_cells(one: Responses, ids: Mapping[str, str]) -> list[tuple[Any, ...]]:
    figures = (f"{value:.3f}" for value in (one.mean, one.layers[0][1], one.layers[-1][1]))
    return [(one.net.name, Text(ids[one.run_id]), str(len(one.layers)), *figures, images_text(one.images, "test"))]


def _flow_cells(one: Flow, ids: Mapping[str, str]) -> list[tuple[Any, ...]]:
    """A line before training, and one of the last epoch that was looked at."""
    who = (one.net.name, Text(ids[one.run_id]), "-" if one.seed is None else str(one.seed))
    rows: list[tuple[Any, ...]] = []
    if one.before is None:
        rows.append((*who, "0", Text(printable(one.no_start)), "", "", ""))
    for look in (one.before, one.after):
        if look is not None:
            norms = (Text(_norms_text(look, kind)) for kind in KINDS)
            rows.append((*who, str(look.epoch), *norms, "unknown" if look.images is None else f"{look.images:,}"))
    return rows


def _norms_text(look: Look, kind: str) -> str:
    norms, least = look.norms[kind], look.smallest(kind)
    first, last = ("not finite" if norm is None else f"{norm:.3g}" for norm in (norms[0], norms[-1]))
    lacking = sum(norm is None for norm in norms)
    said = f"{first}, {last}; " + ("none" if least is None else f"{least[0]:.3g} in {printable(least[1])}")
    return said + (f" ({lacking} of {len(norms)} not finite)" if lacking else "")


def _layer_records(found: ResponseFigure | FlowFigure) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for one in [*found.shown, *found.apart]:
        stands = one.stands
        same = {
            "section": "comparable" if stands.kind == "paper" else SECTIONS[stands.kind], "system": one.net.name,
            "run_id": one.run_id, "seed": one.seed, "copy": stands.copy, "why": stands.why, "marks": list(one.marks),
        }  # fmt: skip
        layers = _response_layers(one) if isinstance(one, Responses) else _flow_layers(one)
        rows += [{**same, **layer, "status": "measured", "fill": ""} for layer in layers]
    values = ("std",) if isinstance(found, ResponseFigure) else ("epoch", *KINDS)
    nothing = dict.fromkeys(("run_id", "seed", "images", "place", "layer", *values))
    for net, command in found.missing.items():
        rows.append({"section": "comparable", "system": net.name, "copy": "", "why": "", "marks": [], **nothing,
                     "status": "missing", "fill": command})  # fmt: skip
    return rows


def _response_layers(one: Responses) -> Iterable[dict[str, Any]]:
    for place, (layer, value) in enumerate(one.layers, 1):
        yield {"images": one.images, "place": place, "layer": layer, "std": value}


def _flow_layers(one: Flow) -> Iterable[dict[str, Any]]:
    """Of every epoch that was looked at."""
    for look in one.looks:
        for place, layer in enumerate(look.layers):
            norms = {kind: look.norms[kind][place] for kind in KINDS}
            yield {"epoch": look.epoch, "images": look.images, "place": place + 1, "layer": layer, **norms}


def records(found: Shown) -> list[dict[str, Any]]:
    """Return a table or figure as rows of plain values: errors as fractions, ids as lists."""
    if isinstance(found, ResponseFigure | FlowFigure):
        return _layer_records(found)
    if isinstance(found, PaperFigure):
        return _figure_records(found)
    if isinstance(found, RateTable):
        return rate_records(found)
    rows = [_record("comparable", line.published, line.group, line.fill) for line in found.lines]
    for section, groups in ((REDUCED, found.reduced), (OTHER, found.other)):
        rows += [_record(section, None, group, "") for group in groups]
    return rows


def _record(section: str, one: Published | None, group: Group | None, fill: str) -> dict[str, Any]:
    label = group.label if group is not None else None
    several = group is not None and group.label.metric in ERRORS
    return {
        "section": section,
        "system": one.system if one is not None else label.system if label is not None else None,
        "dataset": one.dataset if one is not None else label.dataset if label is not None else None,
        "metric": one.metric if one is not None else label.metric if label is not None else None,
        "published": one and one.value, "published_bound": one and one.bound, "published_mean": one and one.mean,
        "published_std": one and one.std, "published_runs": one and one.runs,
        "published_protocol": one and one.protocol, "published_bn": one and one.bn, "split": one and one.split,
        "published_epoch": one and one.epoch, "published_recipe": one and one.recipe, "place": one and one.place,
        "source": one and one.source, "read": one and one.read,
        "protocol": label and label.protocol, "bn": label and label.bn, "bn_images": label and label.bn_images,
        "copy": label and label.copy,
        "origin": label and label.origin, "why": label and label.why,
        "measured": group and group.mean.mean, "measured_best": group.best if several and group else None,
        "measured_std": group.mean.deviation if several and group else None,
        "n": len(group.values) if group else 0, "seeds": group.seeds if group else [],
        "run_ids": [value.run_id for value in group.values] if group else [], "marks": group.marks if group else [],
        "status": "missing" if group is None else "measured", "fill": fill,
    }  # fmt: skip


def _figure_records(found: PaperFigure) -> list[dict[str, Any]]:
    ends = {one.net: one for one in found.ends}
    rows: list[dict[str, Any]] = []
    for curve in [*found.curves, *found.apart]:
        stands = curve.stands
        section = {"paper": "comparable", "reduced": REDUCED, "other": OTHER}[stands.kind]
        end = ends.get(curve.net) if stands.kind == "paper" and not stands.copy else None
        rows += [
            {
                "section": section, "system": curve.net.name, "run_id": curve.run_id, "seed": curve.seed,
                "copy": stands.copy, "why": stands.why, "marks": list(curve.marks), "epoch": point.epoch,
                "step": point.step, "train_error": point.train_error, "test_error": point.test_error,
                "published": end and end.value, "published_bound": end and end.bound, "status": "measured", "fill": "",
            }
            for point in curve.points
        ]  # fmt: skip
    nothing = dict.fromkeys(("run_id", "seed", "epoch", "step", "train_error", "test_error"))
    for net, command in found.missing.items():
        end = ends.get(net)
        rows.append({
            "section": "comparable", "system": net.name, "copy": "", "why": "", "marks": [], **nothing,
            "published": end and end.value, "published_bound": end and end.bound, "status": "missing", "fill": command,
        })  # fmt: skip
    return rows


def json_text(found: Shown) -> str:
    """Return all of it as one JSON object."""
    value = {"shown": found.word, "title": found.title, "notes": found.notes, "rows": records(found)}
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)


def csv_text(found: Shown) -> str:
    """Return its rows as CSV: a list has blanks between its values, or semicolons where these have blanks."""
    rows = records(found)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _flat(name, value) for name, value in row.items()} for row in rows)
    return text.getvalue().rstrip("\n")


def _flat(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return ("; " if name == "marks" else " ").join(map(str, value))
    return value
