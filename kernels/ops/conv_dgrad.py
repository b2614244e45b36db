"""Gradient of a stride-1 convolution's input, with all that follows it in one pass: skip, ReLU mask, BN's sums."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import (
    KernelError,
    Producer,
    TileConfig,
    check_image,
    check_producer,
    producer_of,
    producer_tensors,
)
from kernels.prepared import Made, Operands, Prepared, image, prepared
from kernels.tiles import tile_configs
from kernels.tiles.conv_product import (
    by_channel,
    by_pixel,
    check_weight,
    counters,
    end_with_sums,
    multiply,
    sum_pixels,
    workspace,
)
from kernels.tiles.pointwise import affine, passes, pixels, relu, unpack


@triton.jit
def load_skip(
    skip_ptr,
    row,
    rows,  # [BLOCK_M]
    valid,  # [BLOCK_M]
    columns,  # [BLOCK_N]
    mask,  # [BLOCK_N]
    H,
    W,
    SKIP_H,
    SKIP_W,
    SKIP_C: tl.constexpr,
    SKIP_STRIDE: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
):
    """The skip's gradient at a tile: 0 but at every SKIP_STRIDE-th pixel."""
    if SKIP_STRIDE > 1:
        n, h, w = pixels(row + rows, H, W)
        n_0, h_0, w_0 = pixels(row, H, W)
        met = valid & (h % SKIP_STRIDE == 0) & (w % SKIP_STRIDE == 0)
        source_0 = (n_0 * SKIP_H + h_0 // SKIP_STRIDE) * SKIP_W + w_0 // SKIP_STRIDE
        source = (n * SKIP_H + h // SKIP_STRIDE) * SKIP_W + w // SKIP_STRIDE - source_0
    else:
        met = valid
        source_0 = row
        source = rows
    offsets = by_pixel(source, CHANNELS_FIRST) * SKIP_C + by_channel(columns, CHANNELS_FIRST)
    inside = by_pixel(met, CHANNELS_FIRST) & by_channel(mask, CHANNELS_FIRST)
    return tl.load(skip_ptr + source_0.to(tl.int64) * SKIP_C + offsets, mask=inside, other=0.0)


@triton.jit
def load_bytes(
    mask_ptr, row, rows, valid, column, C: tl.constexpr, CHANNELS_FIRST: tl.constexpr, BLOCK_N: tl.constexpr
):
    """The bytes that say where a join was positive, at a tile: one for eight channels."""
    octets = column * (BLOCK_N // 8) + tl.arange(0, BLOCK_N // 8)
    offsets = by_pixel(rows, CHANNELS_FIRST) * (C // 8) + by_channel(octets, CHANNELS_FIRST)
    inside = by_pixel(valid, CHANNELS_FIRST) & by_channel(octets < C // 8, CHANNELS_FIRST)
    return tl.load(mask_ptr + row.to(tl.int64) * (C // 8) + offsets, mask=inside, other=0)


@triton.jit
def unpack_channels(packed, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Booleans [BLOCK_N, BLOCK_M] of the bytes [BLOCK_N / 8, BLOCK_M] of a tile."""
    bits = (packed.to(tl.int32)[:, None, :] >> tl.arange(0, 8)[None, :, None]) & 1
    return tl.reshape(bits, (BLOCK_N, BLOCK_M)) != 0


@triton.jit(do_not_specialize=["M", "H", "W", "SKIP_H", "SKIP_W", "GROUP"])
def conv_dgrad_kernel(
    dy_ptr,  # [M, K]
    weight_ptr,  # [K, TAPS, C]
    skip_ptr,  # [M, SKIP_C]; where SKIP_STRIDE > 1, [N * SKIP_H * SKIP_W, SKIP_C]
    y_ptr,  # [M, C]
    stats_ptr,  # [2, C] fp32
    norm_weight_ptr,  # [C]
    norm_bias_ptr,  # [C]
    mask_ptr,  # [M, C / 8] uint8
    shortcut_y_ptr,  # [M, C]
    shortcut_stats_ptr,  # [2, C] fp32
    g_ptr,  # [M, C]
    z_ptr,  # [M, C]
    partials_ptr,  # [SUMS, P, C] fp32
    groups_ptr,  # [SUMS, Q, C] fp32
    counter_ptr,  # [blocks of columns, Q + 1] int32
    sums_ptr,  # [SUMS, C] fp32
    M,
    H,
    W,
    SKIP_H,
    SKIP_W,
    GROUP,
    TURNS,
    K: tl.constexpr,
    C: tl.constexpr,
    SKIP_C: tl.constexpr,  # 0: there is none
    SKIP_STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    PRODUCER: tl.constexpr,
    MASK: tl.constexpr,
    PROJECTION: tl.constexpr,  # the producer is a join with a projection
    WRITE_ACTIVATION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    CHANNELS_FIRST: tl.constexpr = BLOCK_N >= 64  # the matrix instruction wants 64 rows
    # What the epilogue reads is asked for before a short multiplication, which then hides memory's latency. Beside a
    # long one it would only hold registers, and they are dearer where z is written too.
    AHEAD: tl.constexpr = PRODUCER and TAPS * K <= (128 if WRITE_ACTIVATION else 256)
    BLOCKS: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N
    column, program = tl.program_id(0) % BLOCKS, tl.program_id(0) // BLOCKS
    row = program * BLOCK_M
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    rows = tl.arange(0, BLOCK_M)
    valid = row + rows < M
    mask = columns < C
    inside = by_pixel(valid, CHANNELS_FIRST) & by_channel(mask, CHANNELS_FIRST)
    base = row.to(tl.int64) * C
    offsets = by_pixel(rows, CHANNELS_FIRST) * C + by_channel(columns, CHANNELS_FIRST)
    if AHEAD:
        y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0)
        if SKIP_C > 0:
            skip = load_skip(
                skip_ptr, row, rows, valid, columns, mask, H, W, SKIP_H, SKIP_W, SKIP_C, SKIP_STRIDE, CHANNELS_FIRST
            )
        if MASK:
            packed = load_bytes(mask_ptr, row, rows, valid, column, C, CHANNELS_FIRST, BLOCK_N)
    g = multiply(
        dy_ptr,
        weight_ptr,
        None,
        None,
        None,
        row,
        M,
        H,
        W,
        H,
        W,
        columns,
        TURNS,
        K,
        C,
        TAPS,
        1,
        True,
        False,
        CHANNELS_FIRST,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    if SKIP_C > 0:
        if not AHEAD:
            skip = load_skip(
                skip_ptr, row, rows, valid, columns, mask, H, W, SKIP_H, SKIP_W, SKIP_C, SKIP_STRIDE, CHANNELS_FIRST
            )
        g += skip.to(tl.float32)
    if PRODUCER:
        if not AHEAD:
            y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0)
        if MASK:
            if not AHEAD:
                packed = load_bytes(mask_ptr, row, rows, valid, column, C, CHANNELS_FIRST, BLOCK_N)
            if CHANNELS_FIRST:
                positive = unpack_channels(packed, BLOCK_M, BLOCK_N)
            else:
                positive = unpack(packed, BLOCK_M, BLOCK_N)
        else:
            scale, shift = affine(stats_ptr, norm_weight_ptr, norm_bias_ptr, columns, mask, C)
            z = tl.fma(y.to(tl.float32), by_channel(scale, CHANNELS_FIRST), by_channel(shift, CHANNELS_FIRST))
            positive = passes(z)
            if WRITE_ACTIVATION:
                tl.store(z_ptr + base + offsets, relu(z).to(z_ptr.dtype.element_ty), mask=inside)
        g = tl.where(positive, g, 0.0)
    stored = g.to(g_ptr.dtype.element_ty)
    tl.store(g_ptr + base + offsets, stored, mask=inside)
    if PRODUCER:
        # Pixels beyond M are 0 in g.
        g = stored.to(tl.float32)
        if WRITE_ACTIVATION:
            # From the cache: kept until here beside z, y costs 60 registers a thread.
            y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0)
        mean = tl.load(stats_ptr + columns, mask=mask, other=0.0)
        invstd = tl.load(stats_ptr + C + columns, mask=mask, other=0.0)
        sum_g = sum_pixels(g, CHANNELS_FIRST)
        deviation = y.to(tl.float32) - by_channel(mean, CHANNELS_FIRST)
        sum_g_xhat = sum_pixels(g * deviation, CHANNELS_FIRST) * invstd
        sum_g_shortcut = sum_g
        if PROJECTION:
            y = tl.load(shortcut_y_ptr + base + offsets, mask=inside, other=0.0)
            mean = tl.load(shortcut_stats_ptr + columns, mask=mask, other=0.0)
            invstd = tl.load(shortcut_stats_ptr + C + columns, mask=mask, other=0.0)
            deviation = y.to(tl.float32) - by_channel(mean, CHANNELS_FIRST)
            sum_g_shortcut = sum_pixels(g * deviation, CHANNELS_FIRST) * invstd
        end_with_sums(
            sum_g,
            sum_g_xhat,
            sum_g_shortcut,
            partials_ptr,
            groups_ptr,
            counter_ptr,
            sums_ptr,
            program,
            tl.num_programs(0) // BLOCKS,
            GROUP,
            column,
            C,
            3 if PROJECTION else 2,
            BLOCK_N,
            BLOCK_P,
        )


def conv_dgrad(
    dy: Tensor,
    weight: Tensor,
    *,
    skip: Tensor | None = None,
    skip_stride: int = 1,
    producer: Producer | None = None,
    write_activation: bool = False,
    tile_config: TileConfig | None = None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """g = d * [z > 0] with d = (gradient of the input of a stride-1 convolution) + skip, and BN's sums over g.

    d[n, c, h, w] = sum over k, r, s of dy[n, k, h + p - r, w + p - s] * weight[k, c, r, s] + skip, where p = 0 for
    1x1 and 1 for 3x3; z is what the producer made. In fp32, rounded once; the sums are of g as stored. Bytes moved: dy,
    weight, skip, the producer's tensors, g and, where it is asked for, z.

    Args:
        dy: [N, K, H, W] channels_last, bf16, fp16 or fp32; K a multiple of 8.
        weight: [K, C, R, R] of the dtype of dy, channels_last: memory in the order K, R, S, C; R is 1 or 3, C a
            multiple of 8.
        skip: gradient of the same input from elsewhere, [N, C', ceil(H / skip_stride), ceil(W / skip_stride)], C' >= C:
            of its first C channels, at every `skip_stride`-th pixel; 0 at the others.
        skip_stride: at least 1.
        producer: of the convolution's input; None leaves mask and sums out: g = d.
        write_activation: return z = relu(norm(y)) of a producer that is no join.
        tile_config: of the work; None leaves it to `kernels.tiles.tile_configs.default_config`.

    Returns:
        g [N, C, H, W] channels_last; sums fp32 [2, C] of g and g * xhat, where xhat = (y - mean) * invstd, or [3, C]
        with g * xhat of the shortcut, or None; z like g, or None.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1502.03167, section 3 (the sums are the gradients of beta and gamma).
    """
    operands = (dy, weight, skip, *producer_tensors(producer))
    g, sums, z = _prepare(operands, skip_stride, write_activation, tile_config).launch(operands)
    return g, sums, z


@prepared
def _prepare(operands: Operands, skip_stride: int, write_activation: bool, tile_config: TileConfig | None) -> Prepared:
    dy, weight, skip, producer = *operands[:3], producer_of(operands[3:])
    assert dy is not None and weight is not None
    check_image("dy", dy)
    n, k, h, w = dy.shape
    c = check_weight(dy, weight, gradient=True)
    if skip is not None:
        check_skip(skip, dy, (n, c, h, w), skip_stride)
    elif skip_stride != 1:
        raise KernelError(f"skip_stride: {skip_stride} without skip; nearest is 1")
    if producer is not None:
        check_producer("producer", producer, (n, c, h, w), dy)
    if write_activation and (producer is None or producer.mask is not None):
        what = "no producer is given" if producer is None else "the producer is a join"
        raise KernelError(f"write_activation: {what}, so z cannot be computed; nearest is False")
    m = n * h * w
    tiling = tile_configs.conv_tiling("conv_dgrad", dy.device, dy.dtype, m, c, k, tile_config)
    gradient = image(n, c, h, w, dy.dtype)
    projection = producer is not None and producer.shortcut_y is not None
    rows = 0 if producer is None else 3 if projection else 2
    constants = {
        **({} if rows else {"counter_ptr": None}),
        "M": m,
        "H": h,
        "W": w,
        "SKIP_H": skip.shape[2] if skip is not None else 0,
        "SKIP_W": skip.shape[3] if skip is not None else 0,
        "GROUP": tiling.group,
        "TURNS": weight.shape[2] ** 2 * tiling.chunks,
        "K": k,
        "C": c,
        "SKIP_C": skip.shape[1] if skip is not None else 0,
        "SKIP_STRIDE": skip_stride,
        "TAPS": weight.shape[2] ** 2,
        "PRODUCER": producer is not None,
        "MASK": producer is not None and producer.mask is not None,
        "PROJECTION": projection,
        "WRITE_ACTIVATION": write_activation,
        "BLOCK_P": tiling.block_p,
        **tiling.tile_config.constexprs,
    }
    return Prepared(
        "conv_dgrad",
        conv_dgrad_kernel,
        tiling.grid,
        device=dy.device,
        operands=(
            "dy_ptr",
            "weight_ptr",
            "skip_ptr",
            "y_ptr",
            "stats_ptr",
            "norm_weight_ptr",
            "norm_bias_ptr",
            "mask_ptr",
            "shortcut_y_ptr",
            "shortcut_stats_ptr",
            None,
            None,
        ),
        outputs={
            "g_ptr": gradient,
            "sums_ptr": Made((rows, c), torch.float32) if rows else None,
            "z_ptr": gradient if write_activation else None,
        },
        workspace=workspace(tiling, rows, c),
        counters=counters(tiling) if rows else None,
        constants=constants,
        options=tiling.tile_config.options,
    )


def check_skip(skip: Tensor, like: Tensor, shape: tuple[int, int, int, int], stride: int) -> None:
    """Check a gradient that is added at every `stride`-th pixel of an image of `shape`; see `conv_dgrad`."""
    if stride < 1:
        raise KernelError(f"skip_stride: {stride} is below 1; nearest is 1")
    check_image("skip", skip, like=like)
    n, c, h, w = shape
    nearest = (n, max(skip.shape[1], c), -(-h // stride), -(-w // stride))
    if tuple(skip.shape) != nearest:
        raise KernelError(
            f"skip: shape {tuple(skip.shape)} at stride {stride} does not fit {shape}; nearest is {nearest}"
        )
