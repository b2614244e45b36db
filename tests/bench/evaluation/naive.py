"""The loops that one would write with PIL and torch: an image at a time, a view at a time."""

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

Normalize = Callable[[Tensor], Tensor]


def to_tensor(image: Image.Image) -> Tensor:
    """As torchvision's `ToTensor`: float32 [3, h, w] in [0, 1]."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def resize(image: Image.Image, shorter: int) -> Image.Image:
    """As torchvision's `Resize`."""
    width, height = image.size
    size = (shorter, int(shorter * height / width)) if width <= height else (int(shorter * width / height), shorter)
    return image.resize(size, Image.BILINEAR)


def central(image: Image.Image, size: int) -> Image.Image:
    """As torchvision's `CenterCrop`."""
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    return image.crop((left, top, left + size, top + size))


def ten(image: Image.Image, size: int) -> list[Image.Image]:
    """Four corners, the centre, and the mirror image of each.

    Not torchvision's `TenCrop`, which cuts the mirrored image: its sixth centre is a pixel off where the room is odd.
    """
    w, h = image.size
    boxes = [(0, 0), (w - size, 0), (0, h - size), (w - size, h - size)]
    five = [*(image.crop((x, y, x + size, y + size)) for x, y in boxes), central(image, size)]
    return five + [one.transpose(Image.FLIP_LEFT_RIGHT) for one in five]


def views(image: Image.Image, protocol: str, size: int) -> list[Image.Image]:
    """The images whose softmax a protocol averages."""
    if protocol == "1-crop":
        return [central(resize(image, round(256 * size / 224)), size)]
    if protocol == "10-crop":
        return ten(resize(image, round(256 * size / 224)), size)
    if protocol == "multi-scale":
        return [resize(image, round(shorter * size / 224)) for shorter in (224, 256, 384, 480, 640)]
    return [image.resize((size, size), Image.BILINEAR) if image.size != (size, size) else image]


@torch.no_grad()
def softmax(model: nn.Module, image: Image.Image, protocol: str, size: int, normalize: Normalize) -> Tensor:
    """The averaged softmax of one image: float32 [classes]."""
    each = [model(normalize(to_tensor(view))[None])[0].softmax(0) for view in views(image, protocol, size)]
    return torch.stack(each).mean(0)


def by_channel(mean: tuple[float, ...], std: tuple[float, ...]) -> Normalize:
    """As torchvision's `Normalize`."""
    return lambda image: (image - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


@torch.no_grad()
def exact_statistics(model: nn.Module, batches: list[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of every BN's input over all batches, each normalized by its own statistics; by name.

    All inputs are kept and looked at as one: no formula for joining variances is used.
    """
    kept: dict[str, list[Tensor]] = {}
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    hooks = [
        module.register_forward_pre_hook(lambda one, inputs: kept.setdefault(names[one], []).append(inputs[0].double()))
        for module in names
    ]
    model.train()
    for batch in batches:
        model(batch)
    for hook in hooks:
        hook.remove()
    found = {}
    for name, values in kept.items():
        flat = torch.cat([value.permute(1, 0, 2, 3).flatten(1) for value in values], dim=1)
        found[name] = (flat.mean(1), flat.var(1, unbiased=False))
    return found
