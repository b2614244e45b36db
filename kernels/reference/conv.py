"""Plain-PyTorch twins of the convolution kernels: same arguments, any device, any floating dtype with fp64 too.

They are written to be read and to be right in fp64; in a lower dtype they round where PyTorch's own operations do.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.operands import Norm, Producer, Running
from kernels.reference import pointwise


def conv1x1(
    x: Tensor,
    weight: Tensor,
    *,
    stride: int = 1,
    prologue: Norm | None = None,
    statistics: bool = True,
    eps: float = 1e-5,
    running: Running | None = None,
) -> tuple[Tensor, Tensor | None]:
    """See `kernels.ops.conv1x1.conv1x1`; of 3x3 weights too, padded by 1."""
    if prologue is not None:
        x, _ = pointwise.bn_act(x, prologue)
    y = _image(F.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2))
    return y, pointwise.bn_stats(y, eps, running) if statistics else None


conv3x3 = conv1x1


def conv_dgrad(
    dy: Tensor,
    weight: Tensor,
    *,
    skip: Tensor | None = None,
    skip_stride: int = 1,
    producer: Producer | None = None,
    write_activation: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See `kernels.ops.conv_dgrad.conv_dgrad`."""
    d = _image(F.conv_transpose2d(dy, weight, padding=weight.shape[2] // 2))
    if producer is None:
        if skip is not None:
            d = pointwise.join_gradient(d, skip, shape=d.shape, skip_stride=skip_stride)
        return d, None, None
    g, sums = pointwise.bn_act_backward_reduce(d, producer, skip=skip, skip_stride=skip_stride, write_gradient=True)
    assert g is not None
    z = pointwise.bn_act(producer.y, producer.norm)[0] if write_activation else None
    return g, sums, z


def conv_inference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    stride: int = 1,
    residual: Tensor | None = None,
    residual_stride: int = 1,
    relu: bool = True,
) -> Tensor:
    """See `kernels.ops.conv_inference.conv_inference`."""
    z = F.conv2d(x, weight, bias.to(x.dtype), stride=stride, padding=weight.shape[2] // 2)
    if residual is not None:
        residual = residual[:, :, ::residual_stride, ::residual_stride]
        z = z + F.pad(residual, (0, 0, 0, 0, 0, z.shape[1] - residual.shape[1]))
    return _image(z.relu() if relu else z)


def pack_weights(weights: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    """See `kernels.ops.pack_weights.pack_weights`."""
    return [_image(weight.to(dtype)) for weight in weights]


def _image(x: Tensor) -> Tensor:
    # Not .contiguous(memory_format=...), which keeps other strides where an axis has size 1.
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
