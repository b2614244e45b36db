"""What is compiled ahead of time: every op at the shapes of ResNet-50 at batch 256 and of ResNet-20 at batch 128."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from kernels.operands import Norm, Producer, Running, TileConfig
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.conv_inference import conv_inference
from kernels.ops.join_gradient import join_gradient
from kernels.ops.pack_weights import pack_weights
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce
from kernels.tiles.tile_configs import fitting_configs

META = torch.device("meta")


@dataclass(frozen=True)
class Case:
    """One call of a public op on meta tensors.

    Attributes:
        op: its name, or that of its list of configurations.
        shape_class: the layers that call it so, in words.
        call: makes the call with images of a dtype and a configuration, None for the op's own choice.
        sample: whether it is enough for `per=first`.
        product: M, N, K of a convolution for `fitting_configs`; None for ops that have no list of configurations.
    """

    op: str
    shape_class: str
    call: Callable[[torch.dtype, TileConfig | None], object]
    sample: bool
    product: tuple[int, int, int] | None = None

    def tile_configs(self, chip: str, dtype: torch.dtype) -> tuple[TileConfig | None, ...]:
        """The configurations of the chip's list that fit."""
        return tuple(fitting_configs(self.op, chip, dtype, *self.product)) if self.product else (None,)


@dataclass(frozen=True)
class Stage:
    """The blocks of one resolution: `inner` channels between their convolutions and `outer` after each."""

    name: str
    n: int
    size: int
    inner: int
    outer: int


STAGES = (
    Stage("ResNet-50 stage 1", 256, 56, 64, 256),
    Stage("ResNet-50 stage 2", 256, 28, 128, 512),
    Stage("ResNet-50 stage 3", 256, 14, 256, 1024),
    Stage("ResNet-50 stage 4", 256, 7, 512, 2048),
    Stage("ResNet-20 stage 1", 128, 32, 16, 16),
    Stage("ResNet-20 stage 2", 128, 16, 32, 32),
    Stage("ResNet-20 stage 3", 128, 8, 64, 64),
)
BOTTLENECKS, BASICS = STAGES[:4], STAGES[4:]
LAST = (BOTTLENECKS[-1], BASICS[-1])
SAMPLES = (BOTTLENECKS[1], BASICS[1])


def image(n: int, c: int, size: int, dtype: torch.dtype) -> Tensor:
    """[N, C, H, W] in channels_last, on the meta device."""
    return torch.empty((n, size, size, c), dtype=dtype, device=META).permute(0, 3, 1, 2)


def weight(k: int, c: int, size: int, dtype: torch.dtype) -> Tensor:
    """[K, C, R, S] in channels_last."""
    return torch.empty((k, size, size, c), dtype=dtype, device=META).permute(0, 3, 1, 2)


def vector(*shape: int) -> Tensor:
    return torch.empty(shape, device=META)


def norm(c: int) -> Norm:
    return Norm(vector(2, c), vector(c), vector(c))


def running(c: int) -> Running:
    return Running(vector(c), vector(c), 0.1)


def producer(y: Tensor, kind: str) -> Producer:
    """What made an image: "inner" (BN and ReLU), "identity" or "projection" (a join)."""
    n, c, h, w = y.shape
    mask = None if kind == "inner" else torch.empty((n * h * w, -(-c // 8)), dtype=torch.uint8, device=META)
    projection = kind == "projection"
    return Producer(y, norm(c), mask, y if projection else None, norm(c) if projection else None)


def _bn_stats(n, c, size, dtype, tile_config):
    bn_stats(image(n, c, size, dtype), running=running(c))


def _bn_act(n, c, size, kind, dtype, tile_config):
    y = image(n, c, size, dtype)
    if kind == "inner":
        bn_act(y, norm(c))
    elif kind == "padded":
        bn_act(y, norm(c), shortcut=image(n, c // 2, size * 2, dtype), shortcut_stride=2, keep_mask=True)
    else:
        bn_act(y, norm(c), shortcut=y, shortcut_norm=norm(c) if kind == "projection" else None, keep_mask=True)


def _backward(n, c, size, kind, dtype, tile_config):
    """Both passes as a block runs them: an inner BN is masked again in the second, a join writes its gradient once."""
    y = image(n, c, size, dtype)
    made = producer(y, kind)
    if kind == "inner":
        _, sums = bn_act_backward_reduce(y, made)
        bn_act_backward_apply(y, made, sums, masked=False)
    else:
        gradient, sums = bn_act_backward_reduce(y, made, skip=y, write_gradient=True)
        assert gradient is not None
        bn_act_backward_apply(gradient, made, sums, masked=True)


def _backward_last(n, c, size, dtype, tile_config):
    """The net's last join, whose gradient is one value for all pixels of a channel."""
    y = image(n, c, size, dtype)
    dz = torch.empty((n, c), dtype=dtype, device=META)[:, :, None, None].expand(y.shape)
    bn_act_backward_reduce(dz, producer(y, "identity"), write_gradient=True)


def _backward_strided(n, c, size, shortcut, dtype, tile_config):
    """The join before a block of stride 2, whose shortcut (and first convolution) read every second pixel."""
    y = image(n, c, size, dtype)
    skip = image(n, c * 2 if shortcut == "padded" else c, size // 2, dtype)
    dz, dz_stride = (y, 1) if shortcut == "padded" else (skip, 2)
    made = producer(y, "identity")
    bn_act_backward_reduce(dz, made, skip=skip, skip_stride=2, dz_stride=dz_stride, write_gradient=True)


def _backward_frozen(n, c, size, dtype, tile_config):
    y = image(n, c, size, dtype)
    made = producer(y, "inner")
    bn_act_backward_apply(y, made, vector(2, c), masked=False, frozen=True)


def _join_gradient(n, c, size, stride, dtype, tile_config):
    y = image(n, c, size, dtype)
    join_gradient(y, image(n, c, size // stride, dtype), shape=y.shape, skip_stride=stride)


def _stem(n, c, size, dtype, tile_config):
    y = image(n, c, size, dtype)
    pooled, argmax = stem(y, norm(c))
    sums = stem_backward_reduce(pooled, argmax, y, norm(c))
    stem_backward_apply(pooled, argmax, y, norm(c), sums)


def _conv(n, c, k, size, kernel, stride, prologue, dtype, tile_config):
    op = conv1x1 if kernel == 1 else conv3x3
    before = norm(c) if prologue else None
    x, w = image(n, c, size, dtype), weight(k, c, kernel, dtype)
    op(x, w, stride=stride, prologue=before, running=running(k), tile_config=tile_config)


def _conv_dgrad(n, c, k, size, kernel, kind, dtype, tile_config):
    """A convolution from C to K channels; `kind` of what made its input, None where nothing is to be masked."""
    made = producer(image(n, c, size, dtype), kind) if kind else None
    skip = made.y if made and kind != "inner" else None
    dy, w = image(n, k, size, dtype), weight(k, c, kernel, dtype)
    conv_dgrad(dy, w, skip=skip, producer=made, write_activation=kind == "inner", tile_config=tile_config)


def _conv_dgrad_strided(n, c, k, size, shortcut, dtype, tile_config):
    """A block's first 1x1 convolution, where the shortcut of the block reads every second pixel."""
    made = producer(image(n, c, size, dtype), "identity")
    skip = image(n, c * 2 if shortcut == "padded" else c, size // 2, dtype)
    dy, w = image(n, k, size, dtype), weight(k, c, 1, dtype)
    conv_dgrad(dy, w, skip=skip, skip_stride=2, producer=made, tile_config=tile_config)


def _conv_inference(n, c, k, size, kernel, stride, residual, dtype, tile_config):
    x, w = image(n, c, size, dtype), weight(k, c, kernel, dtype)
    other, other_stride = None, 1
    if residual == "identity":
        other = image(n, k, -(-size // stride), dtype)
    elif residual == "padded":
        other, other_stride = image(n, k // 2, size * 2, dtype), 2
    conv_inference(
        x, w, vector(k), stride=stride, residual=other, residual_stride=other_stride, tile_config=tile_config
    )


def _pack_weights(shapes, dtype, tile_config):
    pack_weights([torch.empty(shape, device=META) for shape in shapes], dtype)


def _pointwise_cases() -> Iterator[Case]:
    for s in STAGES:
        at, joined = (s.n, s.inner, s.size), (s.n, s.outer, s.size)
        calls = {
            ("bn_stats", "inner"): partial(_bn_stats, *at),
            ("bn_stats", "outer"): partial(_bn_stats, *joined),
            ("bn_act", "inner"): partial(_bn_act, *at, "inner"),
            ("bn_act_backward", "inner"): partial(_backward, *at, "inner"),
            ("bn_act_backward", "frozen"): partial(_backward_frozen, *at),
            ("bn_act_backward", "last join"): partial(_backward_last, *joined),
            ("join_gradient", "join"): partial(_join_gradient, *joined, 1),
        }
        for kind in ("identity", "projection"):
            calls["bn_act", f"{kind} join"] = partial(_bn_act, *joined, kind)
            calls["bn_act_backward", f"{kind} join"] = partial(_backward, *joined, kind)
        if s not in LAST:  # the next block has stride 2
            calls["join_gradient", "before stride 2"] = partial(_join_gradient, *joined, 2)
            calls["bn_act", "padded join after"] = partial(_bn_act, s.n, s.outer * 2, s.size // 2, "padded")
            for shortcut in ("projection", "padded"):
                calls["bn_act_backward", f"before {shortcut}"] = partial(_backward_strided, *joined, shortcut)
        for (op, where), call in calls.items():
            yield Case(op, f"{s.name}, {where}", call, s in SAMPLES)
    yield Case("stem", "ResNet-50", partial(_stem, 256, 64, 112), True)


def _product(n: int, c: int, k: int, size: int) -> tuple[int, int, int]:
    """M, N, K as `fitting_configs` takes them: pixels and channels of the result, channels that are multiplied."""
    return n * size * size, k, c


def _conv_cases() -> Iterator[Case]:
    for i, s in enumerate(STAGES):
        stride = 1 if s in (BOTTLENECKS[0], BASICS[0]) else 2
        before = STAGES[i - 1].outer if stride == 2 else 64 if s in BOTTLENECKS else 16
        # Channels in and out, window, stride, whether BN and ReLU come first.
        layers = {
            "first 3x3": (s.inner if s in BOTTLENECKS else before, s.inner, 3, stride, s in BOTTLENECKS),
            "3x3": (s.inner, s.inner, 3, 1, True),
            "plain 3x3": (s.inner, s.inner, 3, 1, False),
            "projection": (before, s.outer, 1, stride, False),
        }
        if s in BOTTLENECKS:
            layers |= {
                "first narrowing": (before, s.inner, 1, 1, False),
                "narrowing": (s.outer, s.inner, 1, 1, False),
                "widening": (s.inner, s.outer, 1, 1, True),
                "plain widening": (s.inner, s.outer, 1, 1, False),
            }
        for name, (c, k, kernel, step, prologue) in layers.items():
            size = s.size * (stride if name.startswith(("first", "projection")) else 1)
            product = _product(s.n, c, k, size // step)
            call = partial(_conv, s.n, c, k, size, kernel, step, prologue)
            yield Case(f"conv{kernel}x{kernel}", f"{s.name}, {name}", call, s in SAMPLES, product)
            if not prologue:
                residual = "identity" if name.startswith("plain") else None
                call = partial(_conv_inference, s.n, c, k, size, kernel, step, residual)
                yield Case("conv_inference", f"{s.name}, {name}", call, s in SAMPLES and residual is not None, product)
        if stride == 2 and s in BASICS:
            call = partial(_conv_inference, s.n, s.outer, s.outer, s.size, 3, 1, "padded")
            product = _product(s.n, s.outer, s.outer, s.size)
            yield Case("conv_inference", f"{s.name}, padded join", call, s in SAMPLES, product)


def _dgrad_cases() -> Iterator[Case]:
    for s in STAGES:
        at, product = (s.n, s.inner, s.inner, s.size, 3), _product(s.n, s.inner, s.inner, s.size)
        calls = {"3x3": partial(_conv_dgrad, *at, "inner")}
        if s in BASICS:
            calls |= {f"3x3, {kind} join": partial(_conv_dgrad, *at, kind) for kind in ("identity", "projection")}
        for where, call in calls.items():
            yield Case("conv_dgrad", f"{s.name}, {where}", call, s in SAMPLES, product)
        if s in BASICS:
            continue
        # A convolution from C to K channels takes K and gives C.
        first, product = (s.n, s.outer, s.inner, s.size), _product(s.n, s.inner, s.outer, s.size)
        calls = {f"{kind} join": partial(_conv_dgrad, *first, 1, kind) for kind in ("identity", "projection")}
        if s not in LAST:
            for shortcut in ("projection", "padded"):
                calls[f"join before {shortcut}"] = partial(_conv_dgrad_strided, *first, shortcut)
        for where, call in calls.items():
            yield Case("conv_dgrad", f"{s.name}, first 1x1, {where}", call, s in SAMPLES, product)
        last, product = (s.n, s.inner, s.outer, s.size, 1), _product(s.n, s.outer, s.inner, s.size)
        yield Case("conv_dgrad", f"{s.name}, last 1x1", partial(_conv_dgrad, *last, "inner"), s in SAMPLES, product)
        yield Case("conv_dgrad", f"{s.name}, plain 1x1", partial(_conv_dgrad, *last, None), False, product)


CASES = (
    *_pointwise_cases(),
    *_conv_cases(),
    *_dgrad_cases(),
    Case("pack_weights", "ResNet-50", partial(_pack_weights, ((64, 64, 1, 1), (64, 64, 3, 3), (256, 64, 1, 1))), True),
)
