"""Batch statistics against fp64, PyTorch's own and nn.BatchNorm2d's running ones."""

import pytest
import torch
import torch.nn.functional as F
from criterion import DTYPES, SHAPES, check, image
from torch import nn

from kernels import reference, runtime
from kernels.operands import KernelError, Running
from kernels.ops.bn_stats import bn_stats

pytestmark = pytest.mark.interpreted


def _torchs(y):
    """Mean and 1 / sqrt(variance + eps) as PyTorch's batch norm keeps them."""
    c = y.shape[1]
    one = torch.ones(c, dtype=torch.float64 if y.dtype == torch.float64 else torch.float32, device=y.device)
    return torch.stack(torch.native_batch_norm(y, one, one, None, None, True, 0.1, 1e-5)[1:])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 40, 23, 21), (1, 8, 1, 2)])
def test_statistics(shape, dtype, device):
    torch.manual_seed(0)
    y = image(shape, dtype, device, mean=0.5)
    exact, torchs, actual = _torchs(y.double()), _torchs(y), bn_stats(y)
    assert actual.dtype == torch.float32
    for name, *values in zip(("mean", "invstd"), actual, exact, torchs, strict=True):
        check(name, *values)
    torch.testing.assert_close(reference.bn_stats(y.double()), exact)


def test_programs_that_walk_through_many_tiles(device, few_programs):
    torch.manual_seed(0)
    y = image((2, 72, 15, 13), torch.float16, device, mean=2)
    for name, *values in zip(("mean", "invstd"), bn_stats(y), _torchs(y.double()), _torchs(y), strict=True):
        check(name, *values)


@pytest.mark.parametrize("first", [1000.0, 0.0])
def test_a_mean_of_a_thousand_deviations(first, device, few_programs):
    torch.manual_seed(0)
    y = image((2, 24, 32, 16), torch.float32, device, mean=1000)
    y[0, :, 0, 0] = first  # the first value may be far from the mean, too
    exact = _torchs(y.double())
    error = ((bn_stats(y) - exact) / exact).abs().amax(1)
    assert error[0] < 2e-7 and error[1] < 1e-5
    if first:
        mean, square = y.mean((0, 2, 3)), y.square().mean((0, 2, 3))
        naive = (square - mean * mean + 1e-5).rsqrt()
        assert not ((naive - exact[1]) / exact[1]).abs().amax() < 1e-2  # the test tells the two apart


def test_runs_agree_bit_for_bit(device):
    y = image((2, 72, 20, 16), torch.bfloat16, device)
    assert torch.equal(bn_stats(y), bn_stats(y))


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0])
def test_running_statistics_are_those_of_batch_norm(momentum, device):
    torch.manual_seed(0)
    bn = nn.BatchNorm2d(24, momentum=momentum, device=device)
    bn.running_mean.normal_()
    bn.running_var.uniform_(0.5, 2)
    running = Running(bn.running_mean.clone(), bn.running_var.clone(), momentum)
    twin = Running(bn.running_mean.clone(), bn.running_var.clone(), momentum)
    for _ in range(2):
        y = image((3, 24, 9, 5), torch.float32, device, mean=3)
        bn_stats(y, bn.eps, running)
        reference.bn_stats(y, bn.eps, twin)
        bn(y)
    for ours in (running, twin):
        torch.testing.assert_close(ours.mean, bn.running_mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(ours.var, bn.running_var, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("function", [bn_stats, reference.bn_stats])
def test_one_value_a_channel_raises_as_in_pytorch(function, device, no_allocation):
    y = torch.randn(1, 8, 1, 1, device=device)
    with pytest.raises(ValueError) as theirs:
        F.batch_norm(y, None, None, training=True)
    with pytest.raises(ValueError) as ours:
        function(y)
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize(
    ("y", "word"),
    [
        (torch.randn(2, 8, 4, 4), "channels_last"),
        (torch.randn(8, 4, 4), "axes"),
        (torch.randn(2, 4, 4, 8, dtype=torch.float64).permute(0, 3, 1, 2), "dtype"),
        (torch.randn(2, 4, 4, 8, device="meta").permute(0, 3, 1, 2), "on meta"),
    ],
)
def test_images_that_it_does_not_take(y, word, device, no_allocation):
    with pytest.raises(KernelError, match=word):
        bn_stats(y if y.is_meta else y.to(device))


@pytest.mark.parametrize("change", [{"mean": 7}, {"var": 9}, {"momentum": 2.0}])
def test_running_statistics_that_it_does_not_take(change, device, no_allocation):
    sizes = {"mean": 8, "var": 8, "momentum": 0.1} | change
    running = Running(
        torch.zeros(sizes["mean"], device=device), torch.ones(sizes["var"], device=device), sizes["momentum"]
    )
    with pytest.raises(KernelError, match=f"running.{next(iter(change))}"):
        bn_stats(image((2, 8, 4, 4), torch.float32, device), running=running)


def test_it_is_captured_from_meta_tensors(complete):
    y = image((64, 256, 56, 56), torch.bfloat16, torch.device("meta"))
    with runtime.capture_launches("sm_90") as launches:
        stats = bn_stats(y, running=Running(*torch.empty(2, 256, device="meta"), 0.1))
    assert stats.shape == (2, 256) and stats.is_meta
    complete(launches, ["bn_stats"])
