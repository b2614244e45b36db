"""The least bytes, the FLOPs and the floor of a case."""

import pytest


def test_least_bytes_and_floor_of_a_case(first) -> None:
    case = first("bn_act_backward")
    pixels = 256 * 56 * 56 * 64 * 2
    # dz and y are read twice, dy is written; per-channel vectors are all that comes on top.
    assert 5 * pixels < case.bytes_min(2) < 5 * pixels + 10_000
    assert case.floor_s(2, 1e12, 1e-3) == case.bytes_min(2) / 1e12  # its arithmetic is not the matrix units'
    statistics = first("bn_stats")
    assert statistics.bytes_min(2) == 256 * 112 * 112 * 64 * 2 + 2 * 4 * 64
    assert statistics.flops == 4 * 256 * 112 * 112 * 64
    conv = first("conv3x3")
    assert conv.floor_s(2, 1e30, 1e12) == pytest.approx(conv.flops / 1e12)
