"""Batch statistics of an image, per channel, in one pass and one launch."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.operands import Running, check_image, check_running, momentum_of
from kernels.prepared import Made, Operands, Prepared, prepared
from kernels.tiles import pointwise
from kernels.tiles.pointwise import arrives_last, finalize_stats, merge_rows

ELEMENTS = 2048  # of a tile: on an H200 by 4% faster than 4096, over the images of ResNet-50


@triton.jit(do_not_specialize=["M", "TILES"])
def bn_stats_kernel(
    y_ptr,  # [M, C]
    partials_ptr,  # [2, P, C] fp32
    counter_ptr,  # int32, one for each block of channels
    stats_ptr,  # [2, C] fp32
    running_mean_ptr,  # [C]
    running_var_ptr,  # [C]
    M,
    C,
    TILES,
    eps,
    momentum,
    RUNNING: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    program, column = tl.program_id(0), tl.program_id(1)
    P = tl.num_programs(0)
    channels = column * BLOCK_C + tl.arange(0, BLOCK_C)
    mask = channels < C
    rows = tl.arange(0, BLOCK_M)
    offsets = rows[:, None] * C + channels[None, :]
    # Welford's update in each lane, so that rows are merged once, after the loop.
    count = tl.zeros((BLOCK_M, 1), tl.float32)
    mean = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    m2 = tl.zeros((BLOCK_M, BLOCK_C), tl.float32)
    for i in tl.range(TILES, loop_unroll_factor=4):  # one image alone: tiles ahead hide memory's latency
        row = (program * TILES + i) * BLOCK_M
        valid = (row + rows < M)[:, None]
        y = tl.load(y_ptr + row.to(tl.int64) * C + offsets, mask=valid & mask[None, :], other=0.0).to(tl.float32)
        count += valid.to(tl.float32)
        delta = tl.where(valid, y - mean, 0.0)
        mean += delta * (1.0 / tl.maximum(count, 1.0))  # one division a row: one a value would bind the kernel
        m2 += tl.where(valid, delta * (y - mean), 0.0)
    mean_c, m2_c = merge_rows(count, mean, m2)
    tl.store(partials_ptr + program * C + channels, mean_c, mask=mask)
    tl.store(partials_ptr + (P + program) * C + channels, m2_c, mask=mask)
    if arrives_last(counter_ptr + column, P):
        finalize_stats(
            partials_ptr,
            P,
            TILES * BLOCK_M,
            M,
            channels,
            mask,
            C,
            eps,
            stats_ptr,
            running_mean_ptr,
            running_var_ptr,
            momentum,
            RUNNING,
            BLOCK_C,
            BLOCK_P,
        )


def bn_stats(y: Tensor, eps: float = 1e-5, running: Running | None = None) -> Tensor:
    """Mean and 1 / sqrt(variance + eps) of each channel: batch normalization's statistics in training.

    Of the values as stored, in fp32, by Welford's and Chan's updates: the variance of a channel whose mean is a
    thousand times its deviation is right. Bytes moved: y once.

    Args:
        y: [N, C, H, W] channels_last, bf16, fp16 or fp32.
        eps: added to the (biased) variance.
        running: running statistics, updated in place with the unbiased variance; None leaves none.

    Returns:
        [2, C] fp32: mean and 1 / sqrt(variance + eps), in the form that `Norm` takes.

    Raises:
        KernelError: an operand that the kernel does not take.
        ValueError: fewer than two values a channel, worded as in PyTorch.

    Source: arXiv:1502.03167, algorithm 1.
    """
    operands = (y, running and running.mean, running and running.var)
    (stats,) = _prepare(operands, float(eps)).launch(operands, (momentum_of(running),))
    assert isinstance(stats, Tensor)
    return stats


@prepared
def _prepare(operands: Operands, eps: float) -> Prepared:
    y, mean, var = operands
    assert y is not None
    check_image("y", y)
    n, c, h, w = y.shape
    m = n * h * w
    if m < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {y.shape}")
    if mean is not None and var is not None:
        check_running(mean, var, c, y)
    tiling = pointwise.pointwise_tiling(m, c, y.device, sums=True, elements=ELEMENTS)
    constants = {
        "M": m,
        "C": c,
        "eps": eps,
        "RUNNING": mean is not None,
        "BLOCK_P": pointwise.SUM_BLOCK // tiling.block_c,
        **tiling.arguments,
    }
    return Prepared(
        "bn_stats",
        bn_stats_kernel,
        tiling.grid,
        device=y.device,
        operands=("y_ptr", "running_mean_ptr", "running_var_ptr"),
        outputs={"stats_ptr": Made((2, c), torch.float32)},
        workspace={"partials_ptr": Made((2, tiling.grid[0], c), torch.float32)},
        counters=("counter_ptr", tiling.grid[1]),
        floats=("momentum",),
        constants=constants,
        options=pointwise.OPTIONS,
    )
