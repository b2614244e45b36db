"""The gradient of a convolution's input, with the backward reduction of the BN before it in its epilogue.

Forms: "plain" (no epilogue), "inner" (a BN and ReLU made the input), "inner+z" (so they did, and the input is written
again for the weight gradient) and "identity" (BN, the addition of an identity and ReLU made it; the shortcut's gradient
is added on the way).
"""

from collections.abc import Iterator

import torch.nn.functional as F
from torch import Tensor

from bench.micro import batch_norm, operands
from bench.micro.batch_norm import aten, normalized
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import convolutions, is_inner, is_projection
from bench.micro.op import Case, Op, Rewritten, Run
from bench.micro.operands import Draw, Tensors, producer
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.conv_dgrad import conv_dgrad


def _moved(
    of: Sizes,
    *,
    shortcut: str = "none",
    skip_stride: int = 0,
    write_activation: bool = False,
    producer: bool = True,
) -> int:
    """Bytes read and written.

    Args:
        shortcut: what the producer of the input added: "none", "identity" or "projection". After an addition the bits
            of z are read.
        skip_stride: how the shortcut's gradient is added: 0 not at all, 1 at every pixel, 2 at every second one.
        write_activation: the input z is written.
        producer: the epilogue masks and reduces.
    """
    read, written = of.out + of.filter, of.y
    if skip_stride:
        read += of.y_at_stride(skip_stride)
    if write_activation:
        written += of.y
    if producer:
        read += of.y + of.norm
        written += of.vectors(2, of.shape.c_in)  # gradients of bias and weight
    if producer and shortcut != "none":
        read += of.mask
    if producer and shortcut == "projection":
        read += of.y + of.norm
        written += of.vectors(1, of.shape.c_in)  # gradient of the second weight
    return read + written


WORK = Work(name="conv_dgrad", moved=_moved)


def _cases(step: Step) -> Iterator[Case]:
    for layer, shape in convolutions(step):
        if layer.stride != 1:
            continue
        if is_inner(layer):
            yield Case(op="conv_dgrad", form="inner", shape=shape, parts=(part(WORK),))
            yield Case(op="conv_dgrad", form="inner+z", shape=shape, parts=(part(WORK, write_activation=True),))
        elif is_projection(layer):
            yield Case(op="conv_dgrad", form="plain", shape=shape, parts=(part(WORK, producer=False),))
        elif step.architecture.shortcut != "none":
            one = part(WORK, shortcut="identity", skip_stride=1)
            yield Case(op="conv_dgrad", form="identity", shape=shape, parts=(one,))


def _operands(case: Case, draw: Draw) -> Tensors:
    found = operands.normalized_image(draw, case.shape)
    if case.form == "identity":
        found["shortcut"] = operands.image_like_y(draw, case.shape)
    found |= operands.convolution(draw, case.shape)
    return found | operands.gradients(draw, case.shape, found)


def _by(case: Case, sums: batch_norm.Sums) -> Run:
    form, stride, padding = case.form, [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    def run(t: Tensors) -> Tensors:
        d = aten.convolution_backward(
            t["dy"], t["y"], t["filter"], None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]
        if form == "plain":
            return {"g": d}
        if form == "identity":
            d = d + t["skip"]
        g = aten.threshold_backward(d, t["z"], 0)
        d_bias, d_weight = sums(t, g)
        return {"g": g, "d_bias": d_bias, "d_weight": d_weight}

    return run


def _maths(case: Case) -> Run:
    return _by(case, batch_norm.sums)


def _eager(case: Case, found: Tensors) -> Run:
    return _by(case, batch_norm.eager_sums)


def _activation(t: Tensors) -> Tensor:
    return F.relu_(normalized(t))


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    form = case.form

    def run(t: Tensors) -> Tensors:
        if form == "plain":
            return {"g": conv_dgrad(t["dy"], t["filter"], tile_config=tile_config)[0]}
        g, sums, z = conv_dgrad(
            t["dy"],
            t["filter"],
            skip=t["skip"] if form == "identity" else None,
            producer=producer(t),
            write_activation=form == "inner+z",
            tile_config=tile_config,
        )
        assert sums is not None
        return {"g": g, "d_bias": sums[0], "d_weight": sums[1]} | ({} if z is None else {"z": z})

    return run


OP = Op(
    name="conv_dgrad",
    works=(WORK,),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    eager=_eager,
    fused=_fused,
    rewritten={"inner+z": Rewritten("z", _activation)},
)
