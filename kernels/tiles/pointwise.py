"""What the kernels share: how an image is cut into tiles, BN's arithmetic on one, and sums that end in one launch.

A kernel sees an image as rows, one a pixel in the order n, h, w, of C channels. A program has BLOCK_C channels and
walks through TILES tiles of BLOCK_M rows, so the partial sums of a channel are few; the program that arrives last adds
them in a fixed order. An integer counts arrivals and no floating-point atomic is used: results are deterministic.

Sizes but for channels are not specialized on: an epoch's last batch would compile every kernel again while all ranks
wait. That rows are aligned, and loads 16 bytes wide, the compiler sees by the channels alone.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.chips import CHIPS

NUM_WARPS = 8
OPTIONS = {"num_warps": NUM_WARPS}
SUM_BLOCK = 4096  # elements of a tile of partial sums: BLOCK_P * BLOCK_C


@dataclass(frozen=True)
class PointwiseTiling:
    """An image's rows and channels in tiles.

    Attributes:
        block_m, block_c: rows and channels of a tile, powers of two.
        tiles: how many a program walks through, one below the other.
        grid: programs along rows and channels.
    """

    block_m: int
    block_c: int
    tiles: int
    grid: tuple[int, int]

    @property
    def arguments(self) -> dict[str, int]:
        """TILES and the blocks, as kernels take them."""
        return {"TILES": self.tiles, "BLOCK_M": self.block_m, "BLOCK_C": self.block_c}


def processors(device: torch.device) -> int:
    """SMs or CUs of a device, or of the chip that launches are captured for."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return CHIPS[runtime.chip(device)].processors


def pointwise_tiling(
    rows: int,
    channels: int,
    device: torch.device,
    *,
    sums: bool,
    elements: int = 4096,
    num_warps: int = NUM_WARPS,
) -> PointwiseTiling:
    """Cut an image of `rows` x `channels` for a kernel that moves it once.

    Args:
        sums: programs add up what they see. Then all of them run at once, 16 warps on a processor (of up to 128
            registers a thread), since equal programs in one wave and a bit take two; and they are narrow, so that only
            a few hundred finish a channel. Otherwise there are 16 for each processor, which balances itself.
        elements: of a tile, at most.
        num_warps: of a program.
    """
    # 8: a byte of the join's bits belongs to one program.
    block_c = min(max(triton.next_power_of_2(channels), 8), 64 if sums else 256)
    block_m = min(elements // block_c, max(triton.next_power_of_2(rows), 8))
    columns = triton.cdiv(channels, block_c)
    down = triton.cdiv(rows, block_m)
    tiles = triton.cdiv(down, max((16 // num_warps if sums else 16) * processors(device) // columns, 1))
    return PointwiseTiling(block_m, block_c, tiles, (triton.cdiv(down, tiles), columns))


def norm_parameters(prefix: str = "") -> tuple[str, str, str]:
    """The parameters of a kernel that the tensors of a BN are."""
    return (f"{prefix}stats_ptr", f"{prefix}weight_ptr", f"{prefix}bias_ptr")


@triton.jit
def affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C):
    """BN's scale and shift of `channels`, fp32 [BLOCK_C]; z = tl.fma(y, scale, shift) where z or its sign is made."""
    mean = tl.load(stats_ptr + channels, mask=mask, other=0.0)
    invstd = tl.load(stats_ptr + C + channels, mask=mask, other=0.0)
    scale = tl.load(weight_ptr + channels, mask=mask, other=0.0).to(tl.float32) * invstd
    return scale, tl.fma(-mean, scale, tl.load(bias_ptr + channels, mask=mask, other=0.0).to(tl.float32))


@triton.jit
def relu(z):
    """max(z, 0), where NaN stays NaN as in PyTorch."""
    return tl.where(z <= 0.0, 0.0, z)


@triton.jit
def passes(z):
    """Where ReLU lets a gradient through: at NaN too, as in PyTorch, or a NaN would vanish on its way back."""
    return ~(z <= 0.0)


@triton.jit
def pixels(rows, H, W):
    """The rows of an image as n, h, w."""
    line = rows // W
    return line // H, line % H, rows % W


@triton.jit
def advance(n, h, w, by, H, W):
    """Pixels n, h, w, and those `by` = pixels(rows, H, W) further on: without the division that `pixels` takes."""
    by_n, by_h, by_w = by
    w += by_w
    line = (w >= W).to(tl.int32)
    w -= line * W
    h += by_h + line
    image = (h >= H).to(tl.int32)
    return n + by_n + image, h - image * H, w


@triton.jit
def load_subsampled(ptr, row, rows, channels, valid, H, W, FROM_H, FROM_W, FROM_C, STRIDE: tl.constexpr):
    """Rows row + rows of an H x W image that is every STRIDE-th pixel of a larger one, 0 for channels it lacks.

    Args:
        ptr: [N * FROM_H * FROM_W, FROM_C], the larger image.
        row: first row, a scalar.
        rows, valid: [BLOCK_M], tl.arange and which of them there are.
        channels: [BLOCK_C].

    Returns:
        [BLOCK_M, BLOCK_C], in the dtype of the image.
    """
    n_0, h_0, w_0 = pixels(row, H, W)
    first = (n_0 * FROM_H + h_0 * STRIDE) * FROM_W + w_0 * STRIDE
    n, h, w = pixels(row + rows, H, W)
    source = (n * FROM_H + h * STRIDE) * FROM_W + w * STRIDE - first
    offsets = source[:, None] * FROM_C + channels[None, :]
    mask = valid[:, None] & (channels < FROM_C)[None, :]
    return tl.load(ptr + first.to(tl.int64) * FROM_C + offsets, mask=mask, other=0.0)


@triton.jit
def load_spread(ptr, row, rows, channels, inside, H, W, FROM_H, FROM_W, FROM_C, STRIDE: tl.constexpr):
    """Rows row + rows of an H x W image that is 0 but at every STRIDE-th pixel: `load_subsampled` backwards.

    Args:
        ptr: [N * FROM_H * FROM_W, FROM_C], the pixels that are not 0; FROM_C >= C.
        row: first row, a scalar.
        rows: [BLOCK_M], tl.arange.
        channels: [BLOCK_C].
        inside: [BLOCK_M, BLOCK_C], which of rows and channels there are.

    Returns:
        [BLOCK_M, BLOCK_C], in the dtype of the image.
    """
    n_0, h_0, w_0 = pixels(row, H, W)
    first = (n_0 * FROM_H + h_0 // STRIDE) * FROM_W + w_0 // STRIDE
    n, h, w = pixels(row + rows, H, W)
    source = (n * FROM_H + h // STRIDE) * FROM_W + w // STRIDE - first
    offsets = source[:, None] * FROM_C + channels[None, :]
    mask = inside & ((h % STRIDE == 0) & (w % STRIDE == 0))[:, None]
    return tl.load(ptr + first.to(tl.int64) * FROM_C + offsets, mask=mask, other=0.0)


@triton.jit
def pack(positive, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Booleans [BLOCK_M, BLOCK_C] as bytes [BLOCK_M, BLOCK_C / 8]: bit c % 8 of byte c // 8."""
    bits = tl.reshape(positive.to(tl.int32), (BLOCK_M, BLOCK_C // 8, 8))
    return tl.sum(bits << tl.arange(0, 8)[None, None, :], axis=2).to(tl.uint8)


@triton.jit
def unpack(packed, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Booleans [BLOCK_M, BLOCK_C] of the bytes that `pack` made."""
    bits = (packed.to(tl.int32)[:, :, None] >> tl.arange(0, 8)[None, None, :]) & 1
    return tl.reshape(bits, (BLOCK_M, BLOCK_C)) != 0


@triton.jit
def load_bits(mask_ptr, row, rows, valid, column, C, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    """Booleans [BLOCK_M, BLOCK_C] that say where a join was positive."""
    packed_row = (C + 7) // 8
    octets = column * (BLOCK_C // 8) + tl.arange(0, BLOCK_C // 8)
    offsets = rows[:, None] * packed_row + octets[None, :]
    inside = valid[:, None] & (octets < packed_row)[None, :]
    packed = tl.load(mask_ptr + row.to(tl.int64) * packed_row + offsets, mask=inside, other=0)
    return unpack(packed, BLOCK_M, BLOCK_C)


@triton.jit
def merge(count_a, mean_a, m2_a, count_b, mean_b, m2_b):
    """Statistics of two sets together, either of which may be empty: count, mean, sum of squared deviations.

    Source: Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    """
    count = count_a + count_b
    share = count_b / tl.maximum(count, 1.0)
    delta = mean_b - mean_a
    return count, tl.fma(delta, share, mean_a), m2_a + m2_b + delta * delta * (count_a * share)


@triton.jit
def merge_rows(count, mean, m2):
    """Statistics of all rows together: count [BLOCK, 1], mean and m2 [BLOCK, BLOCK_C] -> mean, m2 [BLOCK_C]."""
    total = tl.maximum(tl.sum(count, axis=0), 1.0)
    first = tl.sum(count * mean, axis=0) / total
    delta = mean - first[None, :]
    # A sum of large means is rounded; the mean of what is left is not.
    rest = tl.sum(count * delta, axis=0) / total
    return first + rest, tl.sum(m2 + count * delta * delta, axis=0) - total * rest * rest


@triton.jit
def arrives_last(counter_ptr, P):
    """Whether all P programs of a counter have come; what each stored before is then seen, if loaded with ".cg".

    The counter is left at 0, for the next launch.
    """
    tl.debug_barrier()
    last = tl.atomic_add(counter_ptr, 1, sem="acq_rel", scope="gpu") == P - 1
    if last:
        tl.store(counter_ptr, 0)
    return last


@triton.jit
def finalize_stats(
    partials_ptr,  # [2, P, C] fp32: mean and sum of squared deviations
    P,
    ROWS,  # of a partial: the p-th describes rows p * ROWS up to (p + 1) * ROWS, or to M
    M,
    channels,  # [BLOCK_C]
    mask,  # [BLOCK_C]: channels < C
    C,
    eps,
    stats_ptr,  # [2, C] fp32: mean and 1 / sqrt(variance + eps)
    running_mean_ptr,
    running_var_ptr,
    momentum,
    RUNNING: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Merge partial statistics in a fixed order, store them, and update the running ones where RUNNING."""
    count = tl.zeros((BLOCK_P, 1), tl.float32)
    mean = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
    for start in range(0, P, BLOCK_P):
        p = start + tl.arange(0, BLOCK_P)
        inside = (p < P)[:, None] & mask[None, :]
        offsets = p[:, None] * C + channels[None, :]
        mean_p = tl.load(partials_ptr + offsets, mask=inside, other=0.0, cache_modifier=".cg")
        m2_p = tl.load(partials_ptr + P * C + offsets, mask=inside, other=0.0, cache_modifier=".cg")
        count_p = tl.minimum(tl.maximum(M - p * ROWS, 0), ROWS).to(tl.float32)[:, None]
        count, mean, m2 = merge(count, mean, m2, count_p, mean_p, m2_p)
    mean_c, m2_c = merge_rows(count, mean, m2)
    rows = M.to(tl.float32)
    invstd = tl.div_rn(1.0, tl.sqrt_rn(m2_c / rows + eps))
    tl.store(stats_ptr + channels, mean_c, mask=mask)
    tl.store(stats_ptr + C + channels, invstd, mask=mask)
    if RUNNING:
        # Stored in their own dtype, each rounded once.
        old_mean = tl.load(running_mean_ptr + channels, mask=mask).to(tl.float32)
        old_var = tl.load(running_var_ptr + channels, mask=mask).to(tl.float32)
        new_mean = (1 - momentum) * old_mean + momentum * mean_c
        new_var = (1 - momentum) * old_var + momentum * (m2_c / (rows - 1))
        tl.store(running_mean_ptr + channels, new_mean.to(running_mean_ptr.dtype.element_ty), mask=mask)
        tl.store(running_var_ptr + channels, new_var.to(running_var_ptr.dtype.element_ty), mask=mask)


@triton.jit
def finalize_sums(
    partials_ptr,  # [SUMS, P, C] fp32
    P,
    channels,  # [BLOCK_C]
    mask,  # [BLOCK_C]: channels < C
    C,
    sums_ptr,  # [SUMS, C] fp32
    SUMS: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    """Add partial sums in a fixed order and store them."""
    for k in tl.static_range(SUMS):
        total = tl.zeros((BLOCK_P, BLOCK_C), tl.float32)
        for start in range(0, P, BLOCK_P):
            p = start + tl.arange(0, BLOCK_P)
            inside = (p < P)[:, None] & mask[None, :]
            offsets = (k * P + p)[:, None] * C + channels[None, :]
            total += tl.load(partials_ptr + offsets, mask=inside, other=0.0, cache_modifier=".cg")
        tl.store(sums_ptr + k * C + channels, tl.sum(total, axis=0), mask=mask)
