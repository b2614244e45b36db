"""A row for every launch of a step: what its machine code takes and does, and how long the model says it is."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from math import prod
from typing import Any

import pyarrow as pa

from bench.machine_code.launches import CapturedStep, capture, flops, least_bytes
from bench.machine_code.predict import Prediction, Rates, predict
from bench.machine_code.timeline import Alone, alone
from bench.roofline.passes import Pass
from bench.roofline.step import Step
from kernels.aot.command import describe
from kernels.aot.compile import compile_all, specialize, target_of
from kernels.aot.counts import PATH, counts
from kernels.aot.machine_code import MachineCode, compile_code, turns
from kernels.aot.resources import Resources
from kernels.aot.sass import CodeError, Path
from kernels.chips import CHIPS, Chip, Gpu
from kernels.runtime import Launch

LIBRARY = "library "  # before the name of a pass that is torch's
CALIBRATED = "no code of ours: the roofline's calibrated time"
_TIMES = tuple(field.name for field in fields(Prediction) if field.name.endswith("_s"))
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("gpu", "chip", "dtype", "kernel", "layer", "config", "status", "reason")]
    # The place of the launch in the step, and which launches run the same code.
    + [(name, pa.int64()) for name in ("launch", "variant", "programs", "num_warps")]
    # Of a thread, on the path of every program: in loops (all turns), outside, and of the last programs alone.
    + [(name, pa.int64()) for name in ("turns", *PATH)]
    + [(name, pa.int64()) for name in ("regs", "shared_bytes", "stack_bytes", "spills", "resident", "bytes", "flops")]
    + [(name.replace("_s", "_us"), pa.float64()) for name in _TIMES]
    + [("bound", pa.string()), ("measured", pa.bool_())]
)


@dataclass(frozen=True)
class Target:
    """What a step is modelled on.

    Attributes:
        name: on the command line and in rows.
        chip: one of `kernels.chips.CHIPS`.
        gpu: a product with it; None where none is in the table.
    """

    name: str
    chip: str
    gpu: Gpu | None

    @property
    def rates(self) -> Rates | None:
        """None where nothing was measured on the product, and no time can be told."""
        gpu, chip = self.gpu, CHIPS[self.chip]
        if gpu is None or chip.latencies is None:
            return None
        if gpu.measured_copy_tb_s is None or gpu.measured_matrix_tflop_s is None or gpu.clock_ghz is None:
            return None
        return Rates(
            gpu.measured_copy_tb_s * 1e12, gpu.measured_matrix_tflop_s * 1e12, gpu.clock_ghz * 1e9, chip.processors
        )


def targets() -> dict[str, Target]:
    """Products by name, and the name of a chip of which none is known."""
    found = {}
    for name, chip in CHIPS.items():
        for gpu in chip.gpus:
            if " " not in gpu.name:
                found[gpu.name] = Target(gpu.name, name, gpu)
        if not chip.gpus:
            found[name] = Target(name, name, None)
    return found


def predict_launch(launch: Launch, made: MachineCode, chip: str, rates: Rates) -> Prediction:
    """Time of a launch.

    Args:
        made: of the launch, for `chip`, one of `kernels.chips.CHIPS` whose latencies are known.
        rates: of the GPU.

    Raises:
        CodeError: the path of its programs cannot be told.
    """
    path, limits = made.path(launch), CHIPS[chip]
    warps = launch.options["num_warps"]
    tail = _alone(Path(path.code, path.tail, (), ()), limits, warps, rates).cycles if path.tail else 0.0
    return predict(
        _alone(path, limits, warps, rates), tail, path,
        moved=least_bytes(launch), programs=prod(launch.grid), resident=made.resident or 0, rates=rates,
    )  # fmt: skip


def predicted_us(launches: Sequence[Launch], chip: str, rates: Rates) -> list[float | None]:
    """Microseconds of launches, compiled in this process; None of one that has no time in the model."""
    made: dict[str, Resources] = {}
    times: dict[tuple[str, int, int, int], float | None] = {}
    found = []
    for launch in launches:
        variant = specialize(launch, target_of(chip)).key
        if variant not in made:
            made[variant] = compile_code(launch, chip)
        key = (variant, turns(launch), prod(launch.grid), least_bytes(launch))
        if key not in times:
            times[key] = _microseconds(launch, made[variant], chip, rates)
        found.append(times[key])
    return found


def _microseconds(launch: Launch, made: Resources, chip: str, rates: Rates) -> float | None:
    try:
        return predict_launch(launch, made, chip, rates).total_s * 1e6 if isinstance(made, MachineCode) else None
    except CodeError:
        return None


def _alone(path: Path, chip: Chip, num_warps: int, rates: Rates) -> Alone:
    return alone(path, chip, num_warps, rates.cycles_per_flop)


def rows_of(
    step: Step, target: Target, jobs: int, progress: Callable[[int, int], None] | None = None
) -> list[dict[str, Any]]:
    """Compile the distinct launches of a step and give a row for each launch and each pass that is the library's.

    Args:
        jobs: processes that compile at a time.
        progress: is told how many launches are done, and of how many.
    """
    captured = capture(step, target.chip)
    made: dict[int, tuple[int, Resources]] = {}
    for variant, (places, resources) in enumerate(
        compile_all([(launch, target.chip) for launch in captured.launches], jobs, compile_code)
    ):
        made |= {place: (variant, resources) for place in places}
        if progress:
            progress(len(made), len(captured.launches))
    return launch_rows(step, target, captured.launches, made) + library_rows(step, target, captured)


def launch_rows(
    step: Step, target: Target, launches: Sequence[Launch], made: dict[int, tuple[int, Resources]]
) -> list[dict[str, Any]]:
    """Rows of our launches, of which equal ones are told once."""
    rows = []
    known: dict[tuple[int, int, int, int], dict[str, Any]] = {}
    for place, launch in enumerate(launches):
        variant, resources = made[place]
        key = (variant, turns(launch), prod(launch.grid), least_bytes(launch))
        if key not in known:
            known[key] = _told(launch, resources, target)
        rows.append(
            {
                "gpu": target.name,
                "chip": target.chip,
                "dtype": step.precision,
                "kernel": launch.kernel,
                "layer": launch.layer,
                "config": describe(launch),
                "launch": place,
                "variant": variant,
                "programs": prod(launch.grid),
                "num_warps": launch.options["num_warps"],
                "turns": turns(launch),
                "bytes": least_bytes(launch),
                "flops": flops(launch),
                "measured": False,
                **known[key],
            }  # fmt: skip
        )
    return rows


def _told(launch: Launch, resources: Resources, target: Target) -> dict[str, Any]:
    """What is known of a launch; `reason` says why some of it is not."""
    whole = asdict(resources) if not isinstance(resources, MachineCode) else _resources(resources)
    found = {name: whole[name] for name in ("regs", "shared_bytes", "stack_bytes", "spills", "status")}
    if not isinstance(resources, MachineCode):
        return found | {"reason": resources.status}
    found["resident"] = resources.resident
    try:
        found |= counts(resources.path(launch))
        rates = target.rates
        if rates is None:
            return found | {"reason": "times: no rates were measured on this chip"}
        prediction = predict_launch(launch, resources, target.chip, rates)
    except CodeError as error:
        return found | {"reason": str(error)}
    times = {name.replace("_s", "_us"): value * 1e6 for name, value in asdict(prediction).items() if name in _TIMES}
    return found | times | {"bound": prediction.bound, "reason": ""}


def _resources(made: MachineCode) -> dict[str, Any]:
    """Without the instructions, which are many."""
    return {field.name: getattr(made, field.name) for field in fields(Resources)}


def library_rows(step: Step, target: Target, captured: CapturedStep) -> list[dict[str, Any]]:
    """Rows of what torch and its libraries compute, with the roofline's calibrated time."""
    return [_library_row(step, target, one) for one in captured.library]


def _library_row(step: Step, target: Target, one: Pass) -> dict[str, Any]:
    row = {
        "gpu": target.name, "chip": target.chip, "dtype": step.precision, "kernel": LIBRARY + one.op,
        "layer": one.layer, "bytes": one.bytes, "flops": one.flops, "status": "ok", "reason": CALIBRATED,
        "measured": False,
    }  # fmt: skip
    rates = target.rates
    if rates is not None:
        copy, matrix = rates.copy_bytes_per_s * step.copy_frac, rates.flops_per_s * step.matrix_frac
        row["total_us"] = one.seconds(copy, matrix) * 1e6
    return row
