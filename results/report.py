"""Prints runs as a table: `python -m results.report [results=PATH] [sort=COLUMN] [COLUMN=VALUE ...]`."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TextIO

import pyarrow as pa
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from results.files import BadFile, journals, read_rows
from results.identity import benchmark_of
from results.schema import CHOICES, FLAG, INT, REAL, SCHEMAS, TEXT, Row
from results.words import command, nearest, parse, root_from

USAGE = """
python -m results.report [key=value ...]: print the runs of a store
  results=PATH        the store (default: the checkout's results/v1; the tracked one is results/record)
  sort=COLUMN[,..]    columns of runs to sort by, "-COLUMN" for descending (default: family,depth,shortcut,run_start)
  COLUMN=VALUE[,..]   only runs with one of these values, such as depth=20 dataset=digits status=completed;
                      run_id= also takes the start or the end of an id
"""
FILTERS = {field.name: field.type for field in SCHEMAS["runs"] if field.type in (TEXT, INT, REAL, FLAG)}
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
    """Returns the shortest tail, of eight characters or more, that tells each run from the others."""
    ids = sorted({row["run_id"] for row in rows})
    width = 8
    while len({run_id[-width:] for run_id in ids}) < len(ids):
        width += 1
    return {run_id: run_id[-width:].lstrip("-_.") for run_id in ids}


def runs_table(rows: Sequence[Row]) -> Table:
    """Returns runs as a table of one row each, in the given order, with reasons for missing figures below it."""
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
    """Returns the figures of runs that have just ended, one row each; `runs_table` has their settings too."""
    table = _new_table("run", "model", "dataset, loader,\nkernels", *_FIGURE_HEADS, "target\ntop-1>", "status")
    notes, ids = _Notes(), short_ids(rows)
    for row in rows:
        model = Text(f"{_shown(row, 'family')} {_shown(row, 'depth')} {_shortcut(row)}")
        target = notes.figure(row, "target_top1", "{:.3f}".format)
        data = _data(row).append(f" {_shown(row, 'kernels')}")
        table.add_row(_attempt(row, ids), model, data, *_figures(row, notes), target, _status(row))
    return _with_legend(table, notes, rows)


def failures(rows: Sequence[Row]) -> Text | None:
    """Returns a line for each run that failed or was killed; None when all completed."""
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
    """Prints parts one under the other: as wide as the terminal, else as COLUMNS says, else 120 columns and plain."""
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


def filter_values(column: str, text: str) -> list[Any]:
    """Parses the comma-separated values of a filter by its column's type.

    Raises:
        ValueError: a value of another type, or outside the column's choices.
    """
    kind: pa.DataType = FILTERS[column]
    values: list[Any] = []
    parsers: dict[pa.DataType, Callable[[str], Any]] = {INT: int, REAL: float, FLAG: lambda word: word == "true"}
    for word in text.split(","):
        choices = ("true", "false") if kind == FLAG else CHOICES.get(("runs", column))
        if choices and word not in choices:
            near = nearest(word, choices)
            raise ValueError(f"{column}={word}: not one of {', '.join(choices)}; did you mean {near}?")
        try:
            values.append(parsers.get(kind, str)(word))
        except ValueError:
            raise ValueError(f"{column}={word}: expected {'an integer' if kind == INT else 'a number'}") from None
    return values


def ordered(rows: Iterable[Row], sort: str) -> list[Row]:
    """Sorts rows by columns of `runs`, "-" before a column for descending; nulls come last.

    Raises:
        ValueError: no such column.
    """
    rows = list(rows)
    names = [field.name for field in SCHEMAS["runs"] if field.name != "null_reasons"]
    for word in reversed(sort.split(",")):
        column = word.removeprefix("-")
        if column not in names:
            raise ValueError(f"sort={word}: no such column of runs; did you mean {nearest(column, names)}?")
        known = [row for row in rows if row.get(column) is not None]
        known.sort(key=lambda row: row[column], reverse=word.startswith("-"))
        rows = known + [row for row in rows if row.get(column) is None]
    return rows


def _nothing(root: object, filters: Mapping[str, Sequence[Any]], rows: Sequence[Row], bad: Sequence[BadFile]) -> str:
    spoilt = f"; {len(bad)} files cannot be read, the first is {bad[0].path}: {bad[0].reason}" if bad else ""
    for column, wanted in filters.items():
        present = sorted({str(row[column]) for row in rows if row.get(column) is not None})
        if present and not any(matches(row, {column: wanted}) for row in rows):
            given = ",".join(map(str, wanted))
            return f"no run with {column}={given}; the nearest there is {column}={nearest(given, present)}{spoilt}"
    which = " with " + " ".join(f"{column}={','.join(map(str, wanted))}" for column, wanted in filters.items())
    return f"no runs{which if filters else ''} in {root}{spoilt}"


def _main(words: Sequence[str]) -> int:
    given = parse(words, ("results", "sort", *FILTERS))
    filters = {column: filter_values(column, text) for column, text in given.items() if column in FILTERS}
    root = root_from(given)
    found, bad = read_rows(root, "runs")
    rows = ordered(
        (row for row in found if matches(row, filters)), given.get("sort", "family,depth,shortcut,run_start,run_id")
    )
    if not rows:
        count = len(journals(root))
        dead = f"; {count} without rows yet: python -m results.recover results={root}" if count else ""
        raise ValueError(_nothing(root, filters, found, bad) + dead)
    notes = [f"cannot be read: {file.path}: {file.reason}" for file in bad]
    if any(row.get("recovered") for row in rows):
        notes.append("runs recovered from their journals: images/s of whole epochs after the first")
    if open_journals := len(journals(root)):
        notes.append(f"{open_journals} without rows yet, running or dead: python -m results.recover results={root}")
    show(runs_table(rows), failures(rows), Text("\n".join(notes), style="dim") if notes else None)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; exit status 0 with rows, 2 with one line on stderr when there are none or the input is bad."""
    return command("results.report", _main, USAGE, argv)


if __name__ == "__main__":
    sys.exit(main())
