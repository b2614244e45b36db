"""The tile configs of each convolution on each chip, and which one is taken where none was measured."""

import functools
import math
import re
from dataclasses import dataclass

import torch

from kernels import runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError, TileConfig
from kernels.tiles.resident import resident_programs
from results.words import nearest

LONG = "conv3x3"  # whose product alone takes longer than what comes before and after it


@functools.cache
def listed(op: str, chip: str) -> tuple[TileConfig, ...]:
    """The tile configs of a convolution on a chip of `CHIPS`, the best first where all else is equal."""
    first, instead = CHIPS[chip].first.get(op, ()), CHIPS[chip].instead.get(op, {})
    words = [word for tile_config in CHIPS[chip].tile_configs for word in instead.get(tile_config, (tile_config,))]
    return tuple(parse(word) for word in dict.fromkeys([*first, *words]))


def parse(text: str) -> TileConfig:
    """The inverse of `str` of a convolution's config, such as "128x64x64/w4/s3", whether it is listed here or not.

    Raises:
        ValueError: anything else; one line with the nearest that is listed.
    """
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})x(\d{1,4})/w(\d{1,2})/s(\d{1,2})", text, re.ASCII)
    numbers = [int(number) for number in match.groups()] if match else []
    # What Triton takes: powers of two, of at least 16 for its matrix instructions.
    powers = all(number.bit_count() == 1 for number in numbers[:4]) and all(16 <= size <= 1024 for size in numbers[:3])
    if not numbers or not powers or not (numbers[3] <= 32 and 1 <= numbers[4] <= 16):
        known = dict.fromkeys(tile_config for chip in CHIPS.values() for tile_config in chip.tile_configs)
        raise ValueError(
            f"{' '.join(text.split()):.80}: no tile config, which is MxNxK/wWARPS/sSTAGES with M, N and K of "
            f"16, 32, ... 1024, 1, 2, ... 32 warps and at most 16 stages; nearest is {nearest(text, known)}"
        )
    block_m, block_n, block_k, num_warps, num_stages = numbers
    return TileConfig((("BLOCK_M", block_m), ("BLOCK_N", block_n), ("BLOCK_K", block_k)), num_warps, num_stages)


@dataclass(frozen=True)
class ConvTiling:
    """A launch of a convolution: how many programs there are, and how their partial sums are merged.

    Attributes:
        tile_config: which tiles the programs have.
        columns: blocks of columns.
        chunks: blocks of the channels that are summed over.
        programs: of one block of columns, each with a partial sum.
        group: how many of them merge first.
        block_p: partial sums that are merged at a time.
    """

    tile_config: TileConfig
    columns: int
    chunks: int
    programs: int
    group: int
    block_p: int

    @property
    def groups(self) -> int:
        return -(-self.programs // self.group)

    @property
    def grid(self) -> tuple[int]:
        return (self.columns * self.programs,)


def shared_bytes(tile_config: TileConfig, dtype: torch.dtype) -> int:
    """Shared memory of the loop that multiplies: a buffer of each operand for each stage."""
    block_m, block_n, block_k = (size for _, size in tile_config.blocks)
    return tile_config.num_stages * (block_m + block_n) * block_k * dtype.itemsize


def fitting_configs(
    op: str, chip: str, dtype: torch.dtype, M: int, N: int, K: int, most_shared_bytes: int | None = None
) -> tuple[TileConfig, ...]:
    """The tile configs of an op that fit a shape, the default one first: the first listed that keeps a chip busy.

    A chip is busy where every multiprocessor has two programs at once, so that one computes while the other waits for
    memory or merges sums. How many there are is told by the launch, and by the registers and shared memory of the
    compiled kernel (`kernels.tiles.resident`); a 3x3 forward multiplies for so long that one large program does. Among
    tile configs of which that is equal, those come first that lose less of the chip, in quarters, to a last wave of
    programs that does not fill it and to the edges of the image. On a chip whose list begins with what was measured
    (`first`), that decides, and programs of the launch alone are counted.

    Args:
        op: a convolution, such as "conv1x1".
        chip: one of `CHIPS`.
        dtype: of the operands.
        M: rows of the result, one a pixel.
        N: channels of the result.
        K: channels of the image that is multiplied (of one tap).
        most_shared_bytes: that a device has for a program; None for as many as the chip.

    Returns:
        At least one.
    """
    # fp32 is multiplied by the ordinary cores, an element of the tile at a time.
    largest = 64 * 64 if dtype == torch.float32 else 128 * 128
    wide, deep = (max(1 << (size - 1).bit_length(), 16) for size in (N, K))
    most = CHIPS[chip].shared_bytes if most_shared_bytes is None else most_shared_bytes
    fit = []
    for tile_config in listed(op, chip):
        block_m, block_n, block_k = (size for _, size in tile_config.blocks)
        small = block_n <= wide and block_k <= deep and block_m * block_n <= largest
        if small and shared_bytes(tile_config, dtype) <= most:
            fit.append(tile_config)
    # Many narrow columns would read the image many times; they are left where nothing else fits.
    fit = [tile_config for tile_config in fit if tile_config.constexprs["BLOCK_N"] >= min(wide, 64) // 2] or fit

    processors = CHIPS[chip].processors
    measured = bool(CHIPS[chip].first)

    def order(tile_config: TileConfig) -> tuple[int, int]:
        """Programs that are missing for every multiprocessor to have two, then quarters of the chip that are lost."""
        block_m, block_n, _ = (size for _, size in tile_config.blocks)
        programs = -(-M // block_m) * -(-N // block_n)
        resident = None if measured else resident_programs(chip, op, str(tile_config))
        if resident is None:
            return max(2 * processors - programs, 0), 0
        at_once = processors * resident
        busy = min(programs, processors * (2 if op == LONG else min(resident, 2)))
        room = -(-programs // at_once) * at_once * block_m * block_n  # of all waves
        return max(2 * processors - busy, 0), 4 * (room - M * N) // room

    return tuple(sorted(fit, key=order))


def default_config(
    op: str, chip: str, dtype: torch.dtype, M: int, N: int, K: int, most_shared_bytes: int | None = None
) -> TileConfig:
    """The tile config that is taken where none was measured; see `fitting_configs`."""
    return fitting_configs(op, chip, dtype, M, N, K, most_shared_bytes)[0]


def conv_tiling(
    op: str, device: torch.device, dtype: torch.dtype, M: int, N: int, K: int, tile_config: TileConfig | None = None
) -> ConvTiling:
    """How an operation is launched; arguments as in `fitting_configs`.

    Raises:
        KernelError: the given tile config is none of a convolution.
    """
    chip = runtime.chip(device)
    if tile_config is None:
        tile_config = default_config(op, chip, dtype, M, N, K, runtime.shared_bytes(device))
    if [name for name, _ in tile_config.blocks] != ["BLOCK_M", "BLOCK_N", "BLOCK_K"]:
        raise KernelError(
            f"tile_config: {tile_config} is not of BLOCK_M, BLOCK_N, BLOCK_K; nearest is {listed(op, chip)[0]}"
        )
    block_m, block_n, block_k = (size for _, size in tile_config.blocks)
    programs = -(-M // block_m)
    group = 1 << (math.isqrt(programs - 1).bit_length())  # about as many groups as there are programs in one
    return ConvTiling(
        tile_config, -(-N // block_n), -(-K // block_k), programs, group, max(tile_config.num_warps * 512 // block_n, 1)
    )
