"""How far signals reach: norms of each layer's output forward, and of the loss's gradients backward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from resnet import ResNet
from resnet.layers import running_statistics_kept

__all__ = ["Flow", "gradient_flow", "measured_after"]


@dataclass
class Flow:
    """Of one layer, a convolution with its BN, over a batch.

    Attributes:
        layer: name of the convolution.
        activation: root mean square of what its BN puts out, before ReLU and addition.
        output_gradient: L2 norm of the gradient of the batch's mean loss, with respect to the same.
        weight_gradient: L2 norm of the gradient of that loss with respect to the convolution's weights.
    """

    layer: str
    activation: float = 0.0
    output_gradient: float = 0.0
    weight_gradient: float = 0.0


def measured_after(epoch: int, epochs: int) -> bool:
    """Whether it is measured after so many epochs: none, the powers of two, and all of them."""
    return epoch & (epoch - 1) == 0 or epoch == epochs


def gradient_flow(model: ResNet, images: Tensor, labels: Tensor) -> list[Flow]:
    """One forward and backward pass in training mode, in fp32; weights and running statistics stay as they are.

    The paper (section 4.1) argues by both directions that plain nets with BN do not suffer from vanishing gradients:
    signals forward have variances that are not zero, gradients backward have healthy norms.

    Args:
        model: over modules (`kernels=torch`); it is left in the mode in which it was, without gradients.
        images: float32 [N, 3, H, W], normalized as in training.
        labels: int64 [N].

    Returns:
        In the order of the layers: the stem's, then block by block.
    """
    found = [Flow(layer.name) for layer in model.conv_layers()]

    def watch(flow: Flow) -> Callable[[nn.Module, Any, Tensor], None]:
        def forward(module: nn.Module, given: Any, output: Tensor) -> None:
            flow.activation = float(output.detach().double().square().mean().sqrt())
            # Of the value as it is now: what overwrites it, as ReLU does, has a gradient of its own.
            output.register_hook(backward)

        def backward(gradient: Tensor) -> None:
            flow.output_gradient = float(gradient.double().norm())

        return forward

    layers = model.conv_layers()
    hooks = [layer.bn.register_forward_hook(watch(flow)) for layer, flow in zip(layers, found, strict=True)]
    training = model.training
    model.train()
    model.zero_grad(set_to_none=True)
    try:
        with running_statistics_kept([model]), torch.enable_grad():
            F.cross_entropy(model(images), labels).backward()
        for layer, flow in zip(layers, found, strict=True):
            gradient = layer.conv.weight.grad
            assert gradient is not None
            flow.weight_gradient = float(gradient.double().norm())
    finally:
        for hook in hooks:
            hook.remove()
        model.zero_grad(set_to_none=True)
        model.train(training)
    return found
