"""BN by PyTorch's operations: in those that every dtype and torch.compile can do, and as eager PyTorch runs it.

Operands go by name: y, its stats [2, C] (mean and invstd), var, weight and bias [C]; those of a second image are y2,
2_stats and so on.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5
aten = torch.ops.aten

Statistics = Callable[[Tensor], tuple[Tensor, Tensor]]
Sums = Callable[[Mapping[str, Tensor], Tensor], tuple[Tensor, Tensor]]
Backward = Callable[[Mapping[str, Tensor], Tensor, str], tuple[Tensor, Tensor, Tensor]]


def affine(y: Tensor, t: Mapping[str, Tensor], prefix: str = "") -> Tensor:
    """BN with known statistics, as one scale and one shift a channel."""
    mean, invstd = t[f"{prefix}stats"]
    scale = t[f"{prefix}weight"] * invstd
    return y * scale[:, None, None] + (t[f"{prefix}bias"] - mean * scale)[:, None, None]


def normalized(t: Mapping[str, Tensor], prefix: str = "") -> Tensor:
    """BN with known statistics, by PyTorch's own kernel."""
    weight, bias = t[f"{prefix}weight"], t[f"{prefix}bias"]
    return F.batch_norm(_image(t, prefix), t[f"{prefix}stats"][0], t[f"{prefix}var"], weight, bias, False, 0.0, EPS)


def statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and invstd."""
    var, mean = torch.var_mean(_wide(y), (0, 2, 3), correction=0)
    return mean, (var + EPS).rsqrt()


def eager_statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and invstd by the kernel that PyTorch has for them, on a CUDA device alone."""
    return torch.batch_norm_stats(y, EPS)


def sums(t: Mapping[str, Tensor], g: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of bias and weight from g, that of BN's output."""
    mean, invstd = t["stats"]
    xhat = (_wide(t["y"]) - mean[:, None, None]) * invstd[:, None, None]
    return _wide(g).sum((0, 2, 3)), (_wide(g) * xhat).sum((0, 2, 3))


def eager_sums(t: Mapping[str, Tensor], g: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of bias and weight by the kernel that PyTorch has for SyncBatchNorm, on a CUDA device alone."""
    mean, invstd = t["stats"]
    _, _, d_weight, d_bias = torch.batch_norm_backward_reduce(g, t["y"], mean, invstd, t["weight"], True, True, True)
    return d_bias, d_weight


def backward(t: Mapping[str, Tensor], g: Tensor, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of y, weight and bias from g, that of BN's output."""
    mean, invstd = t[f"{prefix}stats"]
    return aten.native_batch_norm_backward(
        g, _image(t, prefix), t[f"{prefix}weight"], None, None, mean, invstd, True, EPS, [True, True, True]
    )


def eager_backward(found: Mapping[str, Tensor]) -> Backward:
    """The backward pass of whichever kernel PyTorch's forward pass chooses for some operands, cuDNN's for one."""
    chosen: dict[str, tuple[Tensor, Tensor, Tensor, int]] = {}
    for name, prefix in (("y", ""), ("y2", "2_")):
        if name in found:
            weight, bias = found[f"{prefix}weight"], found[f"{prefix}bias"]
            chosen[prefix] = aten._batch_norm_impl_index(
                found[name], weight, bias, None, None, True, 0.0, EPS, torch.backends.cudnn.enabled
            )[1:]

    def run(t: Mapping[str, Tensor], g: Tensor, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
        mean, invstd, reserve, index = chosen[prefix]
        y, weight = _image(t, prefix), t[f"{prefix}weight"]
        return aten._batch_norm_impl_index_backward(
            index, y, g, weight, None, None, mean, invstd, True, EPS, [True, True, True], reserve
        )

    return run


def _image(t: Mapping[str, Tensor], prefix: str) -> Tensor:
    return t["y2" if prefix else "y"]


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
