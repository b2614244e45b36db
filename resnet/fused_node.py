"""What fused blocks and the stem share as nodes of the autograd graph: what they save, hand on, and leave to cuDNN."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

import kernels
from kernels import Choice, Norm, Producer, Running, runtime


@dataclass(frozen=True)
class Layer:
    """One convolution with its BN, as a pass over the network uses them.

    Attributes:
        name: of the convolution in the network, for the ledger.
        kernel, stride, padding: of the convolution.
        choice: what computes it.
        eps: of the BN.
        running: statistics to update, None where there are none or they are frozen.
        frozen: the running statistics normalize, as in evaluation; given as `stats`.
        stats: [2, C] fp32 of a frozen BN.
    """

    name: str
    kernel: int
    stride: int
    padding: int
    choice: Choice
    eps: float
    running: Running | None
    frozen: bool
    stats: Tensor | None


class Reduced(NamedTuple):
    """The gradient of a block's output, masked, and its sums for the block's last BN, made by the block behind."""

    gradient: Tensor
    version: int
    sums: Tensor

    def made(self, dz: Tensor) -> bool:
        mine = self.gradient
        same = dz.data_ptr() == mine.data_ptr() and dz.shape == mine.shape and dz.stride() == mine.stride()
        return same and dz._version == self.version


class Node:
    """What blocks and stems have in common as nodes of the graph."""

    @staticmethod
    def save(ctx: Any, kept: dict[str, Tensor], parameters: Sequence[Tensor]) -> None:
        # gamma, beta and weights as inputs; convolution weights only for their strides, so not saved.
        norms = {f"norm{i}.{name}": parameters[3 * i + at] for i in range(len(parameters) // 3)
                 for at, name in ((1, "weight"), (2, "bias"))}  # fmt: skip
        ctx.names = (*kept, *norms)
        ctx.save_for_backward(*kept.values(), *norms.values())
        ctx.like = [(parameter.shape, parameter.stride(), parameter.dtype) for parameter in parameters[::3]]
        ctx.set_materialize_grads(False)
        ctx.unpacked = ctx.reduced = None

    @staticmethod
    def kept(ctx: Any) -> dict[str, Tensor]:
        """What was saved, by name; unpacked once, though the block behind asks for it too."""
        if ctx.unpacked is None:
            ctx.unpacked = dict(zip(ctx.names, ctx.saved_tensors, strict=True))
        return ctx.unpacked


def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)


def conv_statistics(x: Tensor, weight: Tensor, layer: Layer, prologue: Norm | None) -> tuple[Tensor, Tensor]:
    """A convolution and the statistics of its output, by what the layer's choice says.

    Args:
        x: [N, C, H, W] channels_last; with `prologue`, the input of the BN before.
        weight: [K, C, R, S] channels_last in the dtype of `x`.

    Returns:
        y [N, K, H', W'], and stats [2, K] fp32 (the running ones where the BN is frozen).
    """
    runtime.set_layer(layer.name)
    if layer.choice.forward == "torch":
        stride, padding = [layer.stride] * 2, [layer.padding] * 2
        y = channels_last(torch.ops.aten.convolution(x, weight, None, stride, padding, [1, 1], False, [0, 0], 1))
        stats = layer.stats if layer.frozen else kernels.bn_stats(y, layer.eps, layer.running)
    else:
        op = kernels.conv1x1 if layer.kernel == 1 else kernels.conv3x3
        y, stats = op(
            x, weight, stride=layer.stride, prologue=prologue, statistics=not layer.frozen, eps=layer.eps,
            running=layer.running, config=layer.choice.forward_config,
        )  # fmt: skip
        stats = layer.stats if layer.frozen else stats
    assert stats is not None
    return y, stats


def norm_of(kept: dict[str, Tensor], i: int) -> Norm:
    return Norm(kept[f"stats{i}"], kept[f"norm{i}.weight"], kept[f"norm{i}.bias"])


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, layer: Layer, like: tuple[Any, Any, Any]) -> Tensor:
    """Gradient of a convolution's parameter, in the parameter's own strides and dtype."""
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    _, gradient, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [False, True, False]
    )
    shape, strides, dtype = like
    return torch.empty_strided(shape, strides, dtype=dtype, device=dy.device).copy_(gradient)


def input_gradient(dy: Tensor, weight: Tensor, shape: Sequence[int], stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's input by cuDNN; the input itself has no part in it, only its shape."""
    like = dy.new_empty((1,)).expand(tuple(shape))
    gradient, _, _ = torch.ops.aten.convolution_backward(
        dy, like, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
    )
    return channels_last(gradient)


def take_reduced(ctx: Any, dz: Tensor, producer: Producer, write: bool) -> tuple[Tensor, Tensor, bool]:
    """The gradient of a node's output, its sums, and whether it is masked already."""
    reduced: Reduced | None = ctx.reduced
    ctx.reduced = None
    if reduced is not None and reduced.made(dz):
        return reduced.gradient, reduced.sums, True
    if not _broadcast(dz):
        dz = channels_last(dz)
    gradient, sums = kernels.bn_act_backward_reduce(dz, producer, write_gradient=write)
    return (dz, sums, False) if gradient is None else (gradient, sums, True)


def _broadcast(dz: Tensor) -> bool:
    """Whether a gradient is one value a channel, as global average pooling gives it."""
    n, c, h, w = dz.shape
    return dz.stride()[1:] == (1, 0, 0) and (dz.stride(0) == c or n == 1) and h * w > 1


def apply_bn(
    gradient: Tensor, producer: Producer, sums: Tensor, masked: bool, layer: Layer, projection: Layer | None
) -> Any:
    frozen = layer.frozen
    if projection is not None and projection.frozen != frozen:
        raise RuntimeError(
            f"{layer.name}: one BN of this join is frozen and {projection.name}'s is not; "
            "freeze both, or use kernels=torch"
        )
    return kernels.bn_act_backward_apply(gradient, producer, sums, masked=masked, frozen=frozen)
