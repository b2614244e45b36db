"""Compile every kernel for every chip without a GPU, and write down what each takes of its chip.

    python -m kernels.aot [chips=CHIP,CHIP] [ops=OP,OP] [per=first|list|all] [limits=check|write] [resident=write]
                          [to=PATH] [jobs=N]
    python -m kernels.aot chips=sm_90,sm_80 ops=conv1x1 per=first to=build/aot.parquet jobs=2
    python -m kernels.aot per=first limits=check

`per=first` compiles one configuration for each kernel, shape class and chip, in bf16; `per=list` every configuration of
the chip's list at the same shapes; `per=all`, the default, every one at all shapes, in bf16 and fp16. TRITON_CACHE_DIR
is honoured. The exit status is 1 if a kernel fails: it spills, takes more shared memory than there is, misses its
matrix instruction, or does not compile.

The table has a row for each launch: registers, memory, programs on a multiprocessor at once (`resident`), and what its
machine code does (`kernels/aot/counts.py`). Of AMD's code the path of a program is not told, and its columns are null.
`limits=check` also fails where a count is more than 10% above that of `kernels/aot/limits.csv`, where fewer programs
are resident, and where accesses are narrower; `limits=write` puts what was compiled there. A table of another version
of Triton is not compared with: a line says so. `resident=write` with `per=list` writes `kernels/tiles/resident.csv`,
from which the default tile configs follow on chips where none were measured.
"""

import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from math import prod
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kernels import runtime
from kernels.aot import limits, resident
from kernels.aot.cases import CASES, Case
from kernels.aot.compile import compile_all, compile_launch, one_line
from kernels.aot.counts import PATH, WHOLE, launch_counts
from kernels.aot.machine_code import MachineCode, compile_code, turns
from kernels.aot.resources import Resources, failed
from kernels.chips import CHIPS
from kernels.dtypes import PRECISIONS, TUNED
from kernels.operands import TileConfig
from kernels.runtime import Launch
from results.durable import replace_file
from results.words import ConfigError

__all__ = ["SCHEMA", "Resources", "collect", "compile_and_write", "compile_launch", "main"]

PER = ("first", "list", "all")
OPS = tuple(dict.fromkeys(case.op for case in CASES))
_RESOURCES = fields(Resources)
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kernel", "chip", "dtype", "shape_class", "config")]
    + [(name, pa.int64()) for name in ("regs", "shared_bytes", "stack_bytes", "spills")]
    + [(name, pa.string()) for name in ("matrix_instruction", "status")]
    + [(name, pa.int64()) for name in ("num_warps", "programs", "resident", "turns", *WHOLE, *PATH)]
    # Operands that are accessed in less than 16 bytes though their channels allow it; why counts are missing.
    + [(name, pa.string()) for name in ("narrow", "reason", "triton")]
)
KEYS = ("kernel", "chip", "dtype", "shape_class", "config")


@dataclass(frozen=True, kw_only=True)
class Options:
    """The words of the command line; see the module."""

    chips: tuple[str, ...] = field(default_factory=lambda: tuple(CHIPS))
    ops: tuple[str, ...] = OPS
    per: str = "all"
    limits: str | None = None
    resident: str | None = None
    to: Path = Path("build/aot.parquet")
    jobs: int = len(os.sched_getaffinity(0))

    @property
    def whole(self) -> bool:
        """Whether all operations are compiled for all chips."""
        return set(self.chips) == set(CHIPS) and set(self.ops) == set(OPS)


@dataclass(frozen=True)
class Entry:
    """One row of the table to be; where a case could not be captured there is no launch, and its op is the kernel."""

    kernel: str
    chip: str
    dtype: str
    shape_class: str
    config: str
    launch: Launch | None = None
    reason: str = ""


def check_file(value: str, usual: Path) -> Path:
    """A path that a table can be written to.

    Args:
        value: as it was typed.
        usual: the nearest that would do.

    Raises:
        ValueError: no file can be written there; one line.
    """
    try:
        path = Path(value).expanduser().absolute()
        there = next(folder for folder in path.parents if folder.exists())
        other = path.exists() and not path.is_file()  # a folder, or a device that must not be replaced
    except (OSError, RuntimeError) as error:  # a name that is too long; no such ~user
        raise ValueError(f"to={value}: {error}; nearest is to={usual}") from None
    if other or not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)) or there.is_relative_to("/proc"):
        nearest = path / usual.name if path.is_dir() else usual
        raise ValueError(f"to={value}: no file can be written there; nearest is to={nearest}")
    return Path(value).expanduser()


def calls(options: Options, chip: str, dtype: torch.dtype) -> Iterator[tuple[Case, TileConfig | None]]:
    """The chosen cases with their configurations; None leaves the configuration to the op."""
    cases = [case for case in CASES if case.op in options.ops]
    if options.per == "first":
        yield from ((case, None) for case in cases if case.sample)
        return
    covered = set()  # by a sample; some of a list's fit none
    for case in sorted(cases, key=lambda case: not case.sample) if options.per == "list" else cases:
        for tile_config in case.tile_configs(chip, dtype):
            if options.per == "all" or case.sample or (case.op, tile_config) not in covered:
                yield case, tile_config
                covered.add((case.op, tile_config))


def collect(options: Options) -> list[Entry]:
    """Every launch that the chosen cases make, on each chip."""
    entries = []
    for chip in options.chips:
        for word in TUNED[: None if options.per == "all" else 1]:
            dtype = PRECISIONS[word].torch_dtype
            for case, tile_config in calls(options, chip, dtype):
                try:
                    with runtime.capture_launches(chip) as launches:
                        case.call(dtype, tile_config)
                except Exception as error:  # of any kind: it is this row's, and the others are compiled
                    reason = one_line(error)
                    entries.append(Entry(case.op, chip, word, case.shape_class, str(tile_config), reason=reason))
                    continue
                entries += [
                    Entry(launch.kernel, chip, word, case.shape_class, describe(launch), launch) for launch in launches
                ]
    return entries


def describe(launch: Launch) -> str:
    """The tile config of a launch, such as 128x64x64/w4/s3. BLOCK_P is left out: it follows from the others."""
    names = [name for name in launch.function.arg_names if name.startswith("BLOCK") and name != "BLOCK_P"]
    blocks = "x".join(str(launch.arguments[name]) for name in names)
    return "/".join([blocks, *(f"{name.removeprefix('num_')[0]}{value}" for name, value in launch.options.items())])


def write(rows: Sequence[dict[str, Any]], path: Path, schema: pa.Schema) -> None:
    """Write a table as one zstd Parquet file, which appears whole or not at all; what a row lacks is null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.Table.from_pylist(list(rows), schema=schema)
    replace_file(path, lambda file: pq.write_table(table, file, compression="zstd"))


def summarize(rows: Sequence[dict[str, Any]], chips: Sequence[str]) -> Table:
    """A line for each kernel: the most registers and shared memory that it takes on each chip."""
    table = Table(title="most registers, most shared memory in KB")
    for name in ("kernel", *chips):
        table.add_column(name, justify="left" if name == "kernel" else "right")
    for kernel in dict.fromkeys(row["kernel"] for row in rows):
        cells = []
        for chip in chips:
            own = [row for row in rows if (row["kernel"], row["chip"]) == (kernel, chip)]
            whole = [row for row in own if row["regs"] is not None]
            most = [max((row[name] for row in whole), default=0) for name in ("regs", "shared_bytes")]
            cell = f"{most[0]}, {most[1] / 1024:.0f}" if whole else ""
            wrong = sum(row["status"] != "ok" for row in own)
            cells.append(f"{cell} [red]{wrong} failed[/]" if wrong else cell)
        table.add_row(kernel, *cells)
    return table


def compile_and_write(options: Options) -> int:
    """Compile what is chosen, write the table and show it; returns 1 where a kernel fails.

    Raises:
        OSError: a table cannot be written.
        ConfigError: the table of limits does not take what is chosen.
    """
    start = time.monotonic()
    kept = kept_limits(options) if options.limits else None
    entries = collect(options)
    captured = [(entry, entry.launch) for entry in entries if entry.launch is not None]
    found = {id(entry): row_of(entry, failed(entry.reason)) for entry in entries if entry.launch is None}
    compilations = 0
    console = Console(stderr=True)
    # Refreshed by hand: no thread of its own while processes are forked.
    with Progress(console=console, auto_refresh=False, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling", total=len(captured))
        launches = [(launch, entry.chip) for entry, launch in captured]
        for places, resources in compile_all(launches, options.jobs, compile_code):
            compilations += 1
            # At once, since the instructions of thousands of kernels are too many to keep.
            found |= {id(captured[place][0]): row_of(captured[place][0], resources) for place in places}
            progress.update(task, advance=len(places), refresh=True)
    rows = [found[id(entry)] for entry in entries]
    try:
        write(rows, options.to, SCHEMA)
    except OSError as error:
        raise OSError(f"to={options.to}: {error.strerror or error}") from None
    finally:  # what minutes of compiling have shown, in one place at least
        Console().print(summarize(rows, options.chips))
    wrong = [row for row in rows if row["status"] != "ok"]
    for row in wrong:
        print("kernels.aot:", *(row[key] for key in KEYS), row["status"], file=sys.stderr)
    worse = kept is not None and hold(options, rows, *kept)
    if options.resident and not wrong:
        print(f"{resident.write(row for row in rows if row['kernel'] in resident.OPS)} rows written to resident.csv")
    print(
        f"{compilations} compilations for {len(rows)} launches on {', '.join(options.chips)} in "
        f"{time.monotonic() - start:.0f} s, {len(wrong)} launches failed: {options.to}"
    )
    return 1 if wrong or worse or not rows else 0


def row_of(entry: Entry, resources: Resources) -> dict[str, Any]:
    """The row of a launch and what came of it."""
    row = {key: getattr(entry, key) for key in KEYS} | {one.name: getattr(resources, one.name) for one in _RESOURCES}
    row["triton"] = limits.version()
    if entry.launch is None or not isinstance(resources, MachineCode):
        return row | {"reason": resources.status}
    sizes = {"num_warps": entry.launch.options["num_warps"], "programs": prod(entry.launch.grid)}
    counted = launch_counts(entry.launch, resources)
    return row | sizes | {"resident": resources.resident, "turns": turns(entry.launch)} | counted


def kept_limits(options: Options) -> tuple[str, limits.Limits]:
    """The version of Triton that the kept table of limits is of, and its rows of what is compiled and of what is not.

    Raises:
        ConfigError: it cannot be read, or not be written with these options; one line.
    """
    if options.limits == "write" and not limits.TABLE.exists():
        return limits.version(), {}
    version, table = limits.read(limits.TABLE)
    if options.limits == "write" and version != limits.version() and not options.whole:
        raise ConfigError(
            f"limits=write: {limits.TABLE.name} is of Triton {version}, and a part of it cannot be of "
            f"{limits.version()}; nearest is {limits.WRITE}"
        )
    return version, table


def hold(options: Options, rows: Sequence[dict[str, Any]], version: str, table: limits.Limits) -> bool:
    """Check rows against a table of limits, or write them in place of those that it has; whether something is worse.

    Raises:
        OSError: the table cannot be written.
    """
    kernels = None if set(options.ops) == set(OPS) else {row["kernel"] for row in rows}
    own = limits.chosen(table, options.chips, kernels)
    if options.limits == "write":
        if any(row["status"] != "ok" for row in rows):
            print(f"limits=write: {limits.TABLE.name} is as it was, since kernels failed", file=sys.stderr)
            return True
        limits.write([*rows, *(row for key, row in table.items() if key not in own)], limits.TABLE)
        print(*limits.changes(own, rows), f"{len(rows)} rows written to {limits.TABLE}", sep="\n")
        return False
    if version != limits.version():
        print(f"not compared with {limits.TABLE.name}, which is of Triton {version}: here is {limits.version()}")
        return False
    worse = limits.regressions(own, rows)
    for line in worse:
        print("kernels.aot:", line, file=sys.stderr)
    print(f"{len(rows)} launches, of which {len(worse)} are worse than {limits.TABLE.name} says (Triton {version})")
    return bool(worse)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import key, values

    defaults = Options()

    @dataclass
    class Keys:
        chips: str | None = key("what is compiled for", "all", choices=tuple(CHIPS))
        ops: str | None = key("operations", "all", choices=OPS)
        per: str | None = key(
            "first: one configuration a kernel, shape class and chip, in bf16; list: every one of the chip's list at "
            "the same shapes; all: every one at every shape, in bf16 and fp16",
            defaults.per,
            choices=PER,
            one=True,
        )
        limits: str | None = key(
            "check: fail where a kernel takes or does more than the kept table says; write: write that table",
            "neither",
            choices=("check", "write"),
            one=True,
        )
        resident: str | None = key(
            "write: write the kept table of programs on a multiprocessor, by which default tile configs are chosen",
            "not written",
            choices=("write",),
            one=True,
        )
        to: str | None = key("the Parquet table", str(defaults.to), path=True, one=True)
        jobs: int | None = key("processes", "one a core", least=1, most=1024, one=True)

    def read(typed: list[str]) -> Options:
        if runtime.INTERPRETED:
            raise ValueError("TRITON_INTERPRET=1 is set, under which Triton compiles nothing; unset it")
        given: dict[str, Any] = {name: tuple(dict.fromkeys(found)) for name, found in values(typed, Keys).items()}
        given |= {name: given[name][0] for name in ("per", "limits", "resident", "to", "jobs") if name in given}
        if "to" in given:
            given["to"] = check_file(given["to"], defaults.to)
        if "limits" in given and given.get("per") != "first":
            word = f"limits={given['limits']}"
            raise ValueError(f"{word}: limits are those of per=first; nearest is per=first {word}")
        if "resident" in given and (given.get("per") != "list" or "chips" in given or "ops" in given):
            raise ValueError("resident=write: it is written whole, of per=list; nearest is per=list resident=write")
        return Options(**given)

    return command.run("kernels.aot", __doc__, Keys, read, compile_and_write, words, goes_on=True)
