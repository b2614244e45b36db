"""Tables of runs for a terminal: what each run was, its figures, and the reasons for those that are missing."""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from results.identity import benchmark_of
from results.listing.settings import Setting, clean, differing, is_synthetic, ran
from results.store.schema import Row
from results.words import printable

STYLES = {"completed": "green", "failed": "red", "killed": "yellow"}
PIPE_WIDTH = 120
LEAST_WRAPPED = 24  # characters of a column that may wrap
IN_NO_CELL = ("engine", "precision", "world_size")  # of `summary`
NOT_FINITE = "not a finite number in the file"


@dataclass(frozen=True)
class Column:
    """A column of a table: its head, which may have two lines, and a cell for each row."""

    head: str
    cells: Sequence[Text]
    right: bool = False
    wraps: bool = False

    @property
    def width(self) -> int:
        """Characters that it needs at least."""
        widest = max(cell_len(line) for text in (self.head, *map(str, self.cells)) for line in text.split("\n"))
        return min(widest, LEAST_WRAPPED) if self.wraps else widest


class Notes:
    """Numbers the distinct reasons for missing figures in the order in which they are met."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def figure(self, row: Row, column: str, shown: Callable[[Any], str]) -> Text:
        """The cell of a figure: its value, or a dash and the number of its reason."""
        if clean(row.get(column)) is not None:
            return Text(shown(row[column]))
        reason = NOT_FINITE if row.get(column) is not None else (row.get("null_reasons") or {}).get(column)
        return self.missing(reason)

    def missing(self, reason: str | None) -> Text:
        """The cell of what is not there."""
        if reason is None:
            return Text("-", style="dim")
        reason = printable(reason)
        return Text(f"-[{self._numbers.setdefault(reason, len(self._numbers) + 1)}]", style="dim")

    def legend(self, extension: bool, lead: str) -> Text | None:
        """What stands below a table: a line for each reason; None where there is nothing to say."""
        lines = [lead] if lead else []
        lines += ["+ a net that the paper does not have"] if extension else []
        lines += [f"[{number}] {reason}" for reason, number in self._numbers.items()]
        return Text("\n".join(lines), style="dim") if lines else None


def short_ids(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the shortest tail, of eight characters or more, that tells each run from the others."""
    ids = sorted({row["run_id"] for row in rows if row.get("run_id") is not None})
    width = 8
    while len({run_id[-width:] for run_id in ids}) < len(ids):
        width += 1
    return {run_id: printable(run_id[-width:].lstrip("-_.")) for run_id in ids}


def runs_table(rows: Sequence[Row], width: int | None = None) -> Table:
    """Return runs as a table of one row each, in the given order, with reasons for missing figures below it.

    A setting that differs between the rows has a column, or, where those do not fit, a word in the cell of settings.

    Args:
        width: characters of a line; those of stdout by default.
    """
    notes, ids = Notes(), short_ids(rows)
    columns = [
        Column("run", [attempt(row, ids) for row in rows]),
        *net_columns(rows),
        *figure_columns(rows, notes),
        Column("status", [_status(row) for row in rows]),
    ]
    return with_settings(columns, 5, rows, differing(rows), notes, width)


def net_columns(rows: Sequence[Row]) -> list[Column]:
    """What a run was: its net, and in one cell that may wrap what it ran on."""
    return [
        Column("family", [_shown(row, "family") for row in rows]),
        Column("depth", [_shown(row, "depth") for row in rows], right=True),
        Column("short-\ncut", [_shortcut(row) for row in rows]),
        Column("dataset, loader,\nsoftware, ranks", [_setting(row) for row in rows], wraps=True),
    ]


def with_settings(
    columns: Sequence[Column], at: int, rows: Sequence[Row], settings: Sequence[Setting], notes: Notes,
    width: int | None, lead: str = "",
) -> Table:  # fmt: skip
    """Return a table of columns with more of them, or words in the one that wraps, for settings that differ.

    Args:
        at: where the new columns go.
        rows, notes, lead: as of `table_of`.
        width: characters of a line; those of stdout by default.
    """
    cells = next(column.cells for column in columns if column.wraps)
    left = (width or width_of(sys.stdout)) - sum(column.width + 1 for column in columns) + 1
    fitting = []
    for setting in settings:
        column = Column(setting.head, [Text(text) for text in setting.texts], right=setting.numeric)
        if column.width + 1 <= left:
            left -= column.width + 1
            fitting.append(column)
            continue
        for cell, text in zip(cells, setting.texts, strict=True):
            cell.append(f" {setting.word}={text}")
    return table_of([*columns[:at], *fitting, *columns[at:]], rows, notes, lead)


def summary(rows: Sequence[Row]) -> Table:
    """Return the figures of runs that have just ended, one row each, with the settings in which they differ."""
    notes, ids = Notes(), short_ids(rows)
    models = [Text(f"{_shown(row, 'family')} {_shown(row, 'depth')} {_shortcut(row)}") for row in rows]
    columns = [
        Column("run", [attempt(row, ids) for row in rows]),
        Column("model", models),
        Column(
            "dataset, loader,\nkernels", [_data(row).append(f" {_shown(row, 'kernels')}") for row in rows], wraps=True
        ),
        *figure_columns(rows, notes),
        Column("target\ntop-1", [notes.figure(row, "target_top1", "{:.3f}".format) for row in rows], right=True),
        Column("status", [_status(row) for row in rows]),
    ]
    settings = [one for one in differing(rows, IN_NO_CELL) if one.name != "target_top1"]  # which has its column
    return with_settings(columns, 3, rows, settings, notes, None)


def columns_table(rows: Sequence[Row], names: Sequence[str]) -> Table:
    """Return runs as a table of chosen columns, in their order."""
    notes = Notes()
    columns = []
    for name in names:
        cells = [notes.figure(row, name, value_text) for row in rows]
        numeric = any(isinstance(row.get(name), int | float) and not isinstance(row[name], bool) for row in rows)
        wide = max((cell_len(cell.plain) for cell in cells), default=0) > LEAST_WRAPPED
        columns.append(Column(name, cells, right=numeric, wraps=wide))
    return table_of(columns, [], notes)


def value_text(value: Any) -> str:
    """A value in a cell: six digits of a fraction, a time to its second."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    if isinstance(value, dict):
        return printable("; ".join(f"{name}: {text}" for name, text in value.items()))
    return printable(str(value))


def failures(rows: Sequence[Row]) -> Text | None:
    """Return a line for each run that failed or was killed; None when all completed."""
    ids = short_ids(rows)
    lines = Text()
    for row in rows:
        if row.get("status") != "completed":
            message = printable(row.get("failure_message") or "no message")
            lines.append("\n" if lines else "")
            lines.append(f"{attempt(row, ids)} {_shown(row, 'status')}", style=STYLES.get(row.get("status") or "", ""))
            lines.append(f" ({printable(row.get('failure_kind') or 'unknown')}): {message}")
    return lines or None


def synthetic(rows: Sequence[Row], what: str) -> Text | None:
    """Return what stands above runs that trained on no real image; None without any.

    Args:
        what: the rows are, such as "runs".
    """
    count = sum(is_synthetic(row) and benchmark_of(row) == "training" for row in rows)
    if not count:
        return None
    line = f"SYNTHETIC images in {count:,} of {len(rows):,} {what}: their images/s read no data; they have no accuracy"
    return Text(line, style="bold magenta")


def lineages(rows: Sequence[Row]) -> Text | None:
    """Return a line for each run that went on from a checkpoint, with all attempts before it; None without any."""
    ids = short_ids(rows)
    lines = []
    for row in rows:
        if row.get("resumed_from"):
            chain = [word.partition("@") for word in (row.get("lineage") or "").split()]
            before = ", ".join(f"{one} (to epoch {epoch})" for one, _, epoch in chain) or row["resumed_from"]
            lines.append(f"{attempt(row, ids)} went on from {printable(before)}")
    return Text("\n".join(lines), style="dim") if lines else None


def width_of(stream: TextIO) -> int:
    """Return how many characters a line has: of the terminal, else as COLUMNS says, else 120."""
    if stream.isatty():
        return Console(file=stream).width
    columns = os.environ.get("COLUMNS", "")
    return int(columns) if columns.isdecimal() and int(columns) > 0 else PIPE_WIDTH


def show(*parts: RenderableType | None, stream: TextIO | None = None) -> None:
    """Print parts one under the other, as wide as `width_of` says, in plain text where no terminal reads them."""
    stream = stream or sys.stdout
    width = None if stream.isatty() else width_of(stream)
    console = Console(file=stream, width=width, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:  # trailing blanks only get in the way of a diff
        for part in parts:
            if part is not None:
                console.print(part, soft_wrap=isinstance(part, Text), crop=False)  # lines with paths and ids stay whole
    stream.write("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()) + "\n")
    stream.flush()


def rate_text(value: float) -> str:
    """Images a second: whole from a hundred on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def figure_columns(rows: Sequence[Row], notes: Notes) -> list[Column]:
    """The figures of a run, one column each, with the numbers of the reasons for those that are missing."""
    kinds: list[tuple[str, str, Callable[[Any], str]]] = [
        ("images/s", "images_per_s", rate_text),
        ("data\nwait", "data_wait_frac", lambda value: "<.001" if 0 < value < 0.0005 else f"{value:.3f}"),
        ("top-1", "final_top1", "{:.4f}".format),
        ("target\nepochs", "epochs_to_target", str),
        ("target\ns", "tta_s", "{:,.1f}".format),
    ]
    cells = [[notes.figure(row, name, shown) for _, name, shown in kinds] for row in rows]  # reasons in reading order
    return [Column(head, [row[index] for row in cells], right=True) for index, (head, _, _) in enumerate(kinds)]


def table_of(columns: Sequence[Column], rows: Sequence[Row], notes: Notes, lead: str = "") -> Table:
    """A table of columns, with the legend of its notes; what may wrap does so where a line is full.

    Args:
        rows: for what the legend says of them.
        lead: the first line of the legend.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(
            Text(column.head), justify="right" if column.right else "left", no_wrap=not column.wraps, overflow="fold"
        )
    for cells in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*cells)
    table.caption = notes.legend(any(row.get("extension") for row in rows), lead)
    table.caption_justify = "left"
    return table


def attempt(row: Row, ids: Mapping[str, str]) -> Text:
    """The short id of a run, and which attempt of it where that is not the first."""
    run_id = "-" if row.get("run_id") is None else ids[row["run_id"]]
    return Text(run_id + (f".{row['restart_count']}" if row.get("restart_count") else ""))


def _shortcut(row: Row) -> Text:
    """The shortcut option, with a plus where the paper has no such net."""
    return _shown(row, "shortcut").append("+" if row.get("extension") else "")


def _shown(row: Row, column: str) -> Text:
    value = row.get(column)
    return Text("-" if value is None else printable(str(value)))


def _data(row: Row) -> Text:
    text = _shown(row, "sample") if row.get("sample") else _shown(row, "dataset")
    text.append(" ")
    return (
        text.append("SYNTHETIC", style="bold magenta") if is_synthetic(row) else text.append_text(_shown(row, "loader"))
    )


def _setting(row: Row) -> Text:
    text = _data(row)
    text.append(f" {_shown(row, 'kernels')} {printable(ran(row))} {_shown(row, 'precision')}")
    return text.append(f" x{_shown(row, 'world_size')}")


def _status(row: Row) -> Text:
    status = _shown(row, "status")
    status.stylize(STYLES.get(status.plain, ""))
    return status
