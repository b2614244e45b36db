"""How an image is cut into tiles."""

import itertools

import pytest
import torch

from kernels import runtime
from kernels.chips import CHIPS
from kernels.tiles import pointwise

ROWS = (1, 2, 49, 12544, 200704, 3211264)
CHANNELS = (3, 16, 64, 1023, 2048)


@pytest.mark.parametrize("sums", [True, False])
def test_every_row_and_channel_is_in_one_program(sums):
    for rows, channels in itertools.product(ROWS, CHANNELS):
        tiling = pointwise.pointwise_tiling(rows, channels, torch.device("cpu"), sums=sums)
        down, columns = tiling.grid
        height = tiling.block_m * tiling.tiles
        assert (down - 1) * height < rows <= down * height
        assert (columns - 1) * tiling.block_c < channels <= columns * tiling.block_c
        assert tiling.block_m * tiling.block_c <= 4096 and tiling.block_c % 8 == 0


@pytest.mark.parametrize("chip", CHIPS)
def test_programs_that_sum_run_at_once_and_leave_few_partials(chip):
    with runtime.capture_launches(chip):
        for rows, channels in itertools.product(ROWS, CHANNELS):
            down, columns = pointwise.pointwise_tiling(rows, channels, torch.device("meta"), sums=True).grid
            assert down * columns <= 2 * CHIPS[chip].processors
            if rows == 3211264:
                assert down * columns >= 1.5 * CHIPS[chip].processors


def test_bits_of_a_byte_are_never_split():
    assert pointwise.pointwise_tiling(1, 3, torch.device("cpu"), sums=True).block_c == 8
