"""When a kernel's result is right, and what it is compared with."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels import reference
from kernels.operands import Norm
from kernels.reference.check import errors, wrong

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
SHAPES = ((1, 1023, 3, 5), (2, 64, 7, 7), (3, 24, 9, 5))


def check(name: str, actual: Tensor, exact: Tensor, torchs: Tensor) -> None:
    """Assert that a result is right by the rule that the choice of kernels and the benchmarks have too.

    Args:
        name: of the tensor, for the message.
        actual: the kernel's.
        exact: in fp64, from the same stored inputs.
        torchs: PyTorch's own in the kernel's dtype.
    """
    assert actual.shape == exact.shape, f"{name}: {tuple(actual.shape)}, not {tuple(exact.shape)}"
    assert actual.isfinite().all(), f"{name}: {int((~actual.isfinite()).sum())} values are not finite, or not written"
    error, bound = (errors({name: x}, {name: exact}) for x in (actual, torchs))
    assert not wrong(error, bound), wrong(error, bound)[0]


def image(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, *, mean: float = 0.0) -> Tensor:
    """Random values in channels_last."""
    return (torch.randn(shape, device=device) + mean).to(dtype).contiguous(memory_format=torch.channels_last)


def make_norm(y: Tensor, *, wide: bool = False) -> Norm:
    """A BN with the statistics of y and random parameters, in fp32, or fp64 where wide."""
    norm = Norm(reference.bn_stats(y.double()), *torch.randn(2, y.shape[1], device=y.device).double())
    return norm if wide else Norm(*(x.float() for x in norm))


def eager(
    y: Tensor,
    weight: Tensor,
    bias: Tensor,
    shortcut: Tensor | None = None,
    shortcut_weight: Tensor | None = None,
    shortcut_bias: Tensor | None = None,
    *,
    stride: int = 1,
    relu: bool = True,
    stats: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """BN, addition and ReLU by PyTorch's operations, in the dtypes of the operands; `stats` (mean, var) freeze BN."""
    mean, var = stats or (None, None)
    z = F.batch_norm(y, mean, var, weight, bias, training=stats is None)
    if shortcut is not None:
        if shortcut_weight is not None:
            shortcut = F.batch_norm(shortcut, mean, var, shortcut_weight, shortcut_bias, training=stats is None)
        shortcut = shortcut[:, :, ::stride, ::stride]
        z = z + F.pad(shortcut, (0, 0, 0, 0, 0, z.shape[1] - shortcut.shape[1]))
    return z.relu() if relu else z


def both(function: Callable[..., Any], *operands: Tensor | None) -> tuple[Any, Any]:
    """A function of operands in fp64 and as they are."""
    return function(*(x if x is None else x.double() for x in operands)), function(*operands)


def gradients(function: Callable[..., Tensor], *operands: Tensor | None) -> tuple[list[Tensor], list[Tensor]]:
    """Gradients of the scalar function by each operand there is, in fp64 and in the operands' dtypes."""

    def backward(*leaves: Tensor | None) -> list[Tensor]:
        leaves = tuple(x if x is None else x.detach().clone().requires_grad_() for x in leaves)
        return list(torch.autograd.grad(function(*leaves), [x for x in leaves if x is not None]))

    return both(backward, *operands)
