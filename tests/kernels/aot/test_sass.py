"""The path of a program through its machine code: loops and their turns, the tail of the last programs, widths."""

from collections import Counter

import pytest
from sass_text import printed, stored

from kernels.aot.machine_code import MachineCode, turns
from kernels.aot.sass import CodeError, parse, straight_path
from kernels.runtime import Launch

LOOP = (".L_x_1:", "LDG.E.128 R4, desc[UR4][R2.64]", "FADD R8, R8, R4", "@P0 BRA `(.L_x_1)")


def names(code, count):
    return [one.op for one, _ in straight_path(code, count).executed()]


def counted(path):
    executed = list(path.executed())
    return {
        "instructions": len(executed),
        "inside": sum(inside for _, inside in executed),
        "outside": len(path.outside),
        "tail": len(path.tail),
        **Counter(one.name for one, _ in executed),
        **Counter(
            (one.name, one.access_bytes) for one, _ in executed if one.name in ("LDG", "LDGSTS", "STG", "LDSM", "LDS")
        ),
    }


def test_an_instruction_has_its_parts():
    code = parse(printed("@!P0 LDG.E.128 R4, desc[UR4][R2.64+0x10] | stall=9 writes=3 reads=1 waits=0b100110"))
    (one,) = code.instructions
    assert (one.guard, one.op, one.name, one.text) == ("@!P0", "LDG.E.128", "LDG", "R4, desc[UR4][R2.64+0x10]")
    assert (one.stall, one.sets, one.waits) == (9, (3, 1), 0b100110)


@pytest.mark.parametrize(
    ("op", "size"),
    [("LDG.E", 4), ("LDG.E.U8", 1), ("LDG.E.U16.CONSTANT", 2), ("LDG.E.64", 8), ("LDG.E.128.STRONG.GPU", 16),
     ("LDGSTS.E.BYPASS.128", 16), ("LDGSTS.E", 4), ("STG.E.U8", 1), ("STG.E.64", 8), ("LDS.U16", 2), ("STS.128", 16),
     ("LDSM.16.M88", 4), ("LDSM.16.M88.4", 16), ("LDSM.16.MT88.2", 8), ("SHFL.BFLY", 0), ("FADD", 0),
     ("LDGDEPBAR", 0), ("LDC.64", 0)],
)  # fmt: skip
def test_how_wide_an_access_is(op, size):
    assert parse(printed(f"{op} R4, R2")).instructions[0].access_bytes == size


def test_a_loop_is_executed_as_often_as_the_launch_says():
    code = parse(printed("MOV R2, R3", *LOOP, "STG.E R2, R8", "EXIT", ".L_x_9:", "BRA `(.L_x_9)"))
    assert names(code, 3) == ["MOV", *["LDG.E.128", "FADD", "BRA"] * 3, "STG.E", "EXIT"]
    assert counted(straight_path(code, 3))["inside"] == 9 and len(straight_path(code, 3).outside) == 3
    with pytest.raises(CodeError, match="5 turns, but loops with"):
        straight_path(parse(printed("LDG.E R2, R3", "EXIT")), 5)


@pytest.mark.parametrize(("count", "whole", "rest"), [(7, 3, 1), (8, 4, 0), (1, 0, 1)])
def test_an_unrolled_loop_leaves_a_rest(count, whole, rest):
    twice = (".L_x_1:", "LDG.E R4, R2", "LDG.E R5, R2", "IADD3 R6, R6", "@P0 BRA `(.L_x_1)")
    code = parse(
        printed(*twice, "@!P1 BRA `(.L_x_3)", ".L_x_2:", "LDG.E R4, R2", "@P0 BRA `(.L_x_2)", ".L_x_3:", "EXIT")
    )
    found = counted(straight_path(code, count))
    assert (found["LDG"], found["inside"]) == (count, 4 * whole + 2 * rest)


def test_loops_whose_turns_cannot_be_told_are_refused():
    inner = parse(printed(".L_x_1:", "LDG.E R1, R2", ".L_x_2:", "LDG.E R1, R2", "@P0 BRA `(.L_x_2)", "@P1 BRA `(.L_x_1)", "EXIT"))  # fmt: skip  # noqa: E501
    with pytest.raises(CodeError, match="not one behind the other"):
        straight_path(inner, 4)
    three = parse(printed(*LOOP, *(line.replace("_1", "_2") for line in LOOP), *(line.replace("_1", "_3") for line in LOOP), "EXIT"))  # fmt: skip  # noqa: E501
    with pytest.raises(CodeError, match=r"loops with \[1, 1, 1\] accesses"):
        straight_path(three, 4)


def test_a_loop_that_waits_is_turned_once():
    waiting = (".L_x_2:", "SYNCS.PHASECHK P0, [UR4]", "@!P0 BRA `(.L_x_2)")
    code = parse(printed(*waiting, *LOOP, "EXIT"))
    found = counted(straight_path(code, 6))
    assert (found["SYNCS"], found["LDG"]) == (1, 6)


def test_what_only_the_last_program_does_is_kept_apart():
    arrival = ("@P2 BRA `(.L_x_5)", "ATOMG.E.ADD.STRONG.GPU PT, R5, [R6], R5", ".L_x_5:", "BAR.SYNC 0x0")
    merging = (*LOOP, "SHFL.BFLY R4, R4", "EXIT", "$sqrt_slow:", "RET")
    leaving = parse(printed("SHFL.BFLY R1, R1", "@P4 EXIT", *arrival, "@P3 EXIT", *merging))
    found = counted(straight_path(leaving, 1))
    # An exit before the counter belongs to the path: it is for programs without rows.
    assert (found["SHFL"], found["ATOMG"], found["EXIT"], found["tail"], "LDG" in found) == (1, 1, 2, 5, False)
    branching = parse(printed(*arrival, "@P3 BRA `(.L_x_7)", *LOOP, ".L_x_7:", "FADD R1, R1", "EXIT"))
    found = counted(straight_path(branching, 1))
    assert (found["FADD"], found["EXIT"], found["tail"], "LDG" in found) == (1, 1, 3, False)


def test_of_two_ways_the_one_without_a_subroutine_is_taken():
    slow = ("@!P0 BRA `(.L_x_1)", "MUFU.RCP R1, R1", "CALL.REL.NOINC `($div_slow)", "BRA `(.L_x_2)", ".L_x_1:", "FMUL R1, R1", ".L_x_2:")  # fmt: skip  # noqa: E501
    assert names(parse(printed(*slow, "EXIT")), 1) == ["BRA", "FMUL", "EXIT"]
    # A call of a label is a jump, with which some loops end.
    jump = (".L_x_2:", "LDG.E R1, R2", "@!P0 CALL.REL.NOINC `(.L_x_1)", "BRA `(.L_x_2)", ".L_x_1:", "EXIT")
    assert counted(straight_path(parse(printed("@!P6 BRA `(.L_x_1)", *jump)), 4))["LDG"] == 4
    # A branch under a uniform predicate has no guard, and is a condition all the same.
    uniform = ("BRA.U !UP0, `(.L_x_1)", "FADD R1, R1", ".L_x_1:", "EXIT")
    assert names(parse(printed(*uniform)), 1) == ["BRA.U", "FADD", "EXIT"]
    assert names(parse(printed("BRA `(.L_x_1)", "FADD R1, R1", ".L_x_1:", "EXIT")), 1) == ["BRA", "EXIT"]


def test_what_is_no_machine_code_is_refused():
    with pytest.raises(CodeError, match="^no instructions in what nvdisasm printed$"):
        parse("nothing\n")


def test_the_widening_convolution_is_as_it_was_counted():
    """64 -> 256 channels of stage 1 with statistics: by hand 1,935 instructions and 384 shuffles."""
    path = straight_path(parse(stored("conv1x1-widening")), 1)
    found = counted(path)
    counter = [place for place in path.places if path.code.instructions[place].name == "ATOMG"]
    assert counter == [1935] and found["instructions"] == 1949 and found["outside"] == 1949
    # One more broadcasts what the counter said.
    shuffles = Counter(one.op for one, _ in path.executed() if one.name == "SHFL")
    assert shuffles == {"SHFL.BFLY": 384, "SHFL.IDX": 1}
    assert found["BAR"] == 42 and found["HGMMA"] == 4 and found["tail"] == 1263
    # A tile of 128 x 64 values and one of weights, and the four vectors of 64 that normalize, twice 16 bytes each.
    assert found["LDG", 16] == 128 * 64 * 2 // 16 // 256 * 2 + 4 * 2
    assert found["STG", 16] == 128 * 128 * 2 // 16 // 256 and found["STG", 4] == 2


@pytest.mark.parametrize("count", [2, 4])
def test_a_pipelined_loop_multiplies_once_a_turn(count):
    """The gradient with a join, whose loop copies ahead what later turns multiply."""
    found = counted(straight_path(parse(stored("conv_dgrad-join")), count))
    products = [one for one in parse(stored("conv_dgrad-join")).instructions if one.name == "HGMMA"]
    assert {one.op for one in products} == {"HGMMA.64x128x16.F32.BF16"}
    # Two groups of four warps, each 64 of the 128 rows.
    assert found["HGMMA"] * 2 * 64 * 128 * 16 == 128 * 128 * 64 * count
    assert found["inside"] == 107 * count and found["outside"] == 1573
    assert found["LDGSTS", 16] == 8 * (count + 2)  # and two turns' worth before the first
    assert found["SHFL"] == 65 and found["tail"] == 539


@pytest.mark.parametrize("count", [25, 8])
def test_an_unrolled_kernel_loads_every_tile_once(count):
    found = counted(straight_path(parse(stored("bn_act_backward_reduce-join")), count))
    assert (found["LDG", 1], found["STG", 16]) == (2 * count, 2 * count)  # the mask, and the gradient
    assert found["inside"] == 442 * (count // 2) + 225 * (count % 2)
    assert found["outside"] == 430 and found["SHFL"] == 81 and found["tail"] == 365


def test_a_launch_says_the_turns():
    def launch(**arguments):
        return Launch("conv1x1", "", None, (1,), arguments, {})

    assert (turns(launch(TURNS=9)), turns(launch(TILES=4)), turns(launch())) == (9, 4, 1)
    code = parse(printed(*LOOP, "EXIT"))
    made = MachineCode(32, 0, 0, 0, None, "ok", resident=2, code=code)
    assert counted(made.path(launch(TILES=4)))["LDG"] == 4
    with pytest.raises(CodeError, match="^why$"):
        MachineCode(32, 0, 0, 0, None, "ok", reason="why").path(launch())
