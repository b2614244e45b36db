"""The list of ops: every module is in it, and what each says of itself agrees."""

from pathlib import Path

import pytest

import bench.micro.ops
from bench.micro.cases import cases
from bench.micro.ops import OPS
from bench.roofline.step import net

NETS = [net(depth=50), net(depth=20), net(depth=34, shortcut="none")]


def test_every_module_of_an_op_is_listed() -> None:
    files = Path(bench.micro.ops.__file__).parent.glob("*.py")
    listed = {op.maths.__module__.rpartition(".")[2] for op in OPS.values()}
    assert listed == {file.stem for file in files} - {"__init__"}
    assert tuple(OPS) == (
        "bn_stats", "bn_act", "bn_act_backward", "stem", "conv1x1", "conv3x3", "conv_dgrad", "conv_inference",
    )  # fmt: skip


@pytest.mark.parametrize("op", OPS)
def test_cases_are_the_op_s_own(op: str) -> None:
    works = {work for each in OPS.values() for work in each.works}
    found = [case for one in NETS for case in cases(one, (op,))]
    assert found and {case.op for case in found} == {op}
    assert {part.work for case in found for part in case.parts} >= set(OPS[op].works)
    assert {part.work for case in found for part in case.parts} <= works
    assert {case.conv for case in found} == {OPS[op].conv}
    assert set(OPS[op].rewritten) <= {case.form for case in found}
