"""The stem of a network as one autograd function over the fused kernels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import kernels
from kernels import Norm, Producer, runtime
from resnet.fused_node import (
    Layer,
    Node,
    apply_bn,
    channels_last,
    conv_statistics,
    input_gradient,
    norm_of,
    take_reduced,
    weight_gradient,
)


@dataclass(frozen=True)
class StemPlan:
    """The stem as a pass uses it; `pool` in the imagenet family."""

    layer: Layer
    pool: bool


def forward_stem(
    images: Tensor, plan: StemPlan, weight: Tensor, parameters: Sequence[Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The stem's output, and what its backward pass needs; its convolution of three channels is always cuDNN's."""
    layer = replace(plan.layer, choice=replace(plan.layer.choice, forward="torch"))
    y, stats = conv_statistics(images, weight, layer, None)
    norm = Norm(stats, parameters[1], parameters[2])
    kept = {"x": images, "y0": y, "stats0": stats, "weight0": weight}
    if not plan.pool:
        return kernels.bn_act(y, norm)[0], kept
    pooled, kept["argmax"] = kernels.stem(y, norm)
    return pooled, kept


class StemFunction(torch.autograd.Function):
    """conv -> BN -> ReLU, and max pooling in the imagenet family."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, plan: StemPlan, weight: Tensor, *parameters: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            z, kept = forward_stem(images, plan, weight, parameters)
        Node.save(ctx, kept, parameters)
        ctx.plan, ctx.producer_of = plan, None if plan.pool else StemFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the first block needs of the stem: its BN."""
        kept = Node.kept(node)
        return Producer(kept["y0"], norm_of(kept, 0))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:
        if dz is None:
            return (None,) * len(ctx.needs_input_grad)
        with torch.autocast(dz.device.type, enabled=False):
            gradients = _backward_stem(ctx, dz)
        ctx.unpacked = None
        return gradients


def _backward_stem(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
    plan: StemPlan = ctx.plan
    kept, layer, needs = Node.kept(ctx), plan.layer, ctx.needs_input_grad
    producer = StemFunction.producer(ctx)
    y, norm = producer.y, producer.norm
    runtime.set_layer(layer.name)
    if plan.pool:
        dz = channels_last(dz)
        sums = kernels.stem_backward_reduce(dz, kept["argmax"], y, norm)
        dy = kernels.stem_backward_apply(dz, kept["argmax"], y, norm, sums, frozen=layer.frozen)
    else:
        gradient, sums, masked = take_reduced(ctx, dz, producer, False)
        dy = apply_bn(gradient, producer, sums, masked, layer, None)
    weight = kept["weight0"]
    d_weight = weight_gradient(dy, kept["x"], weight, layer, ctx.like[0]) if needs[3] else None
    d_images = input_gradient(dy, weight, kept["x"].shape, layer.stride, layer.padding) if needs[0] else None
    return d_images, None, None, d_weight, sums[1] if needs[4] else None, sums[0] if needs[5] else None
