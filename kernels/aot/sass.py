"""NVIDIA's machine code (SASS) as nvdisasm prints it: instructions, and the path that every program takes through them.

A program goes through the code from its first instruction on. Branches to earlier instructions close loops, whose turns
a launch's arguments say; of two ways through a small forward branch the one that is not jumped over is taken, unless it
calls a subroutine (the slow path of a division). Where a program adds to a counter of arrivals, all but the last leave
the kernel: what follows is the tail, which is no part of the path.

Source of the control bits: arXiv:1804.06826, section 2.1 (Volta and all later chips have them in the same places).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE = re.compile(r"\s+/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;\s*/\* 0x([0-9a-f]{16}) \*/")
_SECOND = re.compile(r"\s+/\* 0x([0-9a-f]{16}) \*/\s*$")
_LABEL = re.compile(r"(\.L_x_\d+|\$\S+):")
_TARGET = re.compile(r"`\((\S+)\)")
_GLOBAL = ("LDG", "LDGSTS", "STG")  # what reads and writes global memory
NO_BARRIER = 7  # in place of one of the six scoreboards


class CodeError(ValueError):
    """Machine code in which the path of a program cannot be told; one line."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction.

    Attributes:
        op: with its modifiers, such as "LDG.E.128".
        guard: predicate it depends on, such as "@!P0"; empty where there is none.
        text: operands.
        stall: cycles until the warp may issue the next one.
        sets: scoreboards that it occupies until its result is written, or its operands read; `NO_BARRIER` for none.
        waits: bits of the scoreboards that must be free before it is issued.
    """

    op: str
    guard: str
    text: str
    stall: int
    sets: tuple[int, int]
    waits: int

    @property
    def name(self) -> str:
        return self.op.partition(".")[0]

    @property
    def access_bytes(self) -> int:
        """Bytes that a thread loads from or stores to memory of any kind; 0 for what does neither."""
        if self.name in ("LDSM", "STSM"):
            return 4 * int(self.op.rpartition(".")[2]) if self.op[-1] in "24" else 4
        if self.name not in (*_GLOBAL, "LDS", "STS", "LDL", "STL"):
            return 0
        for modifier in self.op.split("."):
            if modifier in ("U8", "S8"):
                return 1
            if modifier in ("U16", "S16"):
                return 2
            if modifier in ("64", "128"):
                return int(modifier) // 8
        return 4


@dataclass(frozen=True)
class Code:
    """A kernel's instructions, and where its labels stand."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]

    def target(self, place: int) -> int | None:
        """Where the branch at a place goes; None where it is no branch."""
        one = self.instructions[place]
        found = _TARGET.search(one.text)
        return self.labels.get(found[1]) if one.name == "BRA" and found else None

    def may_go_on(self, place: int) -> bool:
        """Whether what ends or branches at a place does so under a condition: a guard, or a branch's own operand."""
        one = self.instructions[place]
        return bool(one.guard) or one.text.partition("`")[0].strip() != ""


@dataclass(frozen=True)
class Loop:
    """Instructions `first` up to `last`, a branch back to `first`, which a program goes through `turns` times."""

    first: int
    last: int
    turns: int


@dataclass(frozen=True)
class Path:
    """What every program executes of a kernel, and what only the last of them does.

    Attributes:
        code: the whole kernel.
        places: of its instructions in order, each once.
        loops: with their turns; a loop of 0 turns has no place in `places`.
        tail: places that only a program reaches that came last.
    """

    code: Code
    places: tuple[int, ...]
    loops: tuple[Loop, ...]
    tail: tuple[int, ...]

    @property
    def outside(self) -> list[Instruction]:
        """Instructions that are in no loop."""
        inside = {place for loop in self.loops for place in range(loop.first, loop.last + 1)}
        return [self.code.instructions[place] for place in self.places if place not in inside]

    def executed(self) -> Iterator[tuple[Instruction, bool]]:
        """Every instruction in the order of execution, and whether it is in a loop."""
        begins = {loop.first: loop for loop in self.loops}
        behind = 0
        for place in self.places:
            if place < behind:
                continue
            if loop := begins.get(place):
                body = [(self.code.instructions[at], True) for at in self.places if loop.first <= at <= loop.last]
                for _ in range(loop.turns):
                    yield from body
                behind = loop.last + 1
            else:
                yield self.code.instructions[place], False


def parse(text: str) -> Code:
    """Read what `nvdisasm --print-code --print-instruction-encoding` prints of a cubin with one kernel.

    Raises:
        CodeError: there are no instructions in it.
    """
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    first = None
    for line in text.splitlines():
        if label := _LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif found := _LINE.match(line):
            first = found[1]
        elif first is not None and (found := _SECOND.match(line)):
            instructions.append(_instruction(first, int(found[1], 16)))
            first = None
    if not instructions:
        raise CodeError("no instructions in what nvdisasm printed")
    return Code(tuple(instructions), labels)


def _instruction(text: str, high: int) -> Instruction:
    """Of its text and the upper half of its encoding."""
    guard, _, rest = text.partition(" ") if text.startswith("@") else ("", "", text)
    op, _, operands = rest.strip().partition(" ")
    control = high >> 41
    return Instruction(
        op, guard, operands.strip(), control & 15, (control >> 5 & 7, control >> 8 & 7), control >> 11 & 63
    )


def straight_path(code: Code, turns: int) -> Path:
    """The path of every program through a kernel whose one loop over tiles or blocks of channels has `turns` turns.

    A compiler that unrolls the loop makes two of it, for the most turns and for the rest; which is how many times the
    other is told by their accesses to global memory. A loop without any waits for something, and is turned once.

    Raises:
        CodeError: loops inside one another, or others than that one.
    """
    leaving = _way_out(code)
    behind = None if leaving is None else code.target(leaving)
    places: list[int] = []
    closed: list[tuple[int, int]] = []
    place = 0
    while place < len(code.instructions):
        one, target = code.instructions[place], code.target(place)
        places.append(place)
        if one.name == "EXIT" and not code.may_go_on(place):
            break
        if place == leaving:
            if behind is None:
                break
            place = behind
            continue
        if target is not None and target <= place:
            closed.append((target, place))
        elif target is not None and (not code.may_go_on(place) or _calls(code, place + 1, target)):
            place = target
            continue
        place += 1
    loops = tuple(Loop(*span, count) for span, count in zip(closed, _turns(code, closed, turns), strict=True))
    left_out = {at for loop in loops if loop.turns == 0 for at in range(loop.first, loop.last + 1)}
    tail = () if leaving is None else tuple(_until_end(code, leaving + 1, behind))
    return Path(code, tuple(at for at in places if at not in left_out), loops, tail)


def _calls(code: Code, first: int, end: int) -> bool:
    """Whether what a branch jumps over calls a subroutine, such as the slow path of a division."""
    return any(one.name == "CALL" and "`($" in one.text for one in code.instructions[first:end])


def _way_out(code: Code) -> int | None:
    """Where all programs but the last leave: the first conditional exit or branch ahead behind a counter's addition."""
    counted = False
    for place, one in enumerate(code.instructions):
        counted |= one.name in ("ATOM", "ATOMG")
        if counted and code.may_go_on(place) and (one.name == "EXIT" or (code.target(place) or 0) > place):
            return place
    return None


def _until_end(code: Code, first: int, end: int | None) -> Iterator[int]:
    """Places from one on, up to another or the kernel's end; subroutines behind it are slow paths."""
    for place in range(first, len(code.instructions) if end is None else end):
        yield place
        if code.instructions[place].name == "EXIT" and not code.may_go_on(place):
            return


def _turns(code: Code, closed: list[tuple[int, int]], turns: int) -> list[int]:
    """Of each loop."""
    for (_, last), (first, _) in zip(closed, closed[1:], strict=False):
        if first <= last:
            raise CodeError("loops that are not one behind the other: their turns cannot be told")
    accesses = [sum(one.name in _GLOBAL for one in code.instructions[first : last + 1]) for first, last in closed]
    moving = [count for count in accesses if count]
    if not moving and turns == 1:
        return [1] * len(closed)
    if len(moving) == 1:
        parts = [turns]
    elif len(moving) == 2 and moving[0] % moving[1] == 0:
        unrolled = moving[0] // moving[1]
        parts = [turns // unrolled, turns % unrolled]
    else:
        raise CodeError(
            f"{turns} turns, but loops with {accesses} accesses to global memory: their turns cannot be told"
        )
    return [parts.pop(0) if count else 1 for count in accesses]
