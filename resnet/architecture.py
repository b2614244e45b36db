"""Which residual networks exist: family, depth, shortcut and stride, checked without importing torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.words import ConfigError, nearest

# The paper's two, and the cifar family with a shortcut around every layer in place of every second one.
FAMILIES = ("imagenet", "cifar", "one-layer")
SHORTCUTS = ("none", "A", "B", "C")
STRIDES = ("v1", "v1.5")
KERNELS = ("torch", "compile", "triton", "auto")
TRAINING = "training"  # key of a weights file's metadata in which a run says how they were trained

# Blocks a stage, by depth (paper, Table 1).
IMAGENET_STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
BOTTLENECK_DEPTHS = (50, 101, 152)


def check_choice(key: str, word: str, choices: Sequence[str]) -> None:
    """Raise a ConfigError of one line unless `word` is one of `choices`."""
    if word not in choices:
        closest = nearest(str(word), choices)
        raise ConfigError(f"{key}={word}: expected one of {', '.join(choices)}; nearest is {closest}")


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One residual (or plain) network of the paper or of its extensions.

    Source: arXiv:1512.03385, section 3.3, Table 1 (imagenet) and section 4.2 (cifar); section 3.2 says of y = W1 x + x,
    the blocks of family one-layer, that no advantage was observed; stride v1.5 is that of torchvision and
    fb.resnet.torch.

    Attributes:
        family: "imagenet" (7x7 stem, four stages), "cifar" (3x3 stem, three stages of 16, 32 and 64 channels) or
            "one-layer" (the layers of "cifar", and a shortcut around each).
        depth: layers with weights on the main path: 18, 34, 50, 101 or 152; in the other families any 6n + 2 from 8 on.
        shortcut: "none" (plain net), "A" (identity with zero channels), "B" (projection where dimensions change) or "C"
            (projection everywhere).
        stride: where a bottleneck halves the image: "v1" in its first 1x1 convolution, "v1.5" in its 3x3.
        num_classes: outputs of the last layer.

    Raises:
        ConfigError: On construction, naming the word that is wrong and the nearest valid one, in one line.
    """

    family: str
    depth: int
    shortcut: str
    stride: str = "v1"
    num_classes: int

    def __post_init__(self) -> None:
        check_choice("family", self.family, FAMILIES)
        self._check_depth()
        check_choice("shortcut", self.shortcut, SHORTCUTS)
        if self.family == "one-layer" and self.shortcut == "none":
            raise ConfigError(
                "shortcut=none: family=one-layer is about its shortcuts, and without them is the plain net of "
                "family=cifar; nearest is family=cifar, or shortcut=A"
            )
        check_choice("stride", self.stride, STRIDES)
        if self.stride == "v1.5" and not self.bottleneck:
            where = f"family={self.family} depth={self.depth}"
            depths = ", ".join(map(str, BOTTLENECK_DEPTHS))
            raise ConfigError(
                f"stride=v1.5: {where} has no bottlenecks, only depths {depths} of family=imagenet have; nearest is v1"
            )
        if not _is_int(self.num_classes) or self.num_classes < 1:
            raise ConfigError(f"num_classes={self.num_classes}: expected a whole number from 1 on; nearest is 1")

    def _check_depth(self) -> None:
        depth, number = self.depth, _is_int(self.depth)
        if self.family == "imagenet" and depth not in IMAGENET_STAGES:
            depths = ", ".join(map(str, IMAGENET_STAGES))
            closest = f"; nearest is {min(IMAGENET_STAGES, key=lambda d: abs(d - depth))}" if number else ""
            hint = f" (depth={depth} exists with family=cifar)" if number and depth >= 8 and depth % 6 == 2 else ""
            raise ConfigError(f"depth={depth}: family=imagenet has depths {depths}{closest}{hint}")
        if self.family != "imagenet" and not (number and depth >= 8 and depth % 6 == 2):
            closest = f"; nearest is {6 * max(1, round((depth - 2) / 6)) + 2}" if number else ""
            hint = f" (depth={depth} exists with family=imagenet)" if depth in IMAGENET_STAGES else ""
            raise ConfigError(f"depth={depth}: family={self.family} has depths 6n + 2 from 8 on{closest}{hint}")

    @property
    def bottleneck(self) -> bool:
        """Whether blocks are bottlenecks (1x1, 3x3, 1x1) rather than of 3x3 convolutions."""
        return self.family == "imagenet" and self.depth in BOTTLENECK_DEPTHS

    @property
    def extension(self) -> bool:
        """Whether the paper has no such net: it used A and plain nets for all of CIFAR, B alone from 50 layers on."""
        if self.shortcut == "none":
            return self.bottleneck or self.depth not in (18, 34, 20, 32, 44, 56, 110)
        if self.family == "one-layer":
            return True
        if self.family == "cifar":
            return self.shortcut != "A" or self.depth not in (20, 32, 44, 56, 110, 1202)
        return self.shortcut != "B" if self.bottleneck else self.depth == 18 and self.shortcut != "A"

    @property
    def blocks(self) -> tuple[int, ...]:
        """Blocks in each stage."""
        if self.family == "imagenet":
            return IMAGENET_STAGES[self.depth]
        return ((self.depth - 2) // (3 if self.family == "one-layer" else 6),) * 3

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolutions in each stage; a bottleneck puts out four times as many."""
        return (64, 128, 256, 512) if self.family == "imagenet" else (16, 32, 64)

    def last_side(self, image_size: int) -> int:
        """Side, in values, of the last stage's output: what halves an image on the way rounds up."""
        return -(-image_size // (32 if self.family == "imagenet" else 4))


def check_activation_checkpointing(on: bool | None, kernels: str) -> None:
    """See that what computes a network can compute parts of it again in the backward pass.

    Raises:
        ConfigError: it cannot; one line with what would do.
    """
    if on and kernels != "torch":
        raise ConfigError(
            f"activation_checkpointing=true: kernels={kernels} decides itself what is kept for the backward pass; "
            "nearest is kernels=torch"
        )


def check_bn_values(architecture: Architecture, image_size: int, batch: int) -> None:
    """See that every batch normalization of a training step has more than one value a channel.

    Args:
        image_size: pixels a side.
        batch: images that one batch normalization sees.

    Raises:
        ConfigError: the last stage has one, whose deviation is 0; one line with what would do.
    """
    if batch * architecture.last_side(image_size) ** 2 == 1:
        more = 33 if architecture.family == "imagenet" else 5
        raise ConfigError(
            f"batch={batch}: at image_size={image_size} the last stage of family={architecture.family} has one value a "
            f"channel, on which batch normalization cannot train; nearest is batch=2, or image_size={more}"
        )


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
