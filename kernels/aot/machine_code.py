"""A launch's machine code beside its resources: what is compiled, read from the binary."""

from dataclasses import asdict, dataclass

from kernels.aot.compile import compile_variant
from kernels.aot.occupancy import resident_programs
from kernels.aot.ptx import narrowest_accesses
from kernels.aot.resources import Resources, disassemble, read_resources
from kernels.aot.sass import Code, CodeError, Path, parse, straight_path
from kernels.runtime import Launch

NOT_SASS = "instructions: where the path of a program ends is not told by this chip's text"


@dataclass(frozen=True)
class MachineCode(Resources):
    """What one compiled kernel takes, and its instructions.

    Attributes:
        resident: programs on a multiprocessor at once.
        code: None where `reason` says why.
        text: AMD's assembly; empty where there is `code`.
        operand_bytes: of the narrowest access to each operand in global memory; None where they have no names.
    """

    resident: int | None = None
    code: Code | None = None
    reason: str = ""
    text: str = ""
    operand_bytes: dict[str, int] | None = None

    def path(self, launch: Launch) -> Path:
        """What every program of a launch of this kernel executes.

        Raises:
            CodeError: there is no code, or the turns of its loops cannot be told.
        """
        if self.code is None:
            raise CodeError(self.reason or self.status)
        return straight_path(self.code, turns(launch))


def turns(launch: Launch) -> int:
    """Of a kernel's one loop, over blocks of channels and taps or over tiles; 1 where it has none."""
    return int(launch.arguments.get("TURNS") or launch.arguments.get("TILES") or 1)


def compile_code(launch: Launch, chip: str) -> Resources:
    """Compile a launch as `compile_launch` does; its `MachineCode`, or the failure of its compilation."""
    return compile_variant(launch, chip, read_code)


def read_code(compiled: object, launch: Launch, chip: str, multiplies: bool) -> Resources:
    """The machine code of what `triton.compile` returned."""
    resources = read_resources(compiled, chip, multiplies=multiplies)
    if resources.regs is None or resources.shared_bytes is None:
        return resources
    asm = compiled.asm  # type: ignore[attr-defined]
    code, reason, text, operand_bytes = None, NOT_SASS, "", None
    if "cubin" in asm:
        try:
            code, reason = parse(disassemble(asm["cubin"])), ""
        except (CodeError, RuntimeError) as error:
            reason = str(error)
        kinds = compiled.src.signature  # type: ignore[attr-defined]
        operand_bytes = narrowest_accesses(asm["ptx"], [name for name, kind in kinds.items() if kind != "constexpr"])
    else:
        text = asm["amdgcn"]
    resident = resident_programs(
        chip, registers=resources.regs, shared_bytes=resources.shared_bytes, num_warps=launch.options["num_warps"]
    )
    return MachineCode(
        **asdict(resources), resident=resident, code=code, reason=reason, text=text, operand_bytes=operand_bytes
    )
