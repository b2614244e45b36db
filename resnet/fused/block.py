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
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from kernels import runtime
from kernels.aten_conv import input_gradient
from kernels.operands import Norm, Producer
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.join_gradient import join_gradient
from resnet.fused.autograd_node import (
    Kept,
    KeptLayer,
    Layer,
    LayerGradients,
    LayerParameters,
    Node,
    PerParameter,
    Reduced,
    apply_bn,
    bn_gradients,
    conv_statistics,
    take_reduced,
    unflatten,
    weight_gradient,
    without_autocast,
)

T = TypeVar("T")


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

    def split(self, each: Sequence[T]) -> tuple[Sequence[T], T | None]:
        """What belongs to the layers of the branch, and what to the projection, of a value for each in this order."""
        branch, others = each[: len(self.layers)], each[len(self.layers) :]
        assert len(others) == (self.projection is not None)
        return branch, others[0] if others else None


def forward_block(
    x: Tensor, plan: BlockPlan, weights: Sequence[Tensor], parameters: Sequence[LayerParameters]
) -> tuple[Tensor, Kept]:
    """A block's output, and what its backward pass needs.

    Args:
        x: [N, C, H, W] channels_last.
        weights: of the branch's convolutions and the projection's, packed.
        parameters: of the same layers.
    """
    branch_weights, projection_weight = plan.split(weights)
    branch_parameters, projection_parameters = plan.split(parameters)
    kept: list[KeptLayer] = []
    for layer, weight, (_, gamma, beta) in zip(plan.layers, branch_weights, branch_parameters, strict=True):
        read, prologue, activation = x, None, None
        if kept and layer.choice.forward == "prologue":
            # The kernel normalizes what it reads: the activation is not written, here or for the backward pass.
            read, prologue = kept[-1].y, kept[-1].norm
        elif kept:
            runtime.set_layer(plan.layers[len(kept) - 1].name)
            activation, _ = bn_act(kept[-1].y, kept[-1].norm)
            read = activation
        y, stats = conv_statistics(read, weight, layer, prologue)
        kept.append(KeptLayer(y, stats, gamma, beta, weight, activation))
    last = kept[-1]
    shortcut: Tensor | None = None if plan.skip == "none" else x
    shortcut_norm: Norm | None = None
    shortcut_stride = plan.skip_stride
    if plan.projection is not None:
        assert projection_weight is not None and projection_parameters is not None
        _, gamma, beta = projection_parameters
        shortcut, stats = conv_statistics(x, projection_weight, plan.projection, None)
        kept.append(KeptLayer(shortcut, stats, gamma, beta, projection_weight, None))
        # The projection's convolution took the stride: the join adds what it made pixel by pixel.
        shortcut_norm, shortcut_stride = kept[-1].norm, 1
    runtime.set_layer(plan.layers[-1].name)
    z, mask = bn_act(
        last.y, last.norm, shortcut=shortcut, shortcut_norm=shortcut_norm, shortcut_stride=shortcut_stride,
        keep_mask=plan.keep and plan.skip != "none",
    )  # fmt: skip
    return z, Kept(x, tuple(kept), mask=mask)


class BlockFunction(torch.autograd.Function):
    """A residual (or plain) block: `forward_block`, and the backward pass written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BlockPlan, weights: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        layers = unflatten(parameters)
        z, kept = without_autocast(x.device.type, forward_block, x, plan, weights, layers)
        Node.save(ctx, kept, layers)
        ctx.plan, ctx.producer_of = plan, BlockFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the block behind needs of this one: its last BN, and the join."""
        kept = Node.kept(node)
        branch, projection = node.plan.split(kept.layers)
        if projection is None:
            return Producer(branch[-1].y, branch[-1].norm, kept.mask)
        return Producer(branch[-1].y, branch[-1].norm, kept.mask, projection.y, projection.norm)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dz: Tensor | None) -> tuple[Any, ...]:
        if dz is None:
            return (None,) * len(ctx.needs_input_grad)
        gradients = without_autocast(dz.device.type, _backward_block, ctx, dz)
        ctx.unpacked = None
        return gradients


def _backward_block(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
    plan: BlockPlan = ctx.plan
    kept = Node.kept(ctx)
    x, layers, projection = kept.x, plan.layers, plan.projection
    branch, kept_projection = plan.split(kept.layers)
    needs, projection_needs = plan.split(Node.needs(ctx))
    like, projection_like = plan.split(ctx.like)

    # The join: its gradient is masked by the last ReLU and reduced, by the block behind where that was fused as well.
    runtime.set_layer(layers[-1].name)
    own = BlockFunction.producer(ctx)
    # The skip connection needs the masked gradient itself; a projection's BN takes it through the mask again.
    write = plan.skip in ("identity", "padded")
    dz, sums, masked = take_reduced(ctx, dz, own, write)
    gamma, beta = bn_gradients(sums, branch[-1])
    dy, dy_shortcut = apply_bn(dz, own, sums, masked, layers[-1], projection)
    projection_gamma, projection_beta = None, None
    if kept_projection is not None:
        # Both BNs have the same gradient of beta, but two parameters may not share the memory of their gradients.
        projection_gamma = sums[2].to(kept_projection.gamma.dtype)
        projection_beta = sums[0].to(kept_projection.beta.dtype, copy=True)

    # The branch, from its last layer to its second. A layer's turn begins with the gradient `dy` of its convolution's
    # output, and those of gamma and beta behind it, and ends with the same of the layer before.
    gradients: list[LayerGradients] = []  # the last layer's first
    for i in range(len(layers) - 1, 0, -1):
        layer, mine, before, producer = layers[i], branch[i], layers[i - 1], branch[i - 1].producer
        activation = mine.activation
        runtime.set_layer(layer.name)
        if layer.choice.dgrad == "triton":
            # One kernel: the gradient of the activation, masked and reduced for the BN before. After a prologue there
            # is no activation: then the kernel writes that too, since the gradient of the weight reads it.
            inner, reduced, rewritten = conv_dgrad(
                dy, mine.weight, producer=producer, write_activation=activation is None,
                tile_config=layer.choice.dgrad_config,
            )  # fmt: skip
            activation = rewritten if activation is None else activation
            masked = True
        else:
            # cuDNN's gradient is reduced in a pass of its own, that of the BN before; the mask is left to `apply_bn`.
            inner = input_gradient(dy, producer.y, mine.weight, layer.stride, layer.padding)
            runtime.set_layer(before.name)
            _, reduced = bn_act_backward_reduce(inner, producer)
            masked = False
        assert activation is not None and reduced is not None
        weight = weight_gradient(dy, activation, mine.weight, layer, like[i]) if needs[i].weight else None
        gradients.append(PerParameter(weight, gamma, beta))
        gamma, beta = bn_gradients(reduced, branch[i - 1])
        runtime.set_layer(before.name)
        dy, _ = apply_bn(inner, producer, reduced, masked, before, None)

    # What read the block's input: the first convolution, and the projection.
    weight = weight_gradient(dy, x, branch[0].weight, layers[0], like[0]) if needs[0].weight else None
    gradients.append(PerParameter(weight, gamma, beta))
    gradients.reverse()
    if projection is not None:
        assert dy_shortcut is not None and kept_projection and projection_needs and projection_like
        weight = None
        if projection_needs.weight:
            weight = weight_gradient(dy_shortcut, x, kept_projection.weight, projection, projection_like)
        gradients.append(PerParameter(weight, projection_gamma, projection_beta))
    dx = None
    if ctx.needs_input_grad[0]:
        # What comes through the shortcut is added by whatever computes the gradient through the first convolution.
        skip = dz if plan.skip in ("identity", "padded") else None
        if projection is not None:
            assert dy_shortcut is not None and kept_projection is not None
            skip = _projection_input_gradient(dy_shortcut, kept_projection.weight, projection, x)
        dx = _block_input_gradient(ctx, dy, branch[0].weight, x, skip)
    return Node.gradients(ctx, dx, gradients)


def _projection_input_gradient(dy: Tensor, weight: Tensor, layer: Layer, x: Tensor) -> Tensor:
    """Gradient of x through a projection: on the grid of its stride, where alone it is not zero."""
    runtime.set_layer(layer.name)
    if layer.choice.dgrad == "triton":
        compact, _, _ = conv_dgrad(dy, weight, tile_config=layer.choice.dgrad_config)
        return compact
    return input_gradient(dy, _grid(x, layer.stride), weight, 1, 0)


def _grid(x: Tensor, stride: int) -> Tensor:
    """The pixels of an image that a 1x1 convolution of this stride reads."""
    return x[:, :, ::stride, ::stride]


def _block_input_gradient(ctx: Any, dy: Tensor, weight: Tensor, x: Tensor, skip: Tensor | None) -> Tensor:
    """Gradient of a block's input: through the first convolution and the shortcut, on to the join before.

    Where a fused block or stem made the input, the gradient is masked by its ReLU and reduced for its last BN, and the
    sums are left at its node.
    """
    layer: Layer = ctx.plan.layers[0]
    skip_stride = ctx.plan.skip_stride if skip is not None else 1
    node = ctx.next_functions[0][0]
    before = node.producer_of(node) if getattr(node, "producer_of", None) is not None else None
    runtime.set_layer(layer.name)
    if layer.choice.dgrad == "triton" and layer.stride == 1:
        dx, sums, _ = conv_dgrad(
            dy, weight, skip=skip, skip_stride=skip_stride, producer=before, tile_config=layer.choice.dgrad_config
        )
    else:
        # Of a strided 1x1 convolution the gradient is zero off the grid of its stride. Where a pass of ours follows,
        # cuDNN computes it on that grid alone, as that of a convolution of stride 1, and the pass reads it as such.
        on_grid = layer.kernel == 1 and layer.stride > 1 and (before is not None or skip is not None)
        dz_stride = layer.stride if on_grid else 1
        if on_grid:
            d = input_gradient(dy, _grid(x, layer.stride), weight, 1, 0)
        else:
            d = input_gradient(dy, x, weight, layer.stride, layer.padding)
        if before is not None and (skip is not None or on_grid):
            reduced, sums = bn_act_backward_reduce(
                d, before, skip=skip, skip_stride=skip_stride, dz_stride=dz_stride, write_gradient=True
            )
            assert reduced is not None
            dx = reduced
        elif skip is not None:
            # No fused node made the input, so there is nothing to reduce for: the sum alone.
            return join_gradient(d, skip, shape=x.shape, skip_stride=skip_stride, dz_stride=dz_stride)
        else:
            # Nothing to add either: whatever made the input takes cuDNN's gradient as it is, and reduces it.
            return d
    if before is not None:
        assert sums is not None
        node.reduced = Reduced(dx, dx._version, sums)
    return dx
