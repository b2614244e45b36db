"""Statistics of a BN: mean and invstd of each channel."""

from collections.abc import Iterator

from bench.micro import batch_norm
from bench.micro.batch_norm import EPS
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import places
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors, normalized_image
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.bn_stats import bn_stats


def _moved(of: Sizes) -> int:
    read = of.y
    written = of.vectors(2, of.shape.c_in)  # mean, invstd
    return read + written


WORK = Work(name="bn_stats", moved=_moved, element_flops=4)  # a difference, a square, two sums


def _cases(step: Step) -> Iterator[Case]:
    for _, shape in places(step):
        yield Case(op="bn_stats", form="statistics", shape=shape, parts=(part(WORK),))


def _operands(case: Case, draw: Draw) -> Tensors:
    return normalized_image(draw, case.shape)


def _by(statistics: batch_norm.Statistics) -> Run:
    def run(t: Tensors) -> Tensors:
        mean, invstd = statistics(t["y"])
        return {"mean": mean, "invstd": invstd}

    return run


def _maths(case: Case) -> Run:
    return _by(batch_norm.statistics)


def _eager(case: Case, found: Tensors) -> Run:
    return _by(batch_norm.eager_statistics)


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    def run(t: Tensors) -> Tensors:
        mean, invstd = bn_stats(t["y"], EPS)
        return {"mean": mean, "invstd": invstd}

    return run


OP = Op(
    name="bn_stats",
    works=(WORK,),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    eager=_eager,
    fused=_fused,
)
