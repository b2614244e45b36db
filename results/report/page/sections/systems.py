"""Which systems the runs were on, how these differ, and what changed from one night to the next."""

from collections.abc import Iterable

from results.report.page.blocks import Column, Section, Table, Words
from results.report.page.evidence import Evidence
from results.store.schema import SCHEMAS, Row
from results.words import counted, printable

__all__ = ["changes", "section"]

MOST_ROWS, MOST_NAMES = 40, 16
# Not what a system is.
_NAMES = ("system_id", "run_id", "restart", "hostname", "hardware", "gpu_uuids", "versions")
# Of two hosts of a kind these differ without anything having changed.
_OF_ONE_HOST = ("memory_bytes", "nic", "topology", "os", "container_digest")
COLUMNS = tuple(name for name in SCHEMAS["system"].names if name not in _NAMES)


def section(found: Evidence) -> Section:
    """List the systems, and the changes in time."""
    made = Section("systems", "Systems")
    if not found.systems:
        made.status = "none recorded"
        made.blocks.append(Words("No run has a row of its system."))
        return made
    systems: dict[str, list[str]] = {}
    for run in found.runs:
        if (row := found.systems.get(run.run_id)) is not None:
            systems.setdefault(str(row["system_id"]), []).append(run.run_id)
    rows = {system: found.systems[ids[-1]] for system, ids in systems.items()}
    moves = changes(found)
    made.status = f"{counted(len(rows), 'system')}, {counted(len(moves), 'change')}"
    if moves:
        columns = [
            Column("from"),
            Column("host"),
            Column("what changed", wide=True),
            Column("first run", code=True),
        ]
        note = f"{len(moves) - MOST_ROWS} older changes" if len(moves) > MOST_ROWS else ""
        made.blocks.append(Table("What changed on a host, the latest first", columns, moves[:MOST_ROWS], note=note))
    elif len(found.runs) > 1:
        made.blocks.append(Words("Nothing that is recorded of a system changed between its runs."))
    differ = [name for name in _all_names(rows.values()) if len({_shown(row, name) for row in rows.values()}) > 1]
    alike = [name for name in ("cpu_model", "gpu_model", "driver", "torch", "os") if name not in differ]
    table = []
    for system, ids in reversed(list(systems.items())):
        began = [found.by_id[one].started for one in ids]
        row = rows[system]
        told = "; ".join(
            f"{name} {_shown(row, name)}" for name in (*differ[:MOST_NAMES], *alike) if _value(row, name) is not None
        )
        table.append((system[:8], f"{min(began):%Y-%m-%d} to {max(began):%Y-%m-%d}", str(len(ids)),
                      _text(row["hostname"]), told, found.short(ids, 2)))  # fmt: skip
    columns = [Column("system", code=True), Column("runs began"), Column("runs", right=True), Column("host"),
               Column("what it is", wide=True), Column("last runs", code=True)]  # fmt: skip
    notes = [f"{len(table) - MOST_ROWS} older systems"] if len(table) > MOST_ROWS else []
    notes += [f"they also differ in {', '.join(differ[MOST_NAMES:])}"] if len(differ) > MOST_NAMES else []
    made.blocks.append(
        Table(
            "Systems, the newest first; what differs between them stands first",
            columns,
            table[:MOST_ROWS],
            note="; ".join(notes),
        )
    )
    return made


def changes(found: Evidence) -> list[tuple[str, str, str, str]]:
    """Return when something of a host changed from one of its runs to the next, the latest first.

    Rows that were exported do not name their host: those of the same processors may be of several, and only what they
    can have in common is compared.
    """
    last: dict[tuple[str, str | None], Row] = {}
    moves = []
    for run in found.runs:
        row = found.systems.get(run.run_id)
        if row is None:
            continue
        place = str(run.parts["processors"]), row["hostname"]
        before = last.get(place)
        last[place] = row
        if before is None or before["system_id"] == row["system_id"]:
            continue
        names = [name for name in _all_names((before, row)) if row["hostname"] or name not in _OF_ONE_HOST]
        told = [f"{name} from {_shown(before, name)} to {_shown(row, name)}"
                for name in names if _value(before, name) != _value(row, name)]  # fmt: skip
        if told:
            host = printable(row["hostname"] or "not recorded")
            moves.append((f"{run.started:%Y-%m-%d %H:%M}", host, "; ".join(told), found.short([run.run_id])))
    return moves[::-1]


def _all_names(rows: Iterable[Row]) -> list[str]:
    """Columns, and the packages of `versions`."""
    packages = sorted({name for row in rows for name in (row.get("versions") or {})})
    return [*COLUMNS, *packages]


def _value(row: Row, name: str) -> object:
    return row[name] if name in COLUMNS else (row.get("versions") or {}).get(name)


def _shown(row: Row, name: str) -> str:
    value = _value(row, name)
    if name.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    return _text(value)


def _text(value: object) -> str:
    return "-" if value is None else printable(str(value))
