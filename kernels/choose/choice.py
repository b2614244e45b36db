"""The ways to compute a conv site, and the choice where nothing is measured."""

from dataclasses import asdict, dataclass
from typing import Any

from kernels.choose.sites import DTYPES, ConvSite, exactly, one_of
from kernels.operands import TileConfig
from kernels.tiles.tile_configs import fitting_configs

PARTS = ("forward", "dgrad", "inference")
MODES = {"forward": ("torch", "triton", "prologue"), "dgrad": ("torch", "triton"), "inference": ("torch", "triton")}
MIN_CHANNELS = 16  # of either side of `tl.dot`


@dataclass(frozen=True)
class Choice:
    """How a site is computed.

    Attributes:
        forward: "torch" (cuDNN, then `bn_stats`), "triton" (a convolution that makes the statistics too) or "prologue"
            (that also applies the BN and ReLU before it, whose output is not written).
        dgrad: "torch" (cuDNN, then `bn_act_backward_reduce`) or "triton" (`conv_dgrad`).
        inference: "torch" (cuDNN, then `bn_act`) or "triton" (`conv_inference`).
        forward_config, dgrad_config, inference_config: of our kernels; None leaves the choice to them.
    """

    forward: str = "torch"
    dgrad: str = "torch"
    inference: str = "torch"
    forward_config: TileConfig | None = None
    dgrad_config: TileConfig | None = None
    inference_config: TileConfig | None = None

    def __post_init__(self) -> None:
        for part in PARTS:
            mode = getattr(self, part)
            one_of(part, mode, MODES[part])
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
        values = exactly(cls, values)
        for part in PARTS:
            values[f"{part}_config"] = _config(values[f"{part}_config"])
        return cls(**values)


TORCH = Choice()


def name(part: str, mode: str, tile_config: TileConfig | None) -> str:
    """Of a candidate, such as "dgrad triton+z 128x64x64/w4/s3"."""
    return " ".join([part, mode, *([str(tile_config)] if tile_config else [])])


def options(site: ConvSite, part: str, chip: str, most_shared_bytes: int | None = None) -> tuple[TileConfig, ...]:
    """The configurations of our kernel for a part of a site; none where the kernel does not take it.

    Args:
        most_shared_bytes: see `fitting_configs`.
    """
    if site.c_in % 8 or site.c_out % 8 or min(site.c_in, site.c_out) < MIN_CHANNELS:
        return ()
    if site.dtype not in DTYPES:
        return ()
    h, w = site.size_out
    m = site.n * h * w
    if part == "dgrad":
        # A strided projection's runs on its own pixels, as that of a 1x1 of stride 1.
        if site.stride != 1 and not (site.role == "shortcut" and site.kernel == 1):
            return ()
        return fitting_configs("conv_dgrad", chip, site.torch_dtype, m, site.c_in, site.c_out, most_shared_bytes)
    op = "conv_inference" if part == "inference" else f"conv{site.kernel}x{site.kernel}"
    return fitting_configs(op, chip, site.torch_dtype, m, site.c_out, site.c_in, most_shared_bytes)


def static_choice(site: ConvSite, chip: str) -> Choice:
    """The choice for a chip where nothing is measured: what was faster where something was.

    That is on an H200, at the sites of ResNet-50 over 256 images in bf16 (docs/kernels.md has the times). There
    cuDNN's convolutions with our passes beside them win, but at 1x1s that memory binds: ours are the forward pass
    from or to 64 channels, and the gradient at stride 1 of as few, or of 128 where it ends in a join. A prologue
    never won, with the z that its gradient has to write. Small images of few channels, as CIFAR's nets have, are
    bound by launches instead: there all is ours that takes launches away, and an inner convolution whose gradient
    is ours has a prologue. In inference ours are 1x1 convolutions but those of ImageNet's last stage, and 3x3 of at
    most 128 channels.
    """
    small, large = sorted((site.c_in, site.c_out))
    pointwise, unstrided = site.kernel == 1, site.stride == 1
    launches = large <= 64 and site.h * site.w <= 32 * 32
    wanted = {
        "forward": (pointwise or unstrided) if launches else pointwise and unstrided and small <= 64,
        "dgrad": site.role != "shortcut" and (launches or (pointwise and small <= (128 if site.join else 64))),
        "inference": (large < 2048 and small < 512) if pointwise else large <= 128,
    }
    ours = {part: wanted[part] and bool(options(site, part, chip)) for part in PARTS}
    prologue = launches and ours["forward"] and ours["dgrad"] and site.role == "inner"
    return Choice(
        forward="prologue" if prologue else "triton" if ours["forward"] else "torch",
        dgrad="triton" if ours["dgrad"] else "torch",
        inference="triton" if ours["inference"] else "torch",
    )


def _config(values: Any) -> TileConfig | None:
    if values is None:
        return None
    values = exactly(TileConfig, values)
    try:
        blocks = tuple((str(block), size) for block, size in values["blocks"])
    except (TypeError, ValueError):
        raise ValueError(f"no TileConfig: blocks {values['blocks']!r:.80}") from None
    numbers = [*(size for _, size in blocks), values["num_warps"], values["num_stages"]]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise ValueError(f"no TileConfig: {values!r:.120}")
    return TileConfig(blocks, values["num_warps"], values["num_stages"])
