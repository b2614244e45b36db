"""BN, the addition of a shortcut and ReLU in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import KernelError, Norm, check_image, check_norm, norm_of, norm_tensors
from kernels.prepared import Made, Operands, Prepared, image, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import affine, load_subsampled, pack, passes, relu


@triton.jit(do_not_specialize=["M", "TILES", "H", "W", "SHORTCUT_H", "SHORTCUT_W"])
def bn_act_kernel(
    y_ptr,  # [M, C]
    stats_ptr,  # [2, C] fp32
    weight_ptr,  # [C]
    bias_ptr,  # [C]
    shortcut_ptr,  # [M, C]; where STRIDED, [N * SHORTCUT_H * SHORTCUT_W, SHORTCUT_C]
    shortcut_stats_ptr,
    shortcut_weight_ptr,
    shortcut_bias_ptr,
    z_ptr,  # [M, C]
    mask_ptr,  # [M, ceil(C / 8)] uint8
    M,
    C,
    TILES,
    H,
    W,
    SHORTCUT_H,
    SHORTCUT_W,
    SHORTCUT_C,
    STRIDE: tl.constexpr,
    SHORTCUT: tl.constexpr,
    PROJECTION: tl.constexpr,  # the shortcut has a BN of its own
    STRIDED: tl.constexpr,  # the shortcut is read at every STRIDE-th pixel and may be narrower
    KEEP_MASK: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    scale, shift = affine(stats_ptr, weight_ptr, bias_ptr, channels, mask, C)
    if PROJECTION:
        shortcut_scale, shortcut_shift = affine(
            shortcut_stats_ptr, shortcut_weight_ptr, shortcut_bias_ptr, channels, mask, C
        )
    if KEEP_MASK:
        packed_row = (C + 7) // 8
        octets = column * (BLOCK_C // 8) + tl.arange(0, BLOCK_C // 8)
        packed_offsets = rows[:, None] * packed_row + octets[None, :]
    for i in range(TILES):
        row = (program * TILES + i) * BLOCK_M
        valid = row + rows < M
        inside = valid[:, None] & mask[None, :]
        base = row.to(tl.int64) * C
        y = tl.load(y_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
        z = tl.fma(y, scale[None, :], shift[None, :])
        if SHORTCUT:
            if STRIDED:
                shortcut = load_subsampled(
                    shortcut_ptr, row, rows, channels, valid, H, W, SHORTCUT_H, SHORTCUT_W, SHORTCUT_C, STRIDE
                ).to(tl.float32)
            else:
                shortcut = tl.load(shortcut_ptr + base + offsets, mask=inside, other=0.0).to(tl.float32)
            if PROJECTION:
                z += tl.fma(shortcut, shortcut_scale[None, :], shortcut_shift[None, :])
            else:
                z += shortcut
        if KEEP_MASK:
            packed = pack(passes(z) & inside, BLOCK_M, BLOCK_C)
            packed_base = row.to(tl.int64) * packed_row
            packed_inside = valid[:, None] & (octets < packed_row)[None, :]
            tl.store(mask_ptr + packed_base + packed_offsets, packed, mask=packed_inside)
        if RELU:
            z = relu(z)
        tl.store(z_ptr + base + offsets, z.to(z_ptr.dtype.element_ty), mask=inside)


def bn_act(
    y: Tensor,
    norm: Norm,
    *,
    shortcut: Tensor | None = None,
    shortcut_norm: Norm | None = None,
    shortcut_stride: int = 1,
    keep_mask: bool = False,
    relu: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """z = relu(norm(y)), relu(norm(y) + shortcut) or relu(norm(y) + shortcut_norm(shortcut)).

    In fp32, rounded once. Bytes moved: y, the shortcut's pixels that are read, z, and M * C / 8 of bits.

    Args:
        y: [N, C, H, W] channels_last, bf16, fp16 or fp32.
        norm: its BN.
        shortcut: of the dtype of y. Without a BN it is the identity: y's shape, or (option A) an image of at most C
            channels whose every `shortcut_stride`-th pixel is read, with zeros for the channels it lacks. With a BN (a
            projection) it has y's shape.
        shortcut_norm: BN of a projection.
        shortcut_stride: of the identity.
        keep_mask: return the bits that say z > 0, as `Producer` keeps them.
        relu: False leaves ReLU out.

    Returns:
        z, like y; and uint8 [N*H*W, ceil(C / 8)] where the mask is kept, else None.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1512.03385, Figure 2 and section 3.3.
    """
    operands = (y, *norm, shortcut, *norm_tensors(shortcut_norm))
    z, mask = _prepare(operands, shortcut_stride, keep_mask, relu).launch(operands)
    return z, mask


@prepared
def _prepare(operands: Operands, shortcut_stride: int, keep_mask: bool, relu: bool) -> Prepared:
    y, norm, shortcut, shortcut_norm = operands[0], norm_of(operands[1:4]), operands[4], norm_of(operands[5:])
    assert y is not None and norm is not None
    check_image("y", y)
    n, c, h, w = y.shape
    check_norm("norm", norm, c, y)
    strided = False
    if shortcut is not None:
        strided = _check_shortcut(y, shortcut, shortcut_norm, shortcut_stride)
    elif shortcut_norm is not None or shortcut_stride != 1:
        raise KernelError("shortcut: None, but shortcut_norm or shortcut_stride is given; nearest is neither")
    # Sizes that a variant of the kernel does not read are 0, so that it is not compiled again for each.
    shortcut_shape = shortcut.shape if shortcut is not None and strided else (0, 0, 0, 0)
    m = n * h * w
    tiling = pointwise.pointwise_tiling(m, c, y.device, sums=False)
    constants = {
        "M": m,
        "C": c,
        "H": h if strided else 0,
        "W": w if strided else 0,
        "SHORTCUT_H": shortcut_shape[2],
        "SHORTCUT_W": shortcut_shape[3],
        "SHORTCUT_C": shortcut_shape[1],
        "STRIDE": shortcut_stride,
        "SHORTCUT": shortcut is not None,
        "PROJECTION": shortcut_norm is not None,
        "STRIDED": strided,
        "KEEP_MASK": keep_mask,
        "RELU": relu,
        **tiling.arguments,
    }
    return Prepared(
        "bn_act",
        bn_act_kernel,
        tiling.grid,
        device=y.device,
        operands=(
            "y_ptr",
            *pointwise.norm_parameters(),
            "shortcut_ptr",
            *pointwise.norm_parameters("shortcut_"),
        ),
        outputs={
            "z_ptr": image(n, c, h, w, y.dtype),
            "mask_ptr": Made((m, -(-c // 8)), torch.uint8) if keep_mask else None,
        },
        constants=constants,
        options=pointwise.OPTIONS,
    )


def _check_shortcut(y: Tensor, shortcut: Tensor, norm: Norm | None, stride: int) -> bool:
    """Check a shortcut; whether it is read at some pixels, or has fewer channels."""
    n, c, h, w = y.shape
    if norm is not None:
        if stride != 1:
            raise KernelError(f"shortcut_stride: {stride} with shortcut_norm; nearest is 1")
        check_image("shortcut", shortcut, like=y, shape=y.shape)
        check_norm("shortcut_norm", norm, c, y)
        return False
    if stride < 1:
        raise KernelError(f"shortcut_stride: {stride} is below 1; nearest is 1")
    check_image("shortcut", shortcut, like=y)
    shortcut_n, shortcut_c, shortcut_h, shortcut_w = shortcut.shape
    seen = (shortcut_n, -(-shortcut_h // stride), -(-shortcut_w // stride))
    if seen != (n, h, w) or shortcut_c > c:
        raise KernelError(
            f"shortcut: shape {tuple(shortcut.shape)} at stride {stride} does not fit y {tuple(y.shape)}; "
            f"nearest is {(n, min(shortcut_c, c), h * stride, w * stride)}"
        )
    return stride != 1 or shortcut_c != c
