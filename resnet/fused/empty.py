"""Batches of no images: as in PyTorch the result is empty and every gradient zero, and no kernel is launched."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from resnet.fused.autograd_node import Like
from resnet.layers import Block, ConvBn


def empty_block(block: Block, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """A block's output of no images; its parameters' gradients are zero."""
    return _empty(x, _shape(x.shape, block.branch_layers()), parameters)


def empty_stem(model: Any, x: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """A stem's output of no images; its parameters' gradients are zero."""
    n, c, h, w = _shape(x.shape, [ConvBn("conv1", model.conv1, model.bn1)])
    if model.maxpool is not None:
        h, w = -(-h // 2), -(-w // 2)
    return _empty(x, (n, c, h, w), parameters)


def _shape(shape: Sequence[int], layers: Sequence[ConvBn]) -> tuple[int, int, int, int]:
    """That of what some layers in a row make of images of a shape; all are padded, so that strides alone count."""
    n, c, h, w = shape
    for _, conv, _ in layers:
        c, h, w = conv.out_channels, -(-h // conv.stride[0]), -(-w // conv.stride[0])
    return n, c, h, w


def _empty(x: Tensor, shape: tuple[int, int, int, int], parameters: Sequence[Tensor]) -> Tensor:
    # Joined to the graph, or parameters would have no gradients: DDP and the optimizer wait for them.
    found: Tensor = _EmptyFunction.apply(x, shape, *parameters)
    return found


class _EmptyFunction(torch.autograd.Function):
    """No values, of a shape."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, int, int, int], *parameters: Tensor) -> Tensor:
        ctx.like = [Like(one.shape, one.stride(), one.dtype) for one in (x, *parameters)]
        ctx.set_materialize_grads(False)
        return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Tensor | None, ...]:
        if dz is None:
            return (None,) * len(ctx.needs_input_grad)
        needs, _, *others = ctx.needs_input_grad
        dx, *gradients = (
            torch.empty_strided(one.shape, one.strides, dtype=one.dtype, device=dz.device).zero_() if needed else None
            for one, needed in zip(ctx.like, (needs, *others), strict=True)
        )
        return dx, None, *gradients
