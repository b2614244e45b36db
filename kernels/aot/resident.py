"""Writes the table of `kernels.tiles.resident`, by which default tile configs are chosen, and tells what it is of."""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import triton

from kernels.aot.cases import CASES
from kernels.chips import CHIPS
from kernels.ops.conv_dgrad import conv_dgrad_kernel
from kernels.ops.conv_inference import conv_inference_kernel
from kernels.tiles import resident
from kernels.tiles.conv_forward import conv_kernel
from kernels.tiles.tile_configs import listed
from results.durable import replace_file

WRITE = "python -m kernels.aot per=list resident=write"
OPS = tuple(dict.fromkeys(case.op for case in CASES if case.product))  # each launches a kernel of its own name
KERNELS = (conv_kernel, conv_dgrad_kernel, conv_inference_kernel)


def digest() -> str:
    """16 hexadecimal digits of all that the table follows from beside the compiler.

    That is what `CHIPS` says of tile configs and of room for programs, and the code of the kernels with all that they
    call, whose comments, documentation and places in their files do not count.
    """
    found = hashlib.sha256()
    for name, chip in CHIPS.items():
        lists = [sorted(map(str, listed(op, name))) for op in OPS]
        room = (chip.shared_bytes, chip.reserved_shared_bytes, chip.registers, chip.register_unit, chip.schedulers)
        found.update(repr((name, chip.target, lists, room, chip.warps, chip.programs)).encode())
    for code in sorted(set(_codes())):
        found.update(code.encode())
    return found.hexdigest()[:16]


def _codes() -> Iterable[str]:
    """The code of the kernels and of what they call, and the values of constants that they read."""
    pending, seen = list(KERNELS), set()
    while pending:
        function = pending.pop().fn
        if function in seen:
            continue
        seen.add(function)
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        body = tree.body[0].body  # type: ignore[attr-defined]
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
        yield ast.unparse(tree)
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            if hasattr(value, "fn"):
                pending.append(value)
            elif isinstance(value, int | float | str) or type(value).__name__ == "constexpr":
                yield f"{name} = {value!r}"


def write(rows: Iterable[Mapping[str, Any]]) -> int:
    """Write the table from rows of `kernels.aot`, of each chip, op and tile config the one that takes the most.

    Returns:
        How many lines it has.

    Raises:
        OSError: the disk refuses.
    """
    least: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for row in rows:
        key = (row["chip"], row["kernel"], row["config"])
        least[key] = min(least.get(key, row), row, key=lambda one: (one["resident"], -one["regs"]))
    lines = [f"# Triton {triton.__version__}, sources {digest()}; written by {WRITE}", ",".join(resident.COLUMNS)]
    for key, row in sorted(least.items()):
        lines.append(",".join([*key, *(str(row[name]) for name in resident.COLUMNS[3:])]))
    replace_file(resident.TABLE, lambda file: file.write("".join(f"{line}\n" for line in lines).encode()))
    return len(least)
