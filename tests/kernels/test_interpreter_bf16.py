"""The test-only patch of the interpreter agrees with torch on bf16, or kernels in bf16 would be proved by nothing."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from interpreter_bf16 import decode, encode, exact_bf16

from kernels import runtime

pytestmark = pytest.mark.interpreted


@triton.jit
def cast_kernel(x_ptr, out_ptr, SIZE: tl.constexpr):
    offsets = tl.arange(0, SIZE)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets).to(out_ptr.dtype.element_ty))


@triton.jit
def dot_kernel(a_ptr, b_ptr, out_ptr, SIZE: tl.constexpr):
    offsets = tl.arange(0, SIZE)[:, None] * SIZE + tl.arange(0, SIZE)[None, :]
    product = tl.dot(tl.load(a_ptr + offsets), tl.load(b_ptr + offsets))
    tl.store(out_ptr + offsets, product.to(out_ptr.dtype.element_ty))


def _awkward():
    """Values of every exponent with random mantissas, all ties, subnormals, infinities and zeros."""
    torch.manual_seed(0)
    random = torch.randint(-(2**31), 2**31 - 1, (4096,), dtype=torch.int32)
    ties = (torch.arange(2048, dtype=torch.int32) << 16) + (0x3F80 << 16) + 0x8000
    special = torch.tensor([0.0, -0.0, float("inf"), float("-inf"), 3.4e38, -3.4e38, 1e-45, 1.17e-38])
    values = torch.cat([random.view(torch.float32), ties.view(torch.float32), special, torch.zeros(2040)])
    return torch.where(values.isnan(), torch.tensor(1.5), values)


def _cast(x, dtype):
    out = torch.empty_like(x, dtype=dtype)
    cast_kernel[(1,)](x, out, SIZE=x.numel())
    return out


def test_encode_and_decode_are_torchs():
    values = _awkward()
    assert torch.equal(torch.from_numpy(decode(encode(values.numpy()))), values.bfloat16().float())
    assert np.isnan(decode(encode(np.array([np.nan], np.float32))))


@pytest.mark.parametrize("source", [torch.float32, torch.float16])
def test_casts_to_bf16_round_as_torch_does(device, source):
    x = _awkward().to(device, source)
    assert torch.equal(_cast(x, torch.bfloat16), x.bfloat16())


@pytest.mark.parametrize("target", [torch.float32, torch.float16, torch.bfloat16])
def test_casts_from_bf16_are_torchs(device, target):
    x = _awkward().clamp(-6e4, 6e4).to(device, torch.bfloat16)
    x = torch.where(x.abs() < 1e-4, torch.zeros_like(x), x)  # the interpreter's fp16 subnormals are not at issue
    assert torch.equal(_cast(x, target), x.to(target))


def test_dot_multiplies_values(device):
    torch.manual_seed(0)
    a, b = torch.randn(2, 32, 32, device=device).bfloat16()
    out = torch.empty(32, 32, device=device)
    dot_kernel[(1,)](a, b, out, SIZE=32)
    torch.testing.assert_close(out, a.float() @ b.float(), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not runtime.INTERPRETED, reason="the interpreter is not in use")
def test_the_patch_is_still_needed_and_ends_with_its_block():
    from triton.runtime.interpreter import InterpreterBuilder

    inside = InterpreterBuilder.create_dot
    with exact_bf16():
        assert InterpreterBuilder.create_dot is not inside
    assert InterpreterBuilder.create_dot is inside
