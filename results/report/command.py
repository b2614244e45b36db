"""Prints the runs of a store as a table, or as CSV or JSON for other programs.

    python -m results.report [results=PATH] [run=ID,ID] [sort=COLUMN,-COLUMN] [COLUMN=VALUE,VALUE ...]
    python -m results.report depth=20 dataset=digits status=completed sort=-images_per_s
    python -m results.report 'depth=20..56' 'images_per_s=>1000' 'run_start=>=2026-11-01' format=csv
    python -m results.report html=FILE [png=FOLDER] [results=PATH] [COLUMN=VALUE ...]

A column of numbers or times is also filtered by a range: >V, >=V, <V, <=V or V..V (both ends in it), which stands in
quotes, since < and > are the shell's own. A date is the whole of its day, UTC.

Settings that differ between the rows have columns of their own. Below the runs stand the means and deviations of those
that repeat one configuration, runs of interleaved pairs apart; repeats=summary prints these alone. Figures that are
missing have their reason below the table. CSV and JSON have exact values; notes go to stderr there.

With html= all of it is a page in one file, to send: verdict, maps of depth and shortcut, curves, kernels, history, the
paper beside what was measured, systems, and what failed or is missing; png= has its pictures by themselves.
"""

import gc
import sys
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import RenderableType
from rich.text import Text

from results.listing import formats
from results.listing.filters import COLUMNS, FILTERS, SORT, Filters, Found, column_named, filter_options, find
from results.listing.repeats import DOUBLE, NEEDED, Repeats, grouped, record
from results.listing.repeats_table import repeats_table, settings_of
from results.listing.settings import CHOSEN, FOLLOWING, Setting, differing
from results.listing.terminal import columns_table, failures, lineages, runs_table, show, synthetic
from results.store.files import read_table
from results.store.schema import Row, to_rows
from results.words import ConfigError, printable, root_from

FORMATS = ("table", "csv", "json")
UNREAD = "cannot be read"
LIMIT = 100  # rows of a table, where nothing else was asked for
# What csv and json have without columns=, the settings that differ put in before the figures.
SETTINGS_SHOWN = (
    "run_id", "restart_count", "run_start", "family", "depth", "shortcut", "extension", "dataset", "sample", "loader",
    "synthetic", "kernels", "benchmark", "engine", "precision", "world_size",
)  # fmt: skip
FIGURES_SHOWN = (
    "images_per_s", "data_wait_frac", "final_top1", "epochs_to_target", "tta_s", "status", "failure_kind",
    "failure_message",
)  # fmt: skip
# What they have as well where a run went on from a checkpoint.
LINEAGE_SHOWN = ("resumed_from", "resumed_epoch", "lineage")


# What a row without columns= is made of, and what may differ.
_READ = tuple(dict.fromkeys((
    *SETTINGS_SHOWN, *FIGURES_SHOWN, *LINEAGE_SHOWN, *CHOSEN, *FOLLOWING, "config_json", "null_reasons", "recovered",
)))  # fmt: skip


@dataclass(frozen=True)
class Task:
    """What the command is to print.

    Attributes:
        format: table, csv or json.
        columns: exactly these; empty for the usual ones.
        repeats: "summary" for one row a configuration, "list" for one a run, "" for both where a table has both.
        limit: rows at most; None for all.
        latest: whether those that a limit leaves out are the oldest, whatever the order.
    """

    found: Found
    format: str
    columns: tuple[str, ...]
    repeats: str
    limit: int | None
    latest: bool


def _limited(task: Task) -> tuple[pa.Table, int]:
    """The rows to show, and how many more there are."""
    table = task.found.table
    if task.limit is None or table.num_rows <= task.limit:
        return table, 0
    if task.latest:
        newest = pc.array_sort_indices(table["run_start"].combine_chunks(), order="descending")
        kept = pc.take(newest, pa.array(range(task.limit)))
        return table.take(pc.take(kept, pc.sort_indices(kept))), table.num_rows - task.limit
    return table.slice(0, task.limit), table.num_rows - task.limit


def _notes(task: Task, recovered: bool, left: int, what: str) -> list[str]:
    found = task.found
    notes = [f"{UNREAD}: {file.path}: {file.reason}" for file in found.bad]
    if left:
        which = "older" if task.latest and what == "runs" else "more"
        notes.append(f"{left:,} {which} {what}: add limit=NUMBER, or filters")
    if recovered:
        notes.append("runs recovered from their journals: images/s of whole epochs after the first")
    if found.open_journals:
        recover = f"python -m results.recover results={found.root}"
        notes.append(f"{found.open_journals} without rows yet, running or dead: {recover}")
    return notes


def _groups(task: Task, several: bool) -> tuple[list[Repeats], list[Row], list[str], int]:
    """The configurations to show, a whole row of one run of each, notes, and how many more there are.

    Args:
        several: only those that were run more than once, which may be none.

    Raises:
        ConfigError: no row is of a run that can be counted.
    """
    pairs, bad = read_table(task.found.root, "pairs", columns=["run_id"])
    groups, notes = grouped(to_rows(task.found.table.select(NEEDED)), set(pairs["run_id"].to_pylist()))
    notes += [f"{UNREAD}: {file.path}: {file.reason}" for file in bad]
    if several:
        groups = [one for one in groups if len(one.rows) > 1]
    elif not groups:
        raise ConfigError(f"repeats=summary: there is nothing to average; {'; '.join(notes)}")
    shown = groups if task.limit is None else groups[: task.limit]
    rows = to_rows(task.found.table.take(pa.array([one.places[-1] for one in shown], pa.int64())))
    return shown, rows, notes, len(groups) - len(shown)


def _print_table(task: Task) -> None:
    parts: list[RenderableType | None] = []
    notes: list[str] = []
    if task.repeats != "summary":
        shown, left = _limited(task)
        rows = to_rows(shown)
        parts += [
            synthetic(rows, "runs"),
            columns_table(rows, task.columns) if task.columns else runs_table(rows),
            failures(rows),
            lineages(rows),
        ]
        notes += _notes(task, any(row.get("recovered") for row in rows), left, "runs")
    if task.repeats != "list" and not task.columns:
        groups, rows, said, left = _groups(task, several=task.repeats != "summary")
        if groups:
            parts += [Text("")] if parts else [synthetic(rows, "configurations")]
            parts.append(repeats_table(groups, rows))
        if task.repeats == "summary":
            notes += _notes(task, False, left, "configurations")
        elif left:
            notes.append(f"{left:,} more configurations have repeats: repeats=summary")
        notes += said if groups else [note for note in said if DOUBLE in note or note.startswith(UNREAD)]
    show(*parts, Text("\n".join(map(printable, notes)), style="dim") if notes else None)


def _print_rows(task: Task) -> None:
    """CSV or JSON on stdout, notes on stderr."""
    if task.repeats == "summary":
        groups, representatives, said, left = _groups(task, several=False)
        names, rows = _summaries(groups, representatives)
        notes = [*_notes(task, False, left, "configurations"), *said]
    else:
        shown, left = _limited(task)
        stored = to_rows(
            shown.select(list(dict.fromkeys((*task.columns, "null_reasons", "recovered"))) if task.columns else _READ)
        )
        extra = [] if task.columns else differing(stored)
        named = [one.name for one in extra if one.name in COLUMNS and one.name not in SETTINGS_SHOWN]
        others = [one for one in extra if one.name not in COLUMNS]
        chain = LINEAGE_SHOWN if not task.columns and any(row["resumed_from"] for row in stored) else ()
        columns = task.columns or (*SETTINGS_SHOWN, *named, *FIGURES_SHOWN, *chain)
        rows = []
        for index, row in enumerate(stored):
            rows.append({**formats.exact(row, columns), **{one.name: one.values[index] for one in others}})
        names = list(rows[0])
        notes = _notes(task, any(row.get("recovered") for row in stored), left, "runs")
    if task.format == "json":
        formats.write_json(rows, sys.stdout)
    else:
        formats.write_csv(rows, names, sys.stdout)
    sys.stdout.flush()
    for note in notes:
        print(printable(note), file=sys.stderr)


def _summaries(groups: Sequence[Repeats], representatives: Sequence[Row]) -> tuple[list[str], list[Row]]:
    settings: list[Setting] = settings_of(groups, representatives)
    fixed = [name for name in SETTINGS_SHOWN if name not in ("run_id", "restart_count", "run_start")]
    rows = []
    for index, (one, row) in enumerate(zip(groups, representatives, strict=True)):
        own = {name: value for name, value in formats.exact(row, fixed).items() if name != formats.REASONS}
        rows.append({**own, **{setting.name: setting.values[index] for setting in settings}, **record(one)})
    return list(rows[0]), rows


@dataclass(frozen=True)
class PageTask:
    """The page that the command is to write.

    Attributes:
        run: words that choose runs; empty for all.
        png: folder of its pictures; None for none.
    """

    root: Path
    filters: Filters
    run: Sequence[str]
    html: Path
    png: Path | None


def _write_page(task: PageTask) -> int:
    from results.report.page.build import page_of  # which takes two seconds to import
    from results.report.page.evidence import gathered

    gc.disable()  # rows and pictures live to the end: to look through them again and again is a tenth of the time
    try:
        page = page_of(gathered(task.root, task.filters, task.run))
    finally:
        gc.enable()
    for key_, path, write in (("html", task.html, page.write), ("png", task.png, page.write_pictures)):
        if path is not None:
            try:
                write(path)
            except OSError as error:
                raise ConfigError(f"{key_}={path}: {error.strerror or error}") from None
            print(path)
    return 0


def _print(task: Task | PageTask) -> int:
    if isinstance(task, PageTask):
        return _write_page(task)
    (_print_table if task.format == "table" else _print_rows)(task)
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`; exit status 2 also where there are no runs to show."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import check_folder, new_file

    options: dict[str, tuple[type, Any]] = {
        "results": (str, key("the store", "results/v1 of the checkout", path=True, one=True)),
        "run": (str, key("only these runs; the start or the end of an id will do", "all runs", text="an id")),
        "sort": (str, key('columns to sort by; "-COLUMN" for descending', ",".join(SORT), text="a column of runs")),
        "columns": (
            str,
            key("exactly these columns, in this order", "the usual ones and what differs", text="a column of runs"),
        ),
        "format": (str, key("table for people; csv and json, exact", "table", choices=FORMATS, one=True)),
        "repeats": (
            str,
            key(
                "summary: one row a configuration, with means and deviations; list: one row a run, without these",
                "list; in a table, the summary of what was run more than once below it",
                choices=("summary", "list"),
                one=True,
            ),
        ),
        "limit": (
            int,
            key(
                "rows at most: the first of sort=, else the latest", f"{LIMIT} in a table, else all", least=1, one=True
            ),
        ),
    }
    options |= {
        "html": (str, key("file that a page is written to, in place of a table", "none", path=True, one=True)),
        "png": (
            str,
            key("folder that the page's pictures are written to, made if need be", "none", path=True, one=True),
        ),
    }
    options |= filter_options(key)
    keys = make_dataclass("Keys", [(name, kind | None, option) for name, (kind, option) in options.items()])

    def read(typed: list[str]) -> Task | PageTask:
        if old := next((word for word in typed if word.startswith("run_id=")), None):
            raise WordError(f"{old}: the key is now run; nearest is {old.replace('run_id', 'run', 1)}")
        given = values(typed, keys)
        filters = {column: wanted for column, wanted in given.items() if column in FILTERS}
        if "png" in given and "html" not in given:
            raise WordError(f"png={given['png'][0]}: is of a page; add html=FILE")
        if "html" in given:
            if odd := next((name for name in ("sort", "columns", "format", "repeats", "limit") if name in given), None):
                raise WordError(f"{odd}={given[odd][0]}: a page has no {odd}; leave {odd} out, or html")
            return PageTask(
                root_from(given), filters, given.get("run", ()), new_file("html", given["html"][0]),
                check_folder("png", given["png"][0]) if "png" in given else None,
            )  # fmt: skip
        columns = tuple(column_named("columns", word) for word in dict.fromkeys(given.get("columns", ())))
        repeats, form = given.get("repeats", [""])[0], given.get("format", ["table"])[0]
        if columns and repeats == "summary":
            raise WordError("repeats=summary: has columns of its own; leave columns out, or repeats")
        return Task(
            found=find(root_from(given), given.get("sort", SORT), filters, given.get("run", ())),
            format=form,
            columns=columns,
            repeats=repeats,
            limit=given.get("limit", [LIMIT if form == "table" else None])[0],
            latest="sort" not in given,
        )

    return command.run("results.report", __doc__, keys, read, _print, words)
