"""What kernels take and give: normalizations, producers of a gradient, configurations, and the checks of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels import runtime
from kernels.dtypes import PRECISIONS

DTYPES = tuple(precision.torch_dtype for precision in PRECISIONS.values())


class KernelError(ValueError):
    """Operands that a kernel cannot take; one line that names the operand, what it is and what would do."""


class Norm(NamedTuple):
    """Batch normalization as kernels apply it: z = scale * y + shift per channel.

    scale = weight * invstd; shift = bias - mean * scale, each by one fused multiply-add.

    Attributes:
        stats: [2, C] fp32, mean and 1 / sqrt(variance + eps).
        weight: [C], gamma, in fp32 or the dtype of the image.
        bias: [C], beta, likewise.
    """

    stats: Tensor
    weight: Tensor
    bias: Tensor


class Running(NamedTuple):
    """Running statistics to be updated in place, as `nn.BatchNorm2d` does: unbiased variance, `momentum` of the new.

    Attributes:
        mean: [C], in fp32 or the dtype of the image, rounded once at each update.
        var: [C], likewise.
        momentum: weight of the batch's statistics, in [0, 1].
    """

    mean: Tensor
    var: Tensor
    momentum: float


class Producer(NamedTuple):
    """The BN (and join) whose ReLU made a tensor: what the backward pass needs to mask and reduce its gradient.

    z = relu(norm(y)), relu(norm(y) + identity) or relu(norm(y) + shortcut_norm(shortcut_y)).

    Attributes:
        y: [N, C, H, W], input of the BN as it is stored.
        norm: the BN.
        mask: uint8 [N*H*W, ceil(C / 8)], bit c % 8 of byte c // 8 says z > 0; None where z = relu(norm(y)), whose
            sign is computed again.
        shortcut_y: [N, C, H, W], input of the BN of a projection shortcut, or None.
        shortcut_norm: its BN, or None.
    """

    y: Tensor
    norm: Norm
    mask: Tensor | None = None
    shortcut_y: Tensor | None = None
    shortcut_norm: Norm | None = None


def norm_tensors(norm: Norm | None) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The tensors of a BN in a row."""
    return norm or (None, None, None)


def norm_of(tensors: Sequence[Any]) -> Norm | None:
    """The inverse of `norm_tensors`."""
    stats, weight, bias = tensors
    return None if stats is None else Norm(stats, weight, bias)


def producer_tensors(producer: Producer | None) -> tuple[Tensor | None, ...]:
    """The tensors of a producer in a row."""
    if producer is None:
        return (None,) * 9
    y, norm, mask, shortcut_y, shortcut_norm = producer
    return (y, *norm, mask, shortcut_y, *(shortcut_norm or (None, None, None)))


def producer_of(tensors: Sequence[Any]) -> Producer | None:
    """The inverse of `producer_tensors`."""
    y, stats, weight, bias, mask, shortcut_y, *shortcut_norm = tensors
    return None if y is None else Producer(y, Norm(stats, weight, bias), mask, shortcut_y, norm_of(shortcut_norm))


@dataclass(frozen=True)
class TileConfig:
    """The tiles of a kernel's programs, and how Triton compiles them.

    Attributes:
        blocks: values of the kernel's own constexprs by name, such as BLOCK_M.
        num_warps, num_stages: Triton's.
    """

    blocks: tuple[tuple[str, int], ...]
    num_warps: int
    num_stages: int

    @property
    def constexprs(self) -> dict[str, int]:
        return dict(self.blocks)

    @property
    def options(self) -> dict[str, int]:
        return {"num_warps": self.num_warps, "num_stages": self.num_stages}

    def __str__(self) -> str:
        blocks = "x".join(str(size) for _, size in self.blocks)
        return f"{blocks}/w{self.num_warps}/s{self.num_stages}"


def check_image(name: str, x: Tensor, *, like: Tensor | None = None, shape: Sequence[int] | None = None) -> None:
    """Check an activation or gradient: 4 axes, channels_last memory, a dtype and a device that kernels take.

    Args:
        name: of the operand, for the message.
        like: a checked tensor whose dtype and device it must share.
        shape: the exact shape that it must have.

    Raises:
        KernelError: one line that names the operand, what it is and what would do.
    """
    if x.dim() != 4:
        raise KernelError(f"{name}: expected [N, C, H, W], got {x.dim()} axes; nearest is x[None]")
    if x.dtype not in DTYPES:
        raise KernelError(
            f"{name}: dtype {_word(x.dtype)} is not one of {', '.join(map(_word, DTYPES))}; nearest is float32"
        )
    if not runtime.runs_here(x.device):
        raise KernelError(
            f"{name}: on {x.device}, where kernels do not run; nearest is a CUDA device "
            "(TRITON_INTERPRET=1 runs them on the CPU, for tests)"
        )
    n, c, h, w = x.shape
    if 0 in x.shape:
        raise KernelError(f"{name}: shape {tuple(x.shape)} is empty; nearest is a batch of 1")
    if not x.permute(0, 2, 3, 1).is_contiguous():
        raise KernelError(f"{name}: strides {x.stride()} are not channels_last; nearest is {name}.contiguous(memory_format=torch.channels_last)")  # fmt: skip  # noqa: E501
    if like is not None:
        check_like(name, x, like)
    if shape is not None and tuple(x.shape) != tuple(shape):
        raise KernelError(f"{name}: shape {tuple(x.shape)} does not fit; expected {tuple(shape)}")


def check_like(name: str, x: Tensor, like: Tensor) -> None:
    """Check that a tensor has the dtype and the device of another; see `check_image`."""
    if x.dtype != like.dtype:
        raise KernelError(f"{name}: dtype {_word(x.dtype)} beside {_word(like.dtype)}; nearest is {_word(like.dtype)}")
    if x.device != like.device:
        raise KernelError(f"{name}: on {x.device} beside {like.device}; nearest is {name}.to('{like.device}')")


def check_vector(
    name: str, x: Tensor, shape: Sequence[int], device: torch.device, dtype: torch.dtype = torch.float32
) -> None:
    """Check a vector (or [2, C] statistics) of channels, in fp32 or in `dtype`; see `check_image`."""
    if x.dtype not in (torch.float32, dtype):
        own = "" if dtype == torch.float32 else f" or the image's {_word(dtype)}"
        raise KernelError(f"{name}: dtype {_word(x.dtype)}, but BN's values are float32{own}; nearest is float32")
    if tuple(x.shape) != tuple(shape):
        raise KernelError(f"{name}: shape {tuple(x.shape)}, but the image's channels make it {tuple(shape)}")
    if x.device != device:
        raise KernelError(f"{name}: on {x.device} beside {device}; nearest is {name}.to('{device}')")
    if not x.is_contiguous():
        raise KernelError(f"{name}: strides {x.stride()} are not contiguous; nearest is {name}.contiguous()")


def check_norm(name: str, norm: Norm, channels: int, image: Tensor) -> None:
    """Check the three tensors of a BN over an image; see `check_vector`."""
    check_vector(f"{name}.stats", norm.stats, (2, channels), image.device)
    check_vector(f"{name}.weight", norm.weight, (channels,), image.device, image.dtype)
    check_vector(f"{name}.bias", norm.bias, (channels,), image.device, image.dtype)


def check_running(mean: Tensor, var: Tensor, channels: int, image: Tensor) -> None:
    """Check the two tensors of running statistics of a BN over an image; see `check_vector`."""
    check_vector("running.mean", mean, (channels,), image.device, image.dtype)
    check_vector("running.var", var, (channels,), image.device, image.dtype)


def momentum_of(running: Running | None) -> float:
    """The momentum of running statistics, checked; 0 where there are none."""
    if running is None:
        return 0.0
    if not 0 <= running.momentum <= 1:
        nearest = min(max(running.momentum, 0), 1)
        raise KernelError(f"running.momentum: {running.momentum} is not in [0, 1]; nearest is {nearest}")
    return float(running.momentum)


def check_mask(name: str, mask: Tensor, y: Tensor) -> None:
    """Check the bits that say where a join was positive; see `Producer`."""
    n, c, h, w = y.shape
    if mask.dtype != torch.uint8 or tuple(mask.shape) != (n * h * w, -(-c // 8)) or mask.device != y.device:
        raise KernelError(
            f"{name}: {_word(mask.dtype)} {tuple(mask.shape)} on {mask.device}; "
            f"expected uint8 {(n * h * w, -(-c // 8))} on {y.device}"
        )


def check_producer(name: str, producer: Producer, shape: Sequence[int], like: Tensor) -> None:
    """Check all that is known of the producer of a tensor of `shape`; see `check_image`."""
    check_image(f"{name}.y", producer.y, like=like, shape=shape)
    check_norm(f"{name}.norm", producer.norm, shape[1], like)
    if producer.mask is not None:
        check_mask(f"{name}.mask", producer.mask, producer.y)
    if (producer.shortcut_y is None) != (producer.shortcut_norm is None):
        raise KernelError(f"{name}: shortcut_y and shortcut_norm go together; give both or neither")
    if producer.shortcut_y is not None and producer.shortcut_norm is not None:
        if producer.mask is None:
            raise KernelError(f"{name}.mask: None, but a join's sign cannot be computed again; give its bits")
        check_image(f"{name}.shortcut_y", producer.shortcut_y, like=like, shape=shape)
        check_norm(f"{name}.shortcut_norm", producer.shortcut_norm, shape[1], like)


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
