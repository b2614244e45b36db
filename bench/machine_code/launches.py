"""The launches of one training step over the fused kernels, found on meta tensors, and what they leave to torch."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F

import resnet
from bench.roofline.passes import Pass
from bench.roofline.step import Step
from kernels import runtime
from kernels.dtypes import PRECISIONS
from kernels.runtime import Launch
from resnet.fused.layer_choices import LayerChoices


@dataclass(frozen=True)
class CapturedStep:
    """What a step launches on a chip.

    Attributes:
        launches: of our kernels, in order.
        library: passes that torch and its libraries compute, with their least bytes and FLOPs.
    """

    launches: list[Launch]
    library: list[Pass]


def capture(step: Step, chip: str) -> CapturedStep:
    """What a step of a network over the fused kernels (`kernels=triton`) launches on a chip; launches nothing.

    Args:
        chip: one of `kernels.chips.CHIPS`.
    """
    net, dtype = step.architecture, PRECISIONS[step.precision].torch_dtype
    with torch.device("meta"):
        model = resnet.build(
            family=net.family, depth=net.depth, shortcut=net.shortcut, stride=net.stride, num_classes=net.num_classes,
            kernels="triton",
        )  # fmt: skip
        images = torch.empty(step.batch, 3, step.image_size, step.image_size, dtype=dtype)
        labels = torch.empty(step.batch, dtype=torch.int64)
    # There is no autocast on meta tensors: images of the dtype that it would cast to, and a linear layer of it.
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model.fc.to(dtype)
    with runtime.capture_launches(chip) as launches:
        scores = model(images.contiguous(memory_format=torch.channels_last))
        F.cross_entropy(scores.float(), labels).backward()
    return CapturedStep(launches, _library(step, model.fused.describe()))


def _library(step: Step, choices: LayerChoices) -> list[Pass]:
    """The passes of the ladder's level a, at which all convolutions are the library's, that no kernel of ours makes."""
    parts = {"conv": "forward", "dgrad": "dgrad"}
    found = []
    for one in step.passes("a"):
        choice = choices.layers.get(one.layer)
        if choice is None:  # the average, the linear layer, or all weights, whose cast is our pack_weights
            kept = one.op != "cast"
        else:
            kept = one.op == "wgrad" or (one.op in parts and choice[parts[one.op]] == "torch")  # type: ignore[literal-required]
        if kept:
            found.append(one)
    return found


def least_bytes(launch: Launch) -> int:
    """Bytes that a launch must move: every tensor that it is given once, a strided one as far as it is read.

    Partial sums are written once; that the last programs read them again, from the L2 cache, is left out, and so is
    what a kernel reads twice.
    """
    tensors = {name: value for name, value in launch.arguments.items() if isinstance(value, torch.Tensor)}
    total = 0
    for name, tensor in tensors.items():
        if name.startswith("counter"):
            continue
        # An expanded tensor, such as the gradient of an average, is as large as what lies behind it.
        size = min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())
        total += size // _read_every(launch, name)
    if launch.kernel == "pack_weights":  # whose operands are addresses: it reads once what it writes
        total += tensors["out_ptr"].numel() * PRECISIONS[launch.arguments["SOURCE"]].element_bytes
    return total


def _read_every(launch: Launch, name: str) -> int:
    """Which part of an image's pixels is read."""
    if name == "x_ptr" and launch.arguments.get("TAPS") == 1:
        return int(launch.arguments["STRIDE"]) ** 2
    if name == "shortcut_ptr" and launch.arguments.get("STRIDED"):
        return int(launch.arguments["STRIDE"]) ** 2
    return 1


def flops(launch: Launch) -> int:
    """Of a convolution's matrix product, two a multiply-add; 0 of any other kernel."""
    sizes = launch.arguments
    return 2 * sizes["M"] * sizes["C"] * sizes["K"] * sizes["TAPS"] if "TAPS" in sizes else 0


def without_memory(launch: Launch) -> Launch:
    """The same launch on meta tensors, which keep no memory of the device."""
    arguments = {
        name: torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")
        if isinstance(value, torch.Tensor)
        else value
        for name, value in launch.arguments.items()
    }
    return replace(launch, arguments=arguments)
