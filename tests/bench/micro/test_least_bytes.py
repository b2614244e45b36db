"""The least bytes and the FLOPs of each kernel by itself, beside the ladder's and counted by hand."""

from typing import Any

import pytest

from bench.micro.cases import cases
from bench.micro.least_bytes import Shape
from bench.micro.ops import OPS
from bench.roofline.layers import layers, network
from bench.roofline.passes import passes
from bench.roofline.step import net

WORKS = {work.name: work for op in OPS.values() for work in op.works}


def op_bytes(kernel: str, shape: Shape, element_bytes: int, **words: Any) -> int:
    return WORKS[kernel].bytes(shape, element_bytes, **words)


def total(found, op, layer):
    return sum(one.bytes for one in found if one.op == op and one.layer.startswith(layer))


def test_single_ops_agree_with_the_ladder() -> None:
    """What the ladder says of a pass is what the op by itself must move, less its per-channel vectors."""
    batch, architecture = 2, net(depth=50, stride="v1.5").architecture
    found = passes(architecture, batch, 224, 2, "a")
    y = {layer.name: layer for layer in layers(architecture, 224)}["layer2.1.conv3"]
    shape = Shape(batch, y.size_out, y.size_out, y.c_out)
    vectors = {"bn_act": 4, "bn_act_backward_reduce": 6, "bn_act_backward_apply": 6}
    for op, options in {
        "bn_act": {"shortcut": "identity", "keep_mask": True},
        "bn_act_backward_reduce": {"shortcut": "identity", "skip_stride": 1, "write_gradient": True},
        "bn_act_backward_apply": {"shortcut": "identity"},
    }.items():
        alone = op_bytes(op, shape, 2, **options) - 4 * vectors[op] * y.c_out
        assert alone == total(found, op, y.name), op
    conv = Shape(batch, y.size_in, y.size_in, y.c_in, y.c_out)
    assert op_bytes("conv1x1", conv, 2) == total(found, "conv", y.name)
    assert op_bytes("conv_dgrad", conv, 2, producer=False) == total(found, "dgrad", y.name)
    stem = network(architecture, 224).layers[0]
    alone = op_bytes("stem", Shape(batch, 112, 112, 64), 2) - 4 * 4 * 64
    assert alone == total(found, "stem", stem.name)


def test_single_ops_count_only_what_they_touch() -> None:
    shape = Shape(2, 8, 8, 16)
    y, vector = 2 * 8 * 8 * 16 * 2, 4 * 16
    assert op_bytes("bn_stats", shape, 2) == y + 2 * vector
    assert op_bytes("bn_act", shape, 2) == 2 * y + 4 * vector
    assert op_bytes("bn_act", shape, 2, shortcut="identity", identity_channels=8) == 2 * y + y // 2 + 4 * vector
    assert op_bytes("bn_act_backward_reduce", shape, 2, dz_expanded=True) == y + 2 * 16 * 2 + 6 * vector
    assert op_bytes("bn_act_backward_reduce", shape, 2, skip_stride=2) == 2 * y + y // 4 + 6 * vector
    conv = Shape(2, 8, 8, 16, 32, 3)
    assert op_bytes("conv3x3", conv, 2) == 3 * y + 9 * 16 * 32 * 2
    assert op_bytes("conv3x3", conv._replace(stride=2), 2) == y + y // 2 + 9 * 16 * 32 * 2
    assert op_bytes("conv1x1", conv._replace(kernel=1, stride=2), 2) == y // 4 + y // 2 + 16 * 32 * 2
    assert op_bytes("conv_dgrad", conv, 2, write_activation=True) == 5 * y + 9 * 16 * 32 * 2 + 6 * vector
    assert op_bytes("conv_inference", conv, 2, shortcut="identity") == 5 * y + 9 * 16 * 32 * 2 + 4 * 32
    assert WORKS["conv3x3"].flops(conv) == WORKS["conv_dgrad"].flops(conv) == 2 * 2 * 64 * 9 * 16 * 32
    assert all(work.flops(conv) > 0 and work.bytes(conv, 4) > work.bytes(conv, 2) for work in WORKS.values())


def test_residual_additions_count_the_bits_the_second_image_and_its_vectors() -> None:
    shape = Shape(2, 8, 8, 20)
    y, vector, bits = 2 * 8 * 8 * 20 * 2, 4 * 20, 2 * 8 * 8 * 3  # 20 bits of a pixel take 3 bytes
    assert op_bytes("bn_act", shape, 2, shortcut="projection", keep_mask=True) == 3 * y + 8 * vector + bits
    assert op_bytes("bn_act_backward_reduce", shape, 2, shortcut="projection") == 3 * y + (8 + 3) * vector + bits
    assert op_bytes("bn_act_backward_apply", shape, 2, shortcut="projection") == 5 * y + (8 + 3) * vector
    assert op_bytes("bn_act_backward_apply", shape, 2, shortcut="identity", masked=False) == 3 * y + 6 * vector + bits
    assert op_bytes("bn_act_backward_apply", shape, 2, masked=False) == 3 * y + 6 * vector
    conv = Shape(2, 8, 8, 20, 20)
    added = op_bytes("conv_dgrad", conv, 2, shortcut="projection", skip_stride=1) - op_bytes("conv_dgrad", conv, 2)
    assert added == 2 * y + 5 * vector + bits
    epilogue = op_bytes("conv1x1", conv, 2, prologue=True, statistics=True) - op_bytes("conv1x1", conv, 2)
    assert epilogue == (4 + 2) * vector


def test_the_stem_counts_a_byte_of_argmax_for_each_pooled_element() -> None:
    shape = Shape(2, 9, 8, 16)
    y, vector, pooled = 2 * 9 * 8 * 16 * 2, 4 * 16, 2 * 5 * 4 * 16
    assert op_bytes("stem", shape, 2) == y + 4 * vector + 3 * pooled
    assert op_bytes("stem_backward_reduce", shape, 2) == y + 6 * vector + 3 * pooled
    assert op_bytes("stem_backward_apply", shape, 2) == 2 * y + 6 * vector + 3 * pooled


def test_no_such_op_or_shortcut_is_one_line_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="^op=conv2x2: .*nearest is conv"):
        cases(net(depth=50), ("conv2x2",))
    with pytest.raises(ValueError, match="^shortcut=dual: .*expected one of none, identity, projection; nearest is"):
        op_bytes("bn_act", Shape(2, 8, 8, 16), 2, shortcut="dual")
