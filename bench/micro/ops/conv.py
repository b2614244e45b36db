"""The 1x1 and the 3x3 convolution, with the statistics of the BN that follows in their epilogue.

Forms: "statistics", and "prologue", where the BN and ReLU before it are computed as its input is read.
"""

from collections.abc import Iterator
from functools import partial

import torch.nn.functional as F

from bench.micro import batch_norm
from bench.micro.batch_norm import EPS, normalized
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import convolutions, is_inner
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors, convolution, norm, normalized_image
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3


def _moved(of: Sizes, *, prologue: bool = False, statistics: bool = False) -> int:
    """Bytes read and written.

    Args:
        prologue: the convolution's input is normalized as it is read.
        statistics: the convolution's epilogue has them.
    """
    shape = of.shape
    # A 1x1 convolution reads no pixel between those of its stride.
    read = (of.y_at_stride(shape.stride) if shape.kernel == 1 else of.y) + of.filter
    written = of.out
    if prologue:
        read += of.norm
    if statistics:
        written += of.vectors(2, shape.c_out)  # mean, invstd
    return read + written


def _cases(step: Step, *, work: Work, kernel: int) -> Iterator[Case]:
    for layer, shape in convolutions(step):
        if layer.kernel != kernel:
            continue
        yield Case(op=work.name, form="statistics", shape=shape, parts=(part(work, statistics=True),))
        if is_inner(layer):
            one = part(work, statistics=True, prologue=True)
            yield Case(op=work.name, form="prologue", shape=shape, parts=(one,))


def _operands(case: Case, draw: Draw) -> Tensors:
    return normalized_image(draw, case.shape) | convolution(draw, case.shape)


def _by(case: Case, statistics: batch_norm.Statistics) -> Run:
    form, stride, padding = case.form, [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    def run(t: Tensors) -> Tensors:
        x = F.relu_(normalized(t)) if form == "prologue" else t["y"]
        y = F.conv2d(x, t["filter"], None, stride, padding)
        mean, invstd = statistics(y)
        return {"y": y, "mean": mean, "invstd": invstd}

    return run


def _maths(case: Case) -> Run:
    return _by(case, batch_norm.statistics)


def _eager(case: Case, found: Tensors) -> Run:
    return _by(case, batch_norm.eager_statistics)


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    convolve = conv1x1 if case.op == "conv1x1" else conv3x3
    form, stride = case.form, case.shape.stride

    def run(t: Tensors) -> Tensors:
        prologue = norm(t) if form == "prologue" else None
        y, stats = convolve(t["y"], t["filter"], stride=stride, prologue=prologue, eps=EPS, tile_config=tile_config)
        assert stats is not None
        return {"y": y, "mean": stats[0], "invstd": stats[1]}

    return run


def _op(name: str, kernel: int) -> Op:
    work = Work(name=name, moved=_moved)
    return Op(
        name=name,
        works=(work,),
        cases=partial(_cases, work=work, kernel=kernel),
        operands=_operands,
        maths=_maths,
        eager=_eager,
        fused=_fused,
    )


CONV1X1 = _op("conv1x1", 1)
CONV3X3 = _op("conv3x3", 3)
