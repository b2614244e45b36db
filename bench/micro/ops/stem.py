"""BN, ReLU and the 3x3/2 max pool of the imagenet family's stem: the forward pass, and the backward pass in two."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from bench.micro import batch_norm
from bench.micro.batch_norm import affine, aten, normalized
from bench.micro.least_bytes import Shape, Sizes, Work, part
from bench.micro.network_layers import places
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors, norm, normalized_image
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce


def _pooled(of: Sizes) -> int:
    """The pool's output, or its gradient, and a byte an element for the argmax."""
    return _pooled_elements(of.shape) * (of.element_bytes + 1)


def _pooled_elements(shape: Shape) -> int:
    return shape.batch * -(-shape.height // 2) * -(-shape.width // 2) * shape.c_in


def _forward_moved(of: Sizes) -> int:
    read, written = of.y + of.norm, _pooled(of)
    return read + written


def _reduce_moved(of: Sizes) -> int:
    read, written = _pooled(of) + of.y + of.norm, of.vectors(2, of.shape.c_in)  # gradients of bias and weight
    return read + written


def _apply_moved(of: Sizes) -> int:
    read, written = _pooled(of) + of.y + of.norm + of.vectors(2, of.shape.c_in), of.y
    return read + written


FORWARD = Work(name="stem", moved=_forward_moved, element_flops=4)  # scale and shift, ReLU, the pool's comparisons
REDUCE = Work(name="stem_backward_reduce", moved=_reduce_moved, element_flops=7)  # as bn_act_backward's
APPLY = Work(name="stem_backward_apply", moved=_apply_moved, element_flops=7)


def _cases(step: Step) -> Iterator[Case]:
    for place, shape in places(step):
        if place.pool:
            yield Case(op="stem", form="forward", shape=shape, parts=(part(FORWARD),))
            yield Case(op="stem", form="backward", shape=shape, parts=(part(REDUCE), part(APPLY)))


def _operands(case: Case, draw: Draw) -> Tensors:
    shape = case.shape
    found = normalized_image(draw, shape)
    found["z"] = affine(found["y"].float(), found).relu().to(draw.dtype)
    pooled, flat = F.max_pool2d(found["z"], 3, 2, 1, return_indices=True)
    found["indices"] = flat
    found["dp"] = draw.image(shape.batch, shape.c_in, *pooled.shape[2:])
    # Our kernels have the place in the 3x3 window instead of that in the image.
    rows = torch.arange(pooled.shape[2], device=draw.device)[:, None]
    columns = torch.arange(pooled.shape[3], device=draw.device)
    argmax = 3 * (flat // shape.width - (2 * rows - 1)) + flat % shape.width - (2 * columns - 1)
    found["argmax"] = argmax.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    return found


def _by(case: Case, backward: batch_norm.Backward) -> Run:
    form = case.form

    def run(t: Tensors) -> Tensors:
        if form == "forward":
            return {"p": F.max_pool2d(F.relu_(normalized(t)), 3, 2, 1)}
        dz = aten.max_pool2d_with_indices_backward(t["dp"], t["z"], [3, 3], [2, 2], [1, 1], [1, 1], False, t["indices"])
        dy, d_weight, d_bias = backward(t, aten.threshold_backward(dz, t["z"], 0), "")
        return {"dy": dy, "d_bias": d_bias, "d_weight": d_weight}

    return run


def _maths(case: Case) -> Run:
    return _by(case, batch_norm.backward)


def _eager(case: Case, found: Tensors) -> Run:
    return _by(case, batch_norm.eager_backward(found))


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    form = case.form

    def run(t: Tensors) -> Tensors:
        if form == "forward":
            return {"p": stem(t["y"], norm(t))[0]}
        sums = stem_backward_reduce(t["dp"], t["argmax"], t["y"], norm(t))
        dy = stem_backward_apply(t["dp"], t["argmax"], t["y"], norm(t), sums)
        return {"dy": dy, "d_bias": sums[0], "d_weight": sums[1]}

    return run


OP = Op(
    name="stem",
    works=(FORWARD, REDUCE, APPLY),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    eager=_eager,
    fused=_fused,
)
