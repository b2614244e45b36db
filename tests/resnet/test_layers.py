"""Shortcuts, joins and initialization, each against plain arithmetic."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from resnet import layers


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("c_in", "c_out", "stride", "size"), [(16, 32, 2, 8), (64, 256, 1, 5), (3, 7, 2, 7), (4, 4, 2, 6)]
)
def test_strided_identity(c_in, c_out, stride, size, memory_format):
    x = torch.randn(2, c_in, size, size).to(memory_format=memory_format).requires_grad_()
    out = layers.StridedIdentity(c_in, c_out, stride)(x)
    side = -(-size // stride)
    assert out.shape == (2, c_out, side, side)
    assert out.is_contiguous(memory_format=memory_format)
    assert torch.equal(out[:, :c_in], x[:, :, ::stride, ::stride])
    assert not out[:, c_in:].any()
    grad = torch.randn_like(out)
    out.backward(grad)
    expected = torch.zeros_like(x)
    expected[:, :, ::stride, ::stride] = grad[:, :c_in]
    assert torch.equal(x.grad, expected)


def test_strided_identity_keeps_channels_last_in_its_gradient():
    x = torch.randn(2, 4, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    out = layers.StridedIdentity(4, 8, 2)(x)
    (grad,) = torch.autograd.grad(out, x, torch.ones_like(out))
    assert grad.is_contiguous(memory_format=torch.channels_last)


def test_strided_identity_has_a_second_derivative():
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(layers.StridedIdentity(2, 3, 2), (x,))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (3, 5, 7, 6), (1, 2, 1, 1)])
def test_global_average(shape):
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.equal(layers.global_average(x), F.adaptive_avg_pool2d(x, 1).flatten(1))
    assert torch.autograd.gradcheck(layers.global_average, (x,))


def test_global_average_of_large_half_precision_values_does_not_overflow():
    x = torch.full((1, 1, 16, 16), 1000.0, dtype=torch.float16)
    assert layers.global_average(x).item() == 1000.0


@pytest.mark.parametrize(
    ("option", "c_in", "c_out", "stride", "kind"),
    [
        ("none", 64, 128, 2, None),
        ("A", 64, 64, 1, None),
        ("A", 64, 128, 2, layers.StridedIdentity),
        ("A", 64, 256, 1, layers.StridedIdentity),
        ("B", 64, 64, 1, None),
        ("B", 64, 256, 1, layers.Projection),
        ("B", 64, 64, 2, layers.Projection),
        ("C", 64, 64, 1, layers.Projection),
    ],
)
def test_make_shortcut(option, c_in, c_out, stride, kind):
    shortcut = layers.make_shortcut(option, c_in, c_out, stride)
    assert shortcut is None if kind is None else type(shortcut) is kind


def reference(block, x):
    """The block by the paper's Figures 2 and 5, with nothing in place."""
    names = ["1", "2", "3"] if isinstance(block, layers.Bottleneck) else ["1", "2"]
    out = x
    for name in names:
        out = getattr(block, f"bn{name}")(getattr(block, f"conv{name}")(out))
        if name != names[-1]:
            out = F.relu(out)
    if block.residual:
        out = out + (x if block.downsample is None else block.downsample(x))
    return F.relu(out)


@pytest.mark.parametrize("option", ["none", "A", "B", "C"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kind", ["basic", "v1", "v1.5"])
def test_block_and_its_gradients_equal_the_reference(kind, stride, option):
    torch.manual_seed(0)
    if kind == "basic":
        block = layers.BasicBlock(8, 8 * stride, stride, option)
    else:
        block = layers.Bottleneck(8, 8, stride, option, stride_in_3x3=kind == "v1.5")
    block.double()
    results = []
    for forward in (block, lambda x: reference(block, x)):
        x = torch.randn(4, 8, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
        block.zero_grad()
        out = forward(x)
        out.square().sum().backward()
        results.append([out, x.grad, *(p.grad.clone() for p in block.parameters())])
    assert all(torch.allclose(ours, theirs, rtol=1e-12, atol=1e-12) for ours, theirs in zip(*results, strict=True))


def test_stride_of_a_bottleneck():
    v1 = layers.Bottleneck(64, 32, 2, "B", stride_in_3x3=False)
    v15 = layers.Bottleneck(64, 32, 2, "B", stride_in_3x3=True)
    assert [c.stride[0] for c in (v1.conv1, v1.conv2, v1.conv3)] == [2, 1, 1]
    assert [c.stride[0] for c in (v15.conv1, v15.conv2, v15.conv3)] == [1, 2, 1]


def test_hook_on_the_last_bn_sees_its_output_before_addition_and_relu():
    block = layers.BasicBlock(4, 4, 1, "A").eval()
    seen = []
    block.bn2.register_forward_hook(lambda module, inputs, output: seen.append(output.clone()))
    x = torch.randn(1, 4, 5, 5)
    out = block(x)
    assert torch.equal(out, F.relu(seen[0] + x))
    assert (seen[0] < 0).any()


def test_he_init():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(64, 128, 3, stride=2), nn.BatchNorm2d(128), nn.Flatten(), nn.Linear(128, 10))
    layers.he_init(model)
    assert model[0].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    assert not model[0].bias.any() and not model[3].bias.any()
    assert (model[1].weight == 1).all()
