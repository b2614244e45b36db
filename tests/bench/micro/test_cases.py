"""Which cases a network has: the distinct layers of each op."""

from bench.micro.cases import cases
from bench.micro.ops import OPS
from bench.roofline.step import net


def test_cases_are_the_distinct_layers_of_the_net() -> None:
    step = net(depth=50)
    found = {op: cases(step, (op,)) for op in OPS}
    assert all(len(set(mine)) == len(mine) > 0 for mine in found.values())
    assert {case.form for case in found["conv_dgrad"]} == {"inner", "inner+z", "identity", "plain"}
    assert {case.form for case in found["bn_act"]} == {"relu", "training", "identity", "projection"}
    names = [case.name for case in found["conv1x1"]]
    assert "statistics 256x64x56x56 -> 256, 1x1/1" in names and len(names) == len(set(names))
    assert all(case.shape.c_in % 8 == 0 for case in found["conv3x3"] + cases(net(depth=20), ("conv3x3",)))
    assert not cases(net(depth=20), ("stem", "conv1x1"))


def test_option_a_s_shortcut_has_cases_of_its_own() -> None:
    step = net(depth=20)
    padded = [case for case in cases(step, ("bn_act",)) if case.form == "padded"]
    assert [case.name for case in padded] == ["padded 128x32x16x16 /2", "padded 128x64x8x8 /2"]
    added = next(case for case in cases(step, ("bn_act",)) if case.form == "identity" and case.shape.c_in == 32)
    # Half of the identity's channels are read.
    assert added.bytes_min(2) - padded[0].bytes_min(2) == 128 * 16 * 16 * 16 * 2
    strided = [case for case in cases(step, ("bn_act_backward",)) if case.form == "padded"]
    dense = next(case for case in cases(step, ("bn_act_backward",)) if case.form == "identity")
    assert [case.shape.stride for case in strided] == [2, 2]
    # A quarter of the skip's pixels is.
    assert dense.bytes_min(2) - strided[0].bytes_min(2) == 128 * 32 * 32 * 16 * 2 * 3 // 4
    bottleneck = [case.name for case in cases(net(depth=50, shortcut="A"), ("bn_act",))]
    assert "padded 256x256x56x56" in bottleneck and "padded 256x512x28x28 /2" in bottleneck
