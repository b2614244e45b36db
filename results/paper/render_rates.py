"""Training rates as text for people, and as rows of plain values."""

from typing import Any

from rich.console import RenderableType
from rich.text import Text

from results.history.render import new_table
from results.listing.terminal import short_ids
from results.paper.throughput import Measured, RateTable
from results.published.figure import READ
from results.words import counted, printable

__all__ = ["rate_parts", "rate_records"]


def rate_parts(found: RateTable) -> list[RenderableType]:
    """Return what is printed one under the other."""
    every = [*found.apart, *(one for _, _, own in found.gpus.values() for one in own)]
    ids = short_ids({"run_id": run_id} for one in every for run_id in one.run_ids)
    table = new_table("who", "GPU", "GPUs>", "images/s and GPU>", "minutes to top-1>", "precision", "source, or runs")
    for name, (rates, times, own) in found.gpus.items():
        for rate in rates:
            gpus = "-" if rate.gpus is None else str(rate.gpus)
            table.add_row(rate.who, name, gpus, f"{rate.images_per_s:,.0f}", "-", rate.precision, rate.source)
        for time in times:
            minutes = f"{time.minutes:g} to {100 * time.top1:g}%"
            table.add_row(time.who, name, str(time.gpus), "-", minutes, "-", time.source)
        for one in own:
            table.add_row(*_cells(one, ids))
        if name in found.missing:
            number = list(found.missing).index(name) + 1
            table.add_row("measured here", name, "", Text(f"missing [{number}]"), "", "", "")
    shown: list[RenderableType] = [
        Text(found.title, style="bold"),
        Text("whole training, images read and decoded; medians of what was measured", style="dim"),
        table,
    ]
    if found.missing:
        shown.append(Text("\nmissing, and what would fill it:", style="bold"))
        shown += [Text(f"[{number}] {command}") for number, command in enumerate(found.missing.values(), 1)]
    if found.apart:
        apart = new_table("measured", "GPU", "GPUs>", "images/s and GPU>", "minutes to top-1>", "precision", "runs")
        for one in found.apart:
            apart.add_row(*_cells(one, ids))
        shown += [Text("\nnot comparable with published training, or of other GPUs", style="bold"), apart]
    shown += [Text(f"note: {printable(note)}", style="yellow") for note in found.notes]
    reads = dict.fromkeys(rate.read for rates, _, _ in found.gpus.values() for rate in rates)
    reads |= dict.fromkeys(time.read for _, times, _ in found.gpus.values() for time in times)
    return [*shown, *(Text(f"\npublished figures: {READ[read]}", style="dim") for read in reads)]


def _cells(one: Measured, ids: dict[str, str]) -> tuple[Any, ...]:
    minutes = "-" if one.minutes is None else f"{one.minutes:.1f}"
    minutes += "" if one.top1 is None else f" to {100 * one.top1:g}%"
    runs = " ".join(ids[run_id] for run_id in one.run_ids)
    marks = f" ({'; '.join(one.marks)})" if one.marks else ""
    return (
        Text(printable(f"{one.setting}: {one.what}")), Text(printable(one.gpu)), str(one.gpus),
        f"{one.images_per_s:,.0f}", minutes, one.precision,
        Text(printable(f"{counted(len(one.run_ids), 'run')}: {runs}{marks}")),
    )  # fmt: skip


def rate_records(found: RateTable) -> list[dict[str, Any]]:
    """Return the table as rows of plain values: minutes as numbers, top-1 as a fraction, ids as lists."""
    empty = dict.fromkeys(
        ("gpu", "gpus", "images_per_s", "minutes", "top1", "precision", "kernels", "batch", "loader", "engine",
         "zero_stage", "recipe", "what", "source", "read")
    )  # fmt: skip
    rows: list[dict[str, Any]] = []

    def add(section: str, who: str, status: str, *, runs: Measured | None = None, fill: str = "", **known: Any) -> None:
        ids, marks = (list(runs.run_ids), list(runs.marks)) if runs else ([], [])
        rows.append(
            {"section": section, "who": who, **empty, **known, "run_ids": ids, "marks": marks, "status": status,
             "fill": fill}
        )  # fmt: skip

    def measured(section: str, one: Measured) -> None:
        names = (
            "gpu", "gpus", "images_per_s", "minutes", "top1", "precision", "kernels", "batch", "loader", "engine",
            "zero_stage", "recipe", "what",
        )  # fmt: skip
        add(section, "measured here", "measured", runs=one, **{name: getattr(one, name) for name in names})

    for name, (rates, times, own) in found.gpus.items():
        for rate in rates:
            add(
                "comparable", rate.who, "published", gpu=name, gpus=rate.gpus, images_per_s=rate.images_per_s,
                precision=rate.precision, what="training", source=rate.source, read=rate.read,
            )  # fmt: skip
        for time in times:
            add(
                "comparable", time.who, "published", gpu=name, gpus=time.gpus, minutes=time.minutes, top1=time.top1,
                what="training", source=time.source, read=time.read,
            )  # fmt: skip
        for one in own:
            measured("comparable", one)
        if name in found.missing:
            add("comparable", "measured here", "missing", gpu=name, what="training", fill=found.missing[name])
    for one in found.apart:
        measured("apart", one)
    return rows
