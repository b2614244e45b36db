"""The test protocols: which crops of an image, at which sizes, are averaged into one answer.

A figure of one protocol is never compared with one of another: 10-crop is some two points better than 1-crop.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from resnet.data import PROTOCOLS

__all__ = ["Crop", "View", "crops_of", "cut", "resized", "views_of"]

# The paper's pixels, of a network that sees 224 (arXiv:1512.03385, section 3.4); they scale with the network's size.
_SIZE, _SHORTER = 224, 256
_SCALES = (224, 256, 384, 480, 640)
_CORNERS = ("top left", "top right", "bottom left", "bottom right", "centre")


@dataclass(frozen=True)
class Crop:
    """What is cut out of an image.

    Attributes:
        shorter: pixels of the image's shorter side after resizing; None: the image is brought to size x size.
        place: of the square in the resized image, such as "centre"; "all": the resized image, whatever its shape.
    """

    shorter: int | None
    place: str


@dataclass(frozen=True)
class View:
    """A crop as the network sees it: as it is, or its mirror image."""

    crop: Crop
    mirrored: bool = False


def views_of(protocol: str, image_size: int) -> tuple[View, ...]:
    """The views that a protocol averages, each counting alike.

    1-crop: the central square of the image at shorter side 256. 10-crop: its four corners and its centre, each with its
    mirror image (of the crop: torchvision's `TenCrop` cuts the mirrored image). Multi-scale: the whole image at shorter
    side 224, 256, 384, 480 and 640, the network fully convolutional (its global average is over whatever size the last
    stage has).

    Args:
        protocol: one of `resnet.data.PROTOCOLS`.
        image_size: S, pixels a side that the network was trained on; the numbers above are for 224.

    Source: arXiv:1512.03385, section 3.4.
    """

    def scaled(pixels: int) -> int:
        return round(pixels * image_size / _SIZE)

    if protocol == "1-crop":
        return (View(Crop(scaled(_SHORTER), "centre")),)
    if protocol == "10-crop":
        crops = [Crop(scaled(_SHORTER), place) for place in _CORNERS]
        return tuple(View(crop, mirrored) for mirrored in (False, True) for crop in crops)
    if protocol == "multi-scale":
        return tuple(View(Crop(scaled(pixels), "all")) for pixels in _SCALES)
    assert protocol == PROTOCOLS[-1], protocol
    return (View(Crop(None, "all")),)


def crops_of(views: Sequence[View]) -> list[Crop]:
    """The crops of some views, each once, those of one size of the image together."""
    return sorted({view.crop for view in views}, key=lambda crop: (crop.shorter or 0, crop.place))


def resized(image: Image.Image, shorter: int | None, image_size: int) -> Image.Image:
    """Resize an RGB image as torchvision's `Resize` does: bilinear with PIL, the longer side rounded down.

    Args:
        shorter: as of `Crop`.
        image_size: S.
    """
    width, height = image.size
    if shorter is None:
        size = (image_size, image_size)
    elif width <= height:
        size = (shorter, int(shorter * height / width))
    else:
        size = (int(shorter * width / height), shorter)
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def cut(pixels: np.ndarray, crop: Crop, image_size: int) -> np.ndarray:
    """Cut a crop out of a resized image, where torchvision's `FiveCrop` and `CenterCrop` do.

    Args:
        pixels: uint8 [h, w, 3].
        image_size: S.

    Returns:
        uint8 [S, S, 3], or `pixels` where the crop is all of it.
    """
    if crop.place == "all":
        return pixels
    room = np.array(pixels.shape[:2]) - image_size
    if crop.place == "centre":
        # Rounded half to even, as `round` does there.
        top, left = (round(space / 2) for space in room.tolist())
    else:
        top = 0 if crop.place.startswith("top") else int(room[0])
        left = 0 if crop.place.endswith("left") else int(room[1])
    return pixels[top : top + image_size, left : left + image_size]
