"""How the state of a sweep is shown: a table, lines of what changed, and exact values for other programs."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from rich.console import RenderableType
from rich.text import Text

from bench.training.progress import clock
from launch.sweep.status import CellState, SweepState
from results.listing import formats
from results.listing.terminal import STYLES, Column, Notes, rate_text, show, table_of
from results.words import counted, printable

__all__ = ["NAMES", "changes", "line", "records", "render", "summary", "write"]

COLORS = {**STYLES, "cancelled": "yellow", "running": "cyan", "unknown": "magenta", "not submitted": "magenta"}
# What csv and json have of a cell, in this order.
NAMES = (
    "sweep_id", "label", "name", "config_hash", "seed", "nodes", "ranks_per_node", "state", "detail", "job_id",
    "slurm_state", "nodelist", "run_id", "submissions", "submitted", "epoch", "epochs", "step", "steps", "images_per_s",
    "top1", "left_s", "limit_left", "failure_kind", "failure_message", "log",
)  # fmt: skip
# In which order those are shown for which a terminal has no line for each.
FIRST = ("running", "failed", "killed", "unknown", "cancelled", "not submitted", "pending", "completed")


def summary(found: SweepState) -> str:
    """Return what a sweep is and how far it has come, in one line."""
    counts = ", ".join(f"{count} {state}" for state, count in found.counts().items())
    return f"{found.manifest.sweep_id}: {counted(len(found.cells), 'cell')}: {counts}"


def heads(found: SweepState) -> list[str]:
    """What stands above the table."""
    manifest = found.manifest
    code = f"commit {manifest.commit[:10]}" if manifest.commit else "code of unknown commit"
    code += " with uncommitted changes" if manifest.dirty else ""
    lines = [
        printable(summary(found)),
        printable(f"submitted {manifest.created[:19]} UTC to cluster={manifest.cluster}, {code}"),
    ]
    if manifest.synthetic:
        lines.append("SYNTHETIC images, since there are no others: throughput alone")
    return lines


def notes(found: SweepState) -> list[str]:
    """What stands below the table: why cells did not complete, and what all this is known from."""
    lines = []
    for cell in found.cells:
        if cell.kind or cell.message:
            why = f"{cell.state} ({cell.kind}): {cell.message}" if cell.kind else f"{cell.state}: {cell.message}"
            lines.append(printable(f"{cell.cell.label}: {why}"))
        elif cell.state == "unknown":
            lines.append(printable(f"{cell.cell.label}: unknown: {cell.detail}"))
    lines.append(f"from {', '.join(found.sources)}")
    return [*lines, *map(printable, found.notices)]


def render(found: SweepState, rows: int | None = None) -> list[RenderableType]:
    """Return the table of a sweep with what stands around it, one under the other.

    Args:
        rows: of the table at most; None for all.
    """
    cells = list(found.cells)
    if rows is not None and len(cells) > rows:
        order = sorted(range(len(cells)), key=lambda at: (FIRST.index(cells[at].state), at))
        cells = [cells[at] for at in sorted(order[: max(1, rows)])]
    left = len(found.cells) - len(cells)
    below = notes(found) if rows is None else notes(found)[-max(1, rows // 2) :]
    more = [f"{left} more: python launch/slurm.py status shows all"] if left else []
    above = Text("\n".join(heads(found)))
    return [above, Text(""), _table(cells), Text("\n".join([*more, *below]), style="dim")]


def _table(cells: Sequence[CellState]) -> RenderableType:
    columns = [
        Column("cell", [Text(printable(cell.cell.label)) for cell in cells], wraps=True),
        Column("job", [Text(cell.submission.job_id if cell.submission else "-") for cell in cells]),
        Column("state", [_state(cell) for cell in cells], wraps=True),
        Column("node", [Text(printable(cell.nodes) or "-") for cell in cells]),
        Column("epoch", [Text(_of(cell.progress.epoch, cell.progress.epochs)) for cell in cells], right=True),
        Column("step", [Text(_of(cell.progress.step, cell.progress.steps)) for cell in cells], right=True),
        Column("images/s", [Text(_number(cell.progress.images_per_s, rate_text)) for cell in cells], right=True),
        Column("top-1", [Text(_number(cell.progress.top1, "{:.4f}".format)) for cell in cells], right=True),
        Column("left\n(of limit)", [Text(_left(cell)) for cell in cells], right=True),
        Column("failure", [Text(cell.kind or "-") for cell in cells]),
    ]
    return table_of(columns, [], Notes())


def _state(cell: CellState) -> Text:
    text = Text(cell.state, style=COLORS.get(cell.state, ""))
    if cell.detail and cell.state in ("pending", "running"):
        text.append(f" ({printable(cell.detail)})", style="dim")
    return text


def _left(cell: CellState) -> str:
    """The time that the run will take, and what there is until its job's limit."""
    if cell.state != "running":
        return "-"
    left = "-" if cell.progress.left_s is None else clock(cell.progress.left_s)
    return f"{left} ({cell.job.left})" if cell.job and cell.job.left else left


def _of(done: int | None, planned: int | None) -> str:
    return "-" if done is None else f"{done}/{planned}" if planned is not None else str(done)


def _number(value: float | None, shown: Any) -> str:
    return "-" if value is None else shown(value)


def line(cell: CellState) -> str:
    """Return the state of a cell in one line."""
    said = f"{cell.cell.label}: {cell.state}"
    if cell.state == "running":
        said += f" on {cell.nodes}" if cell.nodes else ""
    elif cell.state == "completed":
        rate, top1 = cell.progress.images_per_s, cell.progress.top1
        said += f", {rate_text(rate)} images/s" if rate is not None else ""
        said += f", top-1 {top1:.4f}" if top1 is not None else ""
    elif cell.kind:
        said += f" ({cell.kind}): {cell.message}"
    elif cell.detail:
        said += f" ({cell.detail})"
    return printable(said)


def changes(before: SweepState | None, now: SweepState) -> list[str]:
    """Return a line for each cell whose state, or reason to wait, is another than it was; all at the beginning."""
    old = {(cell.cell.config_hash, cell.cell.label): cell for cell in before.cells} if before else {}
    found = []
    for cell in now.cells:
        was = old.get((cell.cell.config_hash, cell.cell.label))
        same = was and (was.state, was.nodes, was.kind) == (cell.state, cell.nodes, cell.kind)
        if not same:
            found.append(line(cell))
    return [*found, *(printable(text) for text in now.notices if before is None or text not in before.notices)]


def records(found: SweepState) -> list[dict[str, Any]]:
    """Return the cells with exact values, each under `NAMES`; None is what is not known."""
    rows = []
    for cell in found.cells:
        one, job, progress = cell.submission, cell.job, cell.progress
        values = {
            "sweep_id": found.manifest.sweep_id,
            **{name: getattr(cell.cell, name) for name in NAMES[1:7]},
            "state": cell.state,
            "detail": cell.detail or None,
            "job_id": one.job_id if one else None,
            "slurm_state": job.state if job and job.known else None,
            "nodelist": cell.nodes or None,
            "run_id": one.run_id if one else None,
            "submissions": len(cell.cell.submissions),
            "submitted": one.submitted if one else None,
            **{name: getattr(progress, name) for name in NAMES[15:22]},
            "limit_left": (job.left or None) if job and cell.state == "running" else None,
            "failure_kind": cell.kind or None,
            "failure_message": cell.message or None,
            "log": cell.log or None,
        }
        rows.append({name: values[name] for name in NAMES})
    return rows


def write(found: SweepState, form: str, stream: TextIO | None = None) -> None:
    """Print a sweep as a table, or its cells as csv or json with the notes on stderr."""
    stream = stream or sys.stdout
    if form == "table":
        show(*render(found), stream=stream)
        return
    if form == "json":
        formats.write_json(records(found), stream)
    else:
        formats.write_csv(records(found), NAMES, stream)
    stream.flush()
    for text in found.notices:
        print(printable(text), file=sys.stderr)


def stamp(text: str) -> str:
    """Return a line with the time before it, in this machine's time zone."""
    return f"{datetime.now(UTC).astimezone():%H:%M:%S}  {text}"
