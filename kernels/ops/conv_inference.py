"""Inference: a convolution with its BN folded in, the shortcut's addition and ReLU in one pass."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import KernelError, TileConfig, check_image, check_vector
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import tile_configs
from kernels.tiles.conv_product import check_stride, check_weight, multiply
from kernels.tiles.pointwise import pixels, relu


@triton.jit(do_not_specialize=["M", "H", "W", "OUT_H", "OUT_W", "RESIDUAL_H", "RESIDUAL_W"])
def conv_inference_kernel(
    x_ptr,  # [N*H*W, C]
    weight_ptr,  # [K, TAPS, C]
    bias_ptr,  # [K] fp32
    residual_ptr,  # [N * RESIDUAL_H * RESIDUAL_W, RESIDUAL_C]
    z_ptr,  # [M, K]
    M,
    H,
    W,
    OUT_H,
    OUT_W,
    RESIDUAL_H,
    RESIDUAL_W,
    TURNS,
    C: tl.constexpr,
    K: tl.constexpr,
    RESIDUAL_C: tl.constexpr,  # 0: there is none
    RESIDUAL_STRIDE: tl.constexpr,
    TAPS: tl.constexpr,
    STRIDE: tl.constexpr,
    RELU: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    BLOCKS: tl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    column, program = tl.program_id(0) % BLOCKS, tl.program_id(0) // BLOCKS
    row = program * BLOCK_M
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    z = multiply(
        x_ptr,
        weight_ptr,
        None,
        None,
        None,
        row,
        M,
        H,
        W,
        OUT_H,
        OUT_W,
        columns,
        TURNS,
        C,
        K,
        TAPS,
        STRIDE,
        False,
        False,
        False,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    rows = tl.arange(0, BLOCK_M)
    valid = (row + rows < M)[:, None]
    mask = columns < K
    z += tl.load(bias_ptr + columns, mask=mask, other=0.0)[None, :]
    if RESIDUAL_C > 0:
        if RESIDUAL_STRIDE > 1:
            n, h, w = pixels(row + rows, OUT_H, OUT_W)
            n_0, h_0, w_0 = pixels(row, OUT_H, OUT_W)
            first = (n_0 * RESIDUAL_H + h_0 * RESIDUAL_STRIDE) * RESIDUAL_W + w_0 * RESIDUAL_STRIDE
            source = (n * RESIDUAL_H + h * RESIDUAL_STRIDE) * RESIDUAL_W + w * RESIDUAL_STRIDE - first
        else:
            first = row
            source = rows
        residual = tl.load(
            residual_ptr + first.to(tl.int64) * RESIDUAL_C + (source[:, None] * RESIDUAL_C + columns[None, :]),
            mask=valid & (columns < RESIDUAL_C)[None, :],
            other=0.0,
        )
        z += residual.to(tl.float32)
    if RELU:
        z = relu(z)
    offsets = rows[:, None] * K + columns[None, :]
    tl.store(z_ptr + row.to(tl.int64) * K + offsets, z.to(z_ptr.dtype.element_ty), mask=valid & mask[None, :])


def fold(
    weight: Tensor,
    bn_weight: Tensor,
    bn_bias: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    eps: float = 1e-5,
    dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """A convolution's weight and bias that do what the convolution and its BN in eval mode do.

    weight * gamma / sqrt(var + eps) and beta - mean * gamma / sqrt(var + eps), by PyTorch.

    Args:
        weight: [K, C, R, S], of any strides.
        bn_weight, bn_bias, running_mean, running_var: [K], the BN's.
        eps: the BN's.
        dtype: of the result; None leaves the weight's.

    Returns:
        The weight in `dtype`, channels_last; the bias [K] fp32.

    Source: arXiv:1502.03167, section 3.1, algorithm 2.
    """
    scale = bn_weight.double() * (running_var.double() + eps).rsqrt()
    folded = (weight.double() * scale[:, None, None, None]).to(dtype or weight.dtype)
    bias = bn_bias.double() - running_mean.double() * scale
    return folded.contiguous(memory_format=torch.channels_last), bias.float()


def conv_inference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    residual: Tensor | None = None,
    residual_stride: int = 1,
    relu: bool = True,
    tile_config: TileConfig | None = None,
) -> Tensor:
    """z = relu(conv(x, weight) + bias + residual); 1x1 without padding or 3x3 padded by 1.

    Accumulates in fp32 and rounds once. Bytes moved: x, weight, the residual's pixels that are read, z.

    Args:
        x: [N, C, H, W] channels_last, bf16, fp16 or fp32; C a multiple of 8.
        weight: [K, C, R, R] of the dtype of x, channels_last: memory in the order K, R, S, C; R is 1 or 3, K a multiple
            of 8. See `fold`.
        bias: [K] fp32.
        stride: 1 or 2.
        residual: what a shortcut adds, of the dtype of x: z's shape, or (option A) an image of at most K channels whose
            every `residual_stride`-th pixel is read, with zeros for the channels it lacks.
        residual_stride: at least 1.
        relu: False leaves ReLU out.
        tile_config: of the work; None leaves it to `kernels.tiles.tile_configs.default_config`.

    Returns:
        z [N, K, ceil(H / stride), ceil(W / stride)] channels_last.

    Raises:
        KernelError: an operand that the kernel does not take.

    Source: arXiv:1512.03385, Figures 2 and 5; arXiv:1502.03167, algorithm 2.
    """
    operands = (x, weight, bias, residual)
    (z,) = _prepare(operands, stride, residual_stride, relu, tile_config).launch(operands)
    assert isinstance(z, Tensor)
    return z


@prepared
def _prepare(
    operands: Operands, stride: int, residual_stride: int, relu: bool, tile_config: TileConfig | None
) -> Prepared:
    x, weight, bias, residual = operands
    assert x is not None and weight is not None and bias is not None
    check_image("x", x)
    k = check_weight(x, weight)
    check_vector("bias", bias, (k,), x.device)
    check_stride(stride)
    n, c, h, w = x.shape
    out_h, out_w = -(-h // stride), -(-w // stride)
    if residual is not None:
        _check_residual(residual, x, (n, k, out_h, out_w), residual_stride)
    elif residual_stride != 1:
        raise KernelError(f"residual_stride: {residual_stride} without residual; nearest is 1")
    m = n * out_h * out_w
    tiling = tile_configs.conv_tiling("conv_inference", x.device, x.dtype, m, k, c, tile_config)
    constants = {
        "M": m,
        "H": h,
        "W": w,
        "OUT_H": out_h,
        "OUT_W": out_w,
        "RESIDUAL_H": residual.shape[2] if residual is not None else 0,
        "RESIDUAL_W": residual.shape[3] if residual is not None else 0,
        "TURNS": weight.shape[2] ** 2 * tiling.chunks,
        "C": c,
        "K": k,
        "RESIDUAL_C": residual.shape[1] if residual is not None else 0,
        "RESIDUAL_STRIDE": residual_stride,
        "TAPS": weight.shape[2] ** 2,
        "STRIDE": stride,
        "RELU": relu,
        **tiling.tile_config.constexprs,
    }
    return Prepared(
        "conv_inference",
        conv_inference_kernel,
        tiling.grid,
        device=x.device,
        operands=("x_ptr", "weight_ptr", "bias_ptr", "residual_ptr"),
        outputs={"z_ptr": image(n, k, out_h, out_w, x.dtype)},
        constants=constants,
        options=tiling.tile_config.options,
    )


def _check_residual(residual: Tensor, like: Tensor, shape: tuple[int, int, int, int], stride: int) -> None:
    if stride < 1:
        raise KernelError(f"residual_stride: {stride} is below 1; nearest is 1")
    check_image("residual", residual, like=like)
    n, k, h, w = shape
    seen = (residual.shape[0], -(-residual.shape[2] // stride), -(-residual.shape[3] // stride))
    if seen != (n, h, w) or residual.shape[1] > k:
        nearest = (n, min(residual.shape[1], k), h * stride, w * stride)
        raise KernelError(
            f"residual: shape {tuple(residual.shape)} at stride {stride} does not fit {shape}; nearest is {nearest}"
        )
