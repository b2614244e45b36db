"""The datasets: what each one is called, which networks and sizes it is for, and how its images are seen.

How the images of a dataset are found on disk is in `resnet.data.datasets.open`; nothing here imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

DATA_VARIABLE = "RESNET_BENCH_DATA"  # of the environment: the folder of the datasets' folders

WHOLE = "whole image"
# Which pixels of a test image are seen; see `bench.evaluation.protocols`.
PROTOCOLS = ("1-crop", "10-crop", "multi-scale", WHOLE)

Channels = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What is known of a dataset without its images.

    Attributes:
        family: of the networks that the paper has for images like these.
        image_size: pixels a side that the network sees.
        num_classes: classes; see `counted`.
        train_images: images of the training split; see `counted`.
        test_images: images of the evaluation split; see `counted`.
        counted: the folder may be any, so that its classes and images are counted there; the numbers above are then of
            the synthetic images that stand in for it.
        stored_as: names of its folders and archives in the folder that `DATA_VARIABLE` names, the first that is there
            counts.
        comes_with: the package that brings the images; None where they lie in a folder that has to be given.
        small: an image is seen whole and shifted by a few pixels, not through a window of it.
        mirrored: an image's mirror image is as good as the image.
        mean: of the training images in [0, 1], by channel.
        std: their standard deviation in [0, 1], by channel.
    """

    name: str
    family: str
    image_size: int
    num_classes: int
    train_images: int
    test_images: int
    counted: bool = False
    stored_as: tuple[str, ...] = ()
    comes_with: str | None = None
    small: bool = False
    mirrored: bool = True
    mean: Channels
    std: Channels

    @property
    def protocols(self) -> tuple[str, ...]:
        """The test protocols that its images can be evaluated by: small ones are seen whole."""
        return (WHOLE,) if self.small else tuple(name for name in PROTOCOLS if name != WHOLE)

    @property
    def eval_protocol(self) -> str:
        """The one by which a run evaluates itself after each epoch."""
        return self.protocols[0]


_DIGITS = Dataset(
    name="digits",
    family="cifar",
    image_size=32,
    num_classes=10,
    train_images=1_437,
    test_images=360,
    comes_with="scikit-learn",
    small=True,
    mirrored=False,
    mean=(0.3053, 0.3053, 0.3053),
    std=(0.3230, 0.3230, 0.3230),
)
_CIFAR10 = Dataset(
    name="cifar10",
    family="cifar",
    image_size=32,
    num_classes=10,
    train_images=50_000,
    test_images=10_000,
    stored_as=(
        "cifar10",
        "cifar-10-batches-bin",
        "cifar-10-batches-py",
        "cifar-10-binary",
        "cifar-10-python",
        "cifar10-jpeg",
    ),  # fmt: skip
    small=True,
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)
_IMAGENET = Dataset(
    name="imagenet",
    family="imagenet",
    image_size=224,
    num_classes=1000,
    train_images=1_281_167,
    test_images=50_000,
    stored_as=("imagenet",),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
_IMAGEFOLDER = replace(_IMAGENET, name="imagefolder", counted=True, stored_as=("imagefolder", "imagenette-128"))

# By name, in the order in which they are listed to people.
DATASETS: Mapping[str, Dataset] = {dataset.name: dataset for dataset in (_DIGITS, _CIFAR10, _IMAGENET, _IMAGEFOLDER)}

_OF_FAMILY = {"cifar": _CIFAR10, "one-layer": _CIFAR10, "imagenet": _IMAGENET}


def dataset_of_family(family: str) -> Dataset:
    """The dataset on which the paper trained a family of networks, or would have."""
    return _OF_FAMILY[family]
