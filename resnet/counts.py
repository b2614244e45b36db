"""Counts a network's parameters and multiply-adds without computing anything."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from results.words import ConfigError


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Sizes of a network.

    Attributes:
        parameters: trainable values, BN's included.
        multiply_adds: of convolutions and linear layers, for one image; each is one operation (the paper's FLOPs).
    """

    parameters: int
    multiply_adds: int


def count(model: nn.Module, image_size: int, in_channels: int = 3) -> Counts:
    """Count on the meta device in evaluation mode; the model itself is neither run nor changed.

    Args:
        model: any network of `nn.Conv2d` and `nn.Linear`, on any device.
        image_size: height and width of the image in pixels.
        in_channels: channels of the image.

    Raises:
        ConfigError: `image_size` is below 1.
        RuntimeError: PyTorch's, where the network cannot take an image of this size.
    """
    if image_size < 1:
        raise ConfigError(f"image_size={image_size}: expected a whole number from 1 on; nearest is 1")
    # The memo makes deepcopy take meta tensors for the real ones, so that weights are never copied; a copied module is
    # never a compiled one.
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {
        id(t): nn.Parameter(t.detach().to("meta"), t.requires_grad) if isinstance(t, nn.Parameter) else t.to("meta")
        for t in tensors
    }
    shadow = copy.deepcopy(model, memo).eval()
    for module in shadow.modules():
        if getattr(module, "fused", None) is not None:  # kernels do not run on the meta device; modules and hooks do
            module.fused = None  # type: ignore[assignment]
    multiply_adds = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal multiply_adds
        weight = module.weight
        assert isinstance(weight, Tensor)
        multiply_adds += output.numel() * weight[0].numel()

    for module in shadow.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(add)
    with torch.no_grad():
        shadow(torch.empty(1, in_channels, image_size, image_size, device="meta"))
    return Counts(parameters=sum(p.numel() for p in model.parameters()), multiply_adds=multiply_adds)
