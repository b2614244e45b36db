"""Times each fused kernel beside PyTorch, at the layers of a network, once its result has been checked.

    python -m bench.micro [op=conv1x1,conv3x3] [depth=50] [batch=256] [precision=bf16,fp16] [backend=triton,eager]

The backends take turns in one process. Each result is checked against fp64 first, and what fails is not timed. Times
are the device's, of single runs: launch gaps are hidden, so what launches cost is in `bench.step` alone. Fractions are
of the copy and matrix rates measured in the same process. Without a CUDA device the kernels are verified under Triton's
interpreter and their floors predicted; nothing is timed then, and nothing written.
"""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table

from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import WordError, key, parse
from bench.config.paths import ROOT, check_folder
from bench.measure import device_rates, gpu_rows, machine
from bench.micro_cases import OPS, cases
from bench.micro_measure import BACKENDS, Peaks, case_table, measure, new_table, rows_of
from bench.roofline.ops import CONVS
from bench.roofline.step import Step, net
from kernels import configs
from kernels.children import die_with_parent
from kernels.dtypes import PRECISIONS, TUNED
from kernels.ops.operands import Config
from resnet.architecture import FAMILIES, SHORTCUTS, STRIDES
from results.store.files import attempt_name, read_rows, table_files
from results.words import DEFAULT_ROOT

CHUNK = 6  # cases between two files of rows
PIPE_WIDTH = 150


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    op: str = key("which kernels", "all", default="all", choices=("all", *OPS))
    backend: str | None = key("what computes them, in turn in one process", "all", choices=BACKENDS)
    depth: int = key("network whose layers are timed", "50", default=50, unit="layers", least=8, most=12_002)
    shortcut: str | None = key("its shortcuts", "A (cifar), B (imagenet)", choices=SHORTCUTS)
    stride: str | None = key("where a bottleneck halves the image", "v1.5 where there are any", choices=STRIDES)
    family: str | None = key("which of the paper's two families of networks", "the depth's", choices=FAMILIES)
    batch: int | None = key("images", "256 (imagenet), 128 (cifar)", unit="images", least=1)
    image_size: int | None = key("side of the images", "224 (imagenet), 32 (cifar)", unit="pixels", least=8)
    precision: str = key("of activations", "bf16", default="bf16", choices=TUNED)
    rounds: int = key("turns of all backends", "10", default=10, least=2)
    repeats: int = key("samples of each backend in a turn", "5", default=5, least=1)
    seed: int = key("of the random operands", "0", default=0, least=0, most=2**31 - 1)
    cut: str | None = key(
        "how our convolutions are cut: MxNxK/wWARPS/sSTAGES, such as 128x64x64/w4/s3",
        "the shape's default",
        text="a cut",
    )
    run: str | None = key("id of a run to go on with: what it has is left out", "a new run", text="an id")
    results: str = key("folder that rows are written to", "results/v1", default=str(DEFAULT_ROOT), path=True)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One net and precision to time: `keys` of the cell, with all its ops and backends.

    Attributes:
        ops: in the order of `OPS`.
        backends: in the order of `BACKENDS`.
        cut: of our convolutions; None for that of each shape.
    """

    keys: Keys
    step: Step
    ops: tuple[str, ...]
    backends: tuple[str, ...]
    cut: Config | None = None

    def config(self) -> dict[str, Any]:
        """What is measured."""
        keys = self.keys
        return {
            "benchmark": "micro", "depth": keys.depth, "shortcut": self.step.architecture.shortcut,
            "stride": self.step.architecture.stride, "family": self.step.architecture.family,
            "batch": self.step.batch, "image_size": self.step.image_size, "precision": keys.precision,
            "rounds": keys.rounds, "repeats": keys.repeats, "seed": keys.seed, "ops": self.ops,
            "backends": self.backends, "cut": None if self.cut is None else str(self.cut),
        }  # fmt: skip


def plan(words: Sequence[str]) -> list[Plan]:
    """Group a command line's cells by net and precision.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    grouped: dict[str, list[Keys]] = {}
    for cell in parse(words, Keys):
        grouped.setdefault(repr(replace(cell, op="all", backend=None)), []).append(cell)
    plans = []
    for cells in grouped.values():
        keys = replace(cells[0], results=str(check_folder("results", cells[0].results)))
        if keys.run is not None:
            attempt_name(keys.run, 0)
        step = net(
            depth=keys.depth, stride=keys.stride, family=keys.family, shortcut=keys.shortcut,
            image_size=keys.image_size, batch=keys.batch, precision=keys.precision,
        )  # fmt: skip
        typed = {cell.op for cell in cells}
        ops = tuple(op for op in OPS if op in typed or "all" in typed)
        backends = tuple(one for one in BACKENDS if one in {cell.backend for cell in cells} or not keys.backend)
        plans.append(Plan(keys=keys, step=step, ops=ops, backends=backends, cut=_cut(keys.cut, ops, backends)))
    if len(plans) > 1 and plans[0].keys.run:
        raise WordError(f"run={plans[0].keys.run}: {len(plans)} nets, precisions or cuts are swept; a run is of one")
    return plans


def _cut(text: str | None, ops: Sequence[str], backends: Sequence[str]) -> Config | None:
    if text is None:
        return None
    if "triton" not in backends:
        typed = ",".join(backends)
        raise WordError(f"cut={text}: says how our kernels are cut, and backend={typed} has none; add backend=triton")
    others = [op for op in ops if op not in CONVS]
    if others:
        raise WordError(f"cut={text}: {others[0]} is no convolution; nearest is op={','.join(CONVS)}")
    try:
        return configs.parse(text)
    except ValueError as error:
        raise WordError(f"cut={error}") from None


def run_plan(plan: Plan, device: torch.device, console: Console) -> str:
    """Time one net and precision; returns the run's id."""
    keys, step = plan.keys, plan.step
    run_id = keys.run or gpu_rows.new_run_id(step, "micro")
    if table_files(Path(keys.results), "runs", [run_id]):
        console.print(f"run {run_id} is complete already")
        return run_id
    started = datetime.now(UTC)
    month = started.strftime("%Y-%m")
    system = machine.describe(device)
    gpu_rows.write_system(keys.results, run_id, month, system)
    done = {
        (row["op"], row["shape"], row["dtype"], row["backend"])
        for row in read_rows(keys.results, "kernels", [run_id])[0]
    }
    cut = f", cut {plan.cut}" if plan.cut else ""
    console.print(f"run {run_id}: {step.name()}{cut}; {machine.gpu_name(device)}; {device_rates.clocks()}")
    peaks = Peaks(device_rates.copy_peak(), device_rates.matrix_peak(PRECISIONS[keys.precision].torch_dtype))
    console.print(
        f"peaks measured: copy {peaks.copy_bytes_per_s / 1e12:.2f} TB/s, "
        f"{keys.precision} matrix {peaks.matrix_flops_per_s / 1e12:.0f} TFLOP/s"
    )
    for op in plan.ops:
        table = new_table(op)
        pending: list[dict[str, Any]] = []
        found = cases(step, (op,))
        for number, case in enumerate(found, 1):
            missing = [one for one in plan.backends if (op, case.name, keys.precision, one) not in done]
            if missing:
                with torch.no_grad():
                    results = measure(
                        case, missing, device,
                        precision=keys.precision, rounds=keys.rounds, repeats=keys.repeats, seed=keys.seed,
                        cut=plan.cut,
                    )  # fmt: skip
                pending += rows_of(case, keys.precision, results, peaks)
                for line in case_table(case, keys.precision, results, peaks):
                    table.add_row(*line)
                torch.cuda.empty_cache()
            if pending and (number % CHUNK == 0 or number == len(found)):
                gpu_rows.write_kernels(keys.results, run_id, month, pending)
                pending = []
        if table.row_count:
            console.print(table)
    row = gpu_rows.run_row(step, plan.config(), run_id, "micro", "all") | {"init_start": started}
    writer = gpu_rows.open_run(keys.results, row, device)
    reason = "single kernels were timed, not training"
    writer.finish("completed", run_stop=datetime.now(UTC), null_reasons=reasons_without(reason, "run_stop"))
    console.print(f"run {run_id} is complete; {device_rates.clocks()}")
    return run_id


def reasons_without(reason: str, *present: str) -> dict[str, str]:
    """A reason for every figure but those that have a value."""
    return gpu_rows.reasons(dict.fromkeys(present, 0), reason)


@functools.cache
def verify(words: tuple[str, ...]) -> tuple[list[dict[str, str]], str]:
    """What came of each form of each op, in a process of its own under the interpreter; and what went wrong with that.

    Args:
        words: of the command line of `bench.micro_verify`.
    """
    # The child has its own environment: under the interpreter Triton makes no kernels for a device.
    command = [sys.executable, "-m", "bench.micro_verify", *words]
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
        words += [f"cut={one.cut}"] if one.cut else []
        lines, wrong = verify((*words, "op=" + ",".join(one.ops)))
        right = right and not wrong and all(line["status"] == "ok" for line in lines)
        console.print(floors_table(one, lines))
        if wrong:
            console.print(f"bench.micro_verify: {wrong}", style="red", soft_wrap=True)
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
    cut = f", cut {one.cut}" if one.cut else ""
    table = Table(title=f"{step.name()}{cut}: floors at {rates}, computed", box=box.SIMPLE_HEAD)
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


def run_plans(plans: Sequence[Plan]) -> int:
    """Time what is planned; returns 1 where a kernel is wrong."""
    console = Terminal(PIPE_WIDTH)
    if not torch.cuda.is_available():
        return 0 if verify_and_predict(plans, console) else 1
    torch.backends.cudnn.benchmark = True
    device = device_rates.require_device()
    wrong = False
    for one in plans:
        run_id = run_plan(one, device, console)
        rows, _ = read_rows(one.keys.results, "kernels", [run_id])
        failed = [row for row in rows if row["backend"] == "triton" and (row["status"] or "").startswith("failed")]
        for row in failed:
            console.print(f"triton {row['op']} {row['shape']}: {row['status']}", style="red", soft_wrap=True)
        wrong |= bool(failed)
    return int(wrong)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.micro", __doc__, Keys, plan, run_plans, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
