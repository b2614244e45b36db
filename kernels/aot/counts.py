"""What a launch's machine code does, as columns: instructions, shuffles, barriers, and accesses to global memory."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

import torch

from kernels.aot.machine_code import MachineCode
from kernels.aot.sass import CodeError, Path
from kernels.runtime import Launch

WIDTHS = (1, 2, 4, 8, 16)  # bytes of a load or store
WIDEST = 16
OPS = {"loads": ("LDG", "LDGSTS"), "stores": ("STG",)}
# Of a thread, on the path of every program: in loops (all turns), outside, and of the last programs alone.
PATH = (
    "instructions_inside", "instructions_outside", "instructions_tail", "shuffles", "barriers",
    *(f"{kind}_{width}b" for kind in OPS for width in WIDTHS),
)  # fmt: skip
# Of the whole code, each instruction once: how many there are, and bytes of the widest and narrowest accesses.
CODE = tuple(f"{kind}_code" for kind in ("instructions", "shuffles", "barriers", *OPS))
EDGES = tuple(f"{edge}_{kind[:-1]}" for kind in OPS for edge in ("widest", "narrowest"))
WHOLE = (*CODE, *EDGES)
_AMD = re.compile(r"^\t((?:s|v|ds|buffer|global|flat|scratch)_\w+)", re.MULTILINE)
_AMD_SHUFFLE = re.compile(r"ds_(?:b?permute|swizzle)\w*|v_permlane\w*|v_\w+_dpp")
_AMD_ACCESS = re.compile(r"(?:buffer|global|flat)_(load|store)_(?:[su]?(byte|short)|(dword)(?:x([234]))?)(?:_\w+)?$")


def counts(path: Path) -> dict[str, int]:
    """Columns of what a thread executes on the path of every program."""
    executed = list(path.executed())
    names = Counter(one.name for one, _ in executed)
    inside = sum(within for _, within in executed)
    found = {
        "instructions_inside": inside,
        "instructions_outside": len(executed) - inside,
        "instructions_tail": len(path.tail),
        "shuffles": names["SHFL"],
        "barriers": names["BAR"],
    }
    for kind, ops in OPS.items():
        widths = Counter(one.access_bytes for one, _ in executed if one.name in ops)
        found |= {f"{kind}_{width}b": widths[width] for width in WIDTHS}
    return found


def launch_counts(launch: Launch, made: MachineCode) -> dict[str, Any]:
    """Columns of a launch; those of the path are missing where `reason` says why it cannot be told."""
    found: dict[str, Any] = whole_code(made)
    found["narrow"] = narrow_operands(launch, made)
    try:
        return found | counts(made.path(launch)) | {"reason": ""}
    except CodeError as error:
        return found | {"reason": str(error)}


def whole_code(made: MachineCode) -> dict[str, int | None]:
    """Columns of `WHOLE`; an edge is None where there are no such accesses."""
    if made.code is not None:
        names = [one.name for one in made.code.instructions]
        sizes = {kind: [one.access_bytes for one in made.code.instructions if one.name in OPS[kind]] for kind in OPS}
        shuffles, barriers = names.count("SHFL"), names.count("BAR")
    else:
        names = _AMD.findall(made.text)
        sizes = amd_accesses(names)
        shuffles, barriers = sum(bool(_AMD_SHUFFLE.fullmatch(one)) for one in names), names.count("s_barrier")
    if not names:
        return dict.fromkeys(WHOLE)
    edges = [pick(sizes[kind], default=None) for kind in OPS for pick in (max, min)]
    return dict(zip(WHOLE, (len(names), shuffles, barriers, *map(len, sizes.values()), *edges), strict=True))


def amd_accesses(names: Iterable[str]) -> dict[str, list[int]]:
    """Bytes of every load from and store to global memory among instructions of AMD's, such as buffer_load_dwordx4."""
    found: dict[str, list[int]] = {kind: [] for kind in OPS}
    for name in names:
        if access := _AMD_ACCESS.match(name):
            kind, small, _, words = access.groups()
            found[f"{kind}s"].append({"byte": 1, "short": 2}[small] if small else 4 * int(words or 1))
    return found


def narrow_operands(launch: Launch, made: MachineCode) -> str | None:
    """Operands of 16 bits that are read or written in less than 16 bytes, though their channels would allow it.

    Returns:
        Such as "y_ptr=8 dy_ptr=4", with the bytes of the narrowest access; None where accesses have no names.
    """
    if made.operand_bytes is None:
        return None
    return " ".join(
        f"{name}={size}" for name, size in made.operand_bytes.items() if size < _allowed(launch.arguments.get(name))
    )


def _allowed(tensor: object) -> int:
    """Bytes of the accesses that an operand's channels, its innermost dimension, allow; 0 where nothing is asked."""
    if not isinstance(tensor, torch.Tensor) or tensor.element_size() != 2:
        return 0
    channels = next((n for n, step in zip(tensor.shape, tensor.stride(), strict=True) if step == 1 and n > 1), 1)
    return WIDEST if channels * 2 % WIDEST == 0 else 0
