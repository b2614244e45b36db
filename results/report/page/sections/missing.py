"""What failed, what is missing, what still runs and what cannot be read, with commands that would mend it."""

import shlex
from collections import Counter

from results.check.runs import Run
from results.command_line import launch_command
from results.paper.measured import gone_on_from
from results.report.page.blocks import Column, Commands, Section, Table, Words
from results.report.page.evidence import Evidence, groups_of
from results.report.page.sections.sweeps import so_far
from results.report.page.sections.verdict import not_measured
from results.store.schema import FAILURE_KINDS
from results.words import counted, printable

__all__ = ["section"]

MOST_ROWS = 40
MOST_COMMANDS = 24
MOST_CHARS = 300  # of a message


def section(found: Evidence) -> Section:
    """List what has no figure and why."""
    made = Section("missing", "Failed and missing")
    gone_on = gone_on_from(run.row for run in found.runs)  # another run is their end
    bad = [run for run in reversed(found.runs) if not run.completed and run.run_id not in gone_on]
    empty = [*not_measured(found), *_holes(found)]
    said = [counted(len(bad), "run") + " failed or killed", f"{counted(len(empty), 'cell')} missing"]
    said[-1] += ", as far as the filters let see" if found.filtered else ""
    said += [f"{len(found.running)} without rows yet"] if found.running else []
    made.status = ", ".join(said)
    if found.running:
        made.blocks.append(
            Words(f"{counted(len(found.runs), 'run')} of this page ended; {len(found.running)} run now or died without "
                  "a row.", "warning")
        )  # fmt: skip
        running = [(printable(one.stem), so_far(one, found)) for one in found.running[:MOST_ROWS]]
        columns = [Column("run", code=True), Column("so far", wide=True)]
        note = f"{len(found.running) - MOST_ROWS} more" if len(found.running) > MOST_ROWS else ""
        made.blocks.append(Table("Runs without a row yet", columns, running, note=note))
        where = shlex.quote(str(found.root))
        made.blocks.append(
            Commands("What a dead run left behind becomes rows by", [f"python -m results.recover results={where}"])
        )
    if gone := [run.run_id for run in found.runs if run.run_id in gone_on]:
        made.blocks.append(
            Words(f"Interrupted, and completed by a later run that went on from them: {found.short(gone, 12)}.", "note")
        )
    if bad:
        kinds = Counter(run.row["failure_kind"] or "unknown" for run in bad)
        words = "; ".join(
            f"{kind} {count}: {FAILURE_KINDS.get(kind, 'not one of the kinds')}" for kind, count in kinds.most_common()
        )
        rows = [
            (f"{run.started:%Y-%m-%d %H:%M}", run.label, str(run.row["status"] or "unknown"),
             printable(run.row["failure_kind"] or "unknown"),
             printable(run.row["failure_message"] or "no message")[:MOST_CHARS],
             found.short([run.run_id]))
            for run in bad[:MOST_ROWS]
        ]  # fmt: skip
        heads = ("began", "cell", "status", "kind", "message", "run")
        note = f"{words}." + (
            f" {len(bad) - MOST_ROWS} older: python -m results.report status=failed,killed"
            if len(bad) > MOST_ROWS
            else ""
        )
        columns = [Column(head, code=head == "run", wide=head in ("cell", "message")) for head in heads]
        made.blocks.append(Table("Runs that did not complete, the latest first", columns, rows, note=note))
    if empty:
        shown = [f"{command}  # {label}" for label, command in empty[:MOST_COMMANDS]]
        made.blocks.append(Words("Missing: " + "; ".join(label for label, _ in empty[:60]) + "."))
        made.blocks.append(Commands("What would fill these cells", shown))
    if found.faults:
        lines = list(dict.fromkeys(map(printable, found.faults)))
        more = f" And {len(lines) - 20} more." if len(lines) > 20 else ""
        made.blocks.append(
            Words(f"Cannot be read or used, and in no figure above: {'; '.join(lines[:20])}.{more}", "warning")
        )
    if not made.blocks:
        made.blocks.append(Words("Every run here completed, and no cell between them is empty."))
    return made


def _holes(found: Evidence) -> list[tuple[str, str]]:
    """Cells without a completed run, of maps with two depths or shortcuts at least, and the command for each."""
    holes = []
    for group in groups_of(found.training):
        done = {cell for cell, runs in group.cells.items() if any(run.completed for run in runs)}
        depths, shortcuts = {depth for depth, _ in group.cells}, {shortcut for _, shortcut in group.cells}
        like = group.runs[-1]
        for depth in sorted(depths):
            for shortcut in sorted(shortcuts, key=lambda one: (one != "none", one)):
                if (depth, shortcut) not in done:
                    net = f"plain-{depth}" if shortcut == "none" else f"ResNet-{depth} {shortcut}"
                    holes.append((f"{net} ({group.label})", _command(like, depth, shortcut)))
    return holes


def _command(like: Run, depth: int, shortcut: str) -> str:
    return launch_command({**like.parts["configuration"], "depth": depth, "shortcut": shortcut, "extension": None})
