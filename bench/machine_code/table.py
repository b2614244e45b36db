"""The table of a modelled step in the terminal."""

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from bench.machine_code.rows import LIBRARY, Target
from bench.roofline.step import Step
from kernels.aot.counts import WIDTHS

NOT_TIMED = "a model, nothing was timed"


def launch_table(step: Step, target: Target, rows: Sequence[dict[str, Any]]) -> Table:
    """A line for each distinct launch: what its code takes and does, and its time in the model."""
    table = Table(title=f"{step.name()}, {target.name}: {NOT_TIMED}", box=box.SIMPLE_HEAD)
    for column in ("kernel", "first layer", "tile config"):
        table.add_column(column, no_wrap=True)
    for column in (
        "launches", "programs", "turns", "instructions\nloop + rest", "tail", "shuffles", "barriers",
        "loads\n1/2/4/8/16 B", "stores\n1/2/4/8/16 B", "regs", "KB", "resident", "issue\nus", "memory\nus", "model\nus",
    ):  # fmt: skip
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("bound, or what is missing")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        if not row["kernel"].startswith(LIBRARY):
            groups.setdefault((row["variant"], row["programs"], row["turns"], row["bytes"]), []).append(row)
    for same in groups.values():
        table.add_row(*_cells(same[0], len(same)))
    return table


def _cells(row: dict[str, Any], launches: int) -> list[str]:
    def shown(name: str, digits: int = 0) -> str:
        return "" if row.get(name) is None else f"{row[name]:,.{digits}f}"

    def widths(kind: str) -> str:
        found = [row.get(f"{kind}_{width}b") for width in WIDTHS]
        return "" if None in found else "/".join(map(str, found))

    inside, outside = shown("instructions_inside"), shown("instructions_outside")
    shared = "" if row["shared_bytes"] is None else f"{row['shared_bytes'] / 1024:.0f}"
    return [
        row["kernel"], row["layer"], row["config"], str(launches), shown("programs"), shown("turns"),
        f"{inside} + {outside}" if outside else "", shown("instructions_tail"), shown("shuffles"), shown("barriers"),
        widths("loads"), widths("stores"), shown("regs"), shared, shown("resident"), shown("issue_us", 1),
        shown("memory_us", 1), shown("total_us", 1), row["reason"] or row.get("bound") or "",
    ]  # fmt: skip


def totals(step: Step, target: Target, rows: Sequence[dict[str, Any]]) -> str:
    """The step in one line, beside the ladder that counts bytes and matrix products alone."""
    rates = target.rates
    if rates is None:
        return f"{target.name}: resources alone; no time is modelled where no rates were measured"
    ours = [row for row in rows if not row["kernel"].startswith(LIBRARY)]
    missing = sum(row.get("total_us") is None for row in ours)
    our_ms, library_ms = (
        sum(row.get("total_us") or 0.0 for row in some) / 1e3
        for some in (ours, [row for row in rows if row["kernel"].startswith(LIBRARY)])
    )
    levels = {one.level: 1e3 * one.ideal_s for one in step.levels()}
    calibrated = {one.level: 1e3 * one.ideal_s for one in step.levels(calibrated=True)}
    ladder = ", ".join(f"{name} {levels[name]:.1f} / {calibrated[name]:.1f}" for name in "abcd")
    without = f"; {missing} launches have no time" if missing else ""
    return (
        f"{target.name}, {NOT_TIMED}: our {len(ours)} launches {our_ms:.1f} ms{without}, what torch and its libraries "
        f"compute {library_ms:.1f} ms (the roofline's calibrated figure), together {our_ms + library_ms:.1f} ms. "
        f"Ladder of bytes and matrix products alone, ideal / calibrated: {ladder} ms."
    )
