"""The framework's convolutions stay in channels_last: no operand is brought into another memory format and back."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kernels import aten_conv

CASES = {  # kernel, stride, padding, and the distance of the pixels of x that are read
    "1x1": (1, 1, 0, 1),
    "3x3": (3, 1, 1, 1),
    "3x3 of stride 2": (3, 2, 1, 1),
    "7x7 of stride 2": (7, 2, 3, 1),
    "1x1 on every other pixel": (1, 1, 0, 2),
}


class Formats(TorchDispatchMode):
    """The memory format that the input of each backward pass of a convolution suggests to the framework."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket == torch.ops.aten.convolution_backward:
            self.found.append(torch._prims_common.suggest_memory_format(args[1]))
        return func(*args, **(kwargs or {}))


def operands(case):
    kernel, stride, padding, distance = CASES[case]
    torch.manual_seed(0)
    whole = torch.randn(2, 16, 12, 12).contiguous(memory_format=torch.channels_last)
    x = whole[:, :, ::distance, ::distance]
    weight = torch.randn(24, 16, kernel, kernel).contiguous(memory_format=torch.channels_last)
    y = aten_conv.convolution(x, weight, stride, padding)
    return x, weight, torch.randn_like(y), stride, padding


@pytest.mark.parametrize("case", CASES)
def test_the_framework_is_asked_for_a_gradient_in_channels_last(case):
    x, weight, dy, stride, padding = operands(case)
    with Formats() as formats:
        gradient = aten_conv.input_gradient(dy, x, weight, stride, padding)
    assert formats.found == [torch.channels_last]
    assert gradient.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_autograd(case):
    x, weight, dy, stride, padding = operands(case)
    with torch.no_grad():
        found = [one(dy, x, weight, stride, padding) for one in (aten_conv.input_gradient, aten_conv.weight_gradient)]
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    torch.nn.functional.conv2d(x, weight, stride=stride, padding=padding).backward(dy)
    torch.testing.assert_close(found, [x.grad, weight.grad])
