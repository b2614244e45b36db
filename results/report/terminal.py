"""Prints the runs of a store as a table.

    python -m results.report [results=PATH] [sort=COLUMN,-COLUMN] [COLUMN=VALUE,VALUE ...]
    python -m results.report depth=20 dataset=digits status=completed sort=-images_per_s

Figures that are missing have their reason below the table.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from results.identity import benchmark_of
from results.store.files import BadFile, journals, read_rows
from results.store.schema import CHOICES, FLAG, INT, REAL, SCHEMAS, TEXT, Row
from results.words import nearest, root_from, suggestion

SORT = ("family", "depth", "shortcut", "run_start", "run_id")
KINDS = {TEXT: str, INT: int, REAL: float, FLAG: bool}
FILTERS: dict[str, type] = {field.name: KINDS[field.type] for field in SCHEMAS["runs"] if field.type in KINDS}
STYLES = {"completed": "green", "failed": "red", "killed": "yellow"}
PIPE_WIDTH = 120


class _Notes:
    """Numbers the distinct reasons for missing figures in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def figure(self, row: Row, column: str, shown: Callable[[Any], str]) -> Text:
        """The cell of a figure: its value, or a dash and the number of its reason."""
        if row.get(column) is not None:
            return Text(shown(row[column]))
        reason = (row.get("null_reasons") or {}).get(column)
        if reason is None:
            return Text("-", style="dim")
        reason = " ".join(reason.split())
        return Text(f"-[{self._numbers.setdefault(reason, len(self._numbers) + 1)}]", style="dim")

    def legend(self, extension: bool) -> Text | None:
        lines = ["+ a net that the paper does not have"] if extension else []
        lines += [f"[{number}] {reason}" for reason, number in self._numbers.items()]
        return Text("\n".join(lines), style="dim") if lines else None


def short_ids(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the shortest tail, of eight characters or more, that tells each run from the others."""
    ids = sorted({row["run_id"] for row in rows})
    width = 8
    while len({run_id[-width:] for run_id in ids}) < len(ids):
        width += 1
    return {run_id: run_id[-width:].lstrip("-_.") for run_id in ids}


def runs_table(rows: Sequence[Row]) -> Table:
    """Return runs as a table of one row each, in the given order, with reasons for missing figures below it."""
    setting = "dataset, loader,\nsoftware, ranks"
    table = _new_table("run", "family", "depth>", "short-\ncut", setting, *_FIGURE_HEADS, "status")
    notes, ids = _Notes(), short_ids(rows)
    for row in rows:
        table.add_row(
            _attempt(row, ids),
            _shown(row, "family"),
            _shown(row, "depth"),
            _shortcut(row),
            _setting(row),
            *_figures(row, notes),
            _status(row),
        )
    return _with_legend(table, notes, rows)


def summary(rows: Sequence[Row]) -> Table:
    """Return the figures of runs that have just ended, one row each; `runs_table` has their settings too."""
    table = _new_table("run", "model", "dataset, loader,\nkernels", *_FIGURE_HEADS, "target\ntop-1>", "status")
    notes, ids = _Notes(), short_ids(rows)
    for row in rows:
        model = Text(f"{_shown(row, 'family')} {_shown(row, 'depth')} {_shortcut(row)}")
        target = notes.figure(row, "target_top1", "{:.3f}".format)
        data = _data(row).append(f" {_shown(row, 'kernels')}")
        table.add_row(_attempt(row, ids), model, data, *_figures(row, notes), target, _status(row))
    return _with_legend(table, notes, rows)


def failures(rows: Sequence[Row]) -> Text | None:
    """Return a line for each run that failed or was killed; None when all completed."""
    ids = short_ids(rows)
    lines = Text()
    for row in rows:
        if row.get("status") != "completed":
            message = " ".join((row.get("failure_message") or "no message").split())
            lines.append("\n" if lines else "")
            lines.append(f"{_attempt(row, ids)} {row['status']}", style=STYLES.get(row["status"], ""))
            lines.append(f" ({row.get('failure_kind') or 'unknown'}): {message}")
    return lines or None


def show(*parts: RenderableType | None, stream: TextIO | None = None) -> None:
    """Print parts one under the other: as wide as the terminal, else as COLUMNS says, else 120 columns and plain."""
    stream = stream or sys.stdout
    columns = os.environ.get("COLUMNS", "")
    width = None if stream.isatty() else int(columns) if columns.isdecimal() and int(columns) > 0 else PIPE_WIDTH
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:  # trailing blanks only get in the way of a diff
        for part in parts:
            if part is not None:
                console.print(part, soft_wrap=isinstance(part, Text))  # lines with paths stay whole
    stream.write("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()) + "\n")
    stream.flush()


_FIGURE_HEADS = ("images/s>", "data\nwait>", "top-1>", "target\nepochs>", "target\ns>")


def _figures(row: Row, notes: _Notes) -> list[Text]:
    return [
        notes.figure(row, "images_per_s", lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.3g}"),
        notes.figure(row, "data_wait_frac", lambda value: "<.001" if 0 < value < 0.0005 else f"{value:.3f}"),
        notes.figure(row, "final_top1", "{:.4f}".format),
        notes.figure(row, "epochs_to_target", str),
        notes.figure(row, "tta_s", "{:,.1f}".format),
    ]


def _new_table(*heads: str) -> Table:
    """A table with these heads; a final ">" aligns to the right. Only the column of settings may wrap."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    for head in heads:
        table.add_column(
            Text(head.removesuffix(">")),
            justify="right" if head.endswith(">") else "left",
            no_wrap=not head.startswith("dataset"),
            overflow="fold",
        )
    return table


def _with_legend(table: Table, notes: _Notes, rows: Sequence[Row]) -> Table:
    table.caption = notes.legend(any(row.get("extension") for row in rows))
    table.caption_justify = "left"
    return table


def _attempt(row: Row, ids: Mapping[str, str]) -> str:
    return ids[row["run_id"]] + (f".{row['restart_count']}" if row.get("restart_count") else "")


def _shortcut(row: Row) -> str:
    """The shortcut option, with a plus where the paper has no such net."""
    return _shown(row, "shortcut") + ("+" if row.get("extension") else "")


def _shown(row: Row, column: str) -> str:
    value = row.get(column)
    return "-" if value is None else str(value)


def _data(row: Row) -> Text:
    text = Text(_shown(row, "sample") if row.get("sample") else _shown(row, "dataset"))
    synthetic = row.get("synthetic") or row.get("loader") == "synthetic"
    text.append(" ")
    text.append("SYNTHETIC" if synthetic else _shown(row, "loader"), style="bold magenta" if synthetic else "")
    return text


def _setting(row: Row) -> Text:
    text = _data(row)
    ran = row["engine"] if benchmark_of(row) == "training" and row.get("engine") else benchmark_of(row)
    text.append(f" {_shown(row, 'kernels')} {ran} {_shown(row, 'precision')}")
    return text.append(f" x{_shown(row, 'world_size')}")


def _status(row: Row) -> Text:
    return Text(_shown(row, "status"), style=STYLES.get(_shown(row, "status"), ""))


def matches(row: Row, filters: Mapping[str, Sequence[Any]]) -> bool:
    """Whether a row has one of the wanted values in every filtered column."""
    for column, wanted in filters.items():
        value = row.get(column)
        if column == "run_id":
            if not any(row["run_id"].startswith(part) or row["run_id"].endswith(part) for part in wanted):
                return False
        elif value not in wanted:
            return False
    return True


def ordered(rows: Iterable[Row], sort: Sequence[str]) -> list[Row]:
    """Sort rows by columns of `runs`, "-" before a column for descending; nulls come last.

    Raises:
        ValueError: no such column.
    """
    rows = list(rows)
    names = [field.name for field in SCHEMAS["runs"] if field.name != "null_reasons"]
    for word in reversed(sort):
        column = word.removeprefix("-")
        if column not in names:
            near = suggestion(column, names)
            hint = f"; did you mean {near}?" if near else ""
            raise ValueError(f"sort={word}: no such column of runs{hint} (--help lists every column)")
        known = [row for row in rows if row.get(column) is not None]
        known.sort(key=lambda row: row[column], reverse=word.startswith("-"))
        rows = known + [row for row in rows if row.get(column) is None]
    return rows


def _nothing(root: object, filters: Mapping[str, Sequence[Any]], rows: Sequence[Row], bad: Sequence[BadFile]) -> str:
    spoilt = f"; {len(bad)} files cannot be read, the first is {bad[0].path}: {bad[0].reason}" if bad else ""
    for column, wanted in filters.items():
        present = sorted({_typed(row[column]) for row in rows if row.get(column) is not None})
        if present and not any(matches(row, {column: wanted}) for row in rows):
            given = ",".join(map(_typed, wanted))
            return f"no run with {column}={given}; the nearest there is {column}={nearest(given, present)}{spoilt}"
    which = " with " + " ".join(f"{column}={','.join(map(_typed, wanted))}" for column, wanted in filters.items())
    return f"no runs{which if filters else ''} in {root}{spoilt}"


def _typed(value: Any) -> str:
    """A value as it is typed."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class Found:
    """What the command is to show: some runs in order, files that cannot be read, and how many journals are open."""

    root: Path
    rows: list[Row]
    bad: list[BadFile]
    open_journals: int


def find(root: Path, sort: Sequence[str], filters: Mapping[str, Sequence[Any]]) -> Found:
    """Read the runs of a store that have one of the wanted values in every filtered column, in order.

    Raises:
        ValueError: there are none; the line says what there is.
    """
    found, bad = read_rows(root, "runs")
    rows = ordered((row for row in found if matches(row, filters)), sort)
    count = len(journals(root))
    if not rows:
        dead = f"; {count} without rows yet: python -m results.recover results={root}" if count else ""
        raise ValueError(_nothing(root, filters, found, bad) + dead)
    return Found(root, rows, bad, count)


def _print(found: Found) -> int:
    notes = [f"cannot be read: {file.path}: {file.reason}" for file in found.bad]
    if any(row.get("recovered") for row in found.rows):
        notes.append("runs recovered from their journals: images/s of whole epochs after the first")
    if found.open_journals:
        recover = f"python -m results.recover results={found.root}"
        notes.append(f"{found.open_journals} without rows yet, running or dead: {recover}")
    show(runs_table(found.rows), failures(found.rows), Text("\n".join(notes), style="dim") if notes else None)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`; exit status 2 also where there are no runs to show."""
    from bench.config import command
    from bench.config.grammar import key, values

    options: dict[str, tuple[type, Any]] = {
        "results": (str, key("the store", "results/v1 of the checkout", path=True, one=True)),
        "sort": (str, key('columns to sort by; "-COLUMN" for descending', ",".join(SORT), text="a column of runs")),
    }
    for column, kind in FILTERS.items():
        choices = CHOICES.get(("runs", column), ())
        whole = "; the start or the end of an id will do" if column == "run_id" else ""
        text = "" if choices or kind is not str else "a text"
        options[column] = (kind, key(f"only runs that have this{whole}", "all runs", choices=choices, text=text))
    keys = make_dataclass("Keys", [(name, kind | None, option) for name, (kind, option) in options.items()])

    def read(typed: list[str]) -> Found:
        given = values(typed, keys)
        filters = {column: wanted for column, wanted in given.items() if column in FILTERS}
        return find(root_from(given), given.get("sort", SORT), filters)

    return command.run("results.report", __doc__, keys, read, _print, words)
