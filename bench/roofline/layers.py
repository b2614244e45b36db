"""What a network's training step works on: its layers with weights, and the places between them where BN and ReLU are.

Read off an `Architecture` without building the model, so that nothing here needs torch.
"""

from dataclasses import dataclass
from typing import NamedTuple

from resnet import Architecture


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution (BN follows) or the linear layer at the end.

    Attributes:
        name: of the module in the state dict, such as "layer1.0.conv2", "layer1.0.downsample.0" or "fc".
        kernel: side of the filter; 0 for the linear layer.
        c_in, c_out: channels.
        stride: 1 or 2.
        size_in, size_out: sides of the image in pixels before and after; 1 for the linear layer.
    """

    name: str
    kernel: int
    c_in: int
    c_out: int
    stride: int
    size_in: int
    size_out: int

    @property
    def linear(self) -> bool:
        return self.kernel == 0

    @property
    def weights(self) -> int:
        """Values of the weight tensor."""
        return self.c_in * self.c_out * max(1, self.kernel) ** 2

    @property
    def parameters(self) -> int:
        """Trainable values: the weights, and the BN's two a channel or the linear layer's bias."""
        return self.weights + self.c_out * (1 if self.linear else 2)

    @property
    def multiply_adds(self) -> int:
        """Of one image's forward pass."""
        return self.weights * self.size_out**2


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where one BN (or two), perhaps an addition, ReLU and perhaps the max pool turn conv outputs into one tensor z.

    Attributes:
        producer: the convolution whose output y is normalized.
        projection: the convolution whose output y2 is normalized and added, or None.
        identity: channels of the identity that is added, fewer than y's where option A fills up with zeros; 0: none.
        padded: whether that identity is option A's: subsampled, or with zero channels.
        pool: whether the 3x3/2 max pool follows.
        consumer: the convolution of the branch that reads z, or None where the global average does.
        skip: how z's gradient also comes back by a shortcut: "" (there is none), "dense" (identity or projection), or
            "padded" (option A: its pixels on the stride's grid only).
        skip_size: side of the image of that gradient, in pixels.
    """

    producer: Layer
    projection: Layer | None = None
    identity: int = 0
    padded: bool = False
    pool: bool = False
    consumer: Layer | None = None
    skip: str = ""
    skip_size: int = 0

    @property
    def channels(self) -> int:
        return self.producer.c_out

    @property
    def size(self) -> int:
        """Side of y in pixels."""
        return self.producer.size_out

    @property
    def size_out(self) -> int:
        """Side of z in pixels."""
        return -(-self.size // 2) if self.pool else self.size


class Net(NamedTuple):
    """Layers with weights in the order of the forward pass, and the places between them."""

    layers: list[Layer]
    places: list[Place]


def layers(architecture: Architecture, image_size: int) -> list[Layer]:
    """The layers with weights of a network, in the order of its forward pass.

    Args:
        architecture: which network.
        image_size: side of its images in pixels.
    """
    return network(architecture, image_size).layers


def network(architecture: Architecture, image_size: int) -> Net:
    """The layers of a network and the places between them; see `layers`."""
    imagenet = architecture.family == "imagenet"
    stem = _conv("conv1", 7 if imagenet else 3, 3, 64 if imagenet else 16, 2 if imagenet else 1, image_size)
    found, places = [stem], []
    # The place whose consumer and shortcut are still to come: as keywords, since they are known a block later.
    open_place: dict[str, object] = {"producer": stem, "pool": imagenet}
    channels, size = stem.c_out, Place(producer=stem, pool=imagenet).size_out
    for index, (width, blocks) in enumerate(zip(architecture.widths, architecture.blocks, strict=True)):
        for number in range(blocks):
            stride = 2 if index > 0 and number == 0 else 1
            name = f"layer{index + 1}.{number}"
            branch = _branch(architecture, name, channels, width, stride, size)
            last = branch[-1]
            changes = stride != 1 or channels != last.c_out
            projected = architecture.shortcut == "C" or (architecture.shortcut == "B" and changes)
            padded = architecture.shortcut == "A" and changes
            if architecture.shortcut != "none":
                open_place |= {"skip": "padded" if padded else "dense", "skip_size": last.size_out if padded else size}
            found += branch
            for conv in branch:
                places.append(Place(**open_place, consumer=conv))  # type: ignore[arg-type]
                open_place = {"producer": conv}
            if projected:
                projection = _conv(f"{name}.downsample.0", 1, channels, last.c_out, stride, size)
                found.append(projection)
                open_place["projection"] = projection
            elif architecture.shortcut != "none":
                open_place |= {"identity": min(channels, last.c_out), "padded": padded}
            channels, size = last.c_out, last.size_out
    places.append(Place(**open_place))  # type: ignore[arg-type]
    found.append(
        Layer(name="fc", kernel=0, c_in=channels, c_out=architecture.num_classes, stride=1, size_in=1, size_out=1)
    )
    return Net(found, places)


def _branch(architecture: Architecture, block: str, c_in: int, width: int, stride: int, size: int) -> list[Layer]:
    """The convolutions of a block's branch."""
    if architecture.bottleneck:
        first, second = (1, stride) if architecture.stride == "v1.5" else (stride, 1)
        plan = [(1, width, first), (3, width, second), (1, 4 * width, 1)]
    else:
        plan = [(3, width, stride), (3, width, 1)][: 1 if architecture.family == "one-layer" else 2]
    convs: list[Layer] = []
    for number, (kernel, c_out, conv_stride) in enumerate(plan, 1):
        convs.append(_conv(f"{block}.conv{number}", kernel, c_in, c_out, conv_stride, size))
        c_in, size = c_out, convs[-1].size_out
    return convs


def _conv(name: str, kernel: int, c_in: int, c_out: int, stride: int, size: int) -> Layer:
    return Layer(
        name=name, kernel=kernel, c_in=c_in, c_out=c_out, stride=stride, size_in=size, size_out=-(-size // stride)
    )
