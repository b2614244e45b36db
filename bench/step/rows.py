"""Rows of the training-step benchmark, and its table in the terminal, as pure functions of samples."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from bench.measure import gpu_rows, metrics
from bench.roofline.step import Step
from bench.step.variants import FP16_SCALE, LR, WARM_STEPS, Variant
from resnet.fused.layer_choices import LayerChoice, LayerChoices
from results.statistics import median, paired_ratio, percentile, spread

if TYPE_CHECKING:
    from bench.step.kernel_times import Profile

BASES = ("torch", "compile")


@dataclass
class Measured:
    """What came of one variant.

    Attributes:
        rounds: milliseconds of the steps of each round.
        ended_ns: when each round ended, by the system's clock.
        loss: the last one.
        peak_mem_bytes: of the variant alone, its batch included.
        problem: why it was not timed, or None.
        failure_kind: of `results.store.schema.FAILURE_KINDS`, with a problem.
        profile: what our kernels took in the step, of a variant that was profiled; or why that is not known.
    choices, choices_table: what computes each layer, and what that was chosen from, where it was chosen.
    """

    rounds: list[list[float]] = field(default_factory=list)
    ended_ns: list[int] = field(default_factory=list)
    loss: float | None = None
    peak_mem_bytes: int | None = None
    problem: str | None = None
    failure_kind: str | None = None
    profile: "Profile | str | None" = None
    choices: LayerChoices | None = None
    choices_table: str = ""

    @property
    def steps_ms(self) -> list[float]:
        return [ms for one in self.rounds for ms in one]

    @property
    def medians_ms(self) -> list[float]:
        """A round's median, which is what ratios are paired by."""
        return [median(one) for one in self.rounds]


def config_of(step: Step, variant: Variant, *, rounds: int, steps: int, seed: int) -> dict[str, Any]:
    """All that is measured of a variant."""
    architecture = step.architecture
    return {
        "benchmark": "step", "depth": architecture.depth, "family": architecture.family,
        "shortcut": architecture.shortcut, "stride": architecture.stride, "num_classes": architecture.num_classes,
        "batch": step.batch, "image_size": step.image_size, "precision": step.precision, "kernels": variant.kernels,
        "cuda_graph": variant.graph, "rounds": rounds, "steps": steps, "seed": seed, "lr": LR,
        "loss_scale": FP16_SCALE if step.precision == "fp16" else 1.0, "optimizer": "fused SGD with momentum",
    }  # fmt: skip


def outcome(step: Step, measured: Measured, *, multiply_adds: int, parameters: int, gpu: str | None) -> dict[str, Any]:
    """Columns of `runs` of a variant that was timed."""
    samples = measured.steps_ms
    train_s = sum(samples) / 1e3
    rate = step.batch * len(samples) / train_s
    peak = metrics.peak_flops(gpu, step.precision)
    return {
        "images_per_s": rate,
        "step_ms_p50": percentile(samples, 0.5),
        "step_ms_p95": percentile(samples, 0.95),
        "train_s": train_s,
        "steps_completed": len(samples),
        "warmup_steps": WARM_STEPS + 1,
        "peak_mem_bytes": measured.peak_mem_bytes,
        "flops_per_image": 6 * multiply_adds,
        "multiply_adds": multiply_adds,
        "parameters": parameters,
        "mfu": metrics.mfu(rate, multiply_adds, peak) if peak else None,
        "peak_flops_per_s": peak,
        "peak_name": f"dense {step.precision} peak of {gpu}" if peak else None,
    }


def null_reasons(row: Mapping[str, Any]) -> dict[str, str]:
    """Why figures of a variant that was timed are null."""
    found = gpu_rows.reasons(row)
    own = {
        "mfu": "the peak of this device is not known",
        "data_wait_frac": "the batch lies on the device",
        "energy_j": "the variants take turns, so the counter is of all of them",
    }
    return {name: own.get(name, why) for name, why in found.items()}


def step_rows(measured: Measured) -> list[dict[str, Any]]:
    """Rows of `steps`, raw; a step's time of day is reckoned back from its round's end."""
    rows: list[dict[str, Any]] = []
    for samples, ended_ns in zip(measured.rounds, measured.ended_ns, strict=True):
        for index, ms in enumerate(samples):
            t_ns = ended_ns - round(1e6 * sum(samples[index + 1 :]))
            row = {"rank": 0, "step": len(rows) + 1, "t_ns": t_ns, "step_ms": ms, "compute_ms": ms, "data_ms": 0.0}
            rows.append(row)
    return rows


def ratios(results: Mapping[Variant, Measured], variant: Variant) -> dict[str, str]:
    """How many times as fast a variant is as eager and as compile, captured as it is or not, with 95% intervals."""
    mine = results[variant].medians_ms
    found = {}
    for base in BASES:
        other = results.get(Variant(base, variant.graph))
        shown = "" if base == variant.kernels or other is None or not other.rounds else "?"
        if shown and other is not None:
            shown = str(paired_ratio(other.medians_ms, mine))
        found[base] = shown
    return found


def step_table(step: Step, results: Mapping[Variant, Measured]) -> Table:
    """The comparison for people."""
    table = Table(title=f"training step: {step.name()}", box=box.SIMPLE_HEAD)
    table.add_column("kernels", no_wrap=True)
    for column in ("ms: median (quartiles)", "images/s", "eager / it [95%]", "compile / it [95%]", "peak GiB"):
        table.add_column(column, justify="right", no_wrap=True)
    for variant, measured in results.items():
        if not measured.rounds:
            table.add_row(str(variant), f"not timed: {measured.problem}")
            continue
        samples = measured.steps_ms
        rate = step.batch * len(samples) / sum(samples) * 1e3
        found = ratios(results, variant)
        peak = "" if measured.peak_mem_bytes is None else f"{measured.peak_mem_bytes / 2**30:.2f}"
        table.add_row(str(variant), spread(samples), f"{rate:,.0f}", found["torch"], found["compile"], peak)
    return table


def choices_line(variant: Variant, choices: LayerChoices) -> str:
    """What computes how many layers: a line."""
    counts = Counter(_in_words(layer) for layer in choices.layers.values())
    counted = "; ".join(f"{count} x {words}" for words, count in counts.most_common())
    return f"{variant} ({choices.hash()}), {len(choices.layers)} layers: {counted}"


def _in_words(layer: LayerChoice) -> str:
    """Such as "forward prologue 128x64x64/w4/s3 dgrad triton inference torch"."""
    config = layer["config"]
    words = ["forward", layer["forward"], config["forward"], "dgrad", layer["dgrad"], config["dgrad"]]
    words += ["inference", layer["inference"], config["inference"]]
    return " ".join(word for word in words if word)


def floors_line(step: Step, names: Sequence[str] = ()) -> str:
    """The ladder of floors at the step's rates."""
    floors = [f"{one.level} {1e3 * one.ideal_s:.1f}" for one in step.levels() if not names or one.level in names]
    rates = f"{step.copy_bytes_per_s / 1e12:.2f} TB/s and {step.flops_per_s / 1e12:.0f} TFLOP/s"
    return f"floors at {rates}, ms, launches left out: {', '.join(floors)}"
