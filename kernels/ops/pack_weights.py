"""The weights of a whole net as convolutions read them, cast and reordered in one launch."""

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import runtime
from kernels.operands import DTYPES, KernelError

BLOCK = 1024
ALIGNMENT = 128  # bytes between the beginnings of two weights
NUM_WARPS = 4


@triton.jit
def pack_kernel(
    out_ptr,
    weights_ptr,  # [weights, 10] int64: address, strides of K, C, R, S, sizes of C, R * S, S, elements, place in out
    blocks_ptr,  # [programs, 2] int32: weight, block of it
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    row_ptr = weights_ptr + tl.load(blocks_ptr + 2 * program) * 10
    start = tl.load(blocks_ptr + 2 * program + 1) * BLOCK
    source_ptr = tl.load(row_ptr).to(tl.pointer_type(tl.float32))
    stride_k, stride_c = tl.load(row_ptr + 1), tl.load(row_ptr + 2)
    stride_r, stride_s = tl.load(row_ptr + 3), tl.load(row_ptr + 4)
    c_size, taps, s_size = tl.load(row_ptr + 5), tl.load(row_ptr + 6), tl.load(row_ptr + 7)
    places = start + tl.arange(0, BLOCK)
    mask = places < tl.load(row_ptr + 8)
    if (stride_c == 1) & (stride_s == c_size) & (stride_r == s_size * c_size) & (stride_k == taps * c_size):
        values = tl.load(source_ptr + places, mask=mask)
    else:
        # 32 bits: a weight has fewer elements than that, whatever its strides.
        lines = places // c_size.to(tl.int32)
        tap = lines % taps.to(tl.int32)
        k = lines // taps.to(tl.int32)
        r, s = tap // s_size.to(tl.int32), tap % s_size.to(tl.int32)
        offsets = k * stride_k + (places % c_size.to(tl.int32)) * stride_c + r * stride_r + s * stride_s
        values = tl.load(source_ptr + offsets, mask=mask)
    tl.store(out_ptr + tl.load(row_ptr + 9) + places, values.to(out_ptr.dtype.element_ty), mask=mask)


def pack_weights(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """Copy of fp32 parameters in `dtype`, channels_last, whatever the strides of the parameters.

    One launch for all. The tables that it reads are kept on the device for as long as addresses, shapes and strides
    stay the same. Bytes moved: every parameter once, every copy once.

    Args:
        weights: each [K, C, R, S] fp32, of any strides, on one device.
        dtype: bf16, fp16 or fp32.

    Returns:
        [K, C, R, S] each, memory in the order K, R, S, C, all in one buffer, each at a multiple of 128 bytes.

    Raises:
        KernelError: an operand that the kernel does not take.
    """
    if dtype not in DTYPES:
        raise KernelError(f"dtype: {dtype} is not one of {', '.join(map(str, DTYPES))}; nearest is torch.float32")
    if not weights:
        return []
    device = weights[0].device
    for i, weight in enumerate(weights):
        _check(f"weights[{i}]", weight, device)
    key = tuple((weight.data_ptr(), tuple(weight.shape), weight.stride()) for weight in weights)
    table, blocks, places, size = _tables(key, dtype, device)
    out = runtime.empty((size,), dtype, device)
    arguments = {"out_ptr": out, "weights_ptr": table, "blocks_ptr": blocks, "BLOCK": BLOCK}
    runtime.launch("pack_weights", pack_kernel, (blocks.shape[0],), arguments, num_warps=NUM_WARPS)
    copies = []
    for weight, place in zip(weights, places, strict=True):
        k, c, r, s = weight.shape
        copies.append(out[place : place + weight.numel()].view(k, r, s, c).permute(0, 3, 1, 2))
    return copies


@functools.cache  # for good: a CUDA graph reads a table at its address
def _tables(
    key: tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...], dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, list[int], int]:
    """The kernel's two tables on the device, where each copy begins, and how many elements there are in all."""
    step = ALIGNMENT // dtype.itemsize
    rows, blocks, places, size = [], [], [], 0
    for i, (address, (k, c, r, s), strides) in enumerate(key):
        elements = k * c * r * s
        # The stride of an axis of size 1 is arbitrary; its place in a dense tensor shows that the copy is linear.
        dense = (r * s * c, 1, s * c, c)
        strides = tuple(d if n == 1 else given for n, given, d in zip((k, c, r, s), strides, dense, strict=True))
        rows.append((address, *strides, c, r * s, s, elements, size))
        blocks += [(i, block) for block in range(-(-elements // BLOCK))]
        places.append(size)
        size += -(-elements // step) * step
    table = torch.tensor(rows, dtype=torch.int64).to(device)
    return table, torch.tensor(blocks, dtype=torch.int32).to(device), places, size


def _check(name: str, weight: Tensor, device: torch.device) -> None:
    if weight.dim() != 4 or 0 in weight.shape:
        raise KernelError(f"{name}: shape {tuple(weight.shape)} is not [K, C, R, S]; nearest is a weight of nn.Conv2d")
    if weight.dtype != torch.float32:
        raise KernelError(f"{name}: dtype {weight.dtype} is not that of parameters; nearest is torch.float32")
    if weight.device != device:
        raise KernelError(f"{name}: on {weight.device} beside {device}; nearest is {name}.to('{device}')")
    if weight.numel() >= 2**31 - BLOCK:
        raise KernelError(f"{name}: {weight.numel()} elements; nearest is {2**31 - BLOCK - 1}")
    if not runtime.runs_here(device):
        raise KernelError(f"{name}: on {device}, where kernels do not run; nearest is a CUDA device")
