"""1x1 convolution with batch statistics in its epilogue and, where asked, BN and ReLU of its input in its prologue."""

from torch import Tensor

from kernels.operands import Norm, Running, TileConfig
from kernels.tiles import conv_forward


def conv1x1(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int = 1,
    prologue: Norm | None = None,
    statistics: bool = True,
    eps: float = 1e-5,
    running: Running | None = None,
    tile_config: TileConfig | None = None,
) -> tuple[Tensor, Tensor | None]:
    """y[n, k, h, w] = sum over c of x[n, c, stride*h, stride*w] * weight[k, c], with the statistics of y.

    Accumulates in fp32 and rounds once; statistics are of y as stored. With a prologue, x is replaced by
    relu(prologue(x)) rounded to its dtype, which is not written. Bytes moved: the pixels of x that are read, weight, y.

    Args:
        x: [N, C, H, W] channels_last, bf16, fp16 or fp32; C a multiple of 8.
        weight: [K, C, 1, 1] of the dtype of x, memory in the order K, C; K a multiple of 8.
        stride: 1 or 2.
        prologue: BN of x.
        statistics: whether to return statistics.
        eps: added to the (biased) variance.
        running: running statistics, updated in place with the unbiased variance.
        tile_config: of the work; None leaves it to `kernels.tiles.tile_configs.default_config`.

    Returns:
        y [N, K, ceil(H / stride), ceil(W / stride)] channels_last; statistics [2, K] fp32 as in `Norm`, or None.

    Raises:
        KernelError: an operand that the kernel does not take.
        ValueError: fewer than two values a channel to take statistics of, worded as in PyTorch.

    Source: arXiv:1512.03385, Figure 5; arXiv:1502.03167, algorithm 1.
    """
    return conv_forward.forward(
        "conv1x1",
        x,
        weight,
        stride=stride,
        prologue=prologue,
        statistics=statistics,
        eps=eps,
        running=running,
        tile_config=tile_config,
    )
