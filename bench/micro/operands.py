"""Random operands that several ops have: images in channels_last, BN's values in fp32, and what follows from them."""

import math

import torch
from torch import Tensor

from bench.micro.batch_norm import EPS, affine
from bench.micro.least_bytes import Shape
from kernels import reference
from kernels.operands import Norm, Producer

Tensors = dict[str, Tensor]


class Draw:
    """Draws tensors, one after the other, from one generator: their order decides their values.

    Args:
        dtype: of images and filters.
        device: of all of them.
        seed: of the generator.
    """

    def __init__(self, dtype: torch.dtype, device: torch.device, seed: int) -> None:
        self.dtype, self.device = dtype, device
        self._generator = torch.Generator(device).manual_seed(seed)

    def normal(self, *sizes: int) -> Tensor:
        """Normal values in fp32."""
        return torch.randn(sizes, generator=self._generator, device=self.device)

    def image(self, n: int, c: int, h: int, w: int) -> Tensor:
        """[N, C, H, W] in channels_last."""
        values = torch.randn((n, h, w, c), generator=self._generator, device=self.device, dtype=self.dtype)
        return values.permute(0, 3, 1, 2)

    def norm(self, y: Tensor, prefix: str = "") -> Tensors:
        """BN of y: its statistics [2, C], variance, weight and bias [C], with `prefix` before their names."""
        var, mean = torch.var_mean(y.float(), (0, 2, 3), correction=0)
        stats = torch.stack([mean, (var + EPS).rsqrt()])
        weight, bias = 1 + 0.2 * self.normal(y.shape[1]), 0.3 * self.normal(y.shape[1])
        values = {"stats": stats, "var": var, "weight": weight, "bias": bias}
        return {f"{prefix}{key}": value for key, value in values.items()}


def image_like_y(draw: Draw, shape: Shape) -> Tensor:
    return draw.image(shape.batch, shape.c_in, shape.height, shape.width)


def image_like_out(draw: Draw, shape: Shape, channels: int) -> Tensor:
    """An image of the size that y has after the stride."""
    return draw.image(shape.batch, channels, -(-shape.height // shape.stride), -(-shape.width // shape.stride))


def normalized_image(draw: Draw, shape: Shape) -> Tensors:
    """An image y and its BN."""
    y = image_like_y(draw, shape)
    return {"y": y} | draw.norm(y)


def second_image(draw: Draw, shape: Shape) -> Tensors:
    """What a projection adds: an image y2 and its BN."""
    y = image_like_y(draw, shape)
    return {"y2": y} | draw.norm(y, "2_")


def convolution(draw: Draw, shape: Shape) -> Tensors:
    """A filter, the bias of a BN folded into it, and one image like the output: a gradient, or a residual."""
    fan_in = shape.c_in * shape.kernel**2
    weight = draw.normal(shape.c_out, shape.kernel, shape.kernel, shape.c_in) / math.sqrt(fan_in)
    found = {"filter": weight.to(draw.dtype).permute(0, 3, 1, 2), "filter_bias": 0.3 * draw.normal(shape.c_out)}
    out = image_like_out(draw, shape, shape.c_out)
    return found | {"dy": out, "residual": out}


def gradients(draw: Draw, shape: Shape, found: Tensors) -> Tensors:
    """Gradients dz and skip of the z that BN and ReLU made of `found`; z, and its bits after a residual addition."""
    dz, skip = image_like_y(draw, shape), image_like_y(draw, shape)
    z = affine(found["y"].float(), found)
    if "y2" in found:
        z = z + affine(found["y2"].float(), found, "2_")
    if "shortcut" in found:
        z = z + found["shortcut"].float()
    bits = {"mask": reference.pack(z > 0)} if "y2" in found or "shortcut" in found else {}
    return {"dz": dz, "skip": skip, "z": z.relu().to(draw.dtype)} | bits


def norm(t: Tensors, prefix: str = "") -> Norm:
    """BN as our kernels take it."""
    return Norm(t[f"{prefix}stats"], t[f"{prefix}weight"], t[f"{prefix}bias"])


def producer(t: Tensors) -> Producer:
    """What made z, as our kernels take it."""
    if "y2" in t:
        return Producer(t["y"], norm(t), t["mask"], t["y2"], norm(t, "2_"))
    return Producer(t["y"], norm(t), t.get("mask"))
