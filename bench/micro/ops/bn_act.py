"""BN, perhaps what a shortcut adds, and ReLU, in one pass.

Forms: "relu" (BN with known statistics, ReLU), "training" (the statistics too), and what the shortcut adds:
"identity", "padded" (option A: subsampled, with zeros for the channels that are new) or "projection" (a second image
with its own BN).
"""

from collections.abc import Iterator

import torch.nn.functional as F

from bench.micro import operands
from bench.micro.batch_norm import EPS, normalized
from bench.micro.least_bytes import Sizes, Work, part
from bench.micro.network_layers import added, places
from bench.micro.op import Case, Op, Run
from bench.micro.operands import Draw, Tensors, norm
from bench.micro.ops.bn_stats import WORK as STATISTICS
from bench.roofline.layers import layers
from bench.roofline.step import Step
from kernels.operands import Norm, TileConfig
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_stats import bn_stats
from resnet.layers import StridedIdentity


def _moved(of: Sizes, *, shortcut: str = "none", identity_channels: int | None = None, keep_mask: bool = False) -> int:
    """Bytes read and written.

    Args:
        shortcut: what it adds before ReLU: "none", "identity" or "projection".
        identity_channels: channels read of the identity (option A has fewer than y); all by default.
        keep_mask: z's bits are written.
    """
    read, written = of.y + of.norm, of.y
    if shortcut == "identity":
        c_in = of.shape.c_in
        read += of.y // c_in * min(c_in, identity_channels or c_in)
    if shortcut == "projection":
        read += of.y + of.norm
    if keep_mask:
        written += of.mask
    return read + written


WORK = Work(name="bn_act", moved=_moved, element_flops=3)  # scale and shift, ReLU


def _cases(step: Step) -> Iterator[Case]:
    blocks = layers(step.architecture, step.image_size)
    entered = {layer.name.rpartition(".")[0]: layer for layer in blocks if layer.name.endswith(".conv1")}
    for place, shape in places(step):
        if place.pool:
            continue
        shortcut = added(place)
        if place.padded:
            stride = entered[place.producer.name.rpartition(".")[0]].size_in // place.size
            one = part(WORK, shortcut=shortcut, identity_channels=place.identity, keep_mask=True)
            yield Case(op="bn_act", form="padded", shape=shape._replace(stride=stride), parts=(one,))
        elif shortcut != "none":
            yield Case(op="bn_act", form=shortcut, shape=shape, parts=(part(WORK, shortcut=shortcut, keep_mask=True),))
        else:
            yield Case(op="bn_act", form="relu", shape=shape, parts=(part(WORK),))
            yield Case(op="bn_act", form="training", shape=shape, parts=(part(STATISTICS), part(WORK)))


def _operands(case: Case, draw: Draw) -> Tensors:
    shape = case.shape
    found = operands.normalized_image(draw, shape)
    if case.form == "projection":
        found |= operands.second_image(draw, shape)
    if case.form == "identity":
        found["shortcut"] = operands.image_like_y(draw, shape)
    if case.form == "padded":
        height, width = shape.height * shape.stride, shape.width * shape.stride
        found["shortcut"] = draw.image(shape.batch, _identity_channels(case), height, width)
    return found


def _identity_channels(case: Case) -> int:
    """Channels of option A's shortcut; those that y has more are zeros."""
    return min(dict(case.parts[0].words)["identity_channels"], case.shape.c_in // 2)


def _maths(case: Case) -> Run:
    form, shape = case.form, case.shape
    pad = StridedIdentity(_identity_channels(case), shape.c_in, shape.stride) if form == "padded" else None

    def run(t: Tensors) -> Tensors:
        if form == "training":
            return {"z": F.relu_(F.batch_norm(t["y"], None, None, t["weight"], t["bias"], True, 0.0, EPS))}
        z = normalized(t)
        if form == "projection":
            z = z + normalized(t, "2_")
        if form == "identity":
            z = z + t["shortcut"]
        if pad is not None:
            z = z + pad(t["shortcut"])
        return {"z": F.relu_(z)}

    return run


def _fused(case: Case, tile_config: TileConfig | None) -> Run:
    form, stride = case.form, case.shape.stride

    def run(t: Tensors) -> Tensors:
        if form == "training":
            stats = bn_stats(t["y"], EPS)
            return {"z": bn_act(t["y"], Norm(stats, t["weight"], t["bias"]))[0]}
        if form == "projection":
            z, _ = bn_act(t["y"], norm(t), shortcut=t["y2"], shortcut_norm=norm(t, "2_"), keep_mask=True)
        elif form in ("identity", "padded"):
            z, _ = bn_act(t["y"], norm(t), shortcut=t["shortcut"], shortcut_stride=stride, keep_mask=True)
        else:
            z, _ = bn_act(t["y"], norm(t))
        return {"z": z}

    return run


OP = Op(
    name="bn_act",
    works=(WORK,),
    cases=_cases,
    operands=_operands,
    maths=_maths,
    fused=_fused,
)
