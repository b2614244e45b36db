"""A convolution of a net that infers: BN folded into its filter and bias, perhaps a residual added, ReLU.

Forms: "relu", and "identity", where the shortcut adds one.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from bench.micro import operands
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import convolutions, is_projection
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors
from bench.roofline.step import Step
from kernels.operands import TileConfig
from kernels.ops.conv_inference import conv_inference


def _moved(of: Sizes, *, shortcut: str = "none") -> int:
    """Bytes read and written.

    Args:
        shortcut: what it adds before ReLU: "none" or "identity".
    """
    shape = of.shape
    # A 1x1 convolution reads no pixel between those of its stride.
    read = (of.y_at_stride(shape.stride) if shape.kernel == 1 else of.y) + of.filter + of.vectors(1, shape.c_out)
    written = of.out
    if shortcut == "identity":
        read += of.out
    return read + written


WORK = Work(name="conv_inference", moved=_moved)


def _cases(step: Step) -> Iterator[Case]:
    last = "conv3" if step.architecture.bottleneck else "conv2"
    for layer, shape in convolutions(step):
        if is_projection(layer):
            continue
        if layer.name.endswith(last) and step.architecture.shortcut != "none":
            yield Case(op="conv_inference", form="identity", shape=shape, parts=(part(WORK, shortcut="identity"),))
        else:
            yield Case(op="conv_inference", form="relu", shape=shape, parts=(part(WORK),))


def _operands(case: Case, draw: Draw) -> Tensors:
    found = operands.normalized_image(draw, case.shape)
    if case.form == "identity":
        # Not read: it keeps what is drawn after it, and so the errors of a seed, as they are in earlier rows.
        found["shortcut"] = operands.image_like_y(draw, case.shape)
    return found | operands.convolution(draw, case.shape)


def _maths(case: Case) -> Run:
    form, stride, padding = case.form, [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    def run(t: Tensors) -> Tensors:
        z = F.conv2d(t["y"], t["filter"], t["filter_bias"].to(t["y"].dtype), stride, padding)
        return {"z": F.relu_(z + t["residual"] if form == "identity" else z)}

    return run


def _cudnn_fused(case: Case) -> Run:
    form, stride, padding = case.form, [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    def run(t: Tensors) -> Tensors:
        bias = t["filter_bias"].to(t["y"].dtype)
        if form == "identity":
            z = torch.cudnn_convolution_add_relu(
                t["y"], t["filter"], t["residual"], 1.0, bias, stride, padding, [1, 1], 1
            )
        else:
            z = torch.cudnn_convolution_relu(t["y"], t["filter"], bias, stride, padding, [1, 1], 1)
        return {"z": z}

    return run


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    form, stride = case.form, case.shape.stride

    def run(t: Tensors) -> Tensors:
        residual = t["residual"] if form == "identity" else None
        z = conv_inference(
            t["y"], t["filter"], t["filter_bias"], stride=stride, residual=residual, tile_config=tile_config
        )
        return {"z": z}

    return run


OP = Op(
    name="conv_inference",
    works=(WORK,),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    fused=_fused,
    cudnn_fused=_cudnn_fused,
)
