"""What can be said of the kernels without a device: whether they are right in the interpreter, and their floors."""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from bench.config.grammar import word
from bench.config.paths import ROOT
from bench.micro.cases import cases
from bench.micro.plan import Plan
from kernels.child_process import die_with_parent


@functools.cache
def verify(words: tuple[str, ...]) -> tuple[list[dict[str, str]], str]:
    """What came of each form of each op, in a process of its own under the interpreter; and what went wrong with that.

    Args:
        words: of the command line of `bench.micro.verify`.
    """
    # The child has its own environment: under the interpreter Triton makes no kernels for a device.
    command = [sys.executable, "-m", "bench.micro.verify", *words]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, preexec_fn=die_with_parent
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    wrong = (done.stderr.strip().splitlines() or ["no message"])[-1] if done.returncode else ""
    return lines, wrong


def verify_and_predict(plans: Sequence[Plan], console: Console) -> bool:
    """What can be said without a device: whether kernels are right under the interpreter, and their floors."""
    start = time.monotonic()
    right = True
    for one in plans:
        net = one.step.architecture
        words = [f"{name}={getattr(net, name)}" for name in ("depth", "family", "shortcut", "stride")]
        words += [f"tile_config={one.tile_config}"] if one.tile_config else []
        words.append(word("results", one.keys.results))  # writes nothing, but checks its words
        lines, wrong = verify((*words, "op=" + ",".join(one.ops)))
        right = right and not wrong and all(line["status"] == "ok" for line in lines)
        console.print(floors_table(one, lines))
        if wrong:
            console.print(f"bench.micro.verify: {wrong}", style="red", soft_wrap=True)
    console.print(
        "No CUDA device here: nothing was timed and nothing written (verified in fp32 under Triton's interpreter in "
        f"{time.monotonic() - start:.0f} s).",
        soft_wrap=True,
    )
    return right


def floors_table(one: Plan, lines: Sequence[dict[str, str]]) -> Table:
    """Least time of every op over its shapes, and which of its forms the interpreter found right."""
    step = one.step
    rates = f"{step.copy_bytes_per_s / 1e12:g} TB/s and {step.flops_per_s / 1e12:g} TFLOP/s"
    tile_config = f", tile config {one.tile_config}" if one.tile_config else ""
    table = Table(title=f"{step.name()}{tile_config}: floors at {rates}, computed", box=box.SIMPLE_HEAD)
    table.add_column("op", no_wrap=True)
    for column in ("shapes", "GB", "floor ms"):
        table.add_column(column, justify="right")
    table.add_column("forms that are right in the interpreter")
    for op in one.ops:
        found = cases(step, (op,))
        moved = sum(case.bytes_min(step.element_bytes) for case in found)
        floor_s = sum(case.floor_s(step.element_bytes, step.copy_bytes_per_s, step.flops_per_s) for case in found)
        mine = [line for line in lines if line["op"] == op]
        wrong = "".join(f"; {line['form']}: {line['status']}" for line in mine if line["status"] != "ok")
        shown = f"{sum(line['status'] == 'ok' for line in mine)} of {len(mine)}{wrong}" if mine else "not in this net"
        table.add_row(op, str(len(found)), f"{moved / 1e9:.2f}", f"{1e3 * floor_s:.2f}", shown)
    return table
