"""Where in a network ops run: its convolutions, and the places of BN and ReLU between them."""

from collections.abc import Iterator

from bench.micro.least_bytes import Shape
from bench.roofline.layers import Layer, Place, layers, network
from bench.roofline.step import Step


def places(step: Step) -> Iterator[tuple[Place, Shape]]:
    """The places of BN and ReLU, with the shape of y."""
    for place in network(step.architecture, step.image_size).places:
        yield place, Shape(step.batch, place.size, place.size, place.channels)


def convolutions(step: Step) -> Iterator[tuple[Layer, Shape]]:
    """The convolutions that our kernels can do, with their shape."""
    for layer in layers(step.architecture, step.image_size):
        if not layer.linear and layer.kernel in (1, 3) and layer.c_in % 8 == 0:
            shape = Shape(step.batch, layer.size_in, layer.size_in, layer.c_in, layer.c_out, layer.kernel, layer.stride)
            yield layer, shape


def is_inner(layer: Layer) -> bool:
    """Whether a branch's layer follows a BN and ReLU alone, without an addition, which can be its prologue."""
    return layer.name.rpartition(".")[2] in ("conv2", "conv3")


def is_projection(layer: Layer) -> bool:
    return ".downsample" in layer.name


def added(place: Place) -> str:
    """What the shortcut adds before ReLU: "none", "identity" (of fewer channels with option A) or "projection"."""
    return "projection" if place.projection is not None else "identity" if place.identity else "none"
