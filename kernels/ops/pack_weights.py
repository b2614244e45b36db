"""The weights of a whole net as convolutions read them, cast and reordered in one launch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import runtime
from kernels.dtypes import PRECISIONS
from kernels.operands import DTYPES, KernelError
from kernels.prepared import Made, Prepared

BLOCK = 1024
ALIGNMENT = 128  # bytes between the beginnings of two weights
NUM_WARPS = 4
SOURCES = {precision.torch_dtype: word for word, precision in PRECISIONS.items()}
MOST = 64  # lists of weights whose tables are kept; of ResNet-50's these take 200 KB


@triton.jit
def pack_kernel(
    out_ptr,
    weights_ptr,  # [weights, 10] int64: address, strides of K, C, R, S, sizes of C, R * S, S, elements, place in out
    blocks_ptr,  # [programs, 2] int32: weight, block of it
    SOURCE: tl.constexpr,  # what lies at the addresses: a word of PRECISIONS
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0)
    row_ptr = weights_ptr + tl.load(blocks_ptr + 2 * program) * 10
    start = tl.load(blocks_ptr + 2 * program + 1) * BLOCK
    if SOURCE == "bf16":
        source_ptr = tl.load(row_ptr).to(tl.pointer_type(tl.bfloat16))
    elif SOURCE == "fp16":
        source_ptr = tl.load(row_ptr).to(tl.pointer_type(tl.float16))
    else:
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
    """Copy of parameters in `dtype`, channels_last, whatever the strides of the parameters.

    One launch for all, or two where some are in fp32 and some in `dtype`. The tables that it reads stay on the device:
    those of the `MOST` lists of weights that were packed last, and those that a CUDA graph reads. Bytes moved: every
    parameter once, every copy once.

    Args:
        weights: each [K, C, R, S] in fp32 or in `dtype`, of any strides, on one device.
        dtype: bf16, fp16 or fp32.

    Returns:
        [K, C, R, S] each, memory in the order K, R, S, C, those of a launch in one buffer at multiples of 128 bytes.

    Raises:
        KernelError: an operand that the kernel does not take.
    """
    if dtype not in DTYPES:
        raise KernelError(f"dtype: {dtype} is not one of {', '.join(map(str, DTYPES))}; nearest is torch.float32")
    if not weights:
        return []
    if len({weight.dtype for weight in weights}) > 1:
        return _pack_mixed(weights, dtype)
    packing = _packing(weights, dtype)
    (out,) = packing.launch.launch((packing.table, packing.blocks))
    return [out.as_strided(*copy) for copy in packing.copies]


def _pack_mixed(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """The copies of weights of which some are in fp32 and some in `dtype`: one launch for each."""
    for i, weight in enumerate(weights):  # all, before any is packed
        _check(f"weights[{i}]", weight, weights[0].device, dtype)
    copies: dict[int, Tensor] = {}
    for source in (torch.float32, dtype):
        places = [i for i, weight in enumerate(weights) if weight.dtype == source]
        copies |= dict(zip(places, pack_weights([weights[i] for i in places], dtype), strict=True))
    return [copies[i] for i in range(len(weights))]


@dataclass
class _Packing:
    """What is known of some weights at their addresses.

    Attributes:
        launch: of the kernel.
        table, blocks: that it reads, on the device.
        copies: sizes, strides and place of each in what it writes.
        captured: a CUDA graph reads the tables at their addresses, so that they have to stay.
    """

    launch: Prepared
    table: Tensor
    blocks: Tensor
    copies: Sequence[tuple[tuple[int, ...], tuple[int, ...], int]]
    captured: bool = False


_packings: dict[Any, _Packing] = {}  # the one that was used last comes last


def _packing(weights: Sequence[Tensor], dtype: torch.dtype) -> _Packing:
    """The tables of some weights, made where they are not there."""
    device = weights[0].device
    key = (dtype, *[(x.data_ptr(), x.shape, x.stride(), x.dtype, x.device) for x in weights])
    found = _packings.pop(key, None)
    if found is None:
        for i, weight in enumerate(weights):
            _check(f"weights[{i}]", weight, device, dtype)
        found = _pack(weights, dtype, device)
        idle = [old for old, packing in _packings.items() if not packing.captured]
        for old in idle[: len(idle) + 1 - MOST]:
            _packings.pop(old, None)
    _packings[key] = found
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            found.captured = True
        else:  # not freed, once they are dropped, for as long as this stream may read them
            stream = torch.cuda.current_stream(device)
            found.table.record_stream(stream)
            found.blocks.record_stream(stream)
    return found


def _pack(weights: Sequence[Tensor], dtype: torch.dtype, device: torch.device) -> _Packing:
    step = ALIGNMENT // dtype.itemsize
    rows, blocks, copies, size = [], [], [], 0
    for i, weight in enumerate(weights):
        k, c, r, s = weight.shape
        elements = k * c * r * s
        # The stride of an axis of size 1 is arbitrary; its place in a dense tensor shows that the copy is linear.
        dense = (r * s * c, 1, s * c, c)
        given = zip(weight.shape, weight.stride(), dense, strict=True)
        strides = tuple(d if n == 1 else stride for n, stride, d in given)
        rows.append((weight.data_ptr(), *strides, c, r * s, s, elements, size))
        blocks += [(i, block) for block in range(-(-elements // BLOCK))]
        copies.append(((k, c, r, s), dense, size))
        size += -(-elements // step) * step
    launch = Prepared(
        "pack_weights",
        pack_kernel,
        (len(blocks),),
        device=device,
        operands=("weights_ptr", "blocks_ptr"),
        outputs={"out_ptr": Made((size,), dtype)},
        constants={"SOURCE": SOURCES[weights[0].dtype], "BLOCK": BLOCK},
        options={"num_warps": NUM_WARPS},
    )
    table, places = torch.tensor(rows, dtype=torch.int64), torch.tensor(blocks, dtype=torch.int32)
    return _Packing(launch, table.to(device), places.to(device), copies)


def _check(name: str, weight: Tensor, device: torch.device, dtype: torch.dtype) -> None:
    if weight.dim() != 4 or 0 in weight.shape:
        raise KernelError(f"{name}: shape {tuple(weight.shape)} is not [K, C, R, S]; nearest is a weight of nn.Conv2d")
    if weight.dtype not in (torch.float32, dtype):
        own = "" if dtype == torch.float32 else f" or {dtype}, which it is packed in"
        raise KernelError(f"{name}: dtype {weight.dtype} is not torch.float32{own}; nearest is torch.float32")
    if weight.device != device:
        raise KernelError(f"{name}: on {weight.device} beside {device}; nearest is {name}.to('{device}')")
    if weight.numel() >= 2**31 - BLOCK:
        raise KernelError(f"{name}: {weight.numel()} elements; nearest is {2**31 - BLOCK - 1}")
    if not runtime.runs_here(device):
        raise KernelError(f"{name}: on {device}, where kernels do not run; nearest is a CUDA device")
