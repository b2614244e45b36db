"""The backward pass of `bn_act`: its gradients are reduced in one pass and applied in a second.

Forms: "relu" (BN and ReLU alone), and those in which z's gradient also comes back by the next shortcut and is added
on the way: "identity" (the producer added an identity), "padded" (so it did, but what comes back is option A's: the
pixels on its stride's grid alone) and "projection" (the producer added a projection).
"""

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor

from bench.micro import batch_norm, operands
from bench.micro.batch_norm import aten
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import added, places
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors, producer
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce


def _reduce_moved(
    of: Sizes, *, shortcut: str = "none", skip_stride: int = 0, dz_expanded: bool = False, write_gradient: bool = False
) -> int:
    """Bytes read and written by the reduction.

    Args:
        shortcut: what the producer added: "none", "identity" or "projection". After an addition the bits of z are read.
        skip_stride: how the shortcut's gradient is added: 0 not at all, 1 at every pixel, 2 at every second one.
        dz_expanded: dz is one value a channel, expanded over the image.
        write_gradient: the masked gradient g is written.
    """
    shape = of.shape
    dz = shape.batch * shape.c_in * of.element_bytes if dz_expanded else of.y
    read, written = dz + of.y + of.norm, of.vectors(2, shape.c_in)  # gradients of bias and weight
    if skip_stride:
        read += of.y_at_stride(skip_stride)
    if shortcut != "none":
        read += of.mask
    if shortcut == "projection":
        read += of.y + of.norm
        written += of.vectors(1, shape.c_in)  # gradient of the second weight
    if write_gradient:
        written += of.y
    return read + written


def _apply_moved(of: Sizes, *, shortcut: str = "none", masked: bool = True) -> int:
    """Bytes read and written by the application.

    Args:
        shortcut: as of the reduction.
        masked: what is read is g, so that it needs no bits.
    """
    read, written = of.y + of.y + of.norm + of.vectors(2, of.shape.c_in), of.y
    if shortcut != "none" and not masked:
        read += of.mask
    if shortcut == "projection":
        read += of.y + of.norm + of.vectors(1, of.shape.c_in)
        written += of.y
    return read + written


REDUCE = Work(name="bn_act_backward_reduce", moved=_reduce_moved, element_flops=7)  # the sign, xhat, two sums
APPLY = Work(name="bn_act_backward_apply", moved=_apply_moved, element_flops=7)  # the sign, A*g + B*y + C


def _cases(step: Step) -> Iterator[Case]:
    for place, shape in places(step):
        if place.pool:
            continue
        shortcut = added(place)
        if shortcut == "none":
            yield Case(op="bn_act_backward", form="relu", shape=shape, parts=(part(REDUCE), part(APPLY)))
        elif place.consumer is not None:
            padded = place.skip == "padded"
            stride = place.size // place.skip_size if padded else 1
            form = "padded" if padded and shortcut == "identity" else shortcut
            reduced = part(REDUCE, shortcut=shortcut, skip_stride=stride, write_gradient=True)
            parts = reduced, part(APPLY, shortcut=shortcut, masked=True)
            yield Case(op="bn_act_backward", form=form, shape=shape._replace(stride=stride), parts=parts)


def _operands(case: Case, draw: Draw) -> Tensors:
    found = operands.normalized_image(draw, case.shape)
    if case.form == "projection":
        found |= operands.second_image(draw, case.shape)
    if case.form in ("identity", "padded"):
        found["shortcut"] = operands.image_like_y(draw, case.shape)
    found |= operands.gradients(draw, case.shape, found)
    if case.form == "padded":  # it has the size and the channels of the next stage
        found["skip"] = operands.image_like_out(draw, case.shape, 2 * case.shape.c_in)
    return found


def _by(case: Case, backward: batch_norm.Backward) -> Run:
    form, stride = case.form, case.shape.stride

    def run(t: Tensors) -> Tensors:
        d = t["dz"]
        if form == "padded":  # as option A's backward pass has it
            skip = torch.zeros_like(d)
            skip[:, :, ::stride, ::stride] = t["skip"][:, : d.shape[1]]
            d = d + skip
        elif form != "relu":
            d = d + t["skip"]
        g = aten.threshold_backward(d, t["z"], 0)
        dy, d_weight, d_bias = backward(t, g, "")
        found = {"dy": dy, "d_bias": d_bias, "d_weight": d_weight}
        if form != "relu":
            found["g"] = g
        if form == "projection":
            found["dy2"], found["d_weight2"], _ = backward(t, g, "2_")
        return found

    return run


def _maths(case: Case) -> Run:
    return _by(case, batch_norm.backward)


def _eager(case: Case, found: Tensors) -> Run:
    return _by(case, batch_norm.eager_backward(found))


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    form, stride = case.form, case.shape.stride

    def run(t: Tensors) -> Tensors:
        made = producer(t)
        if form == "relu":
            g, sums = bn_act_backward_reduce(t["dz"], made)
            dy = cast(Tensor, bn_act_backward_apply(t["dz"], made, sums, masked=False))
            return {"dy": dy, "d_bias": sums[0], "d_weight": sums[1]}
        g, sums = bn_act_backward_reduce(t["dz"], made, skip=t["skip"], skip_stride=stride, write_gradient=True)
        applied: Any = bn_act_backward_apply(cast(Tensor, g), made, sums, masked=True)
        found: dict[str, Any] = {"d_bias": sums[0], "d_weight": sums[1], "g": g}
        if form == "projection":
            return found | {"dy": applied[0], "dy2": applied[1], "d_weight2": sums[2]}
        return found | {"dy": applied}

    return run


OP = Op(
    name="bn_act_backward",
    works=(REDUCE, APPLY),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    eager=_eager,
    fused=_fused,
)
