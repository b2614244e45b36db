"""Compile every kernel for every chip without a GPU, and write down what each takes of its chip.

    python -m kernels.aot [chips=CHIP,CHIP] [ops=OP,OP] [per=first|all] [to=PATH] [jobs=N]
    python -m kernels.aot chips=sm_90,sm_80 ops=conv1x1 per=first to=build/aot.parquet jobs=2

`per=first` compiles one configuration for each kernel, shape class and chip, in bf16; `per=all`, the default, every
configuration of the chip's list, in bf16 and fp16. TRITON_CACHE_DIR is honoured. The exit status is 1 if a kernel
fails: it spills, takes more shared memory than there is, misses its matrix instruction, or does not compile.
"""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from kernels import runtime
from kernels.aot.cases import CASES
from kernels.aot.compile import compile_all, compile_launch, one_line
from kernels.aot.resources import Resources, failed
from kernels.chips import CHIPS
from kernels.dtypes import PRECISIONS, TUNED
from kernels.runtime import Launch
from results.durable import replace_file

__all__ = ["SCHEMA", "Resources", "collect", "compile_and_write", "compile_launch", "main"]

OPS = tuple(dict.fromkeys(case.op for case in CASES))
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kernel", "chip", "dtype", "shape_class", "config")]
    + [(name, pa.int64()) for name in ("regs", "shared_bytes", "stack_bytes", "spills")]
    + [(name, pa.string()) for name in ("matrix_instruction", "status")]
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The words of the command line; see the module."""

    chips: tuple[str, ...] = field(default_factory=lambda: tuple(CHIPS))
    ops: tuple[str, ...] = OPS
    per: str = "all"
    to: Path = Path("build/aot.parquet")
    jobs: int = len(os.sched_getaffinity(0))


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


def collect(options: Options) -> list[Entry]:
    """Every launch that the chosen cases make, on each chip."""
    entries = []
    for chip in options.chips:
        for case in (case for case in CASES if case.op in options.ops and (case.sample or options.per == "all")):
            for word in TUNED[: 1 if options.per == "first" else None]:
                dtype = PRECISIONS[word].torch_dtype
                for tile_config in (None,) if options.per == "first" else case.tile_configs(chip, dtype):
                    try:
                        with runtime.capture_launches(chip) as launches:
                            case.call(dtype, tile_config)
                    except Exception as error:  # of any kind: it is this row's, and the others are compiled
                        reason = one_line(error)
                        entries.append(Entry(case.op, chip, word, case.shape_class, str(tile_config), reason=reason))
                        continue
                    entries += [
                        Entry(launch.kernel, chip, word, case.shape_class, describe(launch), launch)
                        for launch in launches
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
        OSError: the table cannot be written.
    """
    start = time.monotonic()
    entries = collect(options)
    captured = [(entry, entry.launch) for entry in entries if entry.launch is not None]
    outcomes = {id(entry): failed(entry.reason) for entry in entries if entry.launch is None}
    compilations = 0
    console = Console(stderr=True)
    # Refreshed by hand: no thread of its own while processes are forked.
    with Progress(console=console, auto_refresh=False, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("compiling", total=len(captured))
        for places, resources in compile_all([(launch, entry.chip) for entry, launch in captured], options.jobs):
            compilations += 1
            outcomes |= {id(captured[place][0]): resources for place in places}
            progress.update(task, advance=len(places), refresh=True)
    keys = ("kernel", "chip", "dtype", "shape_class", "config")
    rows = [{key: getattr(entry, key) for key in keys} | asdict(outcomes[id(entry)]) for entry in entries]
    try:
        write(rows, options.to, SCHEMA)
    except OSError as error:
        raise OSError(f"to={options.to}: {error.strerror or error}") from None
    finally:  # what minutes of compiling have shown, in one place at least
        Console().print(summarize(rows, options.chips))
    wrong = [row for row in rows if row["status"] != "ok"]
    for row in wrong:
        print("kernels.aot:", *(row[key] for key in keys), row["status"], file=sys.stderr)
    print(
        f"{compilations} compilations for {len(rows)} launches on {', '.join(options.chips)} in "
        f"{time.monotonic() - start:.0f} s, {len(wrong)} launches failed: {options.to}"
    )
    return 1 if wrong or not rows else 0


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
            "first: one configuration a kernel, shape class and chip, in bf16; all: every one, in bf16 and fp16",
            defaults.per,
            choices=("first", "all"),
            one=True,
        )
        to: str | None = key("the Parquet table", str(defaults.to), path=True, one=True)
        jobs: int | None = key("processes", "one a core", least=1, one=True)

    def read(typed: list[str]) -> Options:
        if runtime.INTERPRETED:
            raise ValueError("TRITON_INTERPRET=1 is set, under which Triton compiles nothing; unset it")
        given: dict[str, Any] = {name: tuple(dict.fromkeys(found)) for name, found in values(typed, Keys).items()}
        given |= {name: given[name][0] for name in ("per", "to", "jobs") if name in given}
        if "to" in given:
            given["to"] = check_file(given["to"], defaults.to)
        return Options(**given)

    return command.run("kernels.aot", __doc__, Keys, read, compile_and_write, words, goes_on=True)
