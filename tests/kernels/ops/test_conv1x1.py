"""1x1 convolution with statistics and prologue, against fp64 and PyTorch's own."""

import pytest
import torch
from criterion import DTYPES, check, image, make_norm

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError, Norm, Running
from kernels.ops.conv1x1 import conv1x1

pytestmark = pytest.mark.interpreted

# N, C, K, H, W, stride: stages of ResNet-50 with few pixels, CIFAR's projections, and odd ones.
SHAPES = (
    (2, 64, 64, 8, 8, 1),
    (1, 64, 256, 9, 11, 1),
    (1, 128, 256, 9, 7, 2),
    (1, 512, 128, 6, 6, 1),
    (2, 16, 32, 8, 8, 2),
    (3, 24, 24, 7, 7, 1),
    (1, 40, 8, 5, 3, 2),
)
DEEP = ((1, 1024, 64, 7, 7, 1), (1, 256, 512, 4, 4, 1))


def _operands(shape, dtype, device):
    torch.manual_seed(0)
    n, c, k, h, w, _ = shape
    weight = (torch.randn(k, c, 1, 1, device=device) / c**0.5).to(dtype)
    return image((n, c, h, w), dtype, device, mean=0.3), weight


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("prologue", (False, True))
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_statistics(shape, prologue, dtype, device):
    _check(shape, prologue, dtype, device)


@pytest.mark.parametrize("shape", DEEP)
def test_many_channels(shape, device):
    _check(shape, True, torch.float16, device)


def _check(shape, prologue, dtype, device):
    x, weight = _operands(shape, dtype, device)
    norm = make_norm(x) if prologue else None
    wide = Norm(*(v.double() for v in norm)) if norm else None
    stride = shape[-1]
    y, stats = conv1x1(x, weight, stride=stride, prologue=norm)
    exact, _ = reference.conv1x1(x.double(), weight.double(), stride=stride, prologue=wide)
    torchs, _ = reference.conv1x1(x, weight, stride=stride, prologue=norm)
    assert y.dtype == dtype and y.is_contiguous(memory_format=torch.channels_last)
    check("y", y, exact, torchs)
    check("stats", stats, reference.bn_stats(y.double()), reference.bn_stats(y))


def test_statistics_of_many_tiles_and_a_large_mean(device):
    # Enough rows for several groups of programs, the last of them short.
    x, weight = _operands((1, 16, 16, 47, 61, 1), torch.float32, device)
    y, stats = conv1x1(x + 1000, weight.abs())
    check("stats", stats, reference.bn_stats(y.double()), reference.bn_stats(y))
    mean, invstd = reference.bn_stats(y.double())
    assert (mean * invstd).min() > 500
    assert torch.allclose(stats[1].double(), invstd, rtol=1e-4)


def test_running_statistics(device):
    x, weight = _operands((2, 16, 24, 9, 5, 1), torch.float16, device)
    new, old = ([torch.full((24,), 0.5, device=device), torch.full((24,), 2.0, device=device)] for _ in range(2))
    y, stats = conv1x1(x, weight, eps=0.1, running=Running(*new, momentum=0.3))
    expected = reference.bn_stats(y.float(), 0.1, Running(*old, momentum=0.3))
    for actual, wanted in zip([stats, *new], [expected, *old], strict=True):
        torch.testing.assert_close(actual, wanted)


def test_without_statistics(device):
    x, weight = _operands((2, 16, 24, 9, 5, 1), torch.float16, device)
    y, stats = conv1x1(x, weight, statistics=False)
    assert stats is None and torch.equal(y, conv1x1(x, weight)[0])


def test_twice_the_same(device):
    x, weight = _operands((2, 64, 64, 9, 9, 1), torch.float16, device)
    for first, second in zip(conv1x1(x, weight), conv1x1(x, weight), strict=True):
        assert torch.equal(first, second)


def test_a_nan_shows(device):
    x, weight = _operands((2, 16, 16, 3, 3, 1), torch.float32, device)
    norm = make_norm(x)
    x[1, 2, 0, 1] = torch.nan
    y, stats = conv1x1(x, weight, prologue=norm)
    assert y[1, :, 0, 1].isnan().all() and int(y.isnan().sum()) == 16 and stats.isnan().all()


def _bad(x, weight):
    norm, running = make_norm(x), Running(torch.zeros(32), torch.ones(32), 0.1)
    yield {"x": x[:, :12].contiguous(memory_format=torch.channels_last), "weight": weight[:, :12]}, "nearest is 16"
    yield {"weight": weight[:28]}, "K = 28 is not a multiple of 8; nearest is 32"
    yield {"weight": weight[:, :8]}, "does not fit an image of 16 channels"
    yield {"weight": weight.half()}, "nearest is float32"
    yield {"weight": weight.expand(32, 16, 3, 3)}, "nearest is 1x1"
    yield {"weight": weight[:, :, 0, 0]}, "weight: expected"
    yield {"weight": torch.randn(16, 32, 1, 1, device=x.device).transpose(0, 1)}, "not channels_last"
    yield {"x": x.contiguous()}, "x: strides"
    yield {"stride": 3}, "nearest is 2"
    yield {"prologue": norm._replace(weight=norm.weight[:8])}, "prologue.weight"
    yield {"running": running, "statistics": False}, "statistics=True"
    yield {"running": running._replace(momentum=2.0)}, "running.m"


@pytest.mark.parametrize("case", range(12))
def test_bad_operands_raise_before_anything_is_allocated(case, device, monkeypatch):
    x, weight = _operands((2, 16, 32, 4, 4, 1), torch.float32, device)
    arguments, message = list(_bad(x, weight))[case]
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    with pytest.raises(KernelError, match=message):
        conv1x1(**{"x": x, "weight": weight, **arguments})


def test_one_value_a_channel_raises_as_in_pytorch(device):
    x, weight = _operands((1, 16, 32, 1, 1, 1), torch.float32, device)
    with pytest.raises(ValueError, match=r"Expected more than 1 value per channel .*\[1, 32, 1, 1\]"):
        conv1x1(x, weight)
    assert conv1x1(x, weight, statistics=False)[0].shape == (1, 32, 1, 1)


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    x = image((256, 64, 56, 56), torch.bfloat16, torch.device("meta"))
    with runtime.capture_launches(chip) as launches:
        y, stats = conv1x1(x, torch.empty(256, 64, 1, 1, dtype=x.dtype, device="meta"), stride=2)
    assert y.shape == (256, 256, 28, 28) and stats.shape == (2, 256)
    (launch,) = launches
    assert launch.kernel == "conv1x1" and set(launch.arguments) == set(launch.function.arg_names)
