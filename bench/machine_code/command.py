"""Models a training step from the machine code of its kernels: what each launch executes, takes and how long it is.

    python -m bench.machine_code depth=50 gpu=H200 [to=build/machine_code.parquet]

Every kernel that a step over the fused kernels launches is compiled for the GPU's chip, which needs none, and read from
its machine code: instructions of a thread, in its loop and outside, and those of the last programs alone (the tail);
shuffles, barriers, widths of loads and stores; registers, shared memory, and how many programs a multiprocessor has at
once. Times follow from these, the chip's clock and latencies, and its measured copy and matrix rates; see
`bench.machine_code.predict`. Nothing is timed and nothing is fitted. Where no rates were measured (A100, B200, gfx942)
there are no times, and of AMD's code resources alone. Rows are written as Parquet, one a launch; columns in
`bench/machine_code/rows.py`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import WordError, key, parse
from bench.config.slurm import cores_here
from bench.machine_code.rows import SCHEMA, Target, rows_of, targets
from bench.machine_code.table import launch_table, totals
from bench.roofline.net_keys import NetKeys
from bench.roofline.step import Step
from kernels import runtime
from kernels.aot.command import check_file, write

PIPE_WIDTH = 260
USUAL = Path("build/machine_code.parquet")


@dataclass(kw_only=True)
class Keys(NetKeys):
    """Words of the command line, behind those that name the net."""

    gpu: str = key("what it is modelled on", "H100", default="H100", choices=tuple(targets()))
    to: str | None = key("a Parquet table of all rows", "none is written", path=True, one=True)
    jobs: int | None = key("processes that compile", "one a core", least=1, most=1024, one=True)


@dataclass(frozen=True)
class Plan:
    """What is modelled: each step on its GPU."""

    cells: list[tuple[Step, Target]]
    to: Path | None
    jobs: int


def plan(words: Sequence[str]) -> Plan:
    """Read a command line.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    found = parse(words, Keys)
    if runtime.INTERPRETED:
        raise WordError("TRITON_INTERPRET=1 is set, under which Triton compiles nothing; unset it")
    cells = []
    for keys in found:
        target = targets()[keys.gpu]
        step = keys.step()
        if rates := target.rates:
            step = replace(step, copy_bytes_per_s=rates.copy_bytes_per_s, flops_per_s=rates.flops_per_s)
        cells.append((step, target))
    to = check_file(found[0].to, USUAL) if found[0].to else None
    return Plan(cells, to, found[0].jobs or cores_here(os.environ))


def show(one: Plan) -> int:
    """Model every step, show it and write its rows; returns 1 where a kernel fails."""
    terminal = Terminal(PIPE_WIDTH)
    every: list[dict[str, Any]] = []
    for step, target in one.cells:
        rows = _rows(step, target, one.jobs)
        terminal.print(launch_table(step, target, rows))
        terminal.print(totals(step, target, rows), soft_wrap=True)
        every += rows
    if one.to:
        write(every, one.to, SCHEMA)
        terminal.print(f"{len(every)} rows: {one.to}", soft_wrap=True)
    return int(any(row["status"] != "ok" for row in every))


def _rows(step: Step, target: Target, jobs: int) -> list[dict[str, Any]]:
    console = Console(stderr=True)
    # Refreshed by hand: no thread of its own while processes are forked.
    with Progress(console=console, auto_refresh=False, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"compiling for {target.name}")
        return rows_of(
            step, target, jobs, lambda done, of: progress.update(task, completed=done, total=of, refresh=True)
        )


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.machine_code", __doc__, Keys, plan, show, words, goes_on=True)
