"""What the microbenchmarks time: every op at the distinct layers of a network, with its least bytes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.roofline.layers import Layer, Place, layers, network
from bench.roofline.ops import Shape, op_bytes, op_flops
from bench.roofline.step import Step


@dataclass(frozen=True, kw_only=True)
class Case:
    """One thing to time.

    Attributes:
        op: one of `OPS`.
        form: which of its forms; the words that `bench.micro.backends` knows.
        shape: as `bench.roofline.op_bytes` takes it; a pointwise op's stride is that of option A's shortcut.
        residual: whether conv_inference adds one.
        parts: calls of `op_bytes` that make up the least work: op and keywords, as pairs.
    """

    op: str
    form: str
    shape: Shape
    parts: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...]

    @property
    def conv(self) -> bool:
        return self.shape.c_out > 0

    @property
    def name(self) -> str:
        """Form and shape in words, such as "plain 256x64x56x56 -> 256, 1x1/1"."""
        shape = self.shape
        image = "x".join(map(str, (shape.batch, shape.c_in, shape.height, shape.width)))
        filters = f" -> {shape.c_out}, {shape.kernel}x{shape.kernel}/{shape.stride}" if self.conv else ""
        filters = filters or (f" /{shape.stride}" if shape.stride > 1 else "")
        return f"{self.form} {image}{filters}"

    def bytes_min(self, element_bytes: int) -> int:
        """Bytes that must be moved whatever the implementation."""
        return sum(op_bytes(op, self.shape, element_bytes, **dict(words)) for op, words in self.parts)

    @property
    def flops(self) -> int:
        return sum(op_flops(op, self.shape) for op, _ in self.parts)

    def floor_s(self, element_bytes: int, copy_bytes_per_s: float, matrix_flops_per_s: float) -> float:
        """Least time: bytes or, in a convolution, arithmetic. Pointwise arithmetic is not the matrix units'."""
        moved = self.bytes_min(element_bytes) / copy_bytes_per_s
        return max(moved, self.flops / matrix_flops_per_s) if self.conv else moved


def tiny(case: Case) -> Case:
    """The same form at a shape that an interpreter computes in moments."""
    shape = case.shape
    small = Shape(2, 6, 6, 16, 16 if case.conv else 0, shape.kernel, shape.stride)
    return Case(op=case.op, form=case.form, shape=small, parts=case.parts)


def _case(op: str, form: str, shape: Shape, *parts: tuple[str, dict[str, Any]]) -> Case:
    return Case(op=op, form=form, shape=shape, parts=tuple((part, tuple(words.items())) for part, words in parts))


def _places(step: Step) -> Iterator[tuple[Place, Shape]]:
    for place in network(step.architecture, step.image_size).places:
        yield place, Shape(step.batch, place.size, place.size, place.channels)


def _joined(place: Place) -> str:
    """How a place joins: "dual", "identity", or "" where it does not."""
    return "dual" if place.projection is not None else "identity" if place.identity else ""


def _bn_stats(step: Step) -> Iterator[Case]:
    for _, shape in _places(step):
        yield _case("bn_stats", "statistics", shape, ("bn_stats", {}))


def _bn_act(step: Step) -> Iterator[Case]:
    blocks = layers(step.architecture, step.image_size)
    entered = {layer.name.rpartition(".")[0]: layer for layer in blocks if layer.name.endswith(".conv1")}
    for place, shape in _places(step):
        if place.pool:
            continue
        join = _joined(place)
        if place.padded:
            words = {"join": join, "identity_channels": place.identity, "keep_mask": True}
            stride = entered[place.producer.name.rpartition(".")[0]].size_in // place.size
            yield _case("bn_act", "padded", shape._replace(stride=stride), ("bn_act", words))
        elif join:
            form = {"dual": "dual", "identity": "add"}[join]
            yield _case("bn_act", form, shape, ("bn_act", {"join": join, "keep_mask": True}))
        else:
            yield _case("bn_act", "relu", shape, ("bn_act", {}))
            yield _case("bn_act", "training", shape, ("bn_stats", {}), ("bn_act", {}))


def _bn_act_backward(step: Step) -> Iterator[Case]:
    for place, shape in _places(step):
        if place.pool:
            continue
        join = _joined(place)
        if join and place.consumer is not None:
            narrow = place.skip == "narrow"
            stride = place.size // place.skip_size if narrow else 1
            words: dict[str, Any] = {"join": join, "masked": True}
            reduce = {"join": join, "skip_stride": stride, "write_gradient": True}
            parts = ("bn_act_backward_reduce", reduce), ("bn_act_backward_apply", words)
            form = "dual" if join == "dual" else "narrow" if narrow else "join"
            yield _case("bn_act_backward", form, shape._replace(stride=stride), *parts)
        elif not join:
            parts = ("bn_act_backward_reduce", {}), ("bn_act_backward_apply", {})
            yield _case("bn_act_backward", "relu", shape, *parts)


def _stem(step: Step) -> Iterator[Case]:
    for place, shape in _places(step):
        if place.pool:
            yield _case("stem", "forward", shape, ("stem", {}))
            yield _case("stem", "backward", shape, ("stem_backward_reduce", {}), ("stem_backward_apply", {}))


def _fusable(layer: Layer) -> bool:
    return not layer.linear and layer.kernel in (1, 3) and layer.c_in % 8 == 0


def _shape(step: Step, layer: Layer) -> Shape:
    return Shape(step.batch, layer.size_in, layer.size_in, layer.c_in, layer.c_out, layer.kernel, layer.stride)


def _inner(layer: Layer) -> bool:
    """Whether a branch's layer follows a BN and ReLU without a join, whose normalization can be its prologue."""
    return layer.name.rpartition(".")[2] in ("conv2", "conv3")


def _conv(step: Step, kernel: int) -> Iterator[Case]:
    for layer in layers(step.architecture, step.image_size):
        if _fusable(layer) and layer.kernel == kernel:
            op, shape = f"conv{kernel}x{kernel}", _shape(step, layer)
            yield _case(op, "statistics", shape, (op, {"statistics": True}))
            if _inner(layer):
                yield _case(op, "prologue", shape, (op, {"statistics": True, "prologue": True}))


def _dgrad(step: Step) -> Iterator[Case]:
    for layer in layers(step.architecture, step.image_size):
        if not _fusable(layer) or layer.stride != 1:
            continue
        shape = _shape(step, layer)
        if _inner(layer):
            yield _case("conv_dgrad", "inner", shape, ("conv_dgrad", {}))
            yield _case("conv_dgrad", "inner+z", shape, ("conv_dgrad", {"write_activation": True}))
        elif ".downsample" in layer.name:
            yield _case("conv_dgrad", "plain", shape, ("conv_dgrad", {"producer": False}))
        elif step.architecture.shortcut != "none":
            yield _case("conv_dgrad", "join", shape, ("conv_dgrad", {"join": "identity", "skip_stride": 1}))


def _inference(step: Step) -> Iterator[Case]:
    last = "conv3" if step.architecture.bottleneck else "conv2"
    for layer in layers(step.architecture, step.image_size):
        if not _fusable(layer) or ".downsample" in layer.name:
            continue
        shape = _shape(step, layer)
        if layer.name.endswith(last) and step.architecture.shortcut != "none":
            yield _case("conv_inference", "add", shape, ("conv_inference", {"join": "identity"}))
        else:
            yield _case("conv_inference", "relu", shape, ("conv_inference", {}))


_MAKERS: dict[str, Callable[[Step], Iterator[Case]]] = {
    "bn_stats": _bn_stats, "bn_act": _bn_act, "bn_act_backward": _bn_act_backward, "stem": _stem,
    "conv1x1": lambda step: _conv(step, 1), "conv3x3": lambda step: _conv(step, 3), "conv_dgrad": _dgrad,
    "conv_inference": _inference,
}  # fmt: skip
OPS = tuple(_MAKERS)


def cases(step: Step, ops: tuple[str, ...] = OPS) -> list[Case]:
    """The cases of some ops, each distinct shape once, in the order of the network."""
    return [case for op in ops for case in dict.fromkeys(_MAKERS[op](step))]
