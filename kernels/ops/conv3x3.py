"""3x3 convolution with batch statistics in its epilogue and, where asked, BN and ReLU of its input in its prologue."""

from torch import Tensor

from kernels.operands import Norm, Running, TileConfig
from kernels.tiles import conv_forward


def conv3x3(
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
    """y[n, k, h, w] = sum over c, r, s of x[n, c, stride*h + r - 1, stride*w + s - 1] * weight[k, c, r, s].

    Padded by 1. Accumulates in fp32 and rounds once; statistics are of y as stored. With a prologue, x is replaced by
    relu(prologue(x)) rounded to its dtype, which is not written and is padded by zeros after that. Bytes moved: x,
    weight, y (x is read 9 times, 8 of them from the L2 cache).

    Args:
        x: [N, C, H, W] channels_last, bf16, fp16 or fp32; C a multiple of 8.
        weight: [K, C, 3, 3] of the dtype of x, channels_last: memory in the order K, R, S, C; K a multiple of 8.
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

    Source: arXiv:1512.03385, section 3.3 and Figure 5; arXiv:1502.03167, algorithm 1.
    """
    return conv_forward.forward(
        "conv3x3",
        x,
        weight,
        stride=stride,
        prologue=prologue,
        statistics=statistics,
        eps=eps,
        running=running,
        tile_config=tile_config,
    )
