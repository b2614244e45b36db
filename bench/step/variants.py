"""One way of computing a training step, from the network to the optimizer, captured as a CUDA graph or not."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import resnet
from bench.roofline.step import Step
from bench.training.engine import autocast
from resnet.data import dataset_of_family
from resnet.fused.layer_choices import LayerChoices
from resnet.recipe import Recipe, decay_groups
from resnet.recipe import load as load_recipe

KERNELS = ("torch", "compile", "triton", "auto", "compile-max-autotune")
LR = 0.01  # small: times do not depend on it, and the losses of the variants stay comparable
FP16_SCALE = 1024.0  # of the loss, constant, in every variant: a GradScaler's step cannot be captured
WARM_STEPS = 5
LOSS_TOLERANCE = 0.02  # relative, of the loss after one step
REPLAY_TOLERANCE = 0.10  # relative, of the loss after some steps, which drift apart


@dataclass(frozen=True, order=True)
class Variant:
    """What is compared.

    Attributes:
        kernels: one of `KERNELS`.
        graph: whether the whole step is captured once and replayed.
    """

    kernels: str
    graph: bool = False

    def __str__(self) -> str:
        return f"{self.kernels}{'+graph' if self.graph else ''}"

    @property
    def launches(self) -> bool:
        """Whether it launches our kernels one by one, so that each can be measured in the step."""
        return self.kernels in ("triton", "auto") and not self.graph


@dataclass(frozen=True)
class Losses:
    """Training losses of a variant's first steps on one batch; step 1 is from the initial weights."""

    values: tuple[float, ...]

    def problem(self, eager: "Losses", graph: bool) -> str | None:
        """What is wrong beside eager's losses, None where nothing is."""
        checks = [(1, LOSS_TOLERANCE), (2, LOSS_TOLERANCE)]
        if graph:
            checks.append((len(self.values), REPLAY_TOLERANCE))
        for step, tolerance in checks:
            mine, other = self.values[step - 1], eager.values[step - 1]
            if not abs(mine - other) <= tolerance * abs(other):
                return f"loss at step {step} is {mine:.4g}, eager's is {other:.4g}"
        return None


def recipe_of(step: Step) -> Recipe:
    """The recipe whose optimizer is used."""
    family = step.architecture.family
    return load_recipe("fast", dataset_of_family(family).name, family, step.architecture.depth)


def build_model(step: Step, kernels: str) -> nn.Module:
    """The network of a variant, initialized under torch's current seed."""
    architecture = step.architecture
    autotuned = kernels == "compile-max-autotune"
    model = resnet.build(
        family=architecture.family,
        depth=architecture.depth,
        shortcut=architecture.shortcut,
        stride=architecture.stride,
        num_classes=architecture.num_classes,
        kernels="torch" if autotuned else kernels,
    )
    if autotuned:
        model.compile(fullgraph=True, mode="max-autotune-no-cudagraphs")
    return model


class Stepper:
    """The training step of one variant over a batch that stays the same.

    Forward under autocast, cross entropy in fp32, backward, torch's fused SGD with momentum; gradients are freed after
    the step. In fp16 the loss is scaled by `FP16_SCALE`, which the fused optimizer divides out again.

    Args:
        model: the network as the variant computes it, with its initial weights.
        images: [N, 3, H, W] fp32, channels_last; the model goes where they are.
        labels: [N] int64.
        recipe: whose optimizer is used.
        precision: "bf16", "fp16" or "fp32".
        graph: whether the step is captured.

    Attributes:
        peak_mem_bytes: most memory allocated in a step, all that was allocated before it included; None on a CPU.
    """

    def __init__(
        self, model: nn.Module, images: Tensor, labels: Tensor, recipe: Recipe, precision: str, graph: bool = False
    ) -> None:
        self.images, self.labels, self.precision, self.capture = images, labels, precision, graph
        self.device = images.device
        self.model: nn.Module = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.SGD(
            decay_groups(self.model.named_parameters(), recipe, recipe.weight_decay),
            lr=LR,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            fused=True,
        )
        self.peak_mem_bytes: int | None = None
        self.scale = FP16_SCALE if self.precision == "fp16" else 1.0
        if self.scale != 1.0:
            # What a GradScaler hands to a fused optimizer.
            self.optimizer.grad_scale = torch.full((), self.scale, device=self.device)  # type: ignore[attr-defined]
            self.optimizer.found_inf = torch.zeros((), device=self.device)  # type: ignore[attr-defined]
        self.graph: torch.cuda.CUDAGraph | None = None
        self.captured_loss: Tensor | None = None

    def step(self) -> Tensor:
        """One step, launched kernel by kernel; returns the detached loss."""
        with autocast(self.precision, self.device):
            logits = self.model(self.images)
        loss = F.cross_entropy(logits.float(), self.labels)
        (loss * self.scale if self.scale != 1.0 else loss).backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def run(self) -> Tensor:
        """One step as the variant takes it; returns the detached loss."""
        if self.graph is None or self.captured_loss is None:
            return self.step()
        self.graph.replay()
        return self.captured_loss

    def prepare(self, pool: Any = None) -> Losses:
        """Compile, choose kernels, warm up and, where the variant wants it, capture.

        Args:
            pool: memory that captured steps share; they are never replayed at once, and nothing that one step leaves in
                it is read by the next.

        Returns:
            Losses of the steps taken: `WARM_STEPS` and one as the variant takes it.
        """
        losses = []
        if self.device.type == "cuda":
            # Capture wants what it warms up with on another stream than the default one.
            stream = torch.cuda.Stream(self.device) if self.capture else torch.cuda.current_stream(self.device)
            stream.wait_stream(torch.cuda.current_stream(self.device))
            with torch.cuda.stream(stream):
                losses += [self.step() for _ in range(WARM_STEPS)]
            torch.cuda.current_stream(self.device).wait_stream(stream)
            torch.cuda.synchronize(self.device)
        else:
            losses += [self.step() for _ in range(WARM_STEPS)]
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self.capture:
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, pool=pool):
                self.captured_loss = self.step()
        losses.append(self.run())
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            self.peak_mem_bytes = torch.cuda.max_memory_allocated(self.device)
        return Losses(tuple(float(loss) for loss in losses))

    def time(self, steps: int) -> tuple[list[float], float]:
        """Milliseconds of `steps` steps by CUDA events, after one that is not timed, and the last loss."""
        self.run()
        events = [torch.cuda.Event(enable_timing=True) for _ in range(steps + 1)]
        events[0].record()
        loss = None
        for event in events[1:]:
            loss = self.run()
            event.record()
        torch.cuda.synchronize(self.device)
        assert loss is not None
        return [a.elapsed_time(b) for a, b in zip(events, events[1:], strict=False)], float(loss)


def choices_of(model: nn.Module) -> tuple[LayerChoices, str] | None:
    """What computes each layer, and the table that it was chosen from; None where nothing was chosen."""
    fused = getattr(model, "fused", None)
    if fused is None:
        return None
    from bench.training.model import describe_choices

    return describe_choices(fused)


def initial_state(step: Step, seed: int, device: torch.device) -> dict[str, Tensor]:
    """Weights that all variants start from."""
    torch.manual_seed(seed)
    return {name: value.to(device) for name, value in build_model(step, "torch").state_dict().items()}


def batch_of(step: Step, seed: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Random images, channels_last, and labels, on the device."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = (step.batch, 3, step.image_size, step.image_size)
    images = torch.randn(shape, generator=generator, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(step.architecture.num_classes, (step.batch,), generator=generator, device=device)
    return images, labels
