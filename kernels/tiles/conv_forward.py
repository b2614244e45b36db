"""The forward kernel of 1x1 and 3x3 convolutions, and its launcher."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import (
    KernelError,
    Norm,
    Running,
    TileConfig,
    check_image,
    check_norm,
    check_running,
    momentum_of,
    norm_of,
    norm_tensors,
)
from kernels.prepared import Made, Operands, Prepared, image, prepared
from kernels.tiles import pointwise, tile_configs
from kernels.tiles.conv_product import (
    by_channel,
    by_pixel,
    check_stride,
    check_weight,
    counters,
    end_with_stats,
    multiply,
    sum_pixels,
    workspace,
)


@triton.jit(do_not_specialize=["M", "H", "W", "OUT_H", "OUT_W", "GROUP"])
def conv_kernel(
    x_ptr,  # [N*H*W, C]
    weight_ptr,  # [K, TAPS, C]
    prologue_stats_ptr,  # [2, C] fp32
    prologue_weight_ptr,  # [C]
    prologue_bias_ptr,  # [C]
    y_ptr,  # [M, K]
    partials_ptr,  # [2, P, K] fp32
    groups_ptr,  # [2, Q, K] fp32
    counter_ptr,  # [blocks of columns, Q + 1] int32
    stats_ptr,  # [2, K] fp32
    running_mean_ptr,  # [K]
    running_var_ptr,  # [K]
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
    # The matrix instruction wants 64 rows; and what a prologue has in registers it takes as rows alone.
    CHANNELS_FIRST: tl.constexpr = BLOCK_N >= 64 and not PROLOGUE
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
        CHANNELS_FIRST,
        BLOCK_M,
        BLOCK_N,
        BLOCK_K,
    )
    rows = tl.arange(0, BLOCK_M)
    valid = by_pixel(row + rows < M, CHANNELS_FIRST)
    channels = by_channel(columns, CHANNELS_FIRST)
    y = accumulator.to(y_ptr.dtype.element_ty)
    offsets = by_pixel(rows, CHANNELS_FIRST) * K + channels
    tl.store(y_ptr + row.to(tl.int64) * K + offsets, y, mask=valid & (channels < K))
    if STATISTICS:
        stored = y.to(tl.float32)
        mean = sum_pixels(stored, CHANNELS_FIRST) / tl.minimum(M - row, BLOCK_M).to(tl.float32)
        deviation = tl.where(valid, stored - by_channel(mean, CHANNELS_FIRST), 0.0)
        end_with_stats(
            mean,
            sum_pixels(deviation * deviation, CHANNELS_FIRST),
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
    operands = (x, weight, *norm_tensors(prologue), running and running.mean, running and running.var)
    prepared_launch = _prepare(operands, op, stride, statistics, float(eps), tile_config)
    y, stats = prepared_launch.launch(operands, (momentum_of(running),))
    return y, stats


@prepared
def _prepare(
    operands: Operands, op: str, stride: int, statistics: bool, eps: float, tile_config: TileConfig | None
) -> Prepared:
    x, weight, *norm, mean, var = operands
    prologue = norm_of(norm)
    assert x is not None and weight is not None
    check_image("x", x)
    n, c, h, w = x.shape
    k = check_weight(x, weight, kernel=3 if op == "conv3x3" else 1)
    check_stride(stride)
    if prologue is not None:
        check_norm("prologue", prologue, c, x)
    if mean is not None and var is not None:
        if not statistics:
            raise KernelError("running: given without statistics; nearest is statistics=True")
        check_running(mean, var, k, x)
    out_h, out_w = -(-h // stride), -(-w // stride)
    m = n * out_h * out_w
    if statistics and m < 2:
        size = torch.Size((n, k, out_h, out_w))
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {size}")
    tiling = tile_configs.conv_tiling(op, x.device, x.dtype, m, k, c, tile_config)
    sums = 2 if statistics else 0
    constants = {
        **({} if sums else {"counter_ptr": None}),
        "M": m,
        "H": h,
        "W": w,
        "OUT_H": out_h,
        "OUT_W": out_w,
        "GROUP": tiling.group,
        "TURNS": weight.shape[2] ** 2 * tiling.chunks,
        "eps": eps,
        "C": c,
        "K": k,
        "TAPS": weight.shape[2] ** 2,
        "STRIDE": stride,
        "PROLOGUE": prologue is not None,
        "STATISTICS": statistics,
        "RUNNING": mean is not None,
        "BLOCK_P": tiling.block_p,
        **tiling.tile_config.constexprs,
    }
    return Prepared(
        op,
        conv_kernel,
        tiling.grid,
        device=x.device,
        operands=(
            "x_ptr",
            "weight_ptr",
            *pointwise.norm_parameters("prologue_"),
            "running_mean_ptr",
            "running_var_ptr",
        ),
        outputs={
            "y_ptr": image(n, k, out_h, out_w, x.dtype),
            "stats_ptr": Made((2, k), torch.float32) if statistics else None,
        },
        workspace=workspace(tiling, sums, k),
        counters=counters(tiling) if sums else None,
        floats=("momentum",),
        constants=constants,
        options=tiling.tile_config.options,
    )
