"""The stem of a network as one autograd function over the fused kernels."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels import aten_conv, runtime
from kernels.operands import Producer
from kernels.ops.bn_act import bn_act
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce
from resnet.fused.autograd_node import (
    Kept,
    KeptLayer,
    Layer,
    LayerParameters,
    Node,
    PerParameter,
    apply_bn,
    bn_gradients,
    conv_statistics,
    take_reduced,
    unflatten,
    weight_gradient,
    without_autocast,
)


@dataclass(frozen=True)
class StemPlan:
    """The stem as a pass uses it; `pool` in the imagenet family."""

    layer: Layer
    pool: bool


def forward_stem(images: Tensor, plan: StemPlan, weight: Tensor, parameters: LayerParameters) -> tuple[Tensor, Kept]:
    """The stem's output, and what its backward pass needs; its convolution of three channels is always cuDNN's."""
    layer = replace(plan.layer, choice=replace(plan.layer.choice, forward="torch"))
    y, stats = conv_statistics(images, weight, layer, None)
    kept = KeptLayer(y, stats, parameters.gamma, parameters.beta, weight, None)
    if not plan.pool:
        return bn_act(y, kept.norm)[0], Kept(images, (kept,))
    pooled, argmax = stem(y, kept.norm)
    return pooled, Kept(images, (kept,), argmax=argmax)


class StemFunction(torch.autograd.Function):
    """conv -> BN -> ReLU, and max pooling in the imagenet family."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, plan: StemPlan, weight: Tensor, *parameters: Tensor) -> Tensor:
        (layer,) = unflatten(parameters)
        z, kept = without_autocast(images.device.type, forward_stem, images, plan, weight, layer)
        Node.save(ctx, kept, [layer])
        ctx.plan, ctx.producer_of = plan, None if plan.pool else StemFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the first block needs of the stem: its BN."""
        (layer,) = Node.kept(node).layers
        return layer.producer

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:
        if dz is None:
            return (None,) * len(ctx.needs_input_grad)
        gradients = without_autocast(dz.device.type, _backward_stem, ctx, dz)
        ctx.unpacked = None
        return gradients


def _backward_stem(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
    plan: StemPlan = ctx.plan
    layer, kept = plan.layer, Node.kept(ctx)
    (mine,), (needs,), (like,) = kept.layers, Node.needs(ctx), ctx.like
    runtime.set_layer(layer.name)
    if kept.argmax is not None:
        # The gradient of the ReLU's output, as large as y, is never written: both passes read it through the pooling.
        dz = aten_conv.channels_last(dz)
        sums = stem_backward_reduce(dz, kept.argmax, mine.y, mine.norm)
        dy = stem_backward_apply(dz, kept.argmax, mine.y, mine.norm, sums, frozen=layer.frozen)
    else:
        gradient, sums, masked = take_reduced(ctx, dz, mine.producer, False)
        dy, _ = apply_bn(gradient, mine.producer, sums, masked, layer, None)
    gamma, beta = bn_gradients(sums, mine)
    weight = weight_gradient(dy, kept.x, mine.weight, layer, like) if needs.weight else None
    images = None  # of training images nobody asks for it
    if ctx.needs_input_grad[0]:
        images = aten_conv.input_gradient(dy, kept.x, mine.weight, layer.stride, layer.padding)
    return Node.gradients(ctx, images, [PerParameter(weight, gamma, beta)])
