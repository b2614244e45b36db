"""What fused blocks and the stem share as nodes of the autograd graph: what they save, hand on, and leave to cuDNN."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kernels import aten_conv, runtime
from kernels.choose.choice import Choice
from kernels.operands import Norm, Producer, Running
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3

T = TypeVar("T")


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


class PerParameter(NamedTuple, Generic[T]):
    """One value for each parameter of a layer; autograd sees those of all layers in a row, see `flatten`.

    Attributes:
        weight: of the convolution, [K, C, R, S].
        gamma, beta: weight and bias of the BN, [K].
    """

    weight: T
    gamma: T
    beta: T


LayerParameters = PerParameter[Tensor]
LayerGradients = PerParameter[Tensor | None]  # None where nobody asked for it
LayerNeeds = PerParameter[bool]


def flatten(layers: Iterable[PerParameter[T]]) -> tuple[T, ...]:
    """What is known of each parameter of some layers, in the one order in which autograd takes and gives them."""
    return tuple(chain.from_iterable(layers))


def unflatten(flat: Sequence[T]) -> list[PerParameter[T]]:
    """The inverse of `flatten`."""
    size = len(PerParameter._fields)
    return [PerParameter(*flat[at : at + size]) for at in range(0, len(flat), size)]


class Like(NamedTuple):
    """What the gradient of a convolution's weight has to look like: as the parameter does."""

    shape: torch.Size
    strides: tuple[int, ...]
    dtype: torch.dtype


class KeptLayer(NamedTuple):
    """What the backward pass of a layer reads.

    Attributes:
        y: the convolution's output, [N, K, H, W], before its BN.
        stats: of the BN, [2, K] fp32.
        gamma, beta: of the BN, [K].
        weight: of the convolution as the kernels took it: packed, in their dtype and layout.
        activation: what the convolution read, where that was written for it alone; None where it read the node's input,
            or applied the BN and ReLU before it to what it read, the y of the layer before.
    """

    y: Tensor
    stats: Tensor
    gamma: Tensor
    beta: Tensor
    weight: Tensor
    activation: Tensor | None

    @property
    def norm(self) -> Norm:
        return Norm(self.stats, self.gamma, self.beta)

    @property
    def producer(self) -> Producer:
        """What made the activation behind this layer, where nothing is added before the ReLU."""
        return Producer(self.y, self.norm)


class Kept(NamedTuple):
    """What the backward pass of a node reads.

    Attributes:
        x: the node's input, [N, C, H, W].
        layers: in the order of the node's parameters.
        mask: a bit for each value of the output of a join, uint8; None without a join.
        argmax: of the max pooling in a stem, uint8; None without pooling.
    """

    x: Tensor
    layers: tuple[KeptLayer, ...]
    mask: Tensor | None = None
    argmax: Tensor | None = None


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
    """What blocks and stems have in common as nodes of the graph.

    Arguments of their `forward` are x, a plan, packed weights, and the flat parameters.
    """

    BEFORE = 3  # arguments before the parameters

    @staticmethod
    def save(ctx: Any, kept: Kept, parameters: Sequence[LayerParameters]) -> None:
        ctx.save_for_backward(kept.x, kept.mask, kept.argmax, *chain.from_iterable(kept.layers))
        # The convolutions' own weights are not saved: the packed ones are read, and of these only the looks matter.
        ctx.like = [Like(weight.shape, weight.stride(), weight.dtype) for weight, _, _ in parameters]
        ctx.set_materialize_grads(False)
        ctx.unpacked = ctx.reduced = None

    @staticmethod
    def kept(ctx: Any) -> Kept:
        """What was saved; unpacked once, though the block behind asks for it too."""
        if ctx.unpacked is None:
            x, mask, argmax, *rest = ctx.saved_tensors
            size = len(KeptLayer._fields)
            layers = tuple(KeptLayer(*rest[at : at + size]) for at in range(0, len(rest), size))
            ctx.unpacked = Kept(x, layers, mask, argmax)
        return ctx.unpacked

    @staticmethod
    def needs(ctx: Any) -> list[LayerNeeds]:
        """Of each layer, which parameters' gradients are asked for."""
        return unflatten(ctx.needs_input_grad[Node.BEFORE :])

    @staticmethod
    def gradients(ctx: Any, dx: Tensor | None, layers: Iterable[LayerGradients]) -> tuple[Tensor | None, ...]:
        """What `backward` returns: a gradient for each argument of `forward`, None where none is asked for."""
        found = (dx, None, None, *flatten(layers))
        return tuple(value if needed else None for value, needed in zip(found, ctx.needs_input_grad, strict=True))


def without_autocast(device_type: str, run: Callable[..., T], *arguments: Any) -> T:
    """What a function returns with autocast off, as `torch.autocast` does it in many times the time."""
    # Of some devices (meta) autocast knows nothing.
    if not (torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)):
        return run(*arguments)
    torch.set_autocast_enabled(device_type, False)
    try:
        return run(*arguments)
    finally:
        torch.set_autocast_enabled(device_type, True)


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
        y = aten_conv.convolution(x, weight, layer.stride, layer.padding)
        stats = layer.stats if layer.frozen else bn_stats(y, layer.eps, layer.running)
    else:
        op = conv1x1 if layer.kernel == 1 else conv3x3
        y, stats = op(
            x, weight, stride=layer.stride, prologue=prologue, statistics=not layer.frozen, eps=layer.eps,
            running=layer.running, tile_config=layer.choice.forward_config,
        )  # fmt: skip
        stats = layer.stats if layer.frozen else stats
    assert stats is not None
    return y, stats


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, layer: Layer, like: Like) -> Tensor:
    """Gradient of a convolution's parameter, in the parameter's own strides and dtype."""
    gradient = aten_conv.weight_gradient(dy, x, weight, layer.stride, layer.padding)
    return torch.empty_strided(like.shape, like.strides, dtype=like.dtype, device=dy.device).copy_(gradient)


def take_reduced(ctx: Any, dz: Tensor, producer: Producer, write: bool) -> tuple[Tensor, Tensor, bool]:
    """The gradient of a node's output, its sums for the node's last BN, and whether it is masked already.

    The block behind may have made all three; else they are made here.

    Args:
        write: whether the masked gradient itself is needed, not its sums alone.

    Returns:
        gradient, like z; sums, fp32 [2 or 3, C], of which see `bn_gradients`; masked.
    """
    reduced: Reduced | None = ctx.reduced
    ctx.reduced = None
    if reduced is not None and reduced.made(dz):
        return reduced.gradient, reduced.sums, True
    if not _broadcast(dz):
        dz = aten_conv.channels_last(dz)
    gradient, sums = bn_act_backward_reduce(dz, producer, write_gradient=write)
    return (dz, sums, False) if gradient is None else (gradient, sums, True)


def _broadcast(dz: Tensor) -> bool:
    """Whether a gradient is one value a channel, as global average pooling gives it."""
    n, c, h, w = dz.shape
    return dz.stride()[1:] == (1, 0, 0) and (dz.stride(0) == c or n == 1) and h * w > 1


def bn_gradients(sums: Tensor, layer: KeptLayer) -> tuple[Tensor, Tensor]:
    """Gradients of gamma and beta, in this order, of `bn_act_backward_reduce`'s sums of g and of g * xhat.

    In the dtype of gamma and beta where they share one; else in fp32, and autograd casts each.
    """
    if layer.gamma.dtype == layer.beta.dtype:
        sums = sums.to(layer.gamma.dtype)  # both at once
    beta, gamma, *_ = sums.unbind()
    return gamma, beta


def apply_bn(
    gradient: Tensor, producer: Producer, sums: Tensor, masked: bool, layer: Layer, projection: Layer | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the input of a layer's BN, and of that of the projection's, where there is one.

    Args:
        gradient, sums, masked: see `take_reduced`.
    """

    def applied(frozen: bool) -> tuple[Tensor, Tensor | None]:
        found = bn_act_backward_apply(gradient, producer, sums, masked=masked, frozen=frozen)
        return found if isinstance(found, tuple) else (found, None)

    dy, dy_shortcut = applied(layer.frozen)
    if projection is not None and projection.frozen != layer.frozen:
        # The pass takes both BNs as frozen or neither: where they differ, each has one of its own.
        _, dy_shortcut = applied(projection.frozen)
    return dy, dy_shortcut
