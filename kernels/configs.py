"""How each convolution is cut into programs on each chip, and which cut is taken where none was measured."""

import math
from dataclasses import dataclass

import torch

from kernels import runtime
from kernels.operands import Config, KernelError

OPS = ("conv1x1", "conv3x3", "conv_dgrad", "conv_inference")
# Shared memory (LDS) of a multiprocessor and the most that one program may have, in bytes (CUDA C Programming Guide,
# table "Technical Specifications per Compute Capability"; CDNA 3 ISA), and multiprocessors of the largest such chip.
SHARED_BYTES = {"sm_80": 167_936, "sm_90": 233_472, "sm_100": 233_472, "gfx942": 65_536}
SHARED_LIMITS = {"sm_80": 166_912, "sm_90": 232_448, "sm_100": 232_448, "gfx942": 65_536}
PROCESSORS = {"sm_80": 108, "sm_90": 132, "sm_100": 148, "gfx942": 304}
REGISTERS = 65_536  # of a multiprocessor


def _cut(block_m: int, block_n: int, block_k: int, num_warps: int, num_stages: int) -> Config:
    return Config((("BLOCK_M", block_m), ("BLOCK_N", block_n), ("BLOCK_K", block_k)), num_warps, num_stages)


_NARROW = (_cut(128, 16, 16, 4, 3), _cut(128, 32, 32, 4, 3))
_HOPPER = (
    _cut(128, 128, 64, 8, 3),
    _cut(128, 64, 64, 4, 3),
    _cut(64, 128, 64, 4, 3),
    _cut(64, 64, 64, 4, 4),
    _cut(64, 32, 32, 4, 4),
    *_NARROW,
)
_AMPERE = (
    _cut(128, 128, 32, 8, 3),
    _cut(128, 64, 32, 4, 3),
    _cut(64, 128, 32, 4, 3),
    _cut(64, 64, 64, 4, 3),
    _cut(64, 32, 32, 4, 4),
    *_NARROW,
)
_CDNA = (
    _cut(128, 128, 32, 8, 2),
    _cut(128, 64, 64, 8, 2),
    _cut(64, 64, 64, 4, 2),
    _cut(64, 32, 32, 4, 2),
    _cut(128, 32, 32, 4, 2),
    _cut(128, 16, 16, 4, 2),
)
_LISTS = {"sm_80": _AMPERE, "sm_90": _HOPPER, "sm_100": _HOPPER, "gfx942": _CDNA}

CONFIGS: dict[str, dict[str, tuple[Config, ...]]] = {op: dict(_LISTS) for op in OPS}


@dataclass(frozen=True)
class Plan:
    """A launch of a convolution: how many programs there are, and how their partial sums are merged.

    Attributes:
        config: the cut.
        columns: blocks of columns.
        chunks: blocks of the channels that are summed over.
        programs: of one block of columns, each with a partial sum.
        group: how many of them merge first.
        block_p: partial sums that are merged at a time.
    """

    config: Config
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


def shared_bytes(config: Config, dtype: torch.dtype) -> int:
    """Shared memory of the loop that multiplies: a buffer of each operand for each stage."""
    block_m, block_n, block_k = (size for _, size in config.blocks)
    return config.num_stages * (block_m + block_n) * block_k * dtype.itemsize


def candidates(op: str, chip: str, dtype: torch.dtype, M: int, N: int, K: int) -> tuple[Config, ...]:
    """The cuts of an operation that fit a shape, the default one first.

    Args:
        op: one of `OPS`.
        chip: one of `runtime.CHIPS`.
        dtype: of the operands.
        M: rows of the result, one a pixel.
        N: channels of the result.
        K: channels of the image that is multiplied (of one tap).

    Returns:
        At least one.
    """
    # fp32 is multiplied by the ordinary cores, an element of the tile at a time.
    largest = 4096 if dtype == torch.float32 else 128 * 128
    wide, deep = (max(1 << (size - 1).bit_length(), 16) for size in (N, K))
    fit = [
        config
        for config in CONFIGS[op][chip]
        if (cut := config.constexprs)["BLOCK_N"] <= wide
        and cut["BLOCK_K"] <= deep
        and cut["BLOCK_M"] * cut["BLOCK_N"] <= largest
        and shared_bytes(config, dtype) <= SHARED_LIMITS[chip]
    ]
    return tuple(sorted(fit, key=lambda config: _cost(config, chip, dtype, M, N, K)))


def choose(op: str, chip: str, dtype: torch.dtype, M: int, N: int, K: int) -> Config:
    """The cut that is taken where none was measured; see `candidates`."""
    return candidates(op, chip, dtype, M, N, K)[0]


def _cost(config: Config, chip: str, dtype: torch.dtype, M: int, N: int, K: int) -> float:
    """Estimated time: waves of programs, each moving its operands past the L2 cache and multiplying."""
    block_m, block_n, block_k = (size for _, size in config.blocks)
    chunks = -(-K // block_k)
    # Bytes of a tile from L2, and its products at 64 for each of those bytes.
    moved = chunks * block_k * (block_m + block_n) + block_m * block_n
    products = chunks * block_k * block_m * block_n / 64
    at_once = _resident(config, chip, dtype) / PROCESSORS[chip]
    programs = -(-M // block_m) * -(-N // block_n)
    waves = -(-programs // PROCESSORS[chip])
    # Few programs on a multiprocessor hide the latency of loads badly.
    return waves * (moved + products) * (1 + 0.5 / min(at_once, max(waves, 1)))


def _resident(config: Config, chip: str, dtype: torch.dtype) -> int:
    """Programs that run at one time on a chip: by shared memory, and by 168 registers a thread."""
    threads = config.num_warps * (64 if chip == "gfx942" else 32)
    by_shared = SHARED_BYTES[chip] // (shared_bytes(config, dtype) + 1024)
    by_registers = REGISTERS * (2 if chip == "gfx942" else 1) // (threads * 168)
    return PROCESSORS[chip] * max(min(by_shared, by_registers), 1)


def plan(
    op: str, device: torch.device, dtype: torch.dtype, M: int, N: int, K: int, config: Config | None = None
) -> Plan:
    """How an operation is launched; arguments as in `candidates`.

    Raises:
        KernelError: the given config is none of a convolution.
    """
    chip = runtime.chip(device)
    if config is None:
        config = choose(op, chip, dtype, M, N, K)
    if [name for name, _ in config.blocks] != ["BLOCK_M", "BLOCK_N", "BLOCK_K"]:
        raise KernelError(
            f"config: {config} is not cut by BLOCK_M, BLOCK_N, BLOCK_K; nearest is {CONFIGS[op][chip][0]}"
        )
    block_m, block_n, block_k = (size for _, size in config.blocks)
    programs = -(-M // block_m)
    group = 1 << (math.isqrt(programs - 1).bit_length())  # about as many groups as there are programs in one
    return Plan(config, -(-N // block_n), -(-K // block_k), programs, group, max(config.num_warps * 512 // block_n, 1))
