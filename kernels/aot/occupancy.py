"""How many programs of a kernel are on one multiprocessor at once."""

from kernels.chips import CHIPS

SHARED_UNIT = 128  # bytes that shared memory is given by


def resident_programs(chip: str, *, registers: int, shared_bytes: int, num_warps: int) -> int:
    """Programs that a multiprocessor has room for; 0 where not even one fits.

    Args:
        chip: one of `kernels.chips.CHIPS`.
        registers: of a thread, as the compiler reports them.
        shared_bytes: of a program.
        num_warps: of a program.

    Source: CUDA C Programming Guide, "Multiprocessor Level": a scheduler has its own part of the registers, and
        gives them to whole warps in units.
    """
    limits = CHIPS[chip]
    lanes = limits.target[2]
    of_a_warp = _up(max(registers, 1) * lanes, limits.register_unit)
    warps = min(limits.registers // limits.schedulers // of_a_warp * limits.schedulers, limits.warps)
    of_a_program = _up(shared_bytes, SHARED_UNIT) + limits.reserved_shared_bytes
    shared = limits.shared_bytes + limits.reserved_shared_bytes
    by_shared = shared // of_a_program if of_a_program else limits.programs
    return min(warps // num_warps, by_shared, limits.programs)


def _up(value: int, unit: int) -> int:
    """To the next whole multiple."""
    return -(-value // unit) * unit
