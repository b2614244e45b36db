"""The table of repeats for a terminal: one row a configuration, with means and deviations."""

from collections.abc import Callable, Sequence

from rich.table import Table
from rich.text import Text

from results.listing.repeats import Repeats
from results.listing.settings import OF_REPEATS, Setting, differing, texts
from results.listing.terminal import Column, Notes, net_columns, rate_text, short_ids, with_settings
from results.statistics import Mean
from results.store.schema import Row

LEGEND = "mean ± sample deviation over repeats; target epochs and s by MLPerf's rule: of 5 or more without both ends"
LISTED = 12  # characters of the values of one cell


def repeats_table(groups: Sequence[Repeats], rows: Sequence[Row], width: int | None = None) -> Table:
    """Return the repeats of each configuration as one row.

    Args:
        groups: at least one.
        rows: the whole row of one run of each, for its settings.
        width: characters of a line; those of stdout by default.
    """
    notes, ids = Notes(), short_ids(row for one in groups for row in one.rows)
    latest = [max(one.rows, key=lambda row: (row.get("run_start") is not None, row.get("run_start"))) for one in groups]
    columns = [
        Column("latest\nrun", [Text(ids[row["run_id"]]) for row in latest]),
        Column(
            "runs",
            [Text(f"{len(one.rows)}{' resumed' * one.restarted}{' of pairs' * one.paired}") for one in groups],
            right=True,
        ),
        *net_columns(rows),
    ]
    at = len(columns)
    if any(one.completed < len(one.rows) for one in groups):
        columns.append(Column("com-\npleted", [Text(str(one.completed)) for one in groups], right=True))
    columns += [
        _means("images/s", groups, lambda one: one.images_per_s, rate_text),
        _means("top-1", groups, lambda one: one.final_top1, "{:.4f}".format),
        _times("target\nepochs", groups, lambda one: one.epochs, "{:.1f}".format, notes),
        _times("target\ns", groups, lambda one: one.time.time, "{:,.1f}".format, notes),
        Column("aver-\naged", [Text(_averaged(one)) for one in groups], right=True),
    ]
    if any(one.not_converged for one in groups):
        columns.append(Column("not con-\nverged", [Text(str(one.not_converged)) for one in groups], right=True))
    if any(one.left_out for one in groups):
        columns.append(Column("left\nout", [Text(str(one.left_out)) for one in groups], right=True))
    return with_settings(columns, at, rows, settings_of(groups, rows), notes, width, LEGEND)


def settings_of(groups: Sequence[Repeats], rows: Sequence[Row]) -> list[Setting]:
    """Return the settings in which configurations differ, and commits of runs that are averaged together.

    Args:
        groups: their runs.
        rows: the whole row of one run of each.
    """
    between = [setting for setting in differing(rows) if setting.name not in OF_REPEATS]
    inside = []
    for name in OF_REPEATS:
        values = [list(dict.fromkeys(row.get(name) for row in one.rows)) for one in groups]
        several = name != "seed" and any(len(known) > 1 for known in values)
        sets = {frozenset(known) for known in values}
        if len(sets) > 1 or several:
            shown = dict(zip(flat := [one for known in values for one in known], texts(name, flat), strict=True))
            cells = tuple(_listed([shown[value] for value in known]) for known in values)
            inside.append(Setting(name, tuple(_one_or_all(known) for known in values), cells))
    return [*inside[:1], *between, *inside[1:]] if inside and inside[0].name == "seed" else [*between, *inside]


def _one_or_all(values: list[object]) -> object:
    return values[0] if len(values) == 1 else values


def _listed(shown: list[str]) -> str:
    text = ",".join(sorted(shown, key=lambda one: (len(one), one)))
    return text if len(shown) == 1 or len(text) <= LISTED else f"{len(shown)} values"


def _means(
    head: str, groups: Sequence[Repeats], of: Callable[[Repeats], Mean | None], shown: Callable[[float], str]
) -> Column:
    cells = []
    for one in groups:
        mean = of(one)
        if mean is None:
            cells.append(Text("-", style="dim"))
            continue
        count = f" n={mean.count}" if mean.count != one.completed else ""
        cells.append(Text(_with_deviation(mean, shown) + count))
    return Column(head, cells, right=True)


def _times(
    head: str, groups: Sequence[Repeats], of: Callable[[Repeats], Mean | None], shown: Callable[[float], str],
    notes: Notes,
) -> Column:  # fmt: skip
    cells = []
    for one in groups:
        mean = of(one)
        cells.append(notes.missing(one.time.why or None) if mean is None else Text(_with_deviation(mean, shown)))
    return Column(head, cells, right=True)


def _with_deviation(mean: Mean, shown: Callable[[float], str]) -> str:
    if mean.deviation is None:
        return shown(mean.mean)
    text = shown(mean.deviation)
    if mean.deviation and not float(text.replace(",", "")):  # rounded to nothing
        text = f"{mean.deviation:.1g}"
    return f"{shown(mean.mean)} ±{text}"


def _averaged(one: Repeats) -> str:
    """How many runs the mean of times is over, of how many that reached their target or did not."""
    counted = len(one.time.averaged) + one.time.dropped
    return f"{len(one.time.averaged)}/{counted}" if counted else "-"
