"""A residual block as one autograd function over the fused kernels.

The chain crosses layers: the gradient of one convolution finishes the backward pass of the BN before it. So the unit of
autograd is the block, whose backward pass is written out here; inside it no gradient is an autograd tensor. Between
two blocks the same holds: the block behind masks the gradient with this block's last ReLU and reduces it for its last
BN, and leaves the sums at this block's node of the graph. Whoever looks at the gradient of a block's output therefore
sees it after that ReLU's mask. Masking twice changes nothing, so a gradient that took another way (a hook, a second
consumer) is simply reduced again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import kernels
from kernels import Norm, Producer, runtime
from resnet.fused_node import (
    Layer,
    Node,
    Reduced,
    apply_bn,
    conv_statistics,
    input_gradient,
    norm_of,
    take_reduced,
    weight_gradient,
)


@dataclass(frozen=True)
class BlockPlan:
    """A block as a pass uses it.

    Attributes:
        layers: of the branch, in order.
        projection: layer of the shortcut, or None.
        skip: "none" (plain net), "identity", "padded" (option A) or "projection".
        skip_stride: of the shortcut.
        keep: whether a backward pass may follow.
    """

    layers: tuple[Layer, ...]
    projection: Layer | None
    skip: str
    skip_stride: int
    keep: bool


def forward_block(
    x: Tensor, plan: BlockPlan, weights: Sequence[Tensor], parameters: Sequence[Tensor]
) -> tuple[Tensor, dict[str, Tensor]]:
    """A block's output, and what its backward pass needs.

    Args:
        x: [N, C, H, W] channels_last.
        weights: of the branch's convolutions and the projection's, packed.
        parameters: weight, gamma and beta of each layer in the same order.
    """
    kept = {"x": x}
    norm: Norm | None = None
    y = x
    for i, layer in enumerate(plan.layers):
        activation, prologue = y, None
        if norm is not None and layer.choice.forward == "prologue":
            prologue = norm
        elif norm is not None:
            runtime.set_layer(plan.layers[i - 1].name)
            activation, _ = kernels.bn_act(y, norm)
            kept[f"z{i}"] = activation
        y, stats = conv_statistics(activation, weights[i], layer, prologue)
        norm = Norm(stats, parameters[3 * i + 1], parameters[3 * i + 2])
        kept |= {f"y{i}": y, f"stats{i}": stats, f"weight{i}": weights[i]}
    assert norm is not None
    shortcut, shortcut_norm = (None if plan.skip == "none" else x), None
    if plan.projection is not None:
        i = len(plan.layers)
        shortcut, stats = conv_statistics(x, weights[i], plan.projection, None)
        shortcut_norm = Norm(stats, parameters[3 * i + 1], parameters[3 * i + 2])
        kept |= {f"y{i}": shortcut, f"stats{i}": stats, f"weight{i}": weights[i]}
    runtime.set_layer(plan.layers[-1].name)
    z, mask = kernels.bn_act(
        y, norm, shortcut=shortcut, shortcut_norm=shortcut_norm,
        shortcut_stride=1 if shortcut_norm is not None else plan.skip_stride,
        keep_mask=plan.keep and plan.skip != "none",
    )  # fmt: skip
    if mask is not None:
        kept["mask"] = mask
    return z, kept


class BlockFunction(torch.autograd.Function):
    """A residual (or plain) block: `forward_block`, and the backward pass written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BlockPlan, weights: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            z, kept = forward_block(x, plan, weights, parameters)
        Node.save(ctx, kept, parameters)
        ctx.plan, ctx.producer_of = plan, BlockFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the block behind needs of this one: its last BN, and the join."""
        plan, kept = node.plan, Node.kept(node)
        last = len(plan.layers) - 1
        dual = plan.projection is not None
        return Producer(
            kept[f"y{last}"],
            norm_of(kept, last),
            kept.get("mask"),
            kept[f"y{last + 1}"] if dual else None,
            norm_of(kept, last + 1) if dual else None,
        )

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:
        if dz is None:
            return (None,) * len(ctx.needs_input_grad)
        with torch.autocast(dz.device.type, enabled=False):
            gradients = _backward_block(ctx, dz)
        ctx.unpacked = None
        return gradients


def _backward_block(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
    plan: BlockPlan = ctx.plan
    kept = Node.kept(ctx)
    needs = ctx.needs_input_grad
    layers, last = plan.layers, len(plan.layers) - 1
    gradients: list[Tensor | None] = [None] * (len(needs) - 3)

    runtime.set_layer(layers[last].name)
    own = BlockFunction.producer(ctx)
    # The skip connection needs the masked gradient itself; a projection's BN takes it through the mask again.
    write = plan.skip in ("identity", "padded")
    gradient, sums, masked = take_reduced(ctx, dz, own, write)
    reduced: Tensor | None
    gradients[3 * last + 1], gradients[3 * last + 2] = sums[1], sums[0]
    dy: Tensor
    dy_shortcut: Tensor | None = None
    applied = apply_bn(gradient, own, sums, masked, layers[last], plan.projection)
    if plan.projection is not None:
        dy, dy_shortcut = applied
        gradients[3 * last + 4], gradients[3 * last + 5] = sums[2], sums[0].clone()
    else:
        dy = applied

    for i in range(last, 0, -1):
        layer, weight = layers[i], kept[f"weight{i}"]
        before = Producer(kept[f"y{i - 1}"], norm_of(kept, i - 1))
        activation = kept.get(f"z{i}")
        runtime.set_layer(layer.name)
        if layer.choice.dgrad == "triton":
            inner, reduced, rewritten = kernels.conv_dgrad(
                dy, weight, producer=before, write_activation=activation is None, config=layer.choice.dgrad_config
            )
            activation = rewritten if activation is None else activation
            masked = True
        else:
            inner = input_gradient(dy, weight, before.y.shape, layer.stride, layer.padding)
            runtime.set_layer(layers[i - 1].name)
            _, reduced = kernels.bn_act_backward_reduce(inner, before)
            masked = False
        assert activation is not None and reduced is not None
        sums = reduced
        if needs[3 + 3 * i]:
            gradients[3 * i] = weight_gradient(dy, activation, weight, layer, ctx.like[i])
        gradients[3 * i - 2], gradients[3 * i - 1] = sums[1], sums[0]
        runtime.set_layer(layers[i - 1].name)
        dy = apply_bn(inner, before, sums, masked, layers[i - 1], None)

    x = kept["x"]
    if needs[3]:
        gradients[0] = weight_gradient(dy, x, kept["weight0"], layers[0], ctx.like[0])
    projection = plan.projection
    if projection is not None:
        assert dy_shortcut is not None
        if needs[3 + 3 * (last + 1)]:
            weight = kept[f"weight{last + 1}"]
            gradients[3 * (last + 1)] = weight_gradient(dy_shortcut, x, weight, projection, ctx.like[last + 1])
    dx = None
    if needs[0]:
        skip = gradient if plan.skip in ("identity", "padded") else None
        if projection is not None:
            skip = _projection_input_gradient(dy_shortcut, kept[f"weight{last + 1}"], projection, x)
        dx = _block_input_gradient(ctx, dy, kept["weight0"], x, skip)
    kept_gradients = [value if needed else None for value, needed in zip(gradients, needs[3:], strict=True)]
    return dx, None, None, *kept_gradients


def _projection_input_gradient(dy: Tensor | None, weight: Tensor, layer: Layer, x: Tensor) -> Tensor:
    """Gradient of x through a projection: on the grid of its stride, where alone it is not zero."""
    assert dy is not None
    runtime.set_layer(layer.name)
    if layer.choice.dgrad == "triton":
        compact, _, _ = kernels.conv_dgrad(dy, weight, config=layer.choice.dgrad_config)
        return compact
    n, _, h, w = dy.shape
    return input_gradient(dy, weight, (n, x.shape[1], h, w), 1, 0)


def _block_input_gradient(ctx: Any, dy: Tensor, weight: Tensor, x: Tensor, skip: Tensor | None) -> Tensor:
    """Gradient of a block's input: through the first convolution and the shortcut, on to the join before."""
    layer: Layer = ctx.plan.layers[0]
    skip_stride = ctx.plan.skip_stride if skip is not None else 1
    node = ctx.next_functions[0][0]
    before = node.producer_of(node) if getattr(node, "producer_of", None) is not None else None
    runtime.set_layer(layer.name)
    if layer.choice.dgrad == "triton" and layer.stride == 1:
        dx, sums, _ = kernels.conv_dgrad(
            dy, weight, skip=skip, skip_stride=skip_stride, producer=before, config=layer.choice.dgrad_config
        )
    else:
        stride = 1
        if (
            layer.kernel == 1 and layer.stride > 1 and (before is not None or skip is not None)
        ):  # zero off the grid of its stride: not written there
            stride = layer.stride
            d = input_gradient(dy, weight, (x.shape[0], x.shape[1], *dy.shape[2:]), 1, 0)
        else:
            d = input_gradient(dy, weight, x.shape, layer.stride, layer.padding)
        if before is not None and (skip is not None or stride > 1):
            reduced, sums = kernels.bn_act_backward_reduce(
                d, before, skip=skip, skip_stride=skip_stride, dz_stride=stride, write_gradient=True
            )
            assert reduced is not None
            dx = reduced
        elif skip is not None:
            return kernels.join_gradient(d, skip, shape=x.shape, skip_stride=skip_stride, dz_stride=stride)
        else:
            return d
    if before is not None:
        assert sums is not None
        node.reduced = Reduced(dx, dx._version, sums)
    return dx
