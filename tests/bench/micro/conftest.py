"""What the tests of the microbenchmarks share: the first case of an op, and results whose times are made up."""

from collections.abc import Callable

import pytest

from bench.micro.cases import cases
from bench.micro.measure import Result
from bench.micro.op import Case
from bench.roofline.step import net


@pytest.fixture
def first() -> Callable[[str], Case]:
    return lambda op: cases(net(depth=50), (op,))[0]


@pytest.fixture
def results() -> dict[str, Result]:
    samples = {"warm": [4.0, 5.0, 9.0], "cold": [8.0, 10.0, 12.0]}
    slower = {l2: [2 * us for us in values] for l2, values in samples.items()}
    return {
        "triton": Result("ok", 1e-3, "bn_stats 64x64/w8", samples),
        "eager": Result("ok", 1e-3, None, slower),
        "compile": Result("failed: z is off by 1 (relative L2), torch's own by 0.001", 1.0),
        "cudnn-fused": Result("unavailable: no such fusion"),
    }
