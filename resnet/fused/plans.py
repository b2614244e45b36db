"""What passes over a network have in common, worked out once: its modules by name, and its layers as they are used."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from kernels.choose.choice import Choice
from kernels.operands import Norm, Running
from resnet.fused.autograd_node import Layer
from resnet.fused.checks import all_modules, modules_inside
from resnet.layers import Block, ConvBn


@dataclass(frozen=True)
class Structure:
    """The modules of a network, or of a block alone.

    Attributes:
        modules: all of them; what follows is right for as long as they are these.
        inside: those that do not run themselves, by name.
        layers: the convolutions with their BNs, the stem's first.
        blocks: the same of each block.
    """

    modules: list[nn.Module]
    inside: list[tuple[str, nn.Module]]
    layers: list[ConvBn]
    blocks: dict[nn.Module, list[ConvBn]]


class Plans:
    """Keeps the structure of the network that was passed last, and each of its layers."""

    def __init__(self) -> None:
        self._structure: Structure | None = None
        self._layers: dict[str, Layer] = {}

    def structure(self, module: Any) -> Structure:
        """That of a network or of a block, as its modules are now."""
        modules, kept = all_modules(module), self._structure
        if kept is None or kept.modules != modules:
            blocks = [one for one in module.modules() if isinstance(one, Block)]
            by_block: dict[nn.Module, list[ConvBn]] = {block: block.conv_layers() for block in blocks}
            kept = self._structure = Structure(modules, modules_inside(module), module.conv_layers(), by_block)
        return kept

    def layer(self, part: ConvBn, choice: Choice) -> Layer:
        """A layer as a pass uses it, as its modules are now."""
        name, conv, bn = part
        size, stride, padding = conv.kernel_size[0], conv.stride[0], int(conv.padding[0])
        mean, var, momentum = bn._buffers["running_mean"], bn._buffers["running_var"], bn.momentum
        running = None
        if bn.training and bn.track_running_stats and mean is not None:
            assert var is not None
            if momentum is None:  # the mean of all batches
                assert bn.num_batches_tracked is not None
                momentum = 1.0 / float(bn.num_batches_tracked)
            running = Running(mean, var, momentum)
        if is_frozen(bn):
            return Layer(name, size, stride, padding, choice, bn.eps, running, True, frozen_norm(bn).stats)
        kept = self._layers.get(name)
        if (
            kept is None
            or kept.choice is not choice
            or (kept.kernel, kept.stride, kept.padding, kept.eps) != (size, stride, padding, bn.eps)
            or not _same(kept.running, running)
        ):
            kept = self._layers[name] = Layer(name, size, stride, padding, choice, bn.eps, running, False, None)
        return kept


def _same(one: Running | None, other: Running | None) -> bool:
    """Whether two update the same statistics in the same way."""
    if one is None or other is None:
        return one is other
    return one.mean is other.mean and one.var is other.var and one.momentum == other.momentum


def is_frozen(bn: nn.BatchNorm2d) -> bool:
    """Whether running statistics normalize, as `nn.BatchNorm2d` decides it."""
    return not bn.training and bn.running_mean is not None


def frozen_norm(bn: nn.BatchNorm2d) -> Norm:
    """A BN over its running statistics."""
    assert bn.running_mean is not None and bn.running_var is not None
    stats = torch.stack([bn.running_mean.float(), torch.rsqrt(bn.running_var.float() + bn.eps)])
    return Norm(stats, bn.weight.detach(), bn.bias.detach())
