"""Each of our kernels in a step, measured by torch's profiler beside what its machine code predicts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from rich import box
from rich.table import Table

from bench.machine_code.launches import flops, least_bytes, without_memory
from bench.machine_code.predict import Rates
from bench.machine_code.rows import predicted_us
from bench.measure import machine
from bench.roofline.step import Step
from bench.step.variants import Stepper, Variant
from kernels import runtime
from kernels.aot.command import describe
from kernels.chips import CHIPS, gpu_named
from kernels.runtime import Launch
from kernels.tiles.pointwise import processors
from results.statistics import median

STEPS = 5  # that are profiled


@dataclass(frozen=True)
class Event:
    """What ran on the device: a kernel by its name, when it began, and for how long."""

    name: str
    start_us: float
    us: float


@dataclass(frozen=True)
class Profile:
    """Our launches of a step, in order, and how long each took in each of the steps that were profiled."""

    launches: list[Launch]
    samples_us: list[list[float]]


def profile(stepper: Stepper) -> Profile:
    """Launch some steps under the profiler, on a CUDA device.

    Raises:
        ValueError: what ran is not what was launched; one line.
    """
    with runtime.record_launches() as launches:
        stepper.step()
    # The ledger holds every tensor of the step until here.
    launches[:] = [without_memory(launch) for launch in launches]
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CUDA, torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(STEPS):
            stepper.step()
        torch.cuda.synchronize()
    names = [launch.function.__name__ for launch in launches]
    return Profile(launches, match(device_events(profiler.events() or ()), names, STEPS))


def device_events(events: Iterable[Any]) -> list[Event]:
    """Of the profiler's events those that ran on the device."""
    return [
        Event(event.name, event.time_range.start, event.time_range.elapsed_us())
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA
    ]


def match(events: Sequence[Event], names: Sequence[str], steps: int) -> list[list[float]]:
    """Microseconds of each launch in each step.

    Args:
        events: of the device, kernels of others among them.
        names: of the launched kernels of one step, in order; a stream runs them in that order.
        steps: that ran.

    Raises:
        ValueError: what ran is not what was launched; one line.
    """
    ours = sorted((event for event in events if event.name in set(names)), key=lambda event: event.start_us)
    if len(ours) != steps * len(names):
        raise ValueError(f"the profiler saw {len(ours)} of our kernels in {steps} steps of {len(names)}")
    for place, event in enumerate(ours):
        if event.name != names[place % len(names)]:
            wanted = names[place % len(names)]
            raise ValueError(f"launch {place % len(names)} of a step is {wanted}, but {event.name} ran")
    return [[event.us for event in ours[place :: len(names)]] for place in range(len(names))]


def predictions(step: Step, found: Profile, device: torch.device) -> list[float | None]:
    """Microseconds of each launch by its machine code, at the rates of `step`; None where the model has no time.

    Args:
        step: with the rates that this process measured.
        device: that the launches were for.
    """
    chip, product = runtime.chip(device), gpu_named(machine.gpu_name(device) or "")
    if product is None or product.clock_ghz is None or CHIPS[chip].latencies is None:
        return [None] * len(found.launches)
    rates = Rates(step.copy_bytes_per_s, step.flops_per_s, product.clock_ghz * 1e9, processors(device))
    return predicted_us(found.launches, chip, rates)


def kernel_rows(
    step: Step, variant: Variant, found: Profile, predicted: Sequence[float | None]
) -> list[dict[str, Any]]:
    """Rows of the `kernels` table, one a launch."""
    rows = []
    for launch, samples, us in zip(found.launches, found.samples_us, predicted, strict=True):
        sizes = "x".join(str(launch.arguments[name]) for name in ("M", "C", "K") if name in launch.arguments)
        rows.append(
            {
                "op": launch.kernel,
                "backend": variant.kernels,
                "shape": f"{launch.layer} {sizes}".strip(),
                "dtype": step.precision,
                "layout": "channels_last",
                "samples_us": samples,
                "p50": median(samples),
                "predicted_us": us,
                "bytes_min": least_bytes(launch),
                "flops": flops(launch),
                "status": "ok",
                "copy_bytes_per_s": step.copy_bytes_per_s,
                "matrix_flops_per_s": step.flops_per_s,
                "config": describe(launch),
            }  # fmt: skip
        )
    return rows


def profile_table(step: Step, variant: Variant, rows: Sequence[dict[str, Any]]) -> Table:
    """A line for each kernel: what its launches took in a step, and what the model says."""
    title = f"{step.name()}, {variant}: our kernels in a step, by torch's profiler and by their machine code"
    table = Table(title=title, box=box.SIMPLE_HEAD)
    table.add_column("kernel", no_wrap=True)
    for column in ("launches", "bytes alone, ms", "model, ms", "measured, ms", "measured / model"):
        table.add_column(column, justify="right", no_wrap=True)
    groups = {op: [row for row in rows if row["op"] == op] for op in dict.fromkeys(row["op"] for row in rows)}
    for name, some in (*groups.items(), ("all", list(rows))):
        measured = sum(row["p50"] for row in some) / 1e3
        floor = sum(row["bytes_min"] / row["copy_bytes_per_s"] for row in some) * 1e3
        known = [row["predicted_us"] for row in some if row["predicted_us"] is not None]
        model = sum(known) / 1e3 if len(known) == len(some) else None
        table.add_row(
            name, str(len(some)), f"{floor:.2f}", "" if model is None else f"{model:.2f}", f"{measured:.2f}",
            "" if not model else f"{measured / model:.2f}",
        )  # fmt: skip
    return table
