"""One program's cycles: stalls, scoreboards, asynchronous copies, products, barriers, and the units of its warps."""

from dataclasses import replace

import pytest
from sass_text import printed, stored

from bench.machine_code.timeline import Warp, alone, busy, product_flops
from kernels.aot.sass import parse, straight_path
from kernels.chips import CHIPS, Latencies

CHIP = replace(CHIPS["sm_90"], latencies=Latencies(memory=400, l2=200, shared=20))
PER_FLOP = 1 / 4096  # cycles


def cycles(*lines, turns=1, warps=1):
    return alone(straight_path(parse(printed(*lines)), turns), CHIP, warps, PER_FLOP)


def free_at(*lines, products=1.0):
    """When a warp may go on behind some instructions."""
    warp = Warp(CHIP.latencies, PER_FLOP, products)
    for one in parse(printed(*lines)).instructions:
        warp.issue(one)
    return warp.cycle


@pytest.mark.parametrize(
    ("op", "latency"),
    [("LDG.E.128", 400), ("ATOMG.E.ADD", 200), ("MEMBAR.ALL.GPU", 200), ("MEMBAR.ALL.CTA", 20), ("LDS.128", 20),
     ("SHFL.BFLY", 20), ("MUFU.RCP", 20)],
)  # fmt: skip
def test_a_result_is_waited_for_as_long_as_the_chip_takes(op, latency):
    waiting = cycles("NOP | stall=5", f"{op} R1, R2 | stall=2 writes=3", "FADD R3, R1 | stall=4 waits=0b1000", "EXIT")
    assert waiting.cycles == 5 + latency + 4 + 1
    ahead = cycles("NOP | stall=5", f"{op} R1, R2 | stall=2 writes=3", "FADD R3, R9 | stall=4 waits=0b0100", "EXIT")
    assert ahead.cycles == 5 + 2 + 4 + 1


def test_operands_are_read_before_they_are_written_again():
    assert cycles("STG.E R1, R2 | stall=1 reads=0", "MOV R2, R3 | waits=0b1", "EXIT").cycles == 20 + 1 + 1


def test_loads_wait_together():
    both = cycles("LDG.E R1, R2 | stall=2 writes=0", "LDG.E R3, R2 | stall=2 writes=0", "FADD R1, R3 | waits=1", "EXIT")
    assert both.cycles == 2 + 400 + 1 + 1


def test_copies_are_waited_for_group_by_group():
    copy, commit = "LDGSTS.E.128 [R1], [R2] | stall=10", "LDGDEPBAR | writes=0"
    groups = (copy, commit, copy, commit)
    assert cycles(*groups, "DEPBAR.LE SB0, 0x1", "EXIT").cycles == 400 + 1 + 1  # issued at 0
    assert cycles(*groups, "DEPBAR.LE SB0, 0x0", "EXIT").cycles == 11 + 400 + 1 + 1  # issued at 11
    assert cycles(*groups, "DEPBAR.LE SB0, 0x2", "EXIT").cycles == 11 + 11 + 1 + 1


def test_products_are_waited_for_batch_by_batch():
    product = "HGMMA.64x128x16.F32.BF16 R24, gdesc[UR4], R24"  # 64 cycles at 4096 FLOPs a cycle
    batches = (product, f"{product}, gsb0", f"{product}, gsb0")
    assert product_flops(parse(printed(product)).instructions[0]) == 2 * 64 * 128 * 16
    assert free_at(*batches, "WARPGROUP.DEPBAR.LE gsb0, 0x2") == 3 + 1
    assert free_at(*batches, "WARPGROUP.DEPBAR.LE gsb0, 0x1") == 2 * 64 + 1
    assert free_at(*batches, "WARPGROUP.DEPBAR.LE gsb0, 0x0") == 3 * 64 + 1
    # Of two groups of four warps the units do one's after the other's.
    assert free_at(*batches, "WARPGROUP.DEPBAR.LE gsb0, 0x0", products=2.0) == 6 * 64 + 1
    # The kernel does not end before they are done.
    late = ("LDG.E R1, R2 | writes=0", f"{product}, gsb0 | waits=1", "EXIT")
    assert cycles(*late, warps=4).cycles == 400 + 64
    assert cycles(*batches, "EXIT", warps=4).cycles == 3 * 64
    assert cycles(*batches, "EXIT", warps=8).cycles == 6 * 64


def test_barriers_part_what_waits_from_what_works():
    """20 cycles of waiting and 32 of shuffles do not overlap across a barrier, and do within one."""
    wait = ("LDS R1, R2 | writes=0", "FADD R1, R1 | stall=1 waits=1")
    work = ("SHFL.BFLY PT, R1, R1",) * 4
    parted = cycles(*wait, "BAR.SYNC 0x0", *work, "EXIT", warps=8)
    together = cycles(*wait, *work, "EXIT", warps=8)
    assert parted.cycles == 22 + 8 * 4 and together.cycles == 8 * 4 + 8  # the load takes the pipe for 8


def test_units_are_kept_by_all_warps():
    def of(line):
        return busy(parse(printed(line)).instructions[0], 8, 4, PER_FLOP)

    assert vars(of("FADD R1, R2")) == {"issue": 2.0, "shared": 0.0, "special": 0.0, "matrix": 0.0}
    assert (of("SHFL.BFLY R1").shared, of("LDS.128 R1").shared, of("STS R1").shared) == (8.0, 32.0, 8.0)
    assert (of("LDG.E.128 R1").shared, of("LDSM.16.M88.4 R1").shared) == (32.0, 32.0)
    assert (of("MUFU.RCP R1").special, of("F2F.BF16.F32 R1").special) == (16.0, 4.0)
    assert of("HGMMA.64x128x16.F32.BF16 R24").matrix == 2 * 64  # two groups of four warps
    with pytest.raises(ValueError, match="^HGMMA.SP: how large a product"):
        of("HGMMA.SP R24")


def test_a_loop_takes_its_turns():
    loop = (".L_x_1:", "LDG.E R1, R2 | writes=0", "BAR.SYNC 0x0 | stall=3 waits=1", "@P0 BRA `(.L_x_1) | stall=5")
    found = cycles(*loop, "EXIT", turns=3)
    assert found.cycles == 3 * (400 + 3 + 5) + 1
    assert found.loop_cycles == 3 * (400 + 3) + 2 * 5  # the last branch lies behind the last barrier
    assert found.busy.issue == (3 * 3 + 1) / 4


def test_the_widening_convolution_keeps_the_pipe_of_shared_memory_busiest():
    """Its 385 shuffles and what it takes through shared memory are more than it issues."""
    path = straight_path(parse(stored("conv1x1-widening")), 1)
    found = alone(path, CHIP, 8, PER_FLOP)
    assert found.busy.issue == 1949 * 8 / 4
    moved = sum(one.access_bytes for one, _ in path.executed()) / 4
    assert found.busy.shared == 8 * (385 + moved) == found.busy.most
    assert found.cycles > found.busy.most
