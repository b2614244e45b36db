"""The stem's BN, ReLU and 3x3 max pool of stride 2 in one pass: the image between them is never written."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import Norm, check_image, check_norm, norm_of
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import advance, affine, pixels

ELEMENTS, NUM_WARPS = 512, 4  # of a tile of quads; 25 values of y go with each. The fastest of ten on an H200


@triton.jit
def load_keys(ptr, offsets, inside, scale, shift, RANK: tl.constexpr):
    """relu(norm(y)), rounded to the dtype of y, as integers of the same order, with a place for RANK < 64 below.

    Of equal values the one of higher RANK is the greater, and NaN is greater than all.
    """
    y = tl.load(ptr + offsets, mask=inside, other=0.0)
    z = tl.fma(y.to(tl.float32), scale[None, :], shift[None, :])
    z = tl.maximum(z, 0.0, propagate_nan=tl.PropagateNan.ALL).to(y.dtype)
    # Of floats that are not negative the bits have the floats' order. The sign goes: of -0, and of a NaN.
    if y.dtype == tl.float32:
        key = (z.to(tl.int32, bitcast=True) & 0x7FFFFFFF).to(tl.int64) << 16
    else:
        key = (z.to(tl.int16, bitcast=True).to(tl.int32) << 16) & 0x7FFF0000
    return key | RANK


@triton.jit
def store_window(pooled_ptr, argmax_ptr, offsets, inside, key, R: tl.constexpr, S: tl.constexpr):
    """Store the value and the position of the greatest key of a window whose first pixel is (R, S) of the quad's."""
    place = 63 - (key.to(tl.int32) & 63)
    value = (key >> 16).to(tl.int32)
    if pooled_ptr.dtype.element_ty == tl.float32:
        pooled = value.to(tl.float32, bitcast=True)
    else:
        pooled = value.to(tl.int16).to(pooled_ptr.dtype.element_ty, bitcast=True)
    tl.store(pooled_ptr + offsets, pooled, mask=inside)
    argmax = ((place >> 3) - R) * 3 + (place & 7) - S
    tl.store(argmax_ptr + offsets, argmax.to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "OUT_H", "OUT_W"])
def stem_kernel(
    y_ptr,  # [N * H * W, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    pooled_ptr,  # [N * OUT_H * OUT_W, C]
    argmax_ptr,  # [N * OUT_H * OUT_W, C] uint8
    M,  # quads, of 2 x 2 windows: N * ceil(OUT_H / 2) * ceil(OUT_W / 2)
    C,
    TILES,
    H,
    W,
    OUT_H,
    OUT_W,
    WHOLE: tl.constexpr,  # H and W are multiples of 4: pixels are missing above and to the left alone
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    quad_h, quad_w = (OUT_H + 1) // 2, (OUT_W + 1) // 2
    row = program * TILES * BLOCK_M
    n_0, h_0, w_0 = pixels(row, quad_h, quad_w)
    n, h, w = pixels(row + rows, quad_h, quad_w)
    tile = pixels(BLOCK_M, quad_h, quad_w)
    for _ in range(TILES):
        valid = row + rows < M
        first = (n_0 * H + 4 * h_0) * W + 4 * w_0
        source = (n * H + 4 * h) * W + 4 * w - first
        y = y_ptr + first.to(tl.int64) * C
        offsets = source[:, None] * C + channels[None, :]
        # A window's maximum is that over its rows of the maxima of three columns: 25 values of a quad are normalized,
        # where its four windows have 36. As in PyTorch NaN wins, and among equals the first does. Padding is no value:
        # its keys are -1, less than all, set where pixels can be missing at all.
        for r in tl.static_range(5):
            line = valid & (4 * h + (r - 1) >= 0) & (4 * h + (r - 1) < H)
            for s in tl.static_range(5):
                there = (4 * w + (s - 1) >= 0) & (4 * w + (s - 1) < W)
                inside = (line & there)[:, None] & mask[None, :]
                at = offsets + ((r - 1) * W + s - 1) * C
                key = load_keys(y, at, inside, scale, shift, 63 - (r * 8 + s))
                if s == 0 or not WHOLE:
                    key = tl.where(there[:, None], key, -1)
                if s == 0:
                    left = key
                elif s == 1:
                    left = tl.maximum(left, key)
                elif s == 2:
                    left, right = tl.maximum(left, key), key
                else:
                    right = tl.maximum(right, key)
            if r == 0 or not WHOLE:
                left, right = tl.where(line[:, None], left, -1), tl.where(line[:, None], right, -1)
            if r == 0:
                left_0, right_0 = left, right
            elif r == 1:
                left_0, right_0 = tl.maximum(left_0, left), tl.maximum(right_0, right)
            elif r == 2:
                left_0, right_0 = tl.maximum(left_0, left), tl.maximum(right_0, right)
                left_1, right_1 = left, right
            else:
                left_1, right_1 = tl.maximum(left_1, left), tl.maximum(right_1, right)
        first = (n_0 * OUT_H + 2 * h_0) * OUT_W + 2 * w_0
        target = (n * OUT_H + 2 * h) * OUT_W + 2 * w - first
        base = first.to(tl.int64) * C
        pooled, argmax = pooled_ptr + base, argmax_ptr + base
        offsets = target[:, None] * C + channels[None, :]
        inside = valid[:, None] & mask[None, :]
        across, down = inside & (2 * w + 1 < OUT_W)[:, None], inside & (2 * h + 1 < OUT_H)[:, None]
        store_window(pooled, argmax, offsets, inside, left_0, 0, 0)
        store_window(pooled, argmax, offsets + C, across, right_0, 0, 2)
        store_window(pooled, argmax, offsets + OUT_W * C, down, left_1, 2, 0)
        store_window(pooled, argmax, offsets + (OUT_W + 1) * C, across & down, right_1, 2, 2)
        row += BLOCK_M
        n_0, h_0, w_0 = advance(n_0, h_0, w_0, tile, quad_h, quad_w)
        n, h, w = advance(n, h, w, tile, quad_h, quad_w)


def stem(y: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """max_pool(relu(norm(y))), of 3x3 windows at stride 2, padded by 1.

    relu(norm(y)) is rounded to the dtype of y before the maximum is taken, as if it had been stored. Bytes moved: y
    once from memory (1.56 times from caches), the result and its positions.

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
    check_norm("norm", norm, c, y)
    out_h, out_w = -(-h // 2), -(-w // 2)
    m = n * -(-out_h // 2) * -(-out_w // 2)
    tiling = pointwise.pointwise_tiling(m, c, y.device, sums=False, elements=ELEMENTS, num_warps=NUM_WARPS)
    constants = {
        "M": m,
        "C": c,
        "H": h,
        "W": w,
        "OUT_H": out_h,
        "OUT_W": out_w,
        "WHOLE": h % 4 == 0 and w % 4 == 0,
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
        options={"num_warps": NUM_WARPS},
    )
