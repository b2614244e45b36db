"""The forward kernel of 1x1 and 3x3 convolutions, and its launcher."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels import runtime
from kernels.operands import KernelError, Norm, Running, TileConfig, check_image, check_norm, check_running
from kernels.tiles import pointwise, tile_configs
from kernels.tiles.conv_product import check_stride, check_weight, end_with_stats, multiply, workspace


@triton.jit
def conv_kernel(
    x_ptr,  # [N*H*W, C]
    weight_ptr,  # [K, TAPS, C]
    prologue_stats_ptr,  # [2, C] fp32
    prologue_weight_ptr,  # [C] fp32
    prologue_bias_ptr,  # [C] fp32
    y_ptr,  # [M, K]
    partials_ptr,  # [2, P, K] fp32
    groups_ptr,  # [2, Q, K] fp32
    counter_ptr,  # [blocks of columns, Q + 1] int32
    stats_ptr,  # [2, K] fp32
    running_mean_ptr,  # [K] fp32
    running_var_ptr,  # [K] fp32
    M,
    H,
    W,
    OUT_H,
    OUT_W,
    GROUP,
    TURNS,
    eps,
    momentum,
    C: tl.constexpr,
    K: tl.constexpr,
    TAPS: tl.constexpr,
    STRIDE: tl.constexpr,
    PROLOGUE: tl.constexpr,
    STATISTICS: tl.constexpr,
    RUNNING: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    BLOCKS: tl.constexpr = (K + BLOCK_N - 1) // BLOCK_N
    column, program = tl.program_id(0) % BLOCKS, tl.program_id(0) // BLOCKS
    row = program * BLOCK_M
    columns = column * BLOCK_N + tl.arange(0, BLOCK_N)
    accumulator = multiply(
        x_ptr,
        weight_ptr,
        prologue_stats_ptr,
        prologue_weight_ptr,
        prologue_bias_ptr,
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
        PROLOGUE,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    rows = tl.arange(0, BLOCK_M)
    valid = (row + rows < M)[:, None]
    y = accumulator.to(y_ptr.dtype.element_ty)
    offsets = rows[:, None] * K + columns[None, :]
    tl.store(y_ptr + row.to(tl.int64) * K + offsets, y, mask=valid & (columns < K)[None, :])
    if STATISTICS:
        stored = y.to(tl.float32)
        mean = tl.sum(stored, axis=0) / tl.minimum(M - row, BLOCK_M).to(tl.float32)
        deviation = tl.where(valid, stored - mean[None, :], 0.0)
        end_with_stats(
            mean,
            tl.sum(deviation * deviation, axis=0),
            partials_ptr,
            groups_ptr,
            counter_ptr,
            stats_ptr,
            running_mean_ptr,
            running_var_ptr,
            program,
            tl.num_programs(0) // BLOCKS,
            GROUP,
            M,
            column,
            K,
            eps,
            momentum,
            RUNNING,
            BLOCK_M,
            BLOCK_N,
            BLOCK_P,
        )


def forward(
    op: str,
    x: Tensor,
    weight: Tensor,
    *,
    stride: int,
    prologue: Norm | None,
    statistics: bool,
    eps: float,
    running: Running | None,
    tile_config: TileConfig | None,
) -> tuple[Tensor, Tensor | None]:
    """Check, allocate and launch a forward convolution; see `conv1x1` and `conv3x3`, which name `op`."""
    check_image("x", x)
    n, c, h, w = x.shape
    k = check_weight(x, weight, kernel=3 if op == "conv3x3" else 1)
    check_stride(stride)
    if prologue is not None:
        check_norm("prologue", prologue, c, x.device)
    if running is not None:
        if not statistics:
            raise KernelError("running: given without statistics; nearest is statistics=True")
        check_running(running, k, x.device)
    out_h, out_w = -(-h // stride), -(-w // stride)
    m = n * out_h * out_w
    if statistics and m < 2:
        size = torch.Size((n, k, out_h, out_w))
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {size}")
    tiling = tile_configs.conv_tiling(op, x.device, x.dtype, m, k, c, tile_config)
    y = runtime.empty_image(n, k, out_h, out_w, x.dtype, x.device)
    stats = runtime.empty((2, k), torch.float32, x.device) if statistics else None
    arguments = {
        "x_ptr": x,
        "weight_ptr": weight,
        **pointwise.norm_arguments(prologue, "prologue_"),
        "y_ptr": y,
        **workspace(tiling, 2 if statistics else 0, k, x.device),
        "stats_ptr": stats,
        "running_mean_ptr": running and running.mean,
        "running_var_ptr": running and running.var,
        "M": m,
        "H": h,
        "W": w,
        "OUT_H": out_h,
        "OUT_W": out_w,
        "GROUP": tiling.group,
        "TURNS": weight.shape[2] ** 2 * tiling.chunks,
        "eps": float(eps),
        "momentum": float(running.momentum) if running else 0.0,
        "C": c,
        "K": k,
        "TAPS": weight.shape[2] ** 2,
        "STRIDE": stride,
        "PROLOGUE": prologue is not None,
        "STATISTICS": statistics,
        "RUNNING": running is not None,
        "BLOCK_P": tiling.block_p,
        **tiling.tile_config.constexprs,
    }
    runtime.launch(op, conv_kernel, tiling.grid, arguments, **tiling.tile_config.options)
    return y, stats
