"""Backward pass of BN, addition and ReLU, second half: the gradient of each BN's input."""

import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import Producer, check_image, check_producer, check_vector, producer_of, producer_tensors
from kernels.ops.bn_act_backward_reduce import check_gradient, load_gradient
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import affine, load_bits, passes


@triton.jit
def coefficients(stats_ptr, weight_ptr, sums_ptr, channels, mask, C, count, K: tl.constexpr, FROZEN: tl.constexpr):
    """[BLOCK_C] each: dy = slope * g + (slope_y * (y - mean) + offset), where slope_y and offset are 0 if FROZEN.

    K: which of the sums is that of g * xhat.
    """
    mean = tl.load(stats_ptr + channels, mask=mask, other=0.0)
    invstd = tl.load(stats_ptr + C + channels, mask=mask, other=0.0)
    slope = tl.load(weight_ptr + channels, mask=mask, other=0.0).to(tl.float32) * invstd
    if FROZEN:
        slope_y = tl.zeros_like(slope)
        offset = tl.zeros_like(slope)
    else:
        slope_y = -slope * invstd * (tl.load(sums_ptr + K * C + channels, mask=mask, other=0.0) / count)
        offset = -slope * (tl.load(sums_ptr + channels, mask=mask, other=0.0) / count)
    return slope, slope_y, offset, mean


@triton.jit(do_not_specialize=["M", "TILES", "IMAGE"])
def bn_act_backward_apply_kernel(
    dz_ptr,  # [M, C]; [N, C] where DZ_EXPANDED
    y_ptr,  # [M, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    mask_ptr,  # [M, ceil(C / 8)] uint8
    shortcut_y_ptr,  # [M, C]
    shortcut_stats_ptr,  # [2, C] fp32
    shortcut_weight_ptr,  # [C]
    sums_ptr,  # [2 or 3, C] fp32
    dy_ptr,  # [M, C]
    dy_shortcut_ptr,  # [M, C]
    M,
    C,
    TILES,
    IMAGE,  # pixels of an image, where DZ_EXPANDED
    count,  # M, as a float
    DZ_EXPANDED: tl.constexpr,
    MASKED: tl.constexpr,
    MASK: tl.constexpr,
    PROJECTION: tl.constexpr,
    FROZEN: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    slope, slope_y, offset, mean = coefficients(stats_ptr, weight_ptr, sums_ptr, channels, mask, C, count, 1, FROZEN)
    if PROJECTION:
        shortcut_slope, slope_s, shortcut_offset, shortcut_mean = coefficients(
            shortcut_stats_ptr, shortcut_weight_ptr, sums_ptr, channels, mask, C, count, 2, FROZEN
        )
    if not (MASKED or MASK):
        scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    for i in range(TILES):
        row = (program * TILES + i) * BLOCK_M
        valid = row + rows < M
        inside = valid[:, None] & mask[None, :]
        base = row.to(tl.int64) * C
        g = load_gradient(dz_ptr, row, rows, channels, inside, C, IMAGE, DZ_EXPANDED)
        if not FROZEN or not (MASKED or MASK):
            y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
        if not MASKED:
            if MASK:
                positive = load_bits(mask_ptr, row, rows, valid, column, C, BLOCK_M, BLOCK_C)
            else:
                positive = passes(tl.fma(y, scale[None, :], shift[None, :]))
            g = tl.where(positive, g, 0.0)
        if FROZEN:
            dy = g * slope[None, :]
        else:
            dy = tl.fma(g, slope[None, :], tl.fma(y - mean[None, :], slope_y[None, :], offset[None, :]))
        tl.store(dy_ptr + base + offsets, dy.to(dy_ptr.dtype.element_ty), mask=inside)
        if PROJECTION:
            if FROZEN:
                dy = g * shortcut_slope[None, :]
            else:
                shortcut_y = tl.load(shortcut_y_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
                rest = tl.fma(shortcut_y - shortcut_mean[None, :], slope_s[None, :], shortcut_offset[None, :])
                dy = tl.fma(g, shortcut_slope[None, :], rest)
            tl.store(dy_shortcut_ptr + base + offsets, dy.to(dy_ptr.dtype.element_ty), mask=inside)


def bn_act_backward_apply(
    dz: Tensor, producer: Producer, sums: Tensor, *, masked: bool, frozen: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """dy = weight * invstd * (g - mean(g) - xhat * mean(g * xhat)): the gradient of a BN's input.

    Bytes moved: dz, y (and shortcut_y), the bits where they are needed, and dy (and dy_shortcut).

    Args:
        dz: g where `masked`, else the gradient of z; y's shape, or [N, C] expanded over H and W.
        producer: what made z.
        sums: fp32, as `bn_act_backward_reduce` returns them.
        masked: dz is 0 already where z is.
        frozen: the statistics were constants (running ones), so dy = weight * invstd * g.

    Returns:
        dy, like y; with a projection (dy, dy_shortcut), from one pass.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1502.03167, section 3.
    """
    operands = (dz, sums, *producer_tensors(producer))
    dy, dy_shortcut = _prepare(operands, masked, frozen).launch(operands)
    return dy if dy_shortcut is None else (dy, dy_shortcut)


@prepared
def _prepare(operands: Operands, masked: bool, frozen: bool) -> Prepared:
    dz, sums, producer = *operands[:2], producer_of(operands[2:])
    assert dz is not None and sums is not None and producer is not None
    y = producer.y
    check_image("producer.y", y)
    n, c, h, w = y.shape
    check_producer("producer", producer, y.shape, y)
    expanded = check_gradient("dz", dz, y.shape, y, 1)
    projection = producer.shortcut_y is not None
    check_vector("sums", sums, (3 if projection else 2, c), y.device)
    tiling = pointwise.pointwise_tiling(n * h * w, c, y.device, sums=False)
    gradient = image(n, c, h, w, y.dtype)
    constants = {
        # Masked already, a gradient does not need the bits.
        **({"mask_ptr": None} if masked else {}),
        "M": n * h * w,
        "C": c,
        "IMAGE": h * w if expanded else 0,
        "count": float(n * h * w),
        "DZ_EXPANDED": expanded,
        "MASKED": masked,
        "MASK": producer.mask is not None and not masked,
        "PROJECTION": projection,
        "FROZEN": frozen,
        **tiling.arguments,
    }
    return Prepared(
        "bn_act_backward_apply",
        bn_act_backward_apply_kernel,
        tiling.grid,
        device=y.device,
        operands=(
            "dz_ptr",
            "sums_ptr",
            "y_ptr",
            *pointwise.norm_parameters(),
            None if masked else "mask_ptr",
            "shortcut_y_ptr",
            *pointwise.norm_parameters("shortcut_")[:2],
            None,
        ),
        outputs={"dy_ptr": gradient, "dy_shortcut_ptr": gradient if projection else None},
        constants=constants,
        options=pointwise.OPTIONS,
    )
