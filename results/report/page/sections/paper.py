"""The paper beside what was measured, protocol by protocol, with the command for each missing figure."""

from collections.abc import Sequence

from results.paper import cells, measured
from results.paper.cells import Line, PaperTable
from results.paper.measured import Group
from results.paper.render import OTHER, REDUCED, best_of_runs
from results.paper.words import group_text, label_text, metric_text, protocol_text, published_text, source_text
from results.published.figure import ERRORS
from results.report.page.blocks import Block, Column, Commands, Section, Table, Words
from results.report.page.evidence import Evidence
from results.words import counted, printable

__all__ = ["section"]

MOST_ROWS = 80


def section(found: Evidence) -> Section:
    """Lay out each table of the paper of which something was measured."""
    made = Section("paper", "The paper, beside what was measured")
    store = measured.read(found.root)
    if found.filtered:
        store.runs = [row for row in store.runs if row["run_id"] in found.by_id]
        own = {f"{row['run_id']}." for row in store.runs}
        store.evaluations = [
            row for row in store.evaluations if (row["trained_by"] or "").rpartition(".")[0] + "." in own
        ]
    tables = [cells.build(number, store) for number in cells.TABLES]
    filled = [table for table in tables if any(line.group for line in table.lines) or table.reduced or table.other]
    empty = [table for table in tables if table not in filled]
    there = sum(
        line.group is not None and line.published is not None and line.published.metric in ERRORS
        for table in filled
        for line in table.lines
    )
    made.status = f"{counted(there, 'published error')} with a measurement beside it" if there else "nothing comparable"
    made.blocks.append(
        Words(
            "A published figure stands only beside one of the same net, images, metric and protocol. Reduced runs and "
            "other recipes stand apart. Errors in %, of the last epoch; of several seeds mean \N{PLUS-MINUS SIGN} "
            "standard deviation."
        )
    )
    for table in filled:
        made.blocks += _blocks(table, found)
    if empty:
        names = "; ".join(table.title for table in empty)
        made.blocks.append(
            Words(
                f"Nothing was measured of {names}. python -m results.paper table=6 lists what would fill a cell.",
                "note",
            )
        )
    return made


def _blocks(table: PaperTable, found: Evidence) -> list[Block]:
    # Of nets that were measured the published figures stand there too, also those that nothing stands beside.
    nets = {(_system(line), _metric(line)) for line in table.lines if line.group is not None}
    rows = [_row(line, found) for line in table.lines if (_system(line), _metric(line)) in nets]
    for kind, groups in ((REDUCED, table.reduced), (OTHER, table.other)):
        rows += [_apart(kind, group, found) for group in groups]
    heads = ("system", "metric", "published", "measured", "seeds", "to know", "runs")
    columns = [Column(head, right=head == "measured", code=head == "runs", wide=head == "to know") for head in heads]
    missing: dict[str, list[str]] = {}
    for line in table.lines:
        if line.group is None and line.published is not None:
            missing.setdefault(line.fill, []).append(f"{line.published.system} ({protocol_text(line.published)})")
    blocks: list[Block] = [Table(printable(table.title), columns, rows[:MOST_ROWS],
                                 note=f"{len(rows) - MOST_ROWS} more: python -m results.paper {table.word}"
                                 if len(rows) > MOST_ROWS else "")]  # fmt: skip
    lines = [
        f"{fill}  # {', '.join(dict.fromkeys(nets))}" for fill, nets in missing.items() if not fill.startswith("(")
    ]
    if lines:
        blocks.append(Commands(f"{table.title.partition(':')[0]}: what would fill its missing figures", lines))
    return blocks


def _system(line: Line) -> str:
    one, group = line.published, line.group
    return printable(one.system if one is not None else group.label.system if group is not None else "")


def _metric(line: Line) -> str:
    one, group = line.published, line.group
    return metric_text(one) if one is not None else group.label.metric if group is not None else ""


def _row(line: Line, found: Evidence) -> tuple[str, ...]:
    one, group = line.published, line.group
    published = f"{published_text(one)} ({source_text(one)})" if one is not None else "-"
    if group is None:
        assert one is not None
        return (_system(line), _metric(line), published, "missing", "-", protocol_text(one), "")
    return (
        _system(line), _metric(line), published, group_text(group, best=best_of_runs(line)), _seeds(group),
        printable("; ".join([label_text(group.label), *_copy(group), *group.marks])), _runs(group, found),
    )  # fmt: skip


def _apart(kind: str, group: Group, found: Evidence) -> tuple[str, ...]:
    label = group.label
    why = "; ".join(filter(None, (kind, label.why, label_text(label), *_copy(group), *group.marks)))
    return (printable(label.system), label.metric, "-", group_text(group, best=False), _seeds(group), printable(why),
            _runs(group, found))  # fmt: skip


def _copy(group: Group) -> list[str]:
    return [f"images are {group.label.copy}, not the paper's: not comparable"] if group.label.copy else []


def _seeds(group: Group) -> str:
    """How many runs there are, and of which seeds."""
    seeds = ", ".join(map(str, group.seeds))
    return f"{len(group.values)}: {seeds}" if seeds else str(len(group.values))


def _runs(group: Group, found: Evidence) -> str:
    values: Sequence[str] = [value.run_id for value in group.values]
    return found.short(values)
