"""Calls of every op at small odd shapes, with each operand that may be left out given and not.

C is 1 or no multiple of a block, images have odd sides, and most calls have several programs along rows and channels.
Operands are random, fp16 but where an op wants fp32: how far an access is off is counted in elements.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.operands import Norm, Producer, Running
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.conv_inference import conv_inference
from kernels.ops.join_gradient import join_gradient
from kernels.ops.pack_weights import BLOCK, pack_weights
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce
from kernels.tiles.tile_configs import parse

Put = Callable[[Tensor], Tensor]
Shape = tuple[int, int, int, int]

ONE: Shape = (1, 1, 1, 1)
FEW: Shape = (1, 9, 7, 5)  # one program, most of whose tile is not there
MANY: Shape = (3, 72, 9, 7)  # programs along rows and, where there are sums, along channels
TILES = 2  # that leave several programs at MANY, with a tile of the last one that is not there


@dataclass(frozen=True)
class Case:
    """One call of an op.

    Attributes:
        op: its name.
        words: what is particular.
        call: makes the call; given what puts a tensor between guard pages, for an op whose kernel is told addresses.
        tiles: that each program of a pointwise kernel walks through; 0 leaves it to the op.
    """

    op: str
    words: str
    call: Callable[[Put], object]
    tiles: int = 0


def half(shape: Shape, *, c: int | None = None, h: int | None = None, w: int | None = None) -> Tensor:
    """[N, C, H, W] in channels_last, at a shape but for some of its sizes."""
    n, *sizes = shape
    c, h, w = (size if given is None else given for size, given in zip(sizes, (c, h, w), strict=True))
    return torch.randn(n, h, w, c).half().permute(0, 3, 1, 2)


def every(shape: Shape, stride: int, c: int | None = None) -> Tensor:
    """What every `stride`-th pixel of an image of `shape` makes."""
    return half(shape, c=c, h=-(-shape[2] // stride), w=-(-shape[3] // stride))


def expanded(shape: Shape) -> Tensor:
    """[N, C], as an image all of whose pixels are equal."""
    return torch.randn(shape[:2]).half()[:, :, None, None].expand(shape)


def norm(c: int) -> Norm:
    return Norm(torch.rand(2, c), torch.randn(c), torch.randn(c))


def running(c: int) -> Running:
    return Running(torch.randn(c), torch.rand(c), 0.1)


def weight(k: int, c: int, size: int) -> Tensor:
    return torch.randn(k, size, size, c).half().permute(0, 3, 1, 2)


def producer(shape: Shape, kind: str) -> Producer:
    """What made an image: "inner" (BN and ReLU), "identity" or "projection" (a join)."""
    n, c, h, w = shape
    bits = torch.randint(256, (n * h * w, -(-c // 8)), dtype=torch.uint8)
    joined = (half(shape), norm(c)) if kind == "projection" else (None, None)
    return Producer(half(shape), norm(c), None if kind == "inner" else bits, *joined)


def _bn_stats(shape: Shape, keep: bool, put: Put) -> None:
    bn_stats(half(shape), running=running(shape[1]) if keep else None)


def _bn_act(shape: Shape, shortcut: str, keep_mask: bool, relu: bool, put: Put) -> None:
    n, c, h, w = shape
    given: dict[str, Any] = {}
    if shortcut == "identity":
        given = {"shortcut": half(shape)}
    elif shortcut == "projection":
        given = {"shortcut": half(shape), "shortcut_norm": norm(c)}
    elif shortcut == "narrower":
        given = {"shortcut": half(shape, c=c - 5)}
    elif shortcut == "padded":  # the last pixel of the larger image is read
        given = {"shortcut": half(shape, c=c // 2, h=2 * h - 1, w=2 * w - 1), "shortcut_stride": 2}
    elif shortcut == "padded, of even sides":
        given = {"shortcut": half(shape, c=c // 2, h=2 * h, w=2 * w), "shortcut_stride": 2}
    bn_act(half(shape), norm(c), **given, keep_mask=keep_mask, relu=relu)


def _forward() -> Iterator[Case]:
    for shape in ((1, 1, 1, 2), FEW, MANY):
        for keep in (True, False):
            yield Case("bn_stats", f"{shape}, running={keep}", partial(_bn_stats, shape, keep), TILES * (shape is MANY))
    yield Case("bn_stats", f"{MANY}, a tile a program", partial(_bn_stats, MANY, True))
    for shape in (ONE, FEW, MANY):
        for shortcut, keep_mask, relu in (
            ("none", False, True),
            ("none", True, False),
            ("identity", True, True),
            ("projection", True, True),
            ("projection", False, False),
            ("narrower", True, True),
            ("padded", True, True),
            ("padded, of even sides", False, True),
        ):
            if shape is ONE and shortcut.startswith(("narrower", "padded")):
                continue  # there is no fewer than one channel
            words = f"{shape}, shortcut {shortcut}, keep_mask={keep_mask}, relu={relu}"
            yield Case("bn_act", words, partial(_bn_act, shape, shortcut, keep_mask, relu), TILES * (shape is MANY))
    yield Case("bn_act", f"{MANY}, a tile a program", partial(_bn_act, MANY, "padded", True, True))


def _gradients(shape: Shape, form: str) -> tuple[Tensor, dict[str, Any]]:
    """The gradient of z in a form of `FORMS`, or plain; what is added to it, and strides."""
    c = shape[1]
    if form == "expanded":
        return expanded(shape), {}
    if form == "strided":
        return every(shape, 2), {"dz_stride": 2}
    if form == "with skip":
        return half(shape), {"skip": half(shape)}
    if form == "expanded, with a wider skip":
        return expanded(shape), {"skip": half(shape, c=c + 3)}
    if form == "with a strided skip":
        return half(shape), {"skip": every(shape, 2), "skip_stride": 2}
    if form == "strided, with a strided and wider skip":
        return every(shape, 2), {"dz_stride": 2, "skip": every(shape, 3, 2 * c), "skip_stride": 3}
    return half(shape), {}


FORMS = ("expanded", "strided", "with skip", "expanded, with a wider skip", "with a strided skip",
         "strided, with a strided and wider skip")  # fmt: skip


def _reduce(shape: Shape, kind: str, form: str, write: bool, put: Put) -> None:
    dz, given = _gradients(shape, form)
    bn_act_backward_reduce(dz, producer(shape, kind), **given, write_gradient=write)


def _apply(shape: Shape, kind: str, form: str, masked: bool, frozen: bool, put: Put) -> None:
    sums = torch.randn(3 if kind == "projection" else 2, shape[1])
    bn_act_backward_apply(_gradients(shape, form)[0], producer(shape, kind), sums, masked=masked, frozen=frozen)


def _join(shape: Shape, form: str, put: Put) -> None:
    dz, given = _gradients(shape, form)
    join_gradient(dz, given.pop("skip"), shape=shape, **given)


def _backward() -> Iterator[Case]:
    op = "bn_act_backward_reduce"
    for shape in (ONE, FEW, MANY):
        tiles = TILES * (shape is MANY)
        for kind, write in (("inner", False), ("identity", True), ("projection", True), ("projection", False)):
            yield Case(op, f"{shape}, {kind}, write={write}", partial(_reduce, shape, kind, "", write), tiles)
        for masked in (True, False):
            for kind in ("inner", "identity", "projection"):
                for frozen in (True, False):
                    call = partial(_apply, shape, kind, "", masked, frozen)
                    words = f"{shape}, {kind}, masked={masked}, frozen={frozen}"
                    yield Case("bn_act_backward_apply", words, call, tiles)
    for shape in (FEW, MANY):
        tiles = TILES * (shape is MANY)
        for form in FORMS:
            kind = "projection" if form == "expanded" else "identity"
            yield Case(op, f"{shape}, {form}", partial(_reduce, shape, kind, form, True), tiles)
            if "skip" in form:
                yield Case("join_gradient", f"{shape}, {form}", partial(_join, shape, form), tiles)
        call = partial(_apply, shape, "identity", "expanded", False, False)
        yield Case("bn_act_backward_apply", f"{shape}, expanded", call, tiles)
    yield Case(op, f"{MANY}, a tile a program", partial(_reduce, MANY, "projection", "with skip", True))
    yield Case("join_gradient", f"{ONE}", partial(_join, ONE, "with skip"))


def _pooled(shape: Shape) -> tuple[Tensor, Tensor, Tensor, Norm]:
    """The gradient of the pooled image, positions of maxima, and what was pooled with its BN."""
    dp = every(shape, 2)
    argmax = torch.randint(9, dp.permute(0, 2, 3, 1).shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    return dp, argmax, half(shape), norm(shape[1])


def _stem(shape: Shape, put: Put) -> None:
    stem(half(shape), norm(shape[1]))


def _stem_reduce(shape: Shape, put: Put) -> None:
    stem_backward_reduce(*_pooled(shape))


def _stem_apply(shape: Shape, frozen: bool, put: Put) -> None:
    stem_backward_apply(*_pooled(shape), torch.randn(2, shape[1]), frozen=frozen)


def _stems() -> Iterator[Case]:
    whole = (2, 72, 8, 12)  # sides that are multiples of 4
    for shape in (ONE, FEW, (1, 9, 8, 6), (2, 3, 1, 5), (2, 3, 5, 1), MANY, whole):
        tiles = TILES * (shape == whole)
        yield Case("stem", f"{shape}", partial(_stem, shape), tiles)
        yield Case("stem_backward_reduce", f"{shape}", partial(_stem_reduce, shape), tiles)
        for frozen in (True, False):
            yield Case("stem_backward_apply", f"{shape}, frozen={frozen}", partial(_stem_apply, shape, frozen), tiles)
    # Pixels of odd sides, from one tile to the next.
    for op, call in (("stem", _stem), ("stem_backward_reduce", _stem_reduce)):
        yield Case(op, f"{MANY}, two tiles a program", partial(call, MANY), TILES)
    yield Case("stem_backward_apply", f"{MANY}, two tiles a program", partial(_stem_apply, MANY, False), TILES)


# Tiles whose rows are pixels (of 16 channels) or channels (of 64). 24 channels that are summed over end within a block.
NARROW, SHALLOW, BROAD = parse("16x16x32/w4/s3"), parse("16x16x16/w4/s3"), parse("16x64x32/w4/s3")
# A block of 64 channels reaches beyond both rows of [2, 8] statistics; a lesser one could read the second as the first.
SMALLEST: Shape = (1, 8, 1, 2)
# By stride: three programs along rows of the result, in two groups.
IMAGES: dict[int, Shape] = {1: (2, 24, 7, 3), 2: (2, 24, 7, 9)}


def _conv(size: int, shape: Shape, k: int, stride: int, form: str, config: Any, put: Put) -> None:
    c = shape[1]
    given: dict[str, Any] = {"statistics": "no statistics" not in form}
    if "prologue" in form:
        given["prologue"] = norm(c)
    if "running" in form:
        given["running"] = running(k)
    op = conv1x1 if size == 1 else conv3x3
    op(half(shape), weight(k, c, size), stride=stride, **given, tile_config=config)


def _dgrad(size: int, shape: Shape, k: int, kind: str, skip: str, config: Any, put: Put) -> None:
    c = shape[1]
    given: dict[str, Any] = {}
    if skip != "none":
        stride = 2 if "strided" in skip else 1
        given = {"skip": every(shape, stride, c + 3 if "wider" in skip else c), "skip_stride": stride}
    if kind != "none":
        given["producer"] = producer(shape, kind.partition(",")[0])
        given["write_activation"] = kind == "inner, writing z"
    conv_dgrad(half(shape, c=k), weight(k, c, size), **given, tile_config=config)


def _inference(size: int, shape: Shape, k: int, stride: int, residual: str, relu: bool, config: Any, put: Put) -> None:
    n, c, h, w = shape
    out = (n, k, -(-h // stride), -(-w // stride))
    given: dict[str, Any] = {}
    if residual == "identity":
        given = {"residual": half(out)}
    elif residual == "narrower":
        given = {"residual": half(out, c=k - 5)}
    elif residual == "padded":
        given = {"residual": half(out, c=k // 2, h=2 * out[2] - 1, w=2 * out[3] - 1), "residual_stride": 2}
    weights = weight(k, c, size)
    conv_inference(half(shape), weights, torch.randn(k), stride=stride, **given, relu=relu, tile_config=config)


def _convs() -> Iterator[Case]:
    for size in (1, 3):
        for stride, shape in IMAGES.items():
            for k, config, form in (
                (24, NARROW, "prologue, running"),
                (72, BROAD, "running"),
                (24, SHALLOW, "prologue, no statistics"),
            ):
                call = partial(_conv, size, shape, k, stride, form, config)
                yield Case(f"conv{size}x{size}", f"{shape} to {k} at stride {stride}, {form}, {config}", call)
            for residual, relu in (("none", True), ("identity", False), ("narrower", True), ("padded", True)):
                call = partial(_inference, size, shape, 24, stride, residual, relu, NARROW)
                words = f"{size}x{size}, {shape} to 24 at stride {stride}, residual {residual}, {NARROW}"
                yield Case("conv_inference", words, call)
        for form, config in (("running", None), ("prologue, running", BROAD), ("no statistics", BROAD)):
            call = partial(_conv, size, SMALLEST, 8, 1, form, config)
            yield Case(f"conv{size}x{size}", f"{SMALLEST} to 8, {form}, {config}", call)
        for config in (None, BROAD):
            call = partial(_inference, size, SMALLEST, 8, 2, "identity", True, config)
            yield Case("conv_inference", f"{size}x{size}, {SMALLEST} to 8, {config}", call)


def _dgrads() -> Iterator[Case]:
    n, _, h, w = IMAGES[1]
    for size in (1, 3):
        for c, config, skips in (
            (24, NARROW, ("strided and wider", "equal", "none", "strided", "wider")),
            (72, BROAD, ("none", "wider", "strided", "equal", "strided and wider")),
        ):
            for kind, skip in zip(("none", "inner", "inner, writing z", "identity", "projection"), skips, strict=True):
                call = partial(_dgrad, size, (n, c, h, w), 24, kind, skip, config)
                yield Case("conv_dgrad", f"{size}x{size}, 24 to {c}, {kind}, skip {skip}, {config}", call)
            # So many channels that what the epilogue reads is not asked for before the multiplication.
            k = 264 if size == 1 else 32
            call = partial(_dgrad, size, (n, c, h, w), k, "identity", "strided", config)
            yield Case("conv_dgrad", f"{size}x{size}, {k} to {c}, identity, skip strided, {config}", call)
        for kind, config in (("none", None), ("inner", None), ("inner, writing z", BROAD), ("projection", BROAD)):
            call = partial(_dgrad, size, SMALLEST, 8, kind, "none", config)
            yield Case("conv_dgrad", f"{size}x{size}, 8 to 8 at {SMALLEST}, {kind}, {config}", call)


def _weights() -> list[Tensor]:
    """Weights of one element, of a block and one more, of all strides."""
    whole = torch.randn(16, 8, 6, 6)
    plain = torch.randn(24, 16, 3, 3)
    return [
        torch.randn(1, 1, 1, 1),
        torch.randn(BLOCK + 1, 1, 1, 1),
        torch.randn(64, 3, 7, 7),
        plain,
        plain.contiguous(memory_format=torch.channels_last),
        whole[:, ::2, 1::2, ::2],
        whole.transpose(0, 1)[:, :, :3, :3],
    ]


def _pack(dtype: torch.dtype, one: int | None, put: Put) -> None:
    weights = [put(each) for each in _weights()]
    pack_weights(weights if one is None else [weights[one]], dtype)


def _packs() -> Iterator[Case]:
    for dtype in (torch.float16, torch.float32):
        yield Case("pack_weights", f"{dtype}", partial(_pack, dtype, None))
    for one in range(len(_weights())):
        yield Case("pack_weights", f"weight {one} alone", partial(_pack, torch.float16, one))


CASES = (*_forward(), *_backward(), *_stems(), *_convs(), *_dgrads(), *_packs())
