"""Kernels run on the GPU where there is one, else in Triton's interpreter; whatever they write starts as NaN.

Tests of this folder may import the helpers that lie beside them.
"""

import dataclasses
import inspect
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from interpreter_bf16 import exact_bf16  # noqa: E402

from kernels import prepared, runtime  # noqa: E402
from kernels.reference.check import poisoned  # noqa: E402
from kernels.tiles import pointwise  # noqa: E402


@pytest.fixture(autouse=True)
def poison():
    """Fill every output and workspace before a kernel sees it: what it leaves unwritten shows."""
    with poisoned():
        yield


@pytest.fixture(autouse=True, scope="session")
def bf16():
    """bf16 in the interpreter rounds and multiplies as on a GPU."""
    with exact_bf16():
        yield


@pytest.fixture(autouse=True)
def unprepared():
    """Nothing is prepared already: a test may change what planning depends on."""
    prepared.forget()
    yield
    prepared.forget()


@pytest.fixture
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def few_programs(monkeypatch):
    """Pointwise kernels run with so few programs that each walks through three tiles."""
    tiling = pointwise.pointwise_tiling

    def coarse(rows, *arguments, **keywords):
        fine = tiling(rows, *arguments, **keywords)
        return dataclasses.replace(fine, tiles=3, grid=(-(-rows // (3 * fine.block_m)), fine.grid[1]))

    monkeypatch.setattr(pointwise, "pointwise_tiling", coarse)


@pytest.fixture
def no_allocation(monkeypatch):
    """Operands are refused before anything is allocated for them."""

    def refuse(*_):
        raise AssertionError("allocated before the operands were checked")

    monkeypatch.setattr(runtime, "empty", refuse)


@pytest.fixture
def complete():
    """Assert which kernels were captured, and that each is given every parameter by name."""

    def check(launches, names):
        assert [launch.kernel for launch in launches] == names
        for launch in launches:
            assert set(launch.arguments) == set(inspect.signature(launch.function.fn).parameters)

    return check
