"""What a compiled kernel takes of a chip, read from its binary: registers, memory, spills, matrix instruction."""

import functools
import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

from kernels.chips import CHIPS


@dataclass(frozen=True)
class Resources:
    """What one compiled kernel takes.

    Attributes:
        regs: registers of a thread (NVIDIA) or vector registers of a lane, accumulators included (AMD).
        shared_bytes: shared memory (LDS) of a program.
        stack_bytes: of a thread's stack (NVIDIA) or scratch (AMD); spilled registers lie there.
        spills: instructions that store to or load from the stack (NVIDIA), or spilled vector registers (AMD). Scalar
            registers that AMD's compiler keeps in lanes of vector registers do not touch memory and do not count.
        matrix_instruction: the fastest that the code has, or None.
        status: "ok", or "failed: " and all that is wrong; the numbers are None where there is no binary.
    """

    regs: int | None
    shared_bytes: int | None
    stack_bytes: int | None
    spills: int | None
    matrix_instruction: str | None
    status: str

    @property
    def ok(self) -> bool:
        return self.status == "ok"


def failed(reason: str) -> Resources:
    """The row of a kernel that was not compiled."""
    return Resources(None, None, None, None, None, f"failed: {reason}")


def read_resources(compiled: Any, chip: str, *, multiplies: bool) -> Resources:
    """Read what a kernel takes and judge it.

    Args:
        compiled: what `triton.compile` returned for `chip`.
        chip: one of `kernels.chips.CHIPS`.
        multiplies: whether it has to use the chip's matrix instruction.

    Returns:
        Its resources; the status is failed on any spill or stack, on more shared or tensor memory than the chip has,
        and on a missing matrix instruction.
    """
    if "cubin" in compiled.asm:
        regs, stack, spills, code = _read_cubin(compiled.asm["cubin"], multiplies)
        shared = compiled.metadata.shared
    else:
        code = compiled.asm["amdgcn"]
        regs, stack, spills = (
            _amd_field(code, name) for name in ("vgpr_count", "private_segment_fixed_size", "vgpr_spill_count")
        )
        shared = max(compiled.metadata.shared, _amd_field(code, "group_segment_fixed_size"))
    found = _matrix_instruction(code, chip)
    columns = getattr(compiled.metadata, "tmem_size", None) or 0
    wrong = []
    if spills or stack:
        wrong.append(f"{spills} spills, {stack} bytes of stack")
    limits = CHIPS[chip]
    if shared > limits.shared_bytes:
        wrong.append(f"{shared} bytes of shared memory, of which {chip} has {limits.shared_bytes}")
    if columns > limits.tensor_memory_columns:
        wrong.append(f"{columns} columns of tensor memory, of which {chip} has {limits.tensor_memory_columns}")
    expected = limits.matrix_instruction[0]
    if multiplies and found != expected:
        wrong.append(f"no {expected}" + (f" but {found}" if found else ""))
    return Resources(regs, shared, stack, spills, found, f"failed: {'; '.join(wrong)}" if wrong else "ok")


def _read_cubin(cubin: bytes, wanted: bool) -> tuple[int, int, int, str]:
    """Registers, stack bytes, spill instructions and SASS of a cubin, by the tools that Triton brings.

    Disassembly takes as long as many a compilation; without a stack there is nothing to spill to, and it is left out
    unless `wanted`.
    """
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        usage = _run(knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name)
        numbers = re.search(r"\bREG:(\d+) STACK:(\d+)", usage)
        if not numbers:
            raise RuntimeError(f"cuobjdump: no REG and STACK in {usage.strip()[-200:]!r}")
    sass = disassemble(cubin) if wanted or int(numbers[2]) else ""
    # The LOCAL of cuobjdump stays 0 whatever spills.
    return int(numbers[1]), int(numbers[2]), len(re.findall(r"\b(?:STL|LDL)\b", sass)), sass


@functools.lru_cache(maxsize=1)  # one is read for its resources, then for its instructions
def disassemble(cubin: bytes) -> str:
    """SASS of a cubin with its encoding, as nvdisasm prints it."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        options = ("--print-code", "--no-dataflow", "--print-instruction-encoding")
        return _run(knobs.nvidia.nvdisasm.path, *options, file.name)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip() or "said nothing").splitlines()[-1]
        raise RuntimeError(f"{command[0]} exited with {done.returncode}: {said}")
    return done.stdout


def _amd_field(amdgcn: str, name: str) -> int:
    """A number of the metadata at the end of AMD's assembly, such as `.vgpr_count: 120`."""
    match = re.search(rf"^\s*-?\s*\.{name}:\s*(\d+)", amdgcn, re.MULTILINE)
    if not match:
        raise RuntimeError(f"amdgcn: no .{name} in the metadata")
    return int(match[1])


def _matrix_instruction(code: str, chip: str) -> str | None:
    """The chip's own matrix instruction if the code has it, else an older one of the same maker, else None."""
    for name, pattern in (CHIPS[chip].matrix_instruction, *(other.matrix_instruction for other in CHIPS.values())):
        if re.search(pattern, code):
            return name
    return None
