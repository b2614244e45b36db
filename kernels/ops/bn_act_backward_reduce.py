"""Backward pass of BN, addition and ReLU, first half: gradients are added and masked, and the sums are taken."""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import (
    KernelError,
    Producer,
    check_image,
    check_like,
    check_producer,
    producer_of,
    producer_tensors,
)
from kernels.prepared import Made, Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import affine, arrives_last, finalize_sums, load_bits, load_spread, passes


@triton.jit
def load_gradient(ptr, row, rows, channels, inside, C, IMAGE, EXPANDED: tl.constexpr):
    """Rows row + rows of a gradient, fp32: dense [M, C], or where EXPANDED one row for each image of IMAGE pixels."""
    if EXPANDED:
        first = row // IMAGE
        offsets = ((row + rows) // IMAGE - first)[:, None] * C + channels[None, :]
        base = first.to(tl.int64) * C
    else:
        offsets = rows[:, None] * C + channels[None, :]
        base = row.to(tl.int64) * C
    return tl.load(ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "IMAGE", "DZ_H", "DZ_W", "SKIP_H", "SKIP_W"])
def bn_act_backward_reduce_kernel(
    dz_ptr,  # [M, C]; [N, C] where DZ_EXPANDED; [N * DZ_H * DZ_W, C] where DZ_STRIDE > 1
    skip_ptr,  # [M, C]; [N * SKIP_H * SKIP_W, SKIP_C] where SKIP_SPREAD
    y_ptr,  # [M, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    mask_ptr,  # [M, ceil(C / 8)] uint8
    shortcut_y_ptr,  # [M, C]
    shortcut_stats_ptr,  # [2, C] fp32
    g_ptr,  # [M, C]
    partials_ptr,  # [2 or 3, P, C] fp32
    counter_ptr,  # int32, one for each block of channels
    sums_ptr,  # [2 or 3, C] fp32
    M,
    C,
    TILES,
    H,
    W,
    IMAGE,  # H * W
    DZ_H,
    DZ_W,
    SKIP_H,
    SKIP_W,
    SKIP_C,
    DZ_EXPANDED: tl.constexpr,
    DZ_STRIDE: tl.constexpr,
    SKIP: tl.constexpr,
    SKIP_SPREAD: tl.constexpr,
    SKIP_STRIDE: tl.constexpr,
    PRODUCER: tl.constexpr,
    MASK: tl.constexpr,
    PROJECTION: tl.constexpr,
    WRITE: tl.constexpr,
    UNROLL: tl.constexpr,  # tiles that are loaded ahead, to hide memory's latency
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    if PRODUCER:
        mean = tl.load(stats_ptr + channels, mask=mask, other=0.0)
        sum_g = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
        sum_gy = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
        if not MASK:
            scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
        if PROJECTION:
            shortcut_mean = tl.load(shortcut_stats_ptr + channels, mask=mask, other=0.0)
            sum_gs = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for i in tl.range(TILES, loop_unroll_factor=UNROLL):
        row = (program * TILES + i) * BLOCK_M
        valid = row + rows < M
        inside = valid[:, None] & mask[None, :]
        base = row.to(tl.int64) * C
        if DZ_STRIDE > 1:
            g = load_spread(dz_ptr, row, rows, channels, inside, H, W, DZ_H, DZ_W, C, DZ_STRIDE).to(tl.float32)
        else:
            g = load_gradient(dz_ptr, row, rows, channels, inside, C, IMAGE, DZ_EXPANDED)
        if SKIP:
            if SKIP_SPREAD:
                skip = load_spread(skip_ptr, row, rows, channels, inside, H, W, SKIP_H, SKIP_W, SKIP_C, SKIP_STRIDE)
            else:
                skip = tl.load(skip_ptr + base + offsets, mask=inside, other=0.0)
            g += skip.to(tl.float32)
        if PRODUCER:
            y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
            if MASK:
                positive = load_bits(mask_ptr, row, rows, valid, column, C, BLOCK_M, BLOCK_C)
            else:
                positive = passes(tl.fma(y, scale[None, :], shift[None, :]))
            g = tl.where(positive, g, 0.0)
        if WRITE:
            stored = g.to(g_ptr.dtype.element_ty)
            tl.store(g_ptr + base + offsets, stored, mask=inside)
            g = stored.to(tl.float32)
        if PRODUCER:
            # Rows and channels that are not there have g = 0.
            sum_g += g
            sum_gy += g * (y - mean[None, :])
            if PROJECTION:
                shortcut_y = tl.load(shortcut_y_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
                sum_gs += g * (shortcut_y - shortcut_mean[None, :])
    if PRODUCER:
        P = tl.num_programs(0)
        invstd = tl.load(stats_ptr + C + channels, mask=mask, other=0.0)
        tl.store(partials_ptr + program * C + channels, tl.sum(sum_g, axis=0), mask=mask)
        tl.store(partials_ptr + (P + program) * C + channels, tl.sum(sum_gy, axis=0) * invstd, mask=mask)
        if PROJECTION:
            shortcut_invstd = tl.load(shortcut_stats_ptr + C + channels, mask=mask, other=0.0)
            total = tl.sum(sum_gs, axis=0) * shortcut_invstd
            tl.store(partials_ptr + (2 * P + program) * C + channels, total, mask=mask)
        if arrives_last(counter_ptr + column, P):
            finalize_sums(partials_ptr, P, channels, mask, C, sums_ptr, 3 if PROJECTION else 2, BLOCK_C, BLOCK_P)


def bn_act_backward_reduce(
    dz: Tensor,
    producer: Producer,
    *,
    skip: Tensor | None = None,
    skip_stride: int = 1,
    dz_stride: int = 1,
    write_gradient: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """g = (dz + skip) * [z > 0] and the sums over pixels that the gradients of a BN are made of.

    Bytes moved: dz, skip, y (and shortcut_y), the bits or none, and g where it is written.

    Args:
        dz: gradient of z, of the dtype of y: its shape; or [N, C] expanded over H and W (strides 0), read as it is; or,
            at `dz_stride`, [N, C, ceil(H / stride), ceil(W / stride)], with 0 at the pixels between.
        producer: what made z.
        skip: a second gradient of z, None for 0: [N, C' >= C, ceil(H / skip_stride), ceil(W / skip_stride)], whose
            first C channels are read (option A's is wider).
        skip_stride, dz_stride: distance of the pixels that skip and dz have.
        write_gradient: store g, rounded; the sums are then of the rounded values.

    Returns:
        g, like y, where it is written, else None; and [2, C] fp32 sums of g (the bias's gradient) and of g * xhat (the
        weight's), or [3, C] with a projection, whose g * xhat comes third.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1502.03167, section 3.
    """
    operands = (dz, skip, *producer_tensors(producer))
    g, sums = _prepare(operands, skip_stride, dz_stride, write_gradient).launch(operands)
    return g, sums


@prepared
def _prepare(operands: Operands, skip_stride: int, dz_stride: int, write_gradient: bool) -> Prepared:
    dz, skip, producer = *operands[:2], producer_of(operands[2:])
    assert dz is not None and producer is not None
    y = producer.y
    check_image("producer.y", y)
    n, c, h, w = y.shape
    check_producer("producer", producer, y.shape, y)
    expanded = check_gradient("dz", dz, y.shape, y, dz_stride)
    check_skip(skip, y.shape, y, skip_stride)
    projection = producer.shortcut_y is not None
    tiling = pointwise.pointwise_tiling(n * h * w, c, y.device, sums=True)
    count = 3 if projection else 2
    constants = {
        **gradient_constants(dz, skip, y.shape, expanded, dz_stride, skip_stride),
        "PRODUCER": True,
        "MASK": producer.mask is not None,
        "PROJECTION": projection,
        "WRITE": write_gradient,
        "UNROLL": 1 if projection else 2,  # at most 128 registers: see `pointwise_tiling`
        **tiling_constants(tiling),
    }
    return Prepared(
        "bn_act_backward_reduce",
        bn_act_backward_reduce_kernel,
        tiling.grid,
        device=y.device,
        operands=(
            "dz_ptr",
            "skip_ptr",
            "y_ptr",
            *pointwise.norm_parameters(),
            "mask_ptr",
            "shortcut_y_ptr",
            "shortcut_stats_ptr",
            None,
            None,
        ),
        outputs={
            "g_ptr": image(n, c, h, w, y.dtype) if write_gradient else None,
            "sums_ptr": Made((count, c), torch.float32),
        },
        workspace={"partials_ptr": Made((count, tiling.grid[0], c), torch.float32)},
        counters=("counter_ptr", tiling.grid[1]),
        constants=constants,
        options=pointwise.OPTIONS,
    )


def check_gradient(name: str, dz: Tensor, shape: Sequence[int], like: Tensor | None, stride: int) -> bool:
    """Check a gradient of an image of `shape`; whether it is [N, C] expanded over the image."""
    n, c, h, w = shape
    if stride < 1:
        raise KernelError(f"{name}_stride: {stride} is below 1; nearest is 1")
    expanded = dz.dim() == 4 and stride == 1 and h * w > 1
    expanded = expanded and all(dz.shape[axis] == 1 or dz.stride(axis) == 0 for axis in (2, 3))
    if not expanded:
        check_image(name, dz, like=like, shape=(n, c, -(-h // stride), -(-w // stride)))
        return False
    if tuple(dz.shape) != tuple(shape):
        raise KernelError(f"{name}: shape {tuple(dz.shape)} does not fit; expected {tuple(shape)}")
    check_image(f"{name}[:, :, :1, :1]", dz[:, :, :1, :1], like=like)
    return True


def check_skip(skip: Tensor | None, shape: Sequence[int], like: Tensor, stride: int) -> None:
    n, c, h, w = shape
    if stride < 1:
        raise KernelError(f"skip_stride: {stride} is below 1; nearest is 1")
    if skip is None:
        if stride != 1:
            raise KernelError(f"skip: None, but skip_stride is {stride}; nearest is 1")
        return
    check_image("skip", skip)
    check_like("skip", skip, like)
    expected = (n, max(c, skip.shape[1]), -(-h // stride), -(-w // stride))
    if tuple(skip.shape) != expected:
        raise KernelError(f"skip: shape {tuple(skip.shape)} does not fit; expected {expected}")


def gradient_constants(
    dz: Tensor, skip: Tensor | None, shape: Sequence[int], expanded: bool, dz_stride: int, skip_stride: int
) -> dict[str, object]:
    n, c, h, w = shape
    spread = skip is not None and (skip_stride > 1 or skip.shape[1] != c)
    # Sizes that a variant of the kernel does not read are 0, so that it is not compiled again for each.
    skip_shape = skip.shape if skip is not None and spread else (0, 0, 0, 0)
    located = dz_stride > 1 or spread
    return {
        "M": n * h * w,
        "C": c,
        "H": h if located else 0,
        "W": w if located else 0,
        "IMAGE": h * w if expanded else 0,
        "DZ_H": dz.shape[2] if dz_stride > 1 else 0,
        "DZ_W": dz.shape[3] if dz_stride > 1 else 0,
        "SKIP_H": skip_shape[2],
        "SKIP_W": skip_shape[3],
        "SKIP_C": skip_shape[1],
        "DZ_EXPANDED": expanded,
        "DZ_STRIDE": dz_stride,
        "SKIP": skip is not None,
        "SKIP_SPREAD": spread,
        "SKIP_STRIDE": skip_stride,
    }


def tiling_constants(tiling: pointwise.PointwiseTiling) -> dict[str, int]:
    return {"BLOCK_P": pointwise.SUM_BLOCK // tiling.block_c, **tiling.arguments}
