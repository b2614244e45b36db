"""Which systems the runs were on, how these differ, and what changed from one night to the next."""

from collections.abc import Iterable

from results.report.page.blocks import Column, Section, Table, Words
from results.report.page.evidence import Evidence
from results.store.schema import SCHEMAS, Row
from results.words import counted, printable

__all__ = ["changes", "section"]

MOST_ROWS = 40
# Not what a system is.
_NAMES = ("system_id", "run_id", "restart", "hostname", "hardware", "gpu_uuids", "versions")
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
            Column(
                "from",
            ),
            Column("hosts"),
            Column("what changed", wide=True),
            Column("first run", code=True),
        ]
        note = f"{len(moves) - MOST_ROWS} older changes" if len(moves) > MOST_ROWS else ""
        made.blocks.append(
            Table("What changed on the same processors, the latest first", columns, moves[:MOST_ROWS], note=note)
        )
    elif len(found.runs) > 1:
        made.blocks.append(Words("Nothing that is recorded of a system changed between its runs."))
    differ = [
        name for name in _all_names(rows.values()) if len({_text(_value(row, name)) for row in rows.values()}) > 1
    ]
    alike = [name for name in ("cpu_model", "gpu_model", "driver", "torch", "os") if name not in differ]
    shown = [*differ, *alike][:12]
    table = []
    for system, ids in reversed(list(systems.items())):
        hosts = [found.systems[one]["hostname"] for one in ids]
        began = [found.by_id[one].started for one in ids]
        table.append((system[:8], f"{min(began):%Y-%m-%d} to {max(began):%Y-%m-%d}", str(len(ids)), _few(hosts),
                      *(_text(_value(rows[system], name)) for name in shown), found.short(ids, 2)))  # fmt: skip
    columns = [Column("system", code=True), Column("runs began"), Column("runs", right=True), Column("hosts"),
               *(Column(name) for name in shown), Column("last runs", code=True)]  # fmt: skip
    note = f"{len(table) - MOST_ROWS} older systems" if len(table) > MOST_ROWS else ""
    if len(differ) > 12:
        note = "; ".join(filter(None, (note, f"they also differ in {', '.join(differ[12:])}")))
    made.blocks.append(
        Table("Systems, the newest first; what differs stands first", columns, table[:MOST_ROWS], note=note)
    )
    return made


def changes(found: Evidence) -> list[tuple[str, str, str, str]]:
    """Return when something of a system changed from one run to the next on the same processors, the latest first."""
    last: dict[str, Row] = {}
    moves = []
    for run in found.runs:
        row = found.systems.get(run.run_id)
        if row is None:
            continue
        before = last.get(str(run.parts["processors"]))
        last[str(run.parts["processors"])] = row
        if before is None or before["system_id"] == row["system_id"]:
            continue
        names = _all_names((before, row))
        told = [f"{name} from {_text(_value(before, name))} to {_text(_value(row, name))}"
                for name in names if _value(before, name) != _value(row, name)]  # fmt: skip
        if told:
            hosts = _few([before["hostname"], row["hostname"]])
            moves.append((f"{run.started:%Y-%m-%d %H:%M}", hosts, "; ".join(told), found.short([run.run_id])))
    return moves[::-1]


def _all_names(rows: Iterable[Row]) -> list[str]:
    """Columns, and the packages of `versions`."""
    packages = sorted({name for row in rows for name in (row.get("versions") or {})})
    return [*COLUMNS, *packages]


def _value(row: Row, name: str) -> object:
    return row[name] if name in COLUMNS else (row.get("versions") or {}).get(name)


def _text(value: object) -> str:
    return "-" if value is None else printable(str(value))


def _few(hosts: Iterable[str | None]) -> str:
    """Hosts, the first ones; "-" where none is recorded, as in rows that were exported."""
    names = sorted({host for host in hosts if host})
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(map(printable, names[:3])) + more or "-"
