"""Convolutions as matrix products: the loop that multiplies, and how sums over rows end.

An image is M rows, one a pixel in the order n, h, w. A convolution multiplies the rows that a tap of its window meets
by that tap's weights and adds over taps and channels; nothing is unfolded in memory. A program makes one tile, BLOCK_M
pixels by BLOCK_N channels; programs of the same pixels are neighbours, so that a tile of the image is read from memory
once and from the L2 cache after that. Channels are constants of the code: their products then are multiples of 8 that
the compiler sees, and loads are 16 bytes wide.

A tile lies in registers as the matrix instruction leaves it: a few of its rows in each warp, whole. Where the rows are
pixels, a sum over pixels goes through all lanes and warps, and its exchanges take longer than the multiplication; where
they are channels (CHANNELS_FIRST), most of it stays within a thread. On an H200 the statistics of a 1x1 from 64 to 256
channels then add 52 us to 192, not 103.

Sums over pixels end in two steps within the launch: the last program of a group of neighbours merges the group's, the
last of all merges the groups'. A program that walked through many tiles would leave fewer partial sums, but what it
carries from tile to tile costs 70 registers a thread.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import KernelError, check_like
from kernels.prepared import Made
from kernels.tiles.pointwise import affine, arrives_last, finalize_stats, finalize_sums, merge, merge_rows, pixels, relu
from kernels.tiles.tile_configs import ConvTiling


@triton.jit
def by_pixel(values, CHANNELS_FIRST: tl.constexpr):
    """[BLOCK_M], one value a pixel, as it meets a tile."""
    if CHANNELS_FIRST:
        found = values[None, :]
    else:
        found = values[:, None]
    return found


@triton.jit
def by_channel(values, CHANNELS_FIRST: tl.constexpr):
    """[BLOCK_N], one value a channel, as it meets a tile."""
    if CHANNELS_FIRST:
        found = values[:, None]
    else:
        found = values[None, :]
    return found


@triton.jit
def sum_pixels(tile, CHANNELS_FIRST: tl.constexpr):
    """Sums over the pixels of a tile, [BLOCK_N]."""
    if CHANNELS_FIRST:
        found = tl.sum(tile, axis=1)
    else:
        found = tl.sum(tile, axis=0)
    return found


@triton.jit
def multiply(
    x_ptr,  # [N*H*W, C]
    weight_ptr,  # [COLUMNS, TAPS, C]; where GRADIENT, [C, TAPS, COLUMNS]
    stats_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    row,  # the first of the tile
    M,
    H,
    W,
    OUT_H,
    OUT_W,
    columns,  # [BLOCK_N]
    TURNS,  # taps times blocks of C; not a constant, or the compiler unrolls the loop and takes registers for it
    C: tl.constexpr,
    COLUMNS: tl.constexpr,
    TAPS: tl.constexpr,
    STRIDE: tl.constexpr,
    GRADIENT: tl.constexpr,
    PROLOGUE: tl.constexpr,
    CHANNELS_FIRST: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Pixels `row`.. of a convolution of x, or of relu(affine(x)), fp32; those beyond M are 0.

    [BLOCK_M, BLOCK_N], or where CHANNELS_FIRST [BLOCK_N, BLOCK_M]. GRADIENT: of the transposed
    convolution of stride 1, whose window is the forward one's turned by half a circle.
    """
    rows = tl.arange(0, BLOCK_M)
    valid = row + rows < M
    if TAPS == 1 and STRIDE == 1:
        # Output and input pixels are the same rows: no division by the image's sides.
        first = row
        source = rows
    else:
        n, h, w = pixels(row + rows, OUT_H, OUT_W)
        n_0, h_0, w_0 = pixels(row, OUT_H, OUT_W)
        first = (n_0 * H + h_0 * STRIDE) * W + w_0 * STRIDE
        source = (n * H + h * STRIDE) * W + w * STRIDE - first
    # 64 bits for the tile's first element alone. Offsets within the tile stay at 32: a large batch has more than 2^31
    # values, a tile has not, and 64-bit offsets for each element would take twice the registers.
    base = first.to(tl.int64) * C
    CHUNKS: tl.constexpr = (C + BLOCK_K - 1) // BLOCK_K
    if CHANNELS_FIRST:
        accumulator = tl.zeros((BLOCK_N, BLOCK_M), tl.float32)
    else:
        accumulator = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    # Taps and blocks of channels in one loop: the compiler pipelines the innermost alone, so that one inside another
    # would drain its loads at every tap.
    for i in range(TURNS):
        tap = i // CHUNKS
        k = (i % CHUNKS) * BLOCK_K + tl.arange(0, BLOCK_K)
        if TAPS == 1:
            inside = valid
            pixel = source
        else:
            # The window reaches one pixel beyond the image on each side; what lies there is masked, so no padded copy
            # of the image is made.
            down = tap // 3 - 1
            right = tap % 3 - 1
            h_in = h * STRIDE + down
            w_in = w * STRIDE + right
            inside = valid & (h_in >= 0) & (h_in < H) & (w_in >= 0) & (w_in < W)
            pixel = source + (down * W + right)
        # Channels of x are the weight's other axis: there they take the place of the pixels.
        column = by_channel(columns, CHANNELS_FIRST)
        if GRADIENT:
            # The forward weight as it lies in memory, read with its taps in reverse order and its two channel axes
            # exchanged: nothing is transposed beforehand.
            weight_offsets = (by_pixel(k, CHANNELS_FIRST) * TAPS + (TAPS - 1 - tap)) * COLUMNS + column
        else:
            weight_offsets = (column * TAPS + tap) * C + by_pixel(k, CHANNELS_FIRST)
        x_mask = by_pixel(inside, CHANNELS_FIRST)
        weight_mask = column < COLUMNS
        # Only where the last block of channels is a part of one; elsewhere the comparison would be work for nothing.
        if C % BLOCK_K != 0:
            x_mask = x_mask & by_channel(k < C, CHANNELS_FIRST)
            weight_mask = weight_mask & by_pixel(k < C, CHANNELS_FIRST)
        x_offsets = by_pixel(pixel, CHANNELS_FIRST) * C + by_channel(k, CHANNELS_FIRST)
        x = tl.load(x_ptr + base + x_offsets, mask=x_mask, other=0.0)
        weight = tl.load(weight_ptr + weight_offsets, mask=weight_mask, other=0.0)
        if PROLOGUE:
            scale, shift = affine(stats_ptr, norm_weight_ptr, norm_bias_ptr, k, k < C, C)
            scale, shift = by_channel(scale, CHANNELS_FIRST), by_channel(shift, CHANNELS_FIRST)
            # In fp32 and then rounded once, as a pass of its own would have stored it: candidates with and without a
            # prologue give the convolution the same operand.
            z = relu(tl.fma(x.to(tl.float32), scale, shift))
            # Padding is 0 after ReLU, and relu(shift) is not.
            x = tl.where(x_mask, z, 0.0).to(x_ptr.dtype.element_ty)
        # "ieee" matters in fp32 alone, which is for tests: never TF32.
        if CHANNELS_FIRST:
            accumulator = tl.dot(weight, x, accumulator, input_precision="ieee")
        else:
            accumulator = tl.dot(x, weight, accumulator, input_precision="ieee")
    return accumulator


@triton.jit
def end_with_stats(
    mean,  # [BLOCK_N] of the tile
    m2,  # [BLOCK_N], sum of squared deviations
    partials_ptr,  # [2, P, K] fp32: mean and sum of squared deviations of a tile of rows
    groups_ptr,  # [2, Q, K] fp32: of GROUP tiles
    counter_ptr,  # [blocks of columns, Q + 1] int32
    stats_ptr,  # [2, K] fp32
    running_mean_ptr,  # [K]
    running_var_ptr,  # [K]
    program,
    P,
    GROUP,
    M,
    column,
    K: tl.constexpr,
    eps,
    momentum,
    RUNNING: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Store a tile's statistics; the last program of a group merges the group's, the last of all the groups'."""
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = columns < K
    tl.store(partials_ptr + program * K + columns, mean, mask=mask)
    tl.store(partials_ptr + (P + program) * K + columns, m2, mask=mask)
    Q = tl.cdiv(P, GROUP)
    group = program // GROUP
    first = group * GROUP
    members = tl.minimum(P - first, GROUP)
    # Whoever comes last of its group finds the others' partials written (the counter's atomic orders them) and merges
    # them in a fixed order: which program that is changes nothing in the result.
    if arrives_last(counter_ptr + column * (Q + 1) + group, members):
        count_p = tl.zeros((BLOCK_P, 1), tl.float32)
        mean_p = tl.zeros((BLOCK_P, BLOCK_N), tl.float32)
        m2_p = tl.zeros((BLOCK_P, BLOCK_N), tl.float32)
        for start in range(0, members, BLOCK_P):
            member = start + tl.arange(0, BLOCK_P)
            inside = (member < members)[:, None] & mask[None, :]
            offsets = (first + member)[:, None] * K + columns[None, :]
            # ".cg": other multiprocessors wrote them, and this one's L1 may hold what was there before.
            mean_b = tl.load(partials_ptr + offsets, mask=inside, other=0.0, cache_modifier=".cg")
            m2_b = tl.load(partials_ptr + P * K + offsets, mask=inside, other=0.0, cache_modifier=".cg")
            # The last tile of the image may have fewer rows; means are weighted by how many there are.
            rows = tl.minimum(tl.maximum(M - (first + member) * BLOCK_M, 0), BLOCK_M)
            count_b = tl.where(member < members, rows, 0).to(tl.float32)[:, None]
            count_p, mean_p, m2_p = merge(count_p, mean_p, m2_p, count_b, mean_b, m2_b)
        mean_g, m2_g = merge_rows(count_p, mean_p, m2_p)
        tl.store(groups_ptr + group * K + columns, mean_g, mask=mask)
        tl.store(groups_ptr + (Q + group) * K + columns, m2_g, mask=mask)
        if arrives_last(counter_ptr + column * (Q + 1) + Q, Q):
            finalize_stats(
                groups_ptr,
                Q,
                GROUP * BLOCK_M,
                M,
                columns,
                mask,
                K,
                eps,
                stats_ptr,
                running_mean_ptr,
                running_var_ptr,
                momentum,
                RUNNING,
                BLOCK_N,
                BLOCK_P,
            )


@triton.jit
def end_with_sums(
    sum_0,  # [BLOCK_N] of the tile
    sum_1,  # [BLOCK_N]
    sum_2,  # [BLOCK_N], where SUMS is 3
    partials_ptr,  # [SUMS, P, C] fp32: of a tile of rows
    groups_ptr,  # [SUMS, Q, C] fp32: of GROUP tiles
    counter_ptr,  # [blocks of columns, Q + 1] int32
    sums_ptr,  # [SUMS, C] fp32
    program,
    P,
    GROUP,
    column,
    C: tl.constexpr,
    SUMS: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Store a tile's sums; the last program of a group adds the group's, the last of all the groups'."""
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    mask = columns < C
    tl.store(partials_ptr + program * C + columns, sum_0, mask=mask)
    tl.store(partials_ptr + (P + program) * C + columns, sum_1, mask=mask)
    if SUMS == 3:
        tl.store(partials_ptr + (2 * P + program) * C + columns, sum_2, mask=mask)
    Q = tl.cdiv(P, GROUP)
    group = program // GROUP
    first = group * GROUP
    members = tl.minimum(P - first, GROUP)
    if arrives_last(counter_ptr + column * (Q + 1) + group, members):
        for k in tl.static_range(SUMS):
            total = tl.zeros((BLOCK_P, BLOCK_N), tl.float32)
            for start in range(0, members, BLOCK_P):
                member = start + tl.arange(0, BLOCK_P)
                inside = (member < members)[:, None] & mask[None, :]
                offsets = (k * P + first + member)[:, None] * C + columns[None, :]
                total += tl.load(partials_ptr + offsets, mask=inside, other=0.0, cache_modifier=".cg")
            tl.store(groups_ptr + (k * Q + group) * C + columns, tl.sum(total, axis=0), mask=mask)
        if arrives_last(counter_ptr + column * (Q + 1) + Q, Q):
            finalize_sums(groups_ptr, Q, columns, mask, C, sums_ptr, SUMS, BLOCK_N, BLOCK_P)


def workspace(tiling: ConvTiling, rows: int, channels: int) -> dict[str, Made | None]:
    """What the last programs merge, by parameter of a kernel: `rows` values a channel; None where that is 0."""
    if not rows:
        return {"partials_ptr": None, "groups_ptr": None}
    return {
        "partials_ptr": Made((rows, tiling.programs, channels), torch.float32),
        "groups_ptr": Made((rows, tiling.groups, channels), torch.float32),
    }


def counters(tiling: ConvTiling) -> tuple[str, int]:
    """The parameter that counts which programs have come, and how many counters there are."""
    return "counter_ptr", tiling.columns * (tiling.groups + 1)


def check_stride(stride: int) -> None:
    """Check a convolution's stride; see `check_weight`."""
    if stride not in (1, 2):
        raise KernelError(f"stride: {stride} is not 1 or 2; nearest is {1 if stride < 1 else 2}")


def check_weight(x: Tensor, weight: Tensor, *, kernel: int | None = None, gradient: bool = False) -> int:
    """Check a convolution's weight against the image that it reads.

    Args:
        x: a checked image.
        weight: [K, C, R, R].
        kernel: R, or None for 1 or 3.
        gradient: the image is of K channels, not of C.

    Returns:
        Channels of the result: K, or C of a gradient.

    Raises:
        KernelError: one line that names the operand, what it is and what would do.
    """
    if weight.dim() != 4:
        raise KernelError(
            f"weight: expected [K, C, R, S], got {weight.dim()} axes; nearest is weight[:, :, None, None]"
        )
    k, c, r, s = weight.shape
    fits = (kernel,) if kernel else (1, 3)
    if r != s or r not in fits:
        nearest = 3 if 3 in fits and max(r, s) > 1 else fits[0]
        raise KernelError(f"weight: a window of {r}x{s}; nearest is {nearest}x{nearest}")
    read, made = (k, c) if gradient else (c, k)
    if read != x.shape[1]:
        raise KernelError(f"weight: shape {tuple(weight.shape)} does not fit an image of {x.shape[1]} channels")
    for name, channels in (("K", k), ("C", c)):
        if channels % 8 or not channels:
            nearest = max(round(channels / 8), 1) * 8
            raise KernelError(f"weight: {name} = {channels} is not a multiple of 8; nearest is {nearest}")
    check_like("weight", weight, x)
    if not weight.permute(0, 2, 3, 1).is_contiguous():
        raise KernelError(
            f"weight: strides {weight.stride()} are not channels_last; "
            "nearest is weight.contiguous(memory_format=torch.channels_last)"
        )
    return made
