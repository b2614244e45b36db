"""Bytes and FLOPs of a training step, pass by pass, at each level of fusion; all follows from `bench.roofline.levels`.

A pass is one kernel. It reads each of its operands from memory once and writes each of its results once; caches keep
nothing from one pass to the next. So a level's floor in time is the sum over its passes of max(bytes / copy rate,
FLOPs / matrix rate). Launches, partial sums of reductions, per-channel vectors, the loss and communication are left
out: nets whose tensors fit in the L2 cache and whose kernels last microseconds (the cifar family) are bound by launches
instead, and the ladder says nothing about those. Weights are cast to the activations' dtype and their gradients cast
back; SGD with momentum runs over fp32 values.

A model made independently gives ResNet-50 v1.5 (shortcut B, batch 256, 224 x 224, bf16) 121, 91, 83, 78, 71, 68, 67 and
63 GB. This one gives 0 to 1.8% more bytes, and -0.2 to +1.3% of the ideal times at 3.0 TB/s and 798 TFLOP/s. All eight
round to the same figures under three other readings, none of them as true to what runs: without the 0.8 GB of weights,
casts and optimizer (every level); with torch.compile's mask of the stem read from z (+0.8 GB at compile); and without
the fusion of level f in projections (+0.8 GB at f).
"""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.roofline.layers import Layer, Net, Place, network
from bench.roofline.levels import CONV_ROWS, LEVELS, PLACE_ROWS, Row
from resnet import Architecture


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One kernel of a training step.

    Attributes:
        layer: name of the layer with weights that it belongs to.
        op: what it does.
        bytes: read and written.
        flops: of matrix arithmetic, two a multiply-add; 0 for what is pointwise.
    """

    layer: str
    op: str
    bytes: int
    flops: int

    def seconds(self, copy_bytes_per_s: float, flops_per_s: float) -> float:
        """The least time: memory and arithmetic overlap perfectly."""
        return max(self.bytes / copy_bytes_per_s, self.flops / flops_per_s)


@dataclass(frozen=True, kw_only=True)
class Level:
    """The floor of one training step at one level of fusion.

    Attributes:
        level: a key of `LEVELS`.
        what: in words.
        bytes: moved by all passes.
        flops: of matrix arithmetic.
        ideal_s: sum of the passes' least times.
    """

    level: str
    what: str
    bytes: int
    flops: int
    ideal_s: float


def ladder(
    architecture: Architecture,
    batch: int,
    image_size: int,
    element_bytes: int,
    copy_bytes_per_s: float,
    flops_per_s: float,
) -> list[Level]:
    """Floors of a training step on one device at every level of fusion, in the order of `LEVELS`.

    Args:
        architecture: which network.
        batch: images of the step.
        image_size: side of the images in pixels.
        element_bytes: of an activation: 2 or 4.
        copy_bytes_per_s: rate of memory, bytes read and written together.
        flops_per_s: rate of matrix arithmetic.
    """
    found = []
    for level, what in LEVELS.items():
        done = passes(architecture, batch, image_size, element_bytes, level)
        found.append(
            Level(
                level=level,
                what=what,
                bytes=sum(one.bytes for one in done),
                flops=sum(one.flops for one in done),
                ideal_s=sum(one.seconds(copy_bytes_per_s, flops_per_s) for one in done),
            )
        )
    return found


def passes(architecture: Architecture, batch: int, image_size: int, element_bytes: int, level: str) -> list[Pass]:
    """All passes of a training step at one level, in the order of the layers.

    Args:
        level: a key of `LEVELS`; for the rest see `ladder`.

    Raises:
        ValueError: an argument that no step can have; one line with the nearest that can.
    """
    if level not in LEVELS:
        raise ValueError(f"level={level}: expected one of {', '.join(LEVELS)}; nearest is f")
    if element_bytes not in (2, 4):
        raise ValueError(f"element_bytes={element_bytes}: expected 2 or 4; nearest is {2 if element_bytes < 3 else 4}")
    for name, value in (("batch", batch), ("image_size", image_size)):
        if value < 1:
            raise ValueError(f"{name}={value}: expected a whole number from 1 on; nearest is 1")
    net = network(architecture, image_size)
    # Rows of one op at one layer are one kernel: a dgrad and what is in its epilogue overlap as a whole.
    merged: dict[tuple[str, str], Pass] = {}
    for done in _each(net, batch, element_bytes, level):
        before = merged.get((done.layer, done.op))
        if before:
            done = Pass(layer=done.layer, op=done.op, bytes=before.bytes + done.bytes, flops=before.flops + done.flops)
        merged[done.layer, done.op] = done
    order = {layer.name: number for number, layer in enumerate(net.layers)}
    return sorted(merged.values(), key=lambda done: order.get(done.layer, len(order)))


def _each(net: Net, batch: int, element_bytes: int, level: str) -> Iterator[Pass]:
    first = net.layers[0]
    for layer in net.layers:
        if layer.linear:
            continue
        flops = 2 * layer.multiply_adds * batch
        sizes = _conv_sizes(layer, batch, element_bytes)
        traits = {f"{layer.kernel}x{layer.kernel}"} | ({"first"} if layer is first else set())
        for row in _present(CONV_ROWS, level, traits):
            arithmetic = flops if row.op in ("conv", "dgrad", "wgrad") else 0
            yield Pass(layer=layer.name, op=row.op, bytes=_moved(row, sizes), flops=arithmetic)
    for place in net.places:
        sizes = _place_sizes(place, batch, element_bytes)
        for row in _present(PLACE_ROWS, level, _traits(place, first)):
            where = place.consumer if row.op == "dgrad" else place.producer
            assert where is not None
            yield Pass(layer=where.name, op=row.op, bytes=_moved(row, sizes), flops=0)
    yield from _head(net, batch, element_bytes)
    yield from _weights(net, element_bytes)


def _head(net: Net, batch: int, element_bytes: int) -> Iterator[Pass]:
    """Global average and linear layer, the same at every level; the average's gradient is one value a channel."""
    fc, last = net.layers[-1], net.places[-1]
    features, scores = (batch * channels * element_bytes for channels in (fc.c_in, fc.c_out))
    image = batch * last.channels * last.size_out**2 * element_bytes
    whole, flops = features + scores + fc.weights * element_bytes, 2 * fc.multiply_adds * batch
    yield Pass(layer="avgpool", op="average", bytes=image + features, flops=0)
    for op in ("linear", "dgrad", "wgrad"):
        yield Pass(layer=fc.name, op=op, bytes=whole, flops=flops)


def _weights(net: Net, element_bytes: int) -> Iterator[Pass]:
    """What is done with the weights once a step: two casts where activations are not fp32, and the optimizer."""
    weights = sum(layer.weights for layer in net.layers)
    parameters = sum(layer.parameters for layer in net.layers)
    if element_bytes < 4:
        for op in ("cast", "cast_gradient"):
            yield Pass(layer="weights", op=op, bytes=weights * (4 + element_bytes), flops=0)
    # Reads value, gradient and momentum; writes value and momentum.
    yield Pass(layer="weights", op="optimizer", bytes=parameters * 5 * 4, flops=0)


def _present(rows: tuple[Row, ...], level: str, traits: set[str]) -> Iterator[Row]:
    order = list(LEVELS)
    for row in rows:
        first, last = row.levels.split("-")
        if order.index(first) <= order.index(level) <= order.index(last) and all(
            (word.removeprefix("!") in traits) != word.startswith("!") for word in row.where.split()
        ):
            yield row


def _moved(row: Row, sizes: dict[str, int]) -> int:
    return sum(sizes[name] for name in f"{row.reads} {row.writes}".split())


def _conv_sizes(layer: Layer, batch: int, element_bytes: int) -> dict[str, int]:
    """Bytes of the tensors of a convolution and its BN.

    x: input, as far as it is read; w: weights; y: output; n: y normalized; g: gradient of n; dy, dx, dw: of y, x, w.
    """
    x = batch * layer.c_in * layer.size_in**2 * element_bytes
    read = batch * layer.c_in * layer.size_out**2 * element_bytes if layer.kernel == 1 else x
    y = batch * layer.c_out * layer.size_out**2 * element_bytes
    w = layer.weights * element_bytes
    return {"x": read, "w": w, "y": y, "n": y, "g": y, "dy": y, "dx": x, "dw": w}


def _place_sizes(place: Place, batch: int, element_bytes: int) -> dict[str, int]:
    """Bytes of the tensors of a place.

    y, y2: outputs of the convolution and of the projection; n, n2: normalized; i: what is read of the identity; e: the
    identity, zeros included; u: after ReLU; z: after the pool, if there is one, else u; k, k8: the pool's indices, a
    byte or eight each; m: bits that say where a join is positive; dz: gradient of z by the branch; s: by the shortcut,
    as it is stored; sd: made dense; du, g: gradient of u, and masked; dy, dy2: of y and y2.
    """
    pixels = batch * place.size**2
    y = pixels * place.channels * element_bytes
    outputs = batch * place.size_out**2 * place.channels
    z = outputs * element_bytes
    y2 = y if place.projection else 0
    skip = batch * place.skip_size**2 * place.channels * element_bytes if place.skip else 0
    joins = place.projection is not None or place.identity > 0
    return {
        "y": y, "y2": y2, "n": y, "n2": y2, "i": pixels * place.identity * element_bytes, "e": y, "u": y, "z": z,
        "k": outputs, "k8": 8 * outputs, "m": pixels * -(-place.channels // 8) if joins else 0,
        "dz": z if place.consumer else batch * place.channels * element_bytes, "s": skip, "sd": z if place.skip else 0,
        "du": y, "g": y, "dy": y, "dy2": y2,
    }  # fmt: skip


def _traits(place: Place, first: Layer) -> set[str]:
    junction = bool(place.skip or place.projection or place.identity)
    held = {
        "pool": place.pool,
        "chain": not (place.pool or junction),
        "junction": junction and not place.pool,
        "projection": place.projection is not None,
        "identity": place.identity > 0,
        "padded": place.padded,
        "skip": bool(place.skip),
        "skip_padded": place.skip == "padded",
        "first": place.producer is first,
        "last": place.consumer is None,
    }
    return {name for name, holds in held.items() if holds}
