"""3x3 convolution with statistics and prologue, against fp64 and PyTorch's own."""

import pytest
import torch
from criterion import DTYPES, check, image, make_norm

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError, Norm, Running
from kernels.ops.conv3x3 import conv3x3

pytestmark = pytest.mark.interpreted

# N, C, K, H, W, stride: stages of ResNet-50 and ResNet-20 with few pixels, and odd ones.
SHAPES = (
    (1, 64, 64, 8, 9, 1),
    (1, 64, 128, 7, 7, 2),
    (2, 16, 16, 9, 8, 1),
    (1, 16, 32, 8, 8, 2),
    (2, 32, 64, 5, 5, 2),
    (3, 24, 24, 7, 7, 1),
    (1, 24, 8, 1, 3, 1),
)
DEEP = ((1, 128, 128, 7, 7, 1), (1, 256, 32, 2, 3, 1))


def _operands(shape, dtype, device):
    torch.manual_seed(0)
    n, c, k, h, w, _ = shape
    weight = (torch.randn(k, c, 3, 3, device=device) / (9 * c) ** 0.5).to(dtype)
    x = image((n, c, h, w), dtype, device, mean=0.3)
    return x, weight.contiguous(memory_format=torch.channels_last)


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def _check(shape, prologue, dtype, device):
    x, weight = _operands(shape, dtype, device)
    norm = make_norm(x) if prologue else None
    if norm:  # padding that went through the prologue would count
        norm = norm._replace(bias=norm.bias.abs() + 2)
    wide = Norm(*(v.double() for v in norm)) if norm else None
    stride = shape[-1]
    y, stats = conv3x3(x, weight, stride=stride, prologue=norm)
    exact, _ = reference.conv3x3(x.double(), weight.double(), stride=stride, prologue=wide)
    torchs, _ = reference.conv3x3(x, weight, stride=stride, prologue=norm)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    check("y", y, exact, torchs)
    check("stats", stats, reference.bn_stats(y.double()), reference.bn_stats(y))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prologue", (False, True))
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_statistics(shape, prologue, dtype, device):
    _check(shape, prologue, dtype, device)


@pytest.mark.parametrize("shape", DEEP)
def test_many_channels(shape, device):
    _check(shape, True, torch.float16, device)


def test_padding_is_zero_after_the_prologue(device):
    # relu(0 * x + 1) = 1 everywhere: each output counts the taps within the image.
    x, _ = _operands((2, 16, 16, 3, 4, 1), torch.float32, device)
    ones = torch.ones(16, device=device)
    norm = Norm(torch.stack([0 * ones, ones]), 0 * ones, ones)
    weight = torch.ones(16, 16, 3, 3, device=device).contiguous(memory_format=torch.channels_last)
    y, _ = conv3x3(x, weight, prologue=norm)
    corner, edge, middle = 4, 6, 9
    line = torch.tensor([[corner, edge, edge, corner], [edge, middle, middle, edge], [corner, edge, edge, corner]])
    assert torch.equal(y, (16.0 * line).to(device).expand(2, 16, 3, 4))


def test_running_statistics(device):
    x, weight = _operands((2, 16, 24, 9, 5, 2), torch.float16, device)
    new, old = ([torch.full((24,), 0.5, device=device), torch.full((24,), 2.0, device=device)] for _ in range(2))
    y, stats = conv3x3(x, weight, stride=2, eps=0.1, running=Running(*new, momentum=0.3))
    expected = reference.bn_stats(y.float(), 0.1, Running(*old, momentum=0.3))
    for actual, wanted in zip([stats, *new], [expected, *old], strict=True):
        torch.testing.assert_close(actual, wanted)


def test_twice_the_same(device):
    x, weight = _operands((2, 16, 16, 20, 20, 1), torch.float16, device)
    for first, second in zip(conv3x3(x, weight), conv3x3(x, weight), strict=True):
        assert torch.equal(first, second)


def test_bad_operands_raise_before_anything_is_allocated(device, monkeypatch):
    x, weight = _operands((2, 16, 32, 4, 4, 1), torch.float32, device)
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    for arguments, message in (
        ({"weight": weight[:, :, :1, :1]}, "nearest is 3x3"),
        ({"weight": weight.contiguous()}, "weight: strides .* are not channels_last"),
        ({"weight": weight[:12]}, "nearest is 16"),
        ({"stride": 0}, "nearest is 1"),
        ({"prologue": make_norm(x[:, :8])}, "prologue.stats"),
    ):
        with pytest.raises(KernelError, match=message):
            conv3x3(**{"x": x, "weight": weight, **arguments})


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    x = image((256, 128, 56, 56), torch.float16, torch.device("meta"))
    weight = image((128, 128, 3, 3), torch.float16, torch.device("meta"))
    with runtime.capture_launches(chip) as launches:
        y, stats = conv3x3(x, weight, stride=2, prologue=Norm(*(torch.empty(s, device="meta") for s in SIZES)))
    assert y.shape == (256, 128, 28, 28) and stats.shape == (2, 128)
    (launch,) = launches
    assert launch.kernel == "conv3x3" and set(launch.arguments) == set(launch.function.arg_names)


SIZES = ((2, 128), (128,), (128,))
