"""Checks and times one case of the microbenchmarks with every backend, and shows and writes what came of it."""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from rich import box
from rich.table import Table

from bench.measure import device_rates
from bench.micro import backends
from bench.micro.op import Case, Run
from bench.micro.operands import Tensors
from kernels import reference, runtime
from kernels.choose.timer import CudaDevice, DeviceTimer
from kernels.dtypes import PRECISIONS
from kernels.operands import TileConfig
from results.statistics import median, paired_ratio, spread

BACKENDS = ("triton", "eager", "compile", "compile-max-autotune", "cudnn-fused")
MODES = {"compile": None, "compile-max-autotune": "max-autotune-no-cudagraphs"}


@dataclass(frozen=True)
class Result:
    """What came of one backend at one case.

    Attributes:
        status: "ok", "failed: ..." or "unavailable: ...".
        max_err: largest relative L2 error of an output, None where there is none.
        tile_config: of our kernels, in words.
        samples_us: by "warm" and "cold"; empty unless the status is "ok".
    """

    status: str
    max_err: float | None = None
    tile_config: str | None = None
    samples_us: dict[str, list[float]] | None = None


@dataclass(frozen=True)
class Peaks:
    """Rates of the device, measured or assumed."""

    copy_bytes_per_s: float
    matrix_flops_per_s: float


def describe_launches(launches: Sequence[runtime.Launch]) -> str | None:
    """Tile configs of our kernels, such as "conv1x1 128x64x64/w4/s3"; BLOCK_P follows from the others."""
    found = []
    for launch in launches:
        sizes = {name: value for name, value in launch.arguments.items() if name.startswith("BLOCK")}
        blocks = "x".join(str(value) for name, value in sizes.items() if name != "BLOCK_P")
        letters = {"num_warps": "w", "num_stages": "s"}
        options = [f"{letters.get(name, name)}{value}" for name, value in launch.options.items()]
        found.append(f"{launch.kernel} {'/'.join([blocks, *options])}")
    return "; ".join(dict.fromkeys(found)) or None


def build(
    backend: str, case: Case, operands: Tensors, precision: str, tile_config: TileConfig | None = None
) -> Run | str:
    """What computes a case, or why nothing does."""
    if backend == "triton":
        return backends.fused(case, tile_config)
    if backend == "eager":
        return backends.eager(case, operands)
    if backend in MODES:
        return torch.compile(backends.maths(case), mode=MODES[backend], fullgraph=True, dynamic=False)
    if precision != "fp16":
        return "unavailable: cuDNN documents its fusions for fp16 alone"
    run = backends.cudnn_fused(case)
    return run or "unavailable: PyTorch reaches no cuDNN fusion for this op without cuDNN's own front end"


def check(backend: str, run: Run, operands: Tensors, truth: Tensors, bound: dict[str, float]) -> Result:
    """Compare a backend's result with fp64; compiles and warms up on the way."""
    try:
        with runtime.record_launches() as launches:
            with reference.poisoned() if backend == "triton" else contextlib.nullcontext():
                found = run(operands)
        error = reference.errors(found, truth)
    except Exception as failure:  # of any kind: it is this backend's, and the others are still timed
        if backend == "triton" and next(iter(operands.values())).is_cuda:
            # It may have left the counters that launches share at anything.
            runtime.counters(runtime.COUNTERS, next(iter(operands.values())).device).zero_()
        lines = [line.strip() for line in str(failure).splitlines() if line.strip()]
        return Result(f"failed: {type(failure).__name__}: {lines[0] if lines else 'no message'}"[:300])
    mistakes = reference.wrong(error, bound)
    status = f"failed: {mistakes[0]}" if mistakes else "ok"
    worst = max(error.values()) if all(map(math.isfinite, error.values())) else None
    return Result(status, worst, describe_launches(launches))


def bound_of(case: Case, operands: Tensors, truth: Tensors) -> dict[str, float]:
    """Errors of eager's result, which the others' are held against."""
    whole = backends.maths(case, rewrite=True)(operands) if backends.rewritten(case) else {}
    return reference.errors(whole | backends.eager(case, operands)(operands), truth)


def measure(
    case: Case,
    names: Sequence[str],
    device: torch.device,
    *,
    precision: str,
    rounds: int,
    repeats: int,
    seed: int = 0,
    tile_config: TileConfig | None = None,
) -> dict[str, Result]:
    """Check one case with each backend and time those that are right, in turn.

    Args:
        case: what is timed.
        names: of the backends.
        device: where.
        precision: of the operands.
        rounds, repeats: turns of all backends, and samples of each in a turn.
        seed: of the operands.
        tile_config: of our convolutions; None leaves it to the shape.

    Raises:
        bench.measure.device_rates.NoDevice: there is no CUDA device.
    """
    timer = DeviceTimer(CudaDevice(device_rates.require_device()))
    operands = backends.operands(case, PRECISIONS[precision].torch_dtype, device, seed)
    with torch.backends.cudnn.flags(benchmark=False, allow_tf32=False):  # trying every algorithm in fp64 takes seconds
        truth = backends.maths(case, rewrite=True)(backends.wide(operands))
    bound = bound_of(case, operands, truth)
    results: dict[str, Result] = {}
    runs: dict[str, Run] = {}
    mine: Tensors = {}
    for backend in names:
        made = build(backend, case, operands, precision, tile_config)
        if isinstance(made, str):
            results[backend] = Result(made)
            continue
        mine = {name: truth[name] for name in truth if backend == "triton" or name != backends.rewritten(case)}
        results[backend] = check(backend, made, operands, mine, bound)
        if results[backend].status == "ok":
            runs[backend] = made
    del truth, mine
    ready = {backend: (lambda run=run: run(operands)) for backend, run in runs.items()}  # type: ignore[misc]
    samples: dict[str, dict[str, list[float]]] = {backend: {} for backend in runs}
    for l2 in ("warm", "cold"):
        for backend, values in timer.interleaved(ready, rounds=rounds, repeats=repeats, cold=l2 == "cold").items():
            samples[backend][l2] = values
    torch._dynamo.reset()
    return {
        backend: replace(result, samples_us=samples[backend]) if backend in samples else result
        for backend, result in results.items()
    }


def rows_of(case: Case, precision: str, results: dict[str, Result], peaks: Peaks) -> list[dict[str, Any]]:
    """Rows of the `kernels` table of one case: two a backend that was timed, one of any other."""
    rows = []
    for backend, result in results.items():
        row = {
            "op": case.op, "backend": backend, "shape": case.name, "dtype": precision, "layout": "channels_last",
            "bytes_min": case.bytes_min(PRECISIONS[precision].element_bytes), "flops": case.flops,
            "max_err": result.max_err, "status": result.status, "config": result.tile_config,
            "copy_bytes_per_s": peaks.copy_bytes_per_s, "matrix_flops_per_s": peaks.matrix_flops_per_s,
        }  # fmt: skip
        if not result.samples_us:
            rows.append(row)
            continue
        for l2, samples in result.samples_us.items():
            rows.append({**row, "l2": l2, "samples_us": samples, "p50": median(samples)})
    return rows


def case_table(case: Case, precision: str, results: dict[str, Result], peaks: Peaks) -> list[list[str]]:
    """Cells of the terminal's table, one line a backend."""
    size = PRECISIONS[precision].element_bytes
    floor_us = 1e6 * case.floor_s(size, peaks.copy_bytes_per_s, peaks.matrix_flops_per_s)
    base = (results.get("eager") or Result("")).samples_us or {}
    lines: list[list[str]] = []
    for backend, result in results.items():
        line = [case.name if not lines else "", backend]
        if not result.samples_us:
            lines.append([*line, *[""] * 6, result.status])
            continue
        cold, warm = result.samples_us["cold"], result.samples_us["warm"]
        seconds = median(cold) / 1e6
        moved, done = case.bytes_min(size) / seconds, case.flops / seconds
        matrix = f"{done / 1e12:,.0f} ({done / peaks.matrix_flops_per_s:.0%})" if case.conv else ""
        ratio = str(paired_ratio(base["cold"], cold)) if base and backend != "eager" else ""
        rate = f"{moved / 1e9:,.0f} ({moved / peaks.copy_bytes_per_s:.0%})"
        lines.append([
            *line, spread(cold), spread(warm), f"{floor_us:,.1f}", rate, matrix, ratio,
            f"{result.max_err:.1e} {result.tile_config or ''}".strip(),
        ])  # fmt: skip
    return lines


def new_table(op: str) -> Table:
    table = Table(title=f"{op}: microseconds, median (quartiles)", box=box.SIMPLE_HEAD)
    for column in ("shape", "backend"):
        table.add_column(column, no_wrap=True)
    for column in ("cold L2", "warm L2", "floor", "GB/s (of copy)", "TFLOP/s (of matrix)", "eager / it [95%]"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("error, tile config, or what is wrong", overflow="fold")
    return table
