"""Prepares the variants of a training step, checks their losses, times them in turn and writes their rows."""

import gc
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from rich.console import Console

import resnet
from bench.measure import device_rates, gpu_rows, machine
from bench.roofline.step import Step
from bench.step.plan import Plan
from bench.step.rows import Measured, choices_line, config_of, floors_line, null_reasons, outcome, step_rows, step_table
from bench.step.variants import (
    FP16_SCALE,
    Losses,
    Stepper,
    Variant,
    batch_of,
    build_model,
    choices_of,
    initial_state,
    recipe_of,
)
from kernels.choose.timer import order
from kernels.dtypes import PRECISIONS


def prepare(
    one: Plan, variant: Variant, state: dict[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor], pool: object
) -> tuple[Stepper, Losses, Measured]:
    """Build, compile, warm up and capture a variant; its peak of memory is what it adds to what is there."""
    images, labels = batch
    before = torch.cuda.memory_allocated() if images.is_cuda else 0
    model = build_model(one.step, variant.kernels)
    model.load_state_dict(state)
    if variant.kernels == "auto":
        from resnet.fused.network import choose_kernels  # imports Triton

        choose_kernels(model, tuple(images.shape), PRECISIONS[one.step.precision].torch_dtype, images.device)
    stepper = Stepper(model, images, labels, recipe_of(one.step), one.step.precision, variant.graph)
    losses = stepper.prepare(pool)
    measured = Measured()
    if stepper.peak_mem_bytes is not None:
        measured.peak_mem_bytes = stepper.peak_mem_bytes - before + images.nbytes + labels.nbytes
    if chosen := choices_of(model):
        measured.choices, measured.choices_table = chosen
    return stepper, losses, measured


def failed(error: BaseException) -> Measured:
    """A variant that an exception ended."""
    kinds = {torch.OutOfMemoryError: "oom", ValueError: "config"}
    kind = next((kind for cls, kind in kinds.items() if isinstance(error, cls)), "unknown")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return Measured(problem=f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300], failure_kind=kind)


def measure(one: Plan, device: torch.device, console: Console) -> dict[Variant, Measured]:
    """Prepare every variant, check its losses, and time those that are right in turn."""
    keys = one.keys
    state = initial_state(one.step, keys.seed, device)
    batch = batch_of(one.step, keys.seed, device)
    pool = torch.cuda.graph_pool_handle() if any(variant.graph for variant in one.variants) else None
    results: dict[Variant, Measured] = {}
    steppers: dict[Variant, Stepper] = {}
    eager: Losses | None = None
    reference = Variant("torch")
    wanted = one.variants if reference in one.variants else (reference, *one.variants)
    # Eager first: what the others' losses are held against.
    for variant in sorted(wanted, key=lambda each: each != reference):
        start = time.monotonic()
        try:
            stepper, losses, results[variant] = prepare(one, variant, state, batch, pool)
        except Exception as error:  # of any kind: it is this variant's, and the others are still timed
            results[variant] = failed(error)
        if results[variant].problem:
            gc.collect()
            torch.cuda.empty_cache()
            console.print(f"{variant}: {results[variant].problem}", style="red", soft_wrap=True)
            if variant == reference:
                break
            continue
        console.print(f"{variant}: ready after {time.monotonic() - start:.0f} s", style="dim")
        eager = eager or losses
        results[variant].problem = losses.problem(eager, variant.graph)
        if results[variant].problem:
            results[variant].failure_kind = "diverged"
        elif variant in one.variants:
            steppers[variant] = stepper
        del stepper
    for variant in one.variants:  # where not even eager runs
        results.setdefault(variant, Measured(problem="eager did not run, so nothing could be checked"))
    names = [variant for variant in one.variants if variant in steppers]
    for turn in range(keys.rounds):
        for variant in order(names, turn):
            samples, results[variant].loss = steppers[variant].time(keys.steps)
            results[variant].rounds.append(samples)
            results[variant].ended_ns.append(time.time_ns())
    for variant in names:
        if keys.profile and variant.launches:
            from bench.step.kernel_times import profile  # imports Triton

            try:
                results[variant].profile = profile(steppers[variant])
            except ValueError as error:  # the times are right, whatever the profiler saw
                results[variant].profile = str(error)
    return {variant: results[variant] for variant in one.variants}


def write(
    one: Plan,
    results: dict[Variant, Measured],
    device: torch.device,
    started: datetime,
    kernels: Mapping[Variant, list[dict[str, Any]]],
) -> list[str]:
    """Write a run a variant; their ids differ at the end alone.

    Args:
        kernels: rows of the table `kernels`, of variants that were profiled.
    """
    model = build_model(one.step, "torch")
    counts = resnet.count(model, one.step.image_size)
    stem = gpu_rows.new_run_id(one.step, "step")
    run_ids = []
    for variant, measured in results.items():
        run_id = f"{stem}-{variant.kernels}{'-graph' if variant.graph else ''}"
        config = config_of(
            one.step, variant, rounds=one.keys.rounds, steps=one.keys.steps, seed=one.keys.seed
        )  # fmt: skip
        row = gpu_rows.run_row(one.step, config, run_id, "step", variant.kernels)
        row |= {"init_start": started, "cuda_graph": variant.graph, "lr": config["lr"], "eval_interval": None}
        choices = measured.choices
        if choices is not None:
            row |= {"kernels_choices": choices.to_json(), "choices_hash": choices.hash()}
        writer = gpu_rows.open_run(one.keys.results, row, device)
        if measured.rounds:
            figures = outcome(
                one.step, measured, multiply_adds=counts.multiply_adds, parameters=counts.parameters,
                gpu=machine.gpu_name(device),
            )  # fmt: skip
            figures["run_stop"] = datetime.now(UTC)
            writer.steps(step_rows(measured))
            gpu_rows.write_kernels(one.keys.results, run_id, started.strftime("%Y-%m"), kernels.get(variant, []))
            writer.finish("completed", null_reasons=null_reasons(figures), **figures)
        else:
            writer.finish(
                "failed", failure_kind=measured.failure_kind or "unknown", failure_message=measured.problem,
                run_stop=datetime.now(UTC), peak_mem_bytes=measured.peak_mem_bytes,
            )  # fmt: skip
        run_ids.append(run_id)
    return run_ids


def _kernels(
    step: Step, results: dict[Variant, Measured], device: torch.device, console: Console
) -> dict[Variant, list[dict[str, Any]]]:
    """Rows of the table `kernels` of the variants that were profiled, shown beside what their machine code predicts."""
    found: dict[Variant, list[dict[str, Any]]] = {}
    for variant, measured in results.items():
        if isinstance(measured.profile, str):
            console.print(f"{variant}: not profiled: {measured.profile}", style="red", soft_wrap=True)
        elif measured.profile is not None:
            from bench.step.kernel_times import kernel_rows, predictions, profile_table  # imports Triton

            try:
                predicted = predictions(step, measured.profile, device)
            except Exception as error:  # of any kind: it is the model's, and what was measured is kept
                console.print(f"{variant}: no predictions: {failed(error).problem}", style="red", soft_wrap=True)
                predicted = [None] * len(measured.profile.launches)
            found[variant] = kernel_rows(step, variant, measured.profile, predicted)
            console.print(profile_table(step, variant, found[variant]))
    return found


def run_plan(one: Plan, device: torch.device, console: Console) -> bool:
    """Measure, show and write; returns whether every variant was timed."""
    started = datetime.now(UTC)
    copy, matrix = device_rates.copy_peak(), device_rates.matrix_peak(PRECISIONS[one.step.precision].torch_dtype)
    torch.cuda.empty_cache()
    step = replace(one.step, copy_bytes_per_s=copy, flops_per_s=matrix)
    console.print(f"{step.name()}; {machine.gpu_name(device)}; {device_rates.clocks()}")
    if step.precision == "fp16":
        console.print(f"fp16: a constant loss scale of {FP16_SCALE:g} in every variant, no GradScaler")
    results = measure(one, device, console)
    kernels = _kernels(step, results, device, console)
    run_ids = write(one, results, device, started, kernels)
    console.print(step_table(step, results))
    console.print(floors_line(step), soft_wrap=True)
    for variant, measured in results.items():
        if measured.choices is not None:
            print(measured.choices_table, end="")  # not through the console: it is made already
            console.print(choices_line(variant, measured.choices), soft_wrap=True)
    console.print(f"runs {run_ids[0]} and {len(run_ids) - 1} more; {device_rates.clocks()}", soft_wrap=True)
    torch._dynamo.reset()
    gc.collect()
    torch.cuda.empty_cache()
    return all(measured.rounds and not isinstance(measured.profile, str) for measured in results.values())
