"""The stem's BN, ReLU and 3x3 max pool of stride 2 in one pass: the image between them is never written."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import Norm, check_image, check_norm, norm_of
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import affine, pixels, relu


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "OUT_H", "OUT_W"])
def stem_kernel(
    y_ptr,  # [N * H * W, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C] fp32
    bias_ptr,  # [C] fp32
    pooled_ptr,  # [M, C], M = N * OUT_H * OUT_W
    argmax_ptr,  # [M, C] uint8
    M,
    C,
    TILES,
    H,
    W,
    OUT_H,
    OUT_W,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    for i in range(TILES):
        row = (program * TILES + i) * BLOCK_M
        valid = row + rows < M
        n_0, h_0, w_0 = pixels(row, OUT_H, OUT_W)
        first = (n_0 * H + 2 * h_0) * W + 2 * w_0
        n, h, w = pixels(row + rows, OUT_H, OUT_W)
        source = (n * H + 2 * h) * W + 2 * w - first
        center_ptr = y_ptr + first.to(tl.int64) * C + (source[:, None] * C + channels[None, :])
        best = tl.full((BLOCK_M, BLOCK_C), float("-inf"), tl.float32)
        argmax = tl.zeros((BLOCK_M, BLOCK_C), tl.int32)
        for r in tl.static_range(3):
            for s in tl.static_range(3):
                h_in, w_in = 2 * h + (r - 1), 2 * w + (s - 1)
                there = valid & (h_in >= 0) & (h_in < H) & (w_in >= 0) & (w_in < W)
                inside = there[:, None] & mask[None, :]
                y = tl.load(center_ptr + ((r - 1) * W + (s - 1)) * C, mask=inside, other=0.0).to(tl.float32)
                z = relu(tl.fma(y, scale[None, :], shift[None, :])).to(pooled_ptr.dtype.element_ty).to(tl.float32)
                # As in PyTorch NaN wins, and among equals the first does; padding is not a value.
                wins = there[:, None] & ((z > best) | (z != z))
                best = tl.where(wins, z, best)
                argmax = tl.where(wins, r * 3 + s, argmax)
        inside = valid[:, None] & mask[None, :]
        base = row.to(tl.int64) * C
        tl.store(pooled_ptr + base + offsets, best.to(pooled_ptr.dtype.element_ty), mask=inside)
        tl.store(argmax_ptr + base + offsets, argmax.to(tl.uint8), mask=inside)


def stem(y: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """max_pool(relu(norm(y))), of 3x3 windows at stride 2, padded by 1.

    relu(norm(y)) is rounded to the dtype of y before the maximum is taken, as if it had been stored. Bytes moved: y
    once from memory (2.25 times from caches), the result and its positions.

    Args:
        y: [N, C, H, W] channels_last, bf16, fp16 or fp32.
        norm: its BN.

    Returns:
        [N, C, ceil(H / 2), ceil(W / 2)], of the dtype of y; and of the same shape uint8 positions r * 3 + s in the
        window, the first among equals.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1512.03385, Table 1.
    """
    operands = (y, *norm)
    pooled, argmax = _prepare(operands).launch(operands)
    return pooled, argmax


@prepared
def _prepare(operands: Operands) -> Prepared:
    y, norm = operands[0], norm_of(operands[1:])
    assert y is not None and norm is not None
    check_image("y", y)
    n, c, h, w = y.shape
    check_norm("norm", norm, c, y.device)
    out_h, out_w = -(-h // 2), -(-w // 2)
    m = n * out_h * out_w
    tiling = pointwise.pointwise_tiling(m, c, y.device, sums=False, elements=2048)  # nine tiles of y go with each
    constants = {
        "M": m,
        "C": c,
        "H": h,
        "W": w,
        "OUT_H": out_h,
        "OUT_W": out_w,
        **tiling.arguments,
    }
    return Prepared(
        "stem",
        stem_kernel,
        tiling.grid,
        device=y.device,
        operands=("y_ptr", *pointwise.norm_parameters()),
        outputs={
            "pooled_ptr": image(n, c, out_h, out_w, y.dtype),
            "argmax_ptr": image(n, c, out_h, out_w, torch.uint8),
        },
        constants=constants,
        options=pointwise.OPTIONS,
    )
