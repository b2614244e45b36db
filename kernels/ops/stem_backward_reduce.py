"""Backward pass of the stem's BN, ReLU and max pool, first half: the sums. `stem_backward_apply` has the second.

A program has rows of the pooled image. Row (n, i, j) stands for the four pixels (2i, 2j) up to (2i + 1, 2j + 1) of y:
their gradients come from the windows (i, j), (i, j + 1), (i + 1, j) and (i + 1, j + 1), so four tiles of dp
and argmax are loaded for four tiles of y, and no gradient is scattered.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import KernelError, Norm, check_image, check_norm, norm_of
from kernels.prepared import Made, Operands, Prepared, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import advance, affine, arrives_last, finalize_sums, passes, pixels

ELEMENTS, NUM_WARPS = 512, 4  # of a tile of windows; four tiles of y go with it. The fastest of ten on an H200


@triton.jit
def load_window(dp_ptr, argmax_ptr, offsets, there, mask):
    """Gradients of windows, fp32 (0 for those that are not there), and the positions that they go to."""
    inside = there[:, None] & mask[None, :]
    dp = tl.load(dp_ptr + offsets, mask=inside, other=0.0).to(tl.float32)
    return dp, tl.load(argmax_ptr + offsets, mask=inside, other=0).to(tl.int32)


@triton.jit
def pool_gradient(dp_ptr, argmax_ptr, row, valid, mask, h, w, offsets, C, OUT_H, OUT_W):
    """Gradients of relu(norm(y)) at (2i, 2j), (2i, 2j + 1), (2i + 1, 2j) and (2i + 1, 2j + 1)."""
    base = row.to(tl.int64) * C
    dp_ptr += base
    argmax_ptr += base
    right, below = valid & (w + 1 < OUT_W), valid & (h + 1 < OUT_H)
    here, at = load_window(dp_ptr, argmax_ptr, offsets, valid, mask)
    g_00 = tl.where(at == 4, here, 0.0)
    g_01 = tl.where(at == 5, here, 0.0)
    g_10 = tl.where(at == 7, here, 0.0)
    g_11 = tl.where(at == 8, here, 0.0)
    there, at = load_window(dp_ptr, argmax_ptr, offsets + C, right, mask)
    g_01 += tl.where(at == 3, there, 0.0)
    g_11 += tl.where(at == 6, there, 0.0)
    there, at = load_window(dp_ptr, argmax_ptr, offsets + OUT_W * C, below, mask)
    g_10 += tl.where(at == 1, there, 0.0)
    g_11 += tl.where(at == 2, there, 0.0)
    there, at = load_window(dp_ptr, argmax_ptr, offsets + (OUT_W + 1) * C, right & below, mask)
    g_11 += tl.where(at == 0, there, 0.0)
    return g_00, g_01, g_10, g_11


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "OUT_H", "OUT_W"])
def stem_backward_reduce_kernel(
    dp_ptr,  # [M, C], M = N * OUT_H * OUT_W
    argmax_ptr,  # [M, C] uint8
    y_ptr,  # [N * H * W, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    partials_ptr,  # [2, P, C] fp32
    counter_ptr,  # int32, one for each block of channels
    sums_ptr,  # [2, C] fp32
    M,
    C,
    TILES,
    H,
    W,
    OUT_H,
    OUT_W,
    WHOLE: tl.constexpr,  # H and W are even
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    mean = tl.load(stats_ptr + channels, mask=mask, other=0.0)
    sum_g = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    sum_gy = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    row = program * TILES * BLOCK_M
    n_0, h_0, w_0 = pixels(row, OUT_H, OUT_W)
    n, h, w = pixels(row + rows, OUT_H, OUT_W)
    tile = pixels(BLOCK_M, OUT_H, OUT_W)
    for _ in range(TILES):
        valid = row + rows < M
        first = (n_0 * H + 2 * h_0) * W + 2 * w_0
        source = (n * H + 2 * h) * W + 2 * w - first
        gradients = pool_gradient(dp_ptr, argmax_ptr, row, valid, mask, h, w, offsets, C, OUT_H, OUT_W)
        base_ptr = y_ptr + first.to(tl.int64) * C
        pixel = source[:, None] * C + channels[None, :]
        for k in tl.static_range(4):
            there = valid if WHOLE else valid & (2 * h + k // 2 < H) & (2 * w + k % 2 < W)
            inside = there[:, None] & mask[None, :]
            y = tl.load(base_ptr + pixel + ((k // 2) * W + k % 2) * C, mask=inside, other=0.0).to(tl.float32)
            g = tl.where(passes(tl.fma(y, scale[None, :], shift[None, :])), gradients[k], 0.0)
            sum_g += g
            sum_gy += g * (y - mean[None, :])
        row += BLOCK_M
        n_0, h_0, w_0 = advance(n_0, h_0, w_0, tile, OUT_H, OUT_W)
        n, h, w = advance(n, h, w, tile, OUT_H, OUT_W)
    P = tl.num_programs(0)
    invstd = tl.load(stats_ptr + C + channels, mask=mask, other=0.0)
    tl.store(partials_ptr + program * C + channels, tl.sum(sum_g, axis=0), mask=mask)
    tl.store(partials_ptr + (P + program) * C + channels, tl.sum(sum_gy, axis=0) * invstd, mask=mask)
    if arrives_last(counter_ptr + column, P):
        finalize_sums(partials_ptr, P, channels, mask, C, sums_ptr, 2, BLOCK_C, BLOCK_P)


def stem_backward_reduce(dp: Tensor, argmax: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """Sums of g and g * xhat, where g is the gradient of norm(y): the bias's and the weight's gradients.

    Bytes moved: y, dp and argmax.

    Args:
        dp: [N, C, ceil(H / 2), ceil(W / 2)] channels_last, gradient of the pooled image, of the dtype of y.
        argmax: uint8, as `stem` returns it.
        y: [N, C, H, W] channels_last.
        norm: its BN.

    Returns:
        [2, C] fp32.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1502.03167, section 3.
    """
    operands = (dp, argmax, y, *norm)
    (sums,) = _prepare(operands).launch(operands)
    assert isinstance(sums, Tensor)
    return sums


@prepared
def _prepare(operands: Operands) -> Prepared:
    dp, _, y, *_ = operands
    constants = check_operands(operands)
    assert dp is not None and y is not None
    n, c, h, w = dp.shape
    tiling = pointwise.pointwise_tiling(n * h * w, c, y.device, sums=True, elements=ELEMENTS, num_warps=NUM_WARPS)
    constants |= {
        "BLOCK_P": pointwise.SUM_BLOCK // tiling.block_c,
        **tiling.arguments,
    }
    return Prepared(
        "stem_backward_reduce",
        stem_backward_reduce_kernel,
        tiling.grid,
        device=y.device,
        operands=("dp_ptr", "argmax_ptr", "y_ptr", *pointwise.norm_parameters()),
        outputs={"sums_ptr": Made((2, c), torch.float32)},
        workspace={"partials_ptr": Made((2, tiling.grid[0], c), torch.float32)},
        counters=("counter_ptr", tiling.grid[1]),
        constants=constants,
        options={"num_warps": NUM_WARPS},
    )


def check_operands(operands: Operands) -> dict[str, object]:
    """Check what both passes take (dp, argmax, y and the BN), and give the sizes as their kernels' constants."""
    dp, argmax, y, norm = *operands[:3], norm_of(operands[3:])
    assert dp is not None and argmax is not None and y is not None and norm is not None
    check_image("y", y)
    n, c, h, w = y.shape
    check_norm("norm", norm, c, y)
    check_image("dp", dp, like=y, shape=(n, c, -(-h // 2), -(-w // 2)))
    if argmax.dtype != torch.uint8 or argmax.shape != dp.shape or argmax.device != y.device:
        raise KernelError(
            f"argmax: {argmax.dtype} {tuple(argmax.shape)} on {argmax.device}; "
            f"expected torch.uint8 {tuple(dp.shape)} on {y.device}"
        )
    if not argmax.permute(0, 2, 3, 1).is_contiguous():
        raise KernelError(f"argmax: strides {argmax.stride()} are not channels_last; nearest is what stem returned")
    return {
        "M": n * dp.shape[2] * dp.shape[3],
        "C": c,
        "H": h,
        "W": w,
        "OUT_H": dp.shape[2],
        "OUT_W": dp.shape[3],
        "WHOLE": h % 2 == 0 and w % 2 == 0,
    }
