"""How many programs a multiprocessor has room for, beside what the vendors' own tables give."""

import pytest

from kernels.aot.occupancy import resident_programs


@pytest.mark.parametrize(
    ("chip", "registers", "shared_bytes", "num_warps", "programs"),
    [
        # Registers: 16,384 of a scheduler, in units of 256 a warp.
        ("sm_90", 128, 1024, 8, 2),
        ("sm_90", 129, 1024, 8, 1),  # three warps on a scheduler, of which a program has two
        ("sm_90", 168, 1024, 4, 3),
        ("sm_90", 169, 1024, 4, 2),
        ("sm_90", 255, 1024, 8, 1),
        ("sm_90", 255, 1024, 16, 0),
        ("sm_90", 64, 1024, 8, 4),
        ("sm_90", 65, 1024, 8, 3),  # given as 72
        ("sm_90", 144, 1024, 2, 6),  # three warps on each scheduler; two more would fit the registers of all together
        # Warps and programs.
        ("sm_90", 16, 0, 8, 8),
        ("sm_90", 16, 0, 1, 32),
        # Shared memory: 228 KB, of which the system takes 1 KB for each.
        ("sm_90", 64, 115_712, 8, 2),
        ("sm_90", 64, 115_713, 8, 1),
        ("sm_90", 64, 232_448, 8, 1),
        ("sm_80", 64, 49_152, 8, 3),
        ("sm_80", 64, 82_944, 8, 2),
        ("sm_80", 64, 82_945, 8, 1),
        # AMD: 512 registers a lane of each of four SIMDs, in units of 8; 8 waves on each; 64 KB.
        ("gfx942", 128, 0, 4, 4),
        ("gfx942", 129, 0, 4, 3),
        ("gfx942", 81, 0, 4, 5),  # given as 88
        ("gfx942", 32, 0, 4, 8),
        ("gfx942", 32, 32_768, 4, 2),
        ("gfx942", 32, 32_769, 4, 1),
    ],
)
def test_resident_programs(chip, registers, shared_bytes, num_warps, programs):
    found = resident_programs(chip, registers=registers, shared_bytes=shared_bytes, num_warps=num_warps)
    assert found == programs


@pytest.mark.parametrize("registers", [174, 176, 188, 197, 203, 224, 254])
def test_the_gradient_of_a_convolution_has_a_multiprocessor_to_itself(registers):
    """Its 128x128x64/w8 takes as many registers, by its form; shared memory would have room for two."""
    assert resident_programs("sm_90", registers=registers, shared_bytes=98_304, num_warps=8) == 1
    assert resident_programs("sm_90", registers=128, shared_bytes=98_304, num_warps=8) == 2
