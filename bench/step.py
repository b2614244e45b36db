"""Times whole training steps of a network, every way of computing it in turn on one GPU.

    python -m bench.step depth=50 stride=v1.5 batch=256 precision=bf16,fp16 kernels=torch,compile,triton,auto \
        graphs=false,true

A step is forward under autocast, cross entropy, backward and torch's fused SGD with momentum, over random images that
lie on the device; compiling, choosing kernels and warming up come before. With graphs=true the whole step is captured
and replayed, in the same way for every variant. In fp16 a constant loss scale stands in for a GradScaler, in every
variant, because a GradScaler's step cannot be captured. Each variant's losses must be eager's before it is timed.
Without a CUDA device the fused kernels are verified under Triton's interpreter and the floors predicted; nothing is
timed then, and nothing written.
"""

import functools
import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import torch
from rich.console import Console

import resnet
from bench.config import command
from bench.config.command import Terminal
from bench.config.grammar import key, parse
from bench.config.paths import ROOT, check_folder
from bench.measure import device_rates, gpu_rows, machine
from bench.roofline.step import Step, net
from bench.step_rows import (
    Measured,
    choices_line,
    config_of,
    floors_line,
    null_reasons,
    outcome,
    step_rows,
    step_table,
)
from bench.step_variants import (
    FP16_SCALE,
    KERNELS,
    Losses,
    Stepper,
    Variant,
    batch_of,
    build_model,
    choices_of,
    initial_state,
    recipe_of,
)
from kernels.children import die_with_parent
from kernels.choose.timer import order
from kernels.dtypes import PRECISIONS, TUNED
from resnet.architecture import FAMILIES, SHORTCUTS, STRIDES, Architecture
from results.words import DEFAULT_ROOT

PIPE_WIDTH = 140


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    depth: int = key("network", "50", default=50, unit="layers", least=8, most=12_002)
    shortcut: str | None = key("its shortcuts", "A (cifar), B (imagenet)", choices=SHORTCUTS)
    stride: str | None = key("where a bottleneck halves the image", "v1.5 where there are any", choices=STRIDES)
    family: str | None = key("which of the paper's two families of networks", "the depth's", choices=FAMILIES)
    batch: int | None = key("images", "256 (imagenet), 128 (cifar)", unit="images", least=1)
    image_size: int | None = key("side of the images", "224 (imagenet), 32 (cifar)", unit="pixels", least=8)
    precision: str = key("of activations", "bf16", default="bf16", choices=TUNED)
    kernels: str | None = key("what computes the layers, in turn", "torch,compile,triton,auto", choices=KERNELS)
    graphs: bool | None = key("whether the whole step is captured as a CUDA graph, in turn", "false,true")
    rounds: int = key("turns of all variants", "10", default=10, least=2)
    steps: int = key("timed steps of each variant in a turn", "5", default=5, unit="steps", least=1)
    seed: int = key("of weights and images", "0", default=0, least=0, most=2**31 - 1)
    results: str = key("folder that rows are written to", "results/v1", default=str(DEFAULT_ROOT), path=True)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One net, batch and precision, and the variants that are compared on it."""

    keys: Keys
    step: Step
    variants: tuple[Variant, ...]


def plan(words: Sequence[str]) -> list[Plan]:
    """Group a command line's cells by what variants share.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    grouped: dict[str, list[Keys]] = {}
    for cell in parse(words, Keys):
        grouped.setdefault(repr(replace(cell, kernels=None, graphs=None)), []).append(cell)
    plans = []
    for cells in grouped.values():
        keys = replace(cells[0], results=str(check_folder("results", cells[0].results)))
        step = net(
            depth=keys.depth, stride=keys.stride, family=keys.family, shortcut=keys.shortcut,
            image_size=keys.image_size, batch=keys.batch, precision=keys.precision,
        )  # fmt: skip
        typed = dict.fromkeys(cell.kernels for cell in cells)
        kernels = [one for one in typed if one] or ["torch", "compile", "triton", "auto"]
        graphs = [one for one in dict.fromkeys(cell.graphs for cell in cells) if one is not None] or [False, True]
        variants = tuple(Variant(one, graph) for graph in graphs for one in kernels)
        plans.append(Plan(keys=keys, step=step, variants=variants))
    return plans


def prepare(
    one: Plan, variant: Variant, state: dict[str, torch.Tensor], batch: tuple[torch.Tensor, torch.Tensor], pool: object
) -> tuple[Stepper, Losses, Measured]:
    """Build, compile, warm up and capture a variant; its peak of memory is what it adds to what is there."""
    images, labels = batch
    before = torch.cuda.memory_allocated() if images.is_cuda else 0
    model = build_model(one.step, variant.kernels)
    model.load_state_dict(state)
    if variant.kernels == "auto":
        from resnet.fused import choose_kernels  # imports Triton

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
    return {variant: results[variant] for variant in one.variants}


def write(one: Plan, results: dict[Variant, Measured], device: torch.device, started: datetime) -> list[str]:
    """Write a run a variant; their ids differ at the end alone."""
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
            writer.finish("completed", null_reasons=null_reasons(figures), **figures)
        else:
            writer.finish(
                "failed", failure_kind=measured.failure_kind or "unknown", failure_message=measured.problem,
                run_stop=datetime.now(UTC), peak_mem_bytes=measured.peak_mem_bytes,
            )  # fmt: skip
        run_ids.append(run_id)
    return run_ids


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
    run_ids = write(one, results, device, started)
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
    return all(measured.rounds for measured in results.values())


@functools.cache
def verify(architecture: Architecture) -> str:
    """ "ok", or what is wrong with a step over the fused kernels, in a process of its own under the interpreter."""
    words = [f"{name}={getattr(architecture, name)}" for name in ("depth", "family", "shortcut", "stride")]
    # The child has its own environment: under the interpreter Triton makes no kernels for a device.
    done = subprocess.run(
        [sys.executable, "-m", "bench.step_verify", *words], cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    said = [json.loads(line)["status"] for line in done.stdout.splitlines() if line.startswith("{")]
    return said[0] if said else (done.stderr.strip().splitlines() or ["bench.step_verify failed"])[-1]


def verify_and_predict(plans: Sequence[Plan], console: Console) -> bool:
    """What can be said without a device: whether a step over the fused kernels is right, and the floors."""
    start = time.monotonic()
    statuses = []
    for one in plans:
        statuses.append(verify(one.step.architecture))
        lines = [
            f"{one.step.name()}: {', '.join(map(str, one.variants))}",
            f"losses of a tiny net of the same blocks over the fused kernels, beside the reference's: {statuses[-1]}",
            f"predicted {floors_line(one.step)}",
        ]
        console.print("\n".join(lines), soft_wrap=True)
    console.print(
        "No CUDA device here: nothing was timed and nothing written (verified in fp32 under Triton's interpreter in "
        f"{time.monotonic() - start:.0f} s).",
        soft_wrap=True,
    )
    return set(statuses) == {"ok"}


def run_plans(plans: Sequence[Plan]) -> int:
    """Time what is planned; returns 1 where a variant was not timed."""
    console = Terminal(PIPE_WIDTH)
    if not torch.cuda.is_available():
        return 0 if verify_and_predict(plans, console) else 1
    torch.backends.cudnn.benchmark = True
    device = device_rates.require_device()
    return 0 if all([run_plan(one, device, console) for one in plans]) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.step", __doc__, Keys, plan, run_plans, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
