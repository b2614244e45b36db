"""Which operand each load and store of a kernel's PTX goes to, and how wide it is.

Machine code has lost the names of operands. PTX still reads each pointer from a parameter, and what an address is
computed from leads back to it. Its compiler keeps the widths of accesses to global memory.
"""

import re
from collections.abc import Sequence

_PARAMETER = re.compile(r"ld\.param\.[bu]64\s+(%rd\d+), \[\w+_param_(\d+)\];")
_ACCESS = re.compile(r"\b(ld|st)\.global[\w:.]*?(?:\.v(\d))?\.[bfus](\d+)\s[^;]*?\[\s*(%rd\d+)[^\]]*\]")
_COPY = re.compile(r"\bcp\.async\.c[ag]\.shared\S*\s+\[[^\]]*\],\s*\[\s*(%rd\d+)[^\]]*\],\s*(0x[0-9a-f]+|\d+)")
_REGISTER = re.compile(r"%rd\d+")


def narrowest_accesses(ptx: str, operands: Sequence[str]) -> dict[str, int]:
    """Bytes that a thread loads or stores at a time where that is least, by operand.

    Args:
        ptx: of one kernel.
        operands: its parameters in order, without those that are constants.

    Returns:
        Of operands in global memory that it accesses; those that it finds through a table of addresses have no name.
    """
    origins: dict[str, set[str]] = {}
    accesses: list[tuple[str, int]] = []
    moves: list[tuple[str, list[str]]] = []
    for line in ptx.splitlines():
        if found := _PARAMETER.search(line):
            place = int(found[2])
            if place < len(operands):
                origins.setdefault(found[1], set()).add(operands[place])
        elif found := _ACCESS.search(line):
            accesses.append((found[4], int(found[2] or 1) * int(found[3]) // 8))
        elif found := _COPY.search(line):
            accesses.append((found[1], int(found[2], 0)))
        elif len(registers := _REGISTER.findall(line)) > 1:
            moves.append((registers[0], registers[1:]))
    changed = True
    while changed:  # a loop's address is made from itself
        changed = False
        for made, sources in moves:
            known = origins.setdefault(made, set())
            more = set().union(*(origins.get(source, set()) for source in sources)) - known
            known |= more
            changed |= bool(more)
    narrowest: dict[str, int] = {}
    for register, size in accesses:
        for operand in origins.get(register, ()):
            narrowest[operand] = min(size, narrowest.get(operand, size))
    return narrowest
