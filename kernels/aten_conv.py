"""Convolutions that the framework computes, by cuDNN on a GPU, in channels_last from end to end."""

import torch
from torch import Tensor

__all__ = ["channels_last", "convolution", "input_gradient", "weight_gradient"]

_convolution_backward = torch.ops.aten.convolution_backward.default  # looking it up takes longer than some checks


def channels_last(image: Tensor) -> Tensor:
    """The same image in channels_last: itself where it is."""
    return image.contiguous(memory_format=torch.channels_last)


def convolution(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Convolution without a bias.

    Args:
        x: [N, C, H, W] channels_last.
        weight: [K, C, R, S] channels_last, of the dtype of x.

    Returns:
        [N, K, H', W'] channels_last.
    """
    y = torch.convolution(x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)
    return channels_last(y)  # on the meta device, and where the framework has its own mind, it is not


def input_gradient(dy: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's input.

    Args:
        dy: [N, K, H', W'] channels_last, gradient of its output.
        x: [N, C, H, W], whose values are not read. But its strides are: the framework brings dy into the memory format
            that they suggest, and gives the gradient in it. Every other pixel of a channels_last image still suggests
            that; a tensor that was expanded to the shape does not, and costs a copy of dy and one of the gradient.
        weight: [K, C, R, S] channels_last.

    Returns:
        [N, C, H, W] channels_last.
    """
    gradient, _, _ = _backward(dy, x, weight, stride, padding, [True, False, False])
    return channels_last(gradient)


def weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Gradient of a convolution's weight, in whatever strides; operands as in `input_gradient`, but x is read."""
    return _backward(dy, x, weight, stride, padding, [False, True, False])[1]


def _backward(dy: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, mask: list[bool]) -> tuple[Tensor, ...]:
    return _convolution_backward(dy, x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)
