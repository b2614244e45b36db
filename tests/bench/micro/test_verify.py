"""Our kernels in Triton's interpreter, at a tiny shape of every form, against fp64."""

import pytest
import torch

from bench.micro.cases import cases
from bench.micro.ops import OPS
from bench.micro.verify import forms, verify
from bench.roofline.step import net

NETS = [net(depth=50), net(depth=50, shortcut="A"), net(depth=20)]


@pytest.mark.interpreted
@pytest.mark.skipif(torch.cuda.is_available(), reason="runs kernels on the CPU")
@pytest.mark.parametrize("op", OPS)
def test_every_form_of_our_kernels_is_right(op: str) -> None:
    found = forms([case for one in NETS for case in cases(one, (op,))])
    with torch.no_grad():
        assert {case.name: verify(case).status for case in found} == {case.name: "ok" for case in found}
