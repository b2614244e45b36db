"""One program's way through its machine code, cycle by cycle, on a multiprocessor that it has to itself.

A warp issues an instruction when the scoreboards that it waits for are free, and the next one as many cycles later as
the compiler has written into the code. What takes a varying time frees its scoreboard after the chip's latency. The
warps of a program meet at barriers: between two of them a program takes as long as one warp waits, or as long as all
its warps keep the busiest unit of the multiprocessor. Bank conflicts are in no figure, nor is memory's own time.

Cycles that a multiprocessor's units need for an instruction of a warp: CUDA C Programming Guide, "Throughput of Native
Arithmetic Instructions", compute capability 9.0: 32 lanes a cycle for shuffles, 16 for special functions, 64 for
conversions; 128 bytes a cycle of shared memory and L1.
"""

import re
from dataclasses import dataclass

from kernels.aot.sass import Instruction, Path
from kernels.chips import Chip, Latencies

BARRIER = "BAR"
_SHUFFLE = 1.0
_SPECIAL = {"MUFU": 2.0, "F2F": 0.5, "F2I": 0.5, "I2F": 0.5}
_PIPE_BYTES = 128
_PRODUCT = re.compile(r"\.(\d+)x(\d+)x(\d+)\.")
_PENDING = re.compile(r"0x([0-9a-f]+)$")
WARPS_OF_A_PRODUCT = 4  # that share an instruction of the matrix units (a warpgroup)


@dataclass
class Busy:
    """Cycles of a multiprocessor's units: its schedulers, the pipe to shared memory and L1, special functions, and the
    matrix units."""

    issue: float = 0.0
    shared: float = 0.0
    special: float = 0.0
    matrix: float = 0.0

    @property
    def most(self) -> float:
        return max(self.issue, self.shared, self.special, self.matrix)

    def add(self, other: "Busy") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


@dataclass
class Alone:
    """A program by itself.

    Attributes:
        cycles: from its first instruction to its last.
        loop_cycles: of them in loops.
        busy: of the units.
    """

    cycles: float
    loop_cycles: float
    busy: Busy


class Warp:
    """What one warp waits for; `cycle` is when it may issue its next instruction.

    Args:
        latencies: of the chip.
        cycles_per_flop: of the multiprocessor's matrix units.
        products: instructions of the matrix units that all warps of a program issue, for each of this one's.
    """

    def __init__(self, latencies: Latencies, cycles_per_flop: float, products: float) -> None:
        self.latencies, self.cycles_per_flop, self.products = latencies, cycles_per_flop, products
        self.cycle = 0.0
        self.free = [0.0] * 6
        self.copied = 0.0  # when the asynchronous copies since the last commit are there
        self.copies: list[float] = []
        self.multiplied = 0.0  # when the matrix units are free
        self.batches: list[float] = []

    def issue(self, one: Instruction) -> None:
        """Take one instruction."""
        for place in range(6):
            if one.waits >> place & 1:
                self.cycle = max(self.cycle, self.free[place])
        if one.op.startswith("WARPGROUP.DEPBAR"):
            self._wait(self.batches, one)
        elif one.name == "DEPBAR":
            self._wait(self.copies, one)
        done = self.cycle + self._latency(one)
        if one.name == "LDGSTS":
            self.copied = max(self.copied, self.cycle + self.latencies.memory)
        elif one.name == "LDGDEPBAR":
            self.copies.append(max(self.copied, self.cycle))
            done = self.copies[-1]
        elif one.name == "HGMMA":
            self.multiplied = (
                max(self.multiplied, self.cycle) + product_flops(one) * self.products * self.cycles_per_flop
            )
            if "gsb0" in one.text:
                self.batches.append(self.multiplied)
        written, read = one.sets
        if written < 6:
            self.free[written] = max(self.free[written], done)
        if read < 6:
            self.free[read] = max(self.free[read], self.cycle + self.latencies.shared)
        self.cycle += max(one.stall, 1)

    def _wait(self, groups: list[float], one: Instruction) -> None:
        """Until no more than so many groups are on their way."""
        pending = _PENDING.search(one.text)
        place = len(groups) - 1 - (int(pending[1], 16) if pending else 0)
        if place >= 0:
            self.cycle = max(self.cycle, groups[place])

    def _latency(self, one: Instruction) -> int:
        if one.name == "LDG":
            return self.latencies.memory
        if one.name in ("ATOM", "ATOMG", "RED") or one.op.startswith("MEMBAR") and one.op.endswith("GPU"):
            return self.latencies.l2
        return self.latencies.shared


def product_flops(one: Instruction) -> int:
    """Of an instruction of the matrix units, two a multiply-add, by the warps that share it."""
    found = _PRODUCT.search(one.op)
    if not found:
        raise ValueError(f"{one.op}: how large a product it is is not in its name")
    m, n, k = map(int, found.groups())
    return 2 * m * n * k


def busy(one: Instruction, warps: int, schedulers: int, cycles_per_flop: float) -> Busy:
    """What all warps of a program keep the units for with one instruction each."""
    shared = _SHUFFLE if one.name == "SHFL" else one.access_bytes * 32 / _PIPE_BYTES
    matrix = product_flops(one) * cycles_per_flop / WARPS_OF_A_PRODUCT if one.name == "HGMMA" else 0.0
    return Busy(warps / schedulers, warps * shared, warps * _SPECIAL.get(one.name, 0.0), warps * matrix)


def alone(path: Path, chip: Chip, num_warps: int, cycles_per_flop: float) -> Alone:
    """A program's way through the code.

    Args:
        chip: whose latencies are known.
        cycles_per_flop: of one multiprocessor's matrix units.
    """
    assert chip.latencies is not None
    warp = Warp(chip.latencies, cycles_per_flop, num_warps / WARPS_OF_A_PRODUCT)
    found = Alone(0.0, 0.0, Busy())
    segment, began = Busy(), 0.0
    for one, inside in path.executed():
        warp.issue(one)
        segment.add(busy(one, num_warps, chip.schedulers, cycles_per_flop))
        if one.name == BARRIER:
            _close(found, segment, warp.cycle - began, inside)
            segment, began = Busy(), warp.cycle
    _close(found, segment, max(warp.cycle, warp.multiplied) - began, False)
    return found


def _close(found: Alone, segment: Busy, waited: float, inside: bool) -> None:
    """Add what lies between two barriers."""
    cycles = max(waited, segment.most)
    found.cycles += cycles
    found.loop_cycles += cycles if inside else 0.0
    found.busy.add(segment)
