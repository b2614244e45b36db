"""Backward pass of the stem, second half: the gradient of what BN was given."""

import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import Norm, check_vector
from kernels.ops.bn_act_backward_apply import coefficients
from kernels.ops.stem_backward_reduce import check_operands, pool_gradient
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import advance, affine, passes, pixels

ELEMENTS, NUM_WARPS = 2048, 8  # of a tile of windows; four tiles of y go with it. The fastest of ten on an H200


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "OUT_H", "OUT_W"])
def stem_backward_apply_kernel(
    dp_ptr,  # [M, C], M = N * OUT_H * OUT_W
    argmax_ptr,  # [M, C] uint8
    y_ptr,  # [N * H * W, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    sums_ptr,  # [2, C] fp32
    dy_ptr,  # [N * H * W, C]
    M,
    C,
    TILES,
    H,
    W,
    OUT_H,
    OUT_W,
    count,  # N * H * W, as a float
    WHOLE: tl.constexpr,  # H and W are even
    FROZEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    slope, slope_y, offset, mean = coefficients(stats_ptr, weight_ptr, sums_ptr, channels, mask, C, count, 1, FROZEN)
    row = program * TILES * BLOCK_M
    n_0, h_0, w_0 = pixels(row, OUT_H, OUT_W)
    n, h, w = pixels(row + rows, OUT_H, OUT_W)
    tile = pixels(BLOCK_M, OUT_H, OUT_W)
    for _ in range(TILES):
        valid = row + rows < M
        first = (n_0 * H + 2 * h_0) * W + 2 * w_0
        source = (n * H + 2 * h) * W + 2 * w - first
        gradients = pool_gradient(dp_ptr, argmax_ptr, row, valid, mask, h, w, offsets, C, OUT_H, OUT_W)
        base = first.to(tl.int64) * C
        pixel = source[:, None] * C + channels[None, :]
        for k in tl.static_range(4):
            there = valid if WHOLE else valid & (2 * h + k // 2 < H) & (2 * w + k % 2 < W)
            inside = there[:, None] & mask[None, :]
            at = pixel + ((k // 2) * W + k % 2) * C
            y = tl.load(y_ptr + base + at, mask=inside, other=0.0).to(tl.float32)
            g = tl.where(passes(tl.fma(y, scale[None, :], shift[None, :])), gradients[k], 0.0)
            dy = tl.fma(g, slope[None, :], tl.fma(y - mean[None, :], slope_y[None, :], offset[None, :]))
            tl.store(dy_ptr + base + at, dy.to(dy_ptr.dtype.element_ty), mask=inside)
        row += BLOCK_M
        n_0, h_0, w_0 = advance(n_0, h_0, w_0, tile, OUT_H, OUT_W)
        n, h, w = advance(n, h, w, tile, OUT_H, OUT_W)


def stem_backward_apply(
    dp: Tensor, argmax: Tensor, y: Tensor, norm: Norm, sums: Tensor, *, frozen: bool = False
) -> Tensor:
    """dy = weight * invstd * (g - mean(g) - xhat * mean(g * xhat)), or weight * invstd * g where frozen.

    Bytes moved: y, dp, argmax and dy.

    Args:
        dp, argmax, y, norm: as `stem_backward_reduce` takes them.
        sums: [2, C] fp32, as it returns them.
        frozen: the statistics were constants (running ones).

    Returns:
        dy, like y.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1502.03167, section 3.
    """
    operands = (dp, argmax, y, *norm, sums)
    (dy,) = _prepare(operands, frozen).launch(operands)
    assert isinstance(dy, Tensor)
    return dy


@prepared
def _prepare(operands: Operands, frozen: bool) -> Prepared:
    dp, argmax, y, *_, sums = operands
    constants = check_operands(operands[:6])
    assert dp is not None and y is not None and sums is not None
    check_vector("sums", sums, (2, y.shape[1]), y.device)
    n, c, h, w = dp.shape
    tiling = pointwise.pointwise_tiling(n * h * w, c, y.device, sums=False, elements=ELEMENTS, num_warps=NUM_WARPS)
    constants |= {
        "count": float(y.shape[0] * y.shape[2] * y.shape[3]),
        "FROZEN": frozen,
        **tiling.arguments,
    }
    return Prepared(
        "stem_backward_apply",
        stem_backward_apply_kernel,
        tiling.grid,
        device=y.device,
        operands=("dp_ptr", "argmax_ptr", "y_ptr", *pointwise.norm_parameters(), "sums_ptr"),
        outputs={"dy_ptr": image(y.shape[0], c, y.shape[2], y.shape[3], y.dtype)},
        constants=constants,
        options={"num_warps": NUM_WARPS},
    )
