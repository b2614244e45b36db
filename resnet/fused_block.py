"""A residual block, and the stem, as one autograd function each, over the fused kernels.

The chain crosses layers: the gradient of one convolution finishes the backward pass of the BN before it. So the unit of
autograd is the block, whose backward pass is written out here; inside it no gradient is an autograd tensor. Between
two blocks the same holds: the block behind masks the gradient with this block's last ReLU and reduces it for its last
BN, and leaves the sums at this block's node of the graph. Whoever looks at the gradient of a block's output therefore
sees it after that ReLU's mask. Masking twice changes nothing, so a gradient that took another way (a hook, a second
consumer) is simply reduced again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

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


class _Reduced(NamedTuple):
    """The gradient of a block's output, masked, and its sums for the block's last BN, made by the block behind."""

    gradient: Tensor
    version: int
    sums: Tensor

    def made(self, dz: Tensor) -> bool:
        mine = self.gradient
        same = dz.data_ptr() == mine.data_ptr() and dz.shape == mine.shape and dz.stride() == mine.stride()
        return same and dz._version == self.version


def _channels_last(x: Tensor) -> Tensor:
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
        y = _channels_last(torch.ops.aten.convolution(x, weight, None, stride, padding, [1, 1], False, [0, 0], 1))
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


class _Node:
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


def _norm(kept: dict[str, Tensor], i: int) -> Norm:
    return Norm(kept[f"stats{i}"], kept[f"norm{i}.weight"], kept[f"norm{i}.bias"])


def _weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, layer: Layer, like: tuple[Any, Any, Any]) -> Tensor:
    """Gradient of a convolution's parameter, in the parameter's own strides and dtype."""
    stride, padding = [layer.stride] * 2, [layer.padding] * 2
    _, gradient, _ = torch.ops.aten.convolution_backward(
        dy, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [False, True, False]
    )
    shape, strides, dtype = like
    return torch.empty_strided(shape, strides, dtype=dtype, device=dy.device).copy_(gradient)


def _input_gradient(dy: Tensor, weight: Tensor, shape: Sequence[int], stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's input by cuDNN; the input itself has no part in it, only its shape."""
    like = dy.new_empty((1,)).expand(tuple(shape))
    gradient, _, _ = torch.ops.aten.convolution_backward(
        dy, like, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False]
    )
    return _channels_last(gradient)


class BlockFunction(torch.autograd.Function):
    """A residual (or plain) block: `forward_block`, and the backward pass written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: BlockPlan, weights: Sequence[Tensor], *parameters: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            z, kept = forward_block(x, plan, weights, parameters)
        _Node.save(ctx, kept, parameters)
        ctx.plan, ctx.producer_of = plan, BlockFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the block behind needs of this one: its last BN, and the join."""
        plan, kept = node.plan, _Node.kept(node)
        last = len(plan.layers) - 1
        dual = plan.projection is not None
        return Producer(
            kept[f"y{last}"],
            _norm(kept, last),
            kept.get("mask"),
            kept[f"y{last + 1}"] if dual else None,
            _norm(kept, last + 1) if dual else None,
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


def _take_reduced(ctx: Any, dz: Tensor, producer: Producer, write: bool) -> tuple[Tensor, Tensor, bool]:
    """The gradient of a node's output, its sums, and whether it is masked already."""
    reduced: _Reduced | None = ctx.reduced
    ctx.reduced = None
    if reduced is not None and reduced.made(dz):
        return reduced.gradient, reduced.sums, True
    if not _broadcast(dz):
        dz = _channels_last(dz)
    gradient, sums = kernels.bn_act_backward_reduce(dz, producer, write_gradient=write)
    return (dz, sums, False) if gradient is None else (gradient, sums, True)


def _broadcast(dz: Tensor) -> bool:
    """Whether a gradient is one value a channel, as global average pooling gives it."""
    return dz.stride(2) == 0 and dz.stride(3) == 0 and dz.stride(1) == 1 and dz.shape[2] * dz.shape[3] > 1


def _backward_block(ctx: Any, dz: Tensor) -> tuple[Any, ...]:
    plan: BlockPlan = ctx.plan
    kept = _Node.kept(ctx)
    needs = ctx.needs_input_grad
    layers, last = plan.layers, len(plan.layers) - 1
    gradients: list[Tensor | None] = [None] * (len(needs) - 3)

    runtime.set_layer(layers[last].name)
    own = BlockFunction.producer(ctx)
    # The skip connection needs the masked gradient itself; a projection's BN takes it through the mask again.
    write = plan.skip in ("identity", "padded")
    gradient, sums, masked = _take_reduced(ctx, dz, own, write)
    reduced: Tensor | None
    gradients[3 * last + 1], gradients[3 * last + 2] = sums[1], sums[0]
    dy: Tensor
    dy_shortcut: Tensor | None = None
    applied = _apply(gradient, own, sums, masked, layers[last], plan.projection)
    if plan.projection is not None:
        dy, dy_shortcut = applied
        gradients[3 * last + 4], gradients[3 * last + 5] = sums[2], sums[0].clone()
    else:
        dy = applied

    for i in range(last, 0, -1):
        layer, weight = layers[i], kept[f"weight{i}"]
        before = Producer(kept[f"y{i - 1}"], _norm(kept, i - 1))
        activation = kept.get(f"z{i}")
        runtime.set_layer(layer.name)
        if layer.choice.dgrad == "triton":
            inner, reduced, rewritten = kernels.conv_dgrad(
                dy, weight, producer=before, write_activation=activation is None, config=layer.choice.dgrad_config
            )
            activation = rewritten if activation is None else activation
            masked = True
        else:
            inner = _input_gradient(dy, weight, before.y.shape, layer.stride, layer.padding)
            runtime.set_layer(layers[i - 1].name)
            _, reduced = kernels.bn_act_backward_reduce(inner, before)
            masked = False
        assert activation is not None and reduced is not None
        sums = reduced
        if needs[3 + 3 * i]:
            gradients[3 * i] = _weight_gradient(dy, activation, weight, layer, ctx.like[i])
        gradients[3 * i - 2], gradients[3 * i - 1] = sums[1], sums[0]
        runtime.set_layer(layers[i - 1].name)
        dy = _apply(inner, before, sums, masked, layers[i - 1], None)

    x = kept["x"]
    if needs[3]:
        gradients[0] = _weight_gradient(dy, x, kept["weight0"], layers[0], ctx.like[0])
    projection = plan.projection
    if projection is not None:
        assert dy_shortcut is not None
        if needs[3 + 3 * (last + 1)]:
            weight = kept[f"weight{last + 1}"]
            gradients[3 * (last + 1)] = _weight_gradient(dy_shortcut, x, weight, projection, ctx.like[last + 1])
    dx = None
    if needs[0]:
        skip = gradient if plan.skip in ("identity", "padded") else None
        if projection is not None:
            skip = _projection_input_gradient(dy_shortcut, kept[f"weight{last + 1}"], projection, x)
        dx = _block_input_gradient(ctx, dy, kept["weight0"], x, skip)
    kept_gradients = [value if needed else None for value, needed in zip(gradients, needs[3:], strict=True)]
    return dx, None, None, *kept_gradients


def _apply(
    gradient: Tensor, producer: Producer, sums: Tensor, masked: bool, layer: Layer, projection: Layer | None
) -> Any:
    frozen = layer.frozen
    if projection is not None and projection.frozen != frozen:
        raise RuntimeError(
            f"{layer.name}: one BN of this join is frozen and {projection.name}'s is not; "
            "freeze both, or use kernels=torch"
        )
    return kernels.bn_act_backward_apply(gradient, producer, sums, masked=masked, frozen=frozen)


def _projection_input_gradient(dy: Tensor | None, weight: Tensor, layer: Layer, x: Tensor) -> Tensor:
    """Gradient of x through a projection: on the grid of its stride, where alone it is not zero."""
    assert dy is not None
    runtime.set_layer(layer.name)
    if layer.choice.dgrad == "triton":
        compact, _, _ = kernels.conv_dgrad(dy, weight, config=layer.choice.dgrad_config)
        return compact
    n, _, h, w = dy.shape
    return _input_gradient(dy, weight, (n, x.shape[1], h, w), 1, 0)


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
            d = _input_gradient(dy, weight, (x.shape[0], x.shape[1], *dy.shape[2:]), 1, 0)
        else:
            d = _input_gradient(dy, weight, x.shape, layer.stride, layer.padding)
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
        node.reduced = _Reduced(dx, dx._version, sums)
    return dx


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
        _Node.save(ctx, kept, parameters)
        ctx.plan, ctx.producer_of = plan, None if plan.pool else StemFunction.producer
        return z

    @staticmethod
    def producer(node: Any) -> Producer:
        """What the first block needs of the stem: its BN."""
        kept = _Node.kept(node)
        return Producer(kept["y0"], _norm(kept, 0))

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
    kept, layer, needs = _Node.kept(ctx), plan.layer, ctx.needs_input_grad
    producer = StemFunction.producer(ctx)
    y, norm = producer.y, producer.norm
    runtime.set_layer(layer.name)
    if plan.pool:
        dz = _channels_last(dz)
        sums = kernels.stem_backward_reduce(dz, kept["argmax"], y, norm)
        dy = kernels.stem_backward_apply(dz, kept["argmax"], y, norm, sums, frozen=layer.frozen)
    else:
        gradient, sums, masked = _take_reduced(ctx, dz, producer, False)
        dy = _apply(gradient, producer, sums, masked, layer, None)
    weight = kept["weight0"]
    d_weight = _weight_gradient(dy, kept["x"], weight, layer, ctx.like[0]) if needs[3] else None
    d_images = _input_gradient(dy, weight, kept["x"].shape, layer.stride, layer.padding) if needs[0] else None
    return d_images, None, None, d_weight, sums[1] if needs[4] else None, sums[0] if needs[5] else None
