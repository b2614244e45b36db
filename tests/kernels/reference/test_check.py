"""The one check: what it measures, what it tolerates, and what it never lets pass."""

import math

import pytest
import torch

from kernels import runtime
from kernels.reference import check
from kernels.reference.check import ABSOLUTE, SLACK, errors, poisoned, wrong

CPU = torch.device("cpu")


def error(found, exact):
    return errors({"z": found}, {"z": exact})["z"]


@pytest.mark.parametrize("shape", [(7,), (), (2, 64), (5, 3, 4, 4)])
def test_the_error_is_the_relative_l2_norm_in_fp64(shape, monkeypatch):
    torch.manual_seed(0)
    exact = torch.randn(shape, dtype=torch.float64)
    found = (exact + 1e-3 * torch.randn(shape)).half()
    expected = float((found.double() - exact).norm() / exact.norm())
    assert error(found, exact) == pytest.approx(expected, rel=1e-12)
    for chunk in (1, 20, 100):  # of elements, and then of rows
        monkeypatch.setattr(check, "CHUNK", chunk)
        assert error(found, exact) == pytest.approx(expected, rel=1e-12)


def test_the_error_is_not_of_the_format_of_the_result():
    """Differences that fp32 cannot tell are seen; large ones do not overflow."""
    exact = torch.tensor([1.0, 1.0 + 2**-30], dtype=torch.float64)
    assert error(exact.float(), exact) == pytest.approx(2**-30 / 2**0.5, rel=1e-6)
    assert error(torch.full((4,), 3e38), torch.full((4,), 1.5e38, dtype=torch.float64)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", ["found", "exact", "both"])
def test_what_is_not_finite_is_nan(value, place):
    exact = torch.ones(3, 5, dtype=torch.float64)
    found = exact.float()
    for name, tensor in (("found", found), ("exact", exact)):
        if place in (name, "both"):
            tensor[1, 2] = value
    assert math.isnan(error(found, exact))


def test_what_is_missing_or_of_another_shape_is_nan():
    exact = torch.ones(4, 1, dtype=torch.float64)
    assert all(math.isnan(error(found, exact)) for found in (None, torch.ones(1, 4), torch.ones(4), torch.ones(8, 1)))
    assert list(errors({"more": exact}, {"z": exact})) == ["z"] and math.isnan(errors({}, {"z": exact})["z"])


def test_a_reference_of_zeros_divides_by_no_zero():
    zeros = torch.zeros(4, dtype=torch.float64)
    assert error(zeros.float(), zeros) == 0.0 and wrong({"z": 0.0}, {"z": 0.0}) == []
    off = error(torch.full((4,), 1e-6), zeros)
    assert math.isfinite(off) and off > 1
    assert wrong({"z": off}, {"z": 0.0})
    assert not wrong({"z": off}, {"z": off})  # torch's own is no nearer


@pytest.mark.parametrize("torchs", [0.0, 1e-7, 1e-3])
def test_twice_torch_s_own_error_and_a_little_is_tolerated(torchs):
    assert (SLACK, ABSOLUTE) == (2.0, 1e-6)
    limit = 2 * torchs + 1e-6
    assert wrong({"y": 0.999 * limit}, {"y": torchs}) == []
    (said,) = wrong({"y": 1.001 * limit, "z": torchs}, {"y": torchs, "z": torchs})
    assert said.startswith("y is off by ") and "torch's own by" in said


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_never_passes(value):
    assert (
        wrong({"y": value}, {"y": 0.1}) and wrong({"y": value}, {"y": math.nan}) and wrong({"y": 0.0}, {"y": math.nan})
    )


def test_an_unbiased_variance_does_not_pass():
    """The fault that the absolute term is small enough for."""
    y = torch.randn(50_000, 8, generator=torch.Generator().manual_seed(0))
    exact = y.double().var(0, correction=0).rsqrt()
    torchs = errors({"": y.var(0, correction=0).rsqrt()}, {"": exact})
    assert not wrong(torchs, torchs) and wrong(errors({"": y.var(0, correction=1).rsqrt()}, {"": exact}), torchs)


def test_poison_fills_all_that_a_kernel_may_leave_unwritten():
    clean = runtime.empty
    with pytest.raises(KeyError), poisoned():
        assert runtime.empty is not clean
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            assert runtime.empty((2, 3), dtype, CPU).isnan().all()
            assert runtime.empty_image(1, 2, 3, 4, dtype, CPU).isnan().all()
        for dtype in (torch.uint8, torch.int32):
            assert (runtime.empty((2, 3), dtype, CPU) == 0x55).all()
        raise KeyError
    assert runtime.empty is clean
