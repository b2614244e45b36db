"""Links (convolutions with what surrounds them), the ways to compute one, and the choice where nothing is measured.

A link is where kernels meet: what precedes a convolution may become its prologue, what follows it its epilogue, and
its gradient finishes the backward pass of the BN before it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import torch

from kernels.configs import candidates
from kernels.dtypes import PRECISIONS, TUNED
from kernels.ops.operands import Config
from results.words import nearest

__all__ = ["PARTS", "TORCH", "Choice", "Link", "name", "options", "static_choice"]

ROLES = ("inner", "first", "shortcut")
SKIPS = ("none", "identity", "padded", "projection")
PARTS = ("forward", "dgrad", "inference")
MODES = {"forward": ("torch", "triton", "prologue"), "dgrad": ("torch", "triton"), "inference": ("torch", "triton")}
DTYPES = tuple(precision.torch_name for precision in PRECISIONS.values())
TUNED_DTYPES = tuple(PRECISIONS[word].torch_name for word in TUNED)
MIN_CHANNELS = 16  # of either side of `tl.dot`


def _one_of(key: str, value: Any, there_are: Sequence[str]) -> None:
    if value not in there_are:
        raise ValueError(
            f"{key}={value}: not one of {', '.join(there_are)}; nearest is {nearest(str(value), there_are)}"
        )


@dataclass(frozen=True)
class Link:
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
        _one_of("role", self.role, ROLES)
        _one_of("skip", self.skip, SKIPS)
        if not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            _one_of("dtype", self.dtype, DTYPES)
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


@dataclass(frozen=True)
class Choice:
    """How a link is computed.

    Attributes:
        forward: "torch" (cuDNN, then `bn_stats`), "triton" (a convolution that makes the statistics too) or "prologue"
            (that also applies the BN and ReLU before it, whose output is not written).
        dgrad: "torch" (cuDNN, then `bn_act_backward_reduce`) or "triton" (`conv_dgrad`).
        inference: "torch" (cuDNN, then `bn_act`) or "triton" (`conv_folded`).
        forward_config, dgrad_config, inference_config: of our kernels; None leaves the choice to them.
    """

    forward: str = "torch"
    dgrad: str = "torch"
    inference: str = "torch"
    forward_config: Config | None = None
    dgrad_config: Config | None = None
    inference_config: Config | None = None

    def __post_init__(self) -> None:
        for part in PARTS:
            mode = getattr(self, part)
            _one_of(part, mode, MODES[part])
            if mode == "torch" and getattr(self, f"{part}_config") is not None:
                raise ValueError(f"{part}_config: given, but {part}=torch; nearest is None")
        if self.forward == "prologue" and self.dgrad != "triton":
            raise ValueError(f"dgrad={self.dgrad} with forward=prologue, whose z it must write; nearest is triton")

    @property
    def names(self) -> dict[str, str]:
        """Of each part, the name under which its candidate was measured."""
        modes = {"forward": self.forward, "dgrad": self.dgrad, "inference": self.inference}
        if self.forward == "prologue":
            modes["dgrad"] = "triton+z"
        return {part: name(part, mode, getattr(self, f"{part}_config")) for part, mode in modes.items()}

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Any) -> "Choice":
        """The inverse of `to_dict`, also of what JSON made of it.

        Raises:
            ValueError: anything else.
        """
        values = _exactly(cls, values)
        for part in PARTS:
            values[f"{part}_config"] = _config(values[f"{part}_config"])
        return cls(**values)


TORCH = Choice()


def link_from_dict(values: Any) -> Link:
    """The inverse of `asdict` of a link.

    Raises:
        ValueError: anything else.
    """
    values = _exactly(Link, values)
    for field in fields(Link):
        if type(values[field.name]) is not field.type:
            raise ValueError(f"{field.name}: {values[field.name]!r} is no {field.type}")
    return Link(**values)


def name(part: str, mode: str, config: Config | None) -> str:
    """Of a candidate, such as "dgrad triton+z 128x64x64/w4/s3"."""
    return " ".join([part, mode, *([str(config)] if config else [])])


def options(link: Link, part: str, chip: str) -> tuple[Config, ...]:
    """The configurations of our kernel for a part of a link; none where the kernel does not take it."""
    if link.c_in % 8 or link.c_out % 8 or min(link.c_in, link.c_out) < MIN_CHANNELS:
        return ()
    if link.dtype not in DTYPES:
        return ()
    h, w = link.size_out
    if part == "dgrad":
        # A strided projection's runs on its own pixels, as that of a 1x1 of stride 1.
        if link.stride != 1 and not (link.role == "shortcut" and link.kernel == 1):
            return ()
        return tuple(candidates("conv_dgrad", chip, link.torch_dtype, link.n * h * w, link.c_in, link.c_out))
    op = "conv_inference" if part == "inference" else f"conv{link.kernel}x{link.kernel}"
    return tuple(candidates(op, chip, link.torch_dtype, link.n * h * w, link.c_out, link.c_in))


def static_choice(link: Link, chip: str) -> Choice:
    """The choice for a chip where nothing is measured: our kernels where a model favours them.

    Ours are 1x1 convolutions but those of ImageNet's last stage, 3x3 of at most 128 channels, stride 2 of these in
    inference alone, and gradients at stride 1, but those of projections, where no pass would be saved. A prologue goes
    with every inner one whose gradient is ours.
    """
    small, large = sorted((link.c_in, link.c_out))
    if large > 128 if link.kernel == 3 else large >= 2048 or small >= 512:
        return TORCH
    ours = {part: bool(options(link, part, chip)) for part in PARTS}
    forward = ours["forward"] and (link.kernel == 1 or link.stride == 1)
    dgrad = ours["dgrad"] and link.role != "shortcut"
    prologue = forward and dgrad and link.role == "inner"
    return Choice(
        forward="prologue" if prologue else "triton" if forward else "torch",
        dgrad="triton" if dgrad else "torch",
        inference="triton" if ours["inference"] else "torch",
    )


def _exactly(cls: type, values: Any) -> dict[str, Any]:
    """A copy of a dictionary that has the fields of a dataclass and no others."""
    expected = {field.name for field in fields(cls)}
    if not isinstance(values, dict) or values.keys() != expected:
        raise ValueError(f"no {cls.__name__}: expected {', '.join(sorted(expected))}, got {values!r:.80}")
    return dict(values)


def _config(values: Any) -> Config | None:
    if values is None:
        return None
    values = _exactly(Config, values)
    try:
        blocks = tuple((str(block), size) for block, size in values["blocks"])
    except (TypeError, ValueError):
        raise ValueError(f"no Config: blocks {values['blocks']!r:.80}") from None
    numbers = [*(size for _, size in blocks), values["num_warps"], values["num_stages"]]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"no Config: {values!r:.120}")
    return Config(blocks, values["num_warps"], values["num_stages"])
