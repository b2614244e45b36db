"""Run cases of ops in Triton's interpreter, between guard pages and with the programs of a grid in several orders.

A process of its own: it reads the name of an op a line, and answers each with a line of JSON. Each case runs in a fork.
An access out of bounds ends that with a signal, and what it said until then names the case and the line of the kernel.
"""

import contextlib
import dataclasses
import faulthandler
import json
import linecache
import math
import os
import random
import re
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from cases import CASES, Case
from guard import PLACES, guarded, span
from planted import PLANTED
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, interpreter_builder

from kernels import runtime
from kernels.reference.check import poisoned
from kernels.tiles import pointwise

ROOT = Path(__file__).resolve().parents[3]
ORDERS = ("forward", "reverse", "random 1", "random 2")
RUNS = [(order, PLACES[i % len(PLACES)]) for i, order in enumerate(ORDERS)]
ACCESSES = {"load": "load", "store": "store", "atomic": "atomic operation"}
FRAME = re.compile(r'File "(.+)", line (\d+) in (\w+)')


def ranked(order: str, count: int) -> list[int]:
    """Which of `count` programs runs first, second and so on."""
    programs = list(range(count))
    if order == "reverse":
        programs.reverse()
    elif order != "forward":
        random.Random(order).shuffle(programs)
    return programs


@contextlib.contextmanager
def programs_in(order: str, grid: Sequence[int]) -> Iterator[None]:
    """Within the `with` block the interpreter runs the programs of one launch in an order of `ORDERS`.

    Raises:
        AssertionError: it did not run each once.
    """
    _, ny, nz = sizes = (*grid, 1, 1)[:3]
    places = [(x, y, z) for x in range(sizes[0]) for y in range(ny) for z in range(nz)]
    turns = [places[program] for program in ranked(order, math.prod(sizes))]
    ran: list[tuple[int, int, int]] = []
    set_index = InterpreterBuilder.set_grid_idx

    def set_grid_idx(builder: Any, x: int, y: int, z: int) -> None:
        ran.append(turns[(x * ny + y) * nz + z])
        set_index(builder, *ran[-1])

    InterpreterBuilder.set_grid_idx = set_grid_idx
    try:
        yield
    finally:
        InterpreterBuilder.set_grid_idx = set_index
    assert ran == turns, f"a grid of {sizes} ran as {ran}"


def contents(tensor: Tensor) -> bytes:
    return span(tensor).view(torch.uint8).numpy().tobytes()


class Launches:
    """Stands for `runtime.launch`: whatever tensor a kernel is given lies between guard pages.

    Attributes:
        changed: what launches wrote, by parameter.
        told: the launches, in plain words.
    """

    def __init__(self, order: str, place: str) -> None:
        self.order, self.place = order, place
        self.changed: dict[str, bytes] = {}
        self.told: list[dict[str, Any]] = []
        self._launch = runtime.launch

    def __call__(
        self, name: str, function: Any, grid: Sequence[int], arguments: dict[str, Any], **options: int
    ) -> None:
        tensors = {key: value for key, value in arguments.items() if isinstance(value, Tensor)}
        moved: dict[tuple[int, int], Tensor] = {}  # one that is given twice stays one
        inside = {}
        for key, tensor in tensors.items():
            at = (tensor.data_ptr(), span(tensor).numel())
            if at not in moved:
                moved[at] = guarded(tensor, self.place)
            inside[key] = moved[at]
        before = {key: contents(tensor) for key, tensor in inside.items()}
        with programs_in(self.order, grid):
            self._launch(name, function, grid, {**arguments, **inside}, **options)
        for key, tensor in inside.items():
            after = contents(tensor)
            if after != before[key]:
                self.changed[key] = after
                span(tensors[key]).copy_(span(tensor))
        constants = {key: value for key, value in arguments.items() if key not in tensors and value is not None}
        kernel = f"{function.fn.__module__}.{function.fn.__name__}"
        self.told.append(
            {"op": name, "kernel": kernel, "grid": list(grid), "tensors": list(tensors), "constants": constants}
        )


def coarse(tiles: int) -> None:
    """Have each program of a pointwise kernel walk through so many tiles."""
    tiling = pointwise.pointwise_tiling

    def walk(rows: int, *arguments: Any, **keywords: Any) -> pointwise.PointwiseTiling:
        fine = tiling(rows, *arguments, **keywords)
        return dataclasses.replace(fine, tiles=tiles, grid=(-(-rows // (tiles * fine.block_m)), fine.grid[1]))

    pointwise.pointwise_tiling = walk


def call(case: Case, order: str, place: str) -> Launches:
    """One call of an op, with the operands that every other call of the case has."""
    launches = Launches(order, place)
    runtime.launch = launches
    # Exactly as many as were asked for, where there are thousands otherwise.
    runtime.counters = lambda count, device: torch.zeros(count, dtype=torch.int32)
    torch.manual_seed(0)
    with poisoned():  # alike in each call, so that what is left unwritten is no difference
        case.call(lambda tensor: guarded(tensor, place))
    runtime.launch = launches._launch
    return launches


def check(case: Case) -> None:
    """All calls of a case, in a process of its own; says what it does as it does it."""
    # Integers are small here, and whether they overflow takes the interpreter half of its time.
    interpreter_builder.options = dataclasses.replace(interpreter_builder.options, sanitize_overflow=False)
    if case.tiles:
        coarse(case.tiles)
    first: Launches | None = None
    for order, place in RUNS:
        print(f"BEGIN programs in order {order}, memory flush at its {place}", flush=True)
        found = call(case, order, place)
        assert len(found.told) == 1 and found.changed, "not one launch, or nothing was written"
        left = [key for key in found.changed if "counter" in key]
        assert not left, f"{left[0]} is not 0 after the launch"
        first = first or found
        differs = sorted(
            key
            for key in first.changed.keys() | found.changed.keys()
            if first.changed.get(key) != found.changed.get(key)
        )
        assert not differs, f"{differs[0]} is not what it is in order {ORDERS[0]}"
    assert first is not None
    print("LAUNCHES", json.dumps(first.told), flush=True)


def where(said: str) -> str:
    """The line of ours that was running, and those that called it, of what `faulthandler` printed."""
    frames = [(Path(path), int(line), name) for path, line, name in FRAME.findall(said)]
    access = next((ACCESSES[word] for *_, name in frames[:1] for word in ACCESSES if word in name), "access")
    ours = {
        name: f"{path.relative_to(ROOT)}:{line} in {name}: {linecache.getline(str(path), line).strip()}"
        for path, line, name in reversed(frames)
        if path.is_relative_to(ROOT) and ".venv" not in path.parts
    }
    innermost = list(ours.values())[-1:]
    kernels = [frame for name, frame in ours.items() if name.endswith("_kernel")]
    return f"{access} at {', called at '.join(dict.fromkeys(innermost + kernels))}"


def report(case: Case) -> dict[str, Any]:
    """What came of a case: its fault, one line or None, and its launches."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if not child:
        os.close(read_end)
        for stream in (1, 2):
            os.dup2(write_end, stream)
        faulthandler.enable(file=2, all_threads=False)
        try:
            check(case)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    begun = [line.removeprefix("BEGIN ") for line in said.splitlines() if line.startswith("BEGIN ")]
    told = [json.loads(line.removeprefix("LAUNCHES ")) for line in said.splitlines() if line.startswith("LAUNCHES ")]
    fault = None
    if status < 0:
        number = signal.Signals(-status)
        what = "out of bounds: " if number in (signal.SIGSEGV, signal.SIGBUS) else ""
        fault = f"{number.name}, {what}{where(said)}"
    elif status or not told:
        fault = said.strip().splitlines()[-1]
    name = f"{case.op}, {case.words}"
    return {
        "case": name,
        "fault": fault and f"{name}; {begun[-1] if begun else 'before the first call'}: {fault}",
        "launches": told[0] if told else [],
    }


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps([report(case) for case in (*CASES, *PLANTED) if case.op == line.strip()]), flush=True)
