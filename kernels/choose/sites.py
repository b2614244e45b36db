"""Conv sites: a convolution of a network with what surrounds it.

A site is where kernels meet: what precedes a convolution may become its prologue, what follows it its epilogue, and
its gradient finishes the backward pass of the BN before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from kernels.dtypes import PRECISIONS, TUNED
from results.words import nearest

ROLES = ("inner", "first", "shortcut")
SKIPS = ("none", "identity", "padded", "projection")
DTYPES = tuple(precision.torch_name for precision in PRECISIONS.values())
TUNED_DTYPES = tuple(PRECISIONS[word].torch_name for word in TUNED)


@dataclass(frozen=True)
class ConvSite:
    """A convolution of a residual network and its neighbours.

    Attributes:
        kernel: 1 or 3, padded by kernel // 2.
        stride: of the convolution.
        c_in, c_out: its channels.
        n, h, w: its input's images and their size.
        dtype: of activations and weights, such as "bfloat16".
        role: "inner", after the BN and ReLU of the same branch; "first" of a branch, whose input is that of the block;
            or "shortcut", a projection.
        skip: for role "first", the shortcut whose gradient is added to that of the input: "none" (a plain net),
            "identity", "padded" (option A: wider) or "projection".
        join: for role "first", whether what made the input is a join, which keeps bits; otherwise it is a BN and ReLU.
        skip_stride: for skips "padded" and "projection", the distance of the pixels that the shortcut reads.
    """

    kernel: int
    stride: int
    c_in: int
    c_out: int
    n: int
    h: int
    w: int
    dtype: str
    role: str
    skip: str = "none"
    join: bool = False
    skip_stride: int = 1

    def __post_init__(self) -> None:
        one_of("role", self.role, ROLES)
        one_of("skip", self.skip, SKIPS)
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            one_of("dtype", self.dtype, DTYPES)
        if self.kernel not in (1, 3):
            raise ValueError(f"kernel={self.kernel}: expected 1 or 3; nearest is {1 if self.kernel < 2 else 3}")
        for field in ("stride", "c_in", "c_out", "n", "h", "w", "skip_stride"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{field}={value}: expected a whole number of 1 or more; nearest is 1")
        if self.role != "first" and (self.skip != "none" or self.join):
            raise ValueError(f"role={self.role}: skip and join go with role first; nearest is skip=none, join=False")
        if self.skip in ("none", "identity") and self.skip_stride != 1:
            raise ValueError(f"skip_stride={self.skip_stride}: a skip of {self.skip} has every pixel; nearest is 1")

    @property
    def size_out(self) -> tuple[int, int]:
        """Height and width of the output."""
        return -(-self.h // self.stride), -(-self.w // self.stride)

    @property
    def skip_channels(self) -> int:
        """Channels of the skip's gradient: option A's are those of the block's output, four times a first 1x1's."""
        if self.skip != "padded":
            return self.c_in
        return self.c_out * 4 if self.kernel == 1 else self.c_out

    @property
    def torch_dtype(self) -> torch.dtype:
        dtype = getattr(torch, self.dtype)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        words = [f"{self.kernel}x{self.kernel}{stride}", f"{self.c_in}->{self.c_out}", f"{self.n}x{self.h}x{self.w}"]
        return " ".join([*words, self.dtype])

    @property
    def place(self) -> str:
        """The role in words, with what is added to and masked in the gradient."""
        stride = f"/{self.skip_stride}" if self.skip_stride > 1 else ""
        skip = f" + {self.skip}{stride}" if self.skip != "none" else ""
        return self.role + skip + (", join" if self.join else "")


def site_from_dict(values: Any) -> ConvSite:
    """The inverse of `asdict` of a site.

    Raises:
        ValueError: anything else.
    """
    values = exactly(ConvSite, values)
    for field in fields(ConvSite):
        if type(values[field.name]) is not field.type:
            raise ValueError(f"{field.name}: {values[field.name]!r} is no {field.type}")
    return ConvSite(**values)


def one_of(key: str, value: Any, there_are: Sequence[str]) -> None:
    if value not in there_are:
        raise ValueError(
            f"{key}={value}: not one of {', '.join(there_are)}; nearest is {nearest(str(value), there_are)}"
        )


def exactly(cls: type, values: Any) -> dict[str, Any]:
    """A copy of a dictionary that has the fields of a dataclass and no others."""
    expected = {field.name for field in fields(cls)}
    if not isinstance(values, dict) or values.keys() != expected:
        raise ValueError(f"no {cls.__name__}: expected {', '.join(sorted(expected))}, got {values!r:.80}")
    return dict(values)
