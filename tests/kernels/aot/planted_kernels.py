"""Kernels that each have one fault, compiled for every chip; prints what came of them as JSON.

A script of its own, since Triton compiles nothing in a process that interprets kernels.
"""

import json
import os
import sys
from dataclasses import asdict
from typing import Any

import torch
import triton
import triton.language as tl

from kernels import runtime
from kernels.aot import command, compile
from kernels.aot.cases import CASES
from kernels.aot.machine_code import compile_code
from kernels.chips import CHIPS
from kernels.runtime import Launch


@triton.jit
def multiply_kernel(a_ptr, b_ptr, c_ptr, K, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr):
    m, n, k = tl.arange(0, BLOCK_M)[:, None], tl.arange(0, BLOCK_N)[None, :], tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        a = tl.load(a_ptr + m * K + (start + k)[None, :])
        b = tl.load(b_ptr + n * K + (start + k)[:, None])
        total = tl.dot(a, b, total)
    tl.store(c_ptr + m * BLOCK_N + n, total.to(c_ptr.dtype.element_ty))


@triton.jit
def copy_kernel(x_ptr, unused_ptr, out_ptr, M, ONE, FAR, factor, BLOCK: tl.constexpr):
    offsets = tl.arange(0, BLOCK)
    tl.store(out_ptr + offsets, tl.load(x_ptr + offsets, mask=offsets < M * ONE) * factor)


@triton.jit
def broken_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), tl.zeros((2 * BLOCK,), tl.float32))


@triton.jit(do_not_specialize=["TILES"])
def sum_kernel(x_ptr, out_ptr, C, TILES, UNROLL: tl.constexpr, TWICE: tl.constexpr, BLOCK: tl.constexpr):
    columns = tl.arange(0, 64)
    offsets = tl.arange(0, BLOCK)[:, None] * C + columns[None, :]
    total = tl.zeros((BLOCK, 64), tl.float32)
    for i in tl.range(TILES, loop_unroll_factor=UNROLL):
        total += tl.load(x_ptr + i * BLOCK * C + offsets).to(tl.float32)
    found = tl.sum(total, axis=0)
    if TWICE:
        found += tl.sum(total * total, axis=0)
    tl.store(out_ptr + columns, found)


def image(dtype: torch.dtype = torch.bfloat16, size: int = 1 << 20) -> torch.Tensor:
    return torch.empty(size, dtype=dtype, device="meta")


def multiply(block_m: int, block_n: int, block_k: int, num_warps: int, num_stages: int) -> Launch:
    blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k}
    arguments = {"a_ptr": image(), "b_ptr": image(), "c_ptr": image(), "K": 1024, **blocks}
    options = {"num_warps": num_warps, "num_stages": num_stages}
    return Launch("conv_planted", "", multiply_kernel, (1,), arguments, options)


def copy(name: str, dtype: torch.dtype = torch.bfloat16, **changed: Any) -> Launch:
    tensors = {"x_ptr": image(dtype), "unused_ptr": None, "out_ptr": image(dtype)}
    arguments = {**tensors, "M": 48, "ONE": 1, "FAR": 2**31 + 2, "factor": 0.5, "BLOCK": 64, **changed}
    return Launch(name, "", copy_kernel, (1,), arguments, {"num_warps": 1})


def sums(c: int = 64, unroll: int = 1, twice: bool = False, block: int = 64, num_warps: int = 4) -> Launch:
    """A sound launch of the kernel that sums, or one with a fault."""
    tensors = {"x_ptr": torch.empty((1024, c), dtype=torch.bfloat16, device="meta"), "out_ptr": image(torch.float32)}
    flags = {"C": c, "TILES": 16, "UNROLL": unroll, "TWICE": twice, "BLOCK": block}
    return Launch("sums", "", sum_kernel, (8,), {**tensors, **flags}, {"num_warps": num_warps})


def held() -> dict[str, dict[str, dict[str, Any]]]:
    """Rows as limits are held against, by fault and chip."""
    launches = {
        "sound": sums(),
        "a reduction more": sums(twice=True),
        "8 bytes at a time": sums(block=16, num_warps=8),
        "2 bytes at a time": sums(c=72),  # no multiple of 16, which is all that Triton specializes on
        "twice the unroll": sums(unroll=2),
    }
    places = [(name, chip) for name in launches for chip in CHIPS]
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in launches}
    together = [(launches[name], chip) for name, chip in places]
    for group, resources in compile.compile_all(together, 2, compile_code):
        for place in group:
            name, chip = places[place]
            entry = command.Entry("sums", chip, "bf16", "planted", "64", launches[name])
            found[name][chip] = command.row_of(entry, resources)
    return found


def main() -> None:
    planted = {
        "sound": multiply(64, 64, 32, 4, 2),
        "spills": multiply(64, 128, 32, 1, 1),  # 256 sums a thread, beside which there is no room
        "spills on AMD": multiply(256, 128, 32, 1, 1),  # 512
        "shared": multiply(128, 128, 128, 8, 5),
        "no matrix": copy("conv_planted"),
        "fp32": copy("conv_planted", torch.float32),
        "broken": Launch("broken", "", broken_kernel, (1,), {"x_ptr": image(), "BLOCK": 64}, {"num_warps": 1}),
    }
    places = [(name, chip) for name in planted for chip in CHIPS if name != "spills on AMD" or chip == "gfx942"]
    out: dict[str, Any] = {name: {} for name in planted}
    for group, resources in compile.compile_all([(planted[name], chip) for name, chip in places], jobs=2):
        for place in group:
            name, chip = places[place]
            out[name][chip] = asdict(resources)
    out["spills"] |= out.pop("spills on AMD")

    # Ours, in the dtype that only tests use: the interpreter, in which they run without a GPU, checks no types.
    with runtime.capture_launches("sm_90") as launches:
        for case in CASES:
            if case.sample and case.product is None:
                case.call(torch.float32, None)
    out["ours in fp32"] = {}
    for group, resources in compile.compile_all([(launch, "sm_90") for launch in launches], jobs=2):
        out["ours in fp32"] |= {launches[place].kernel: resources.status for place in group}

    source = compile.specialize(copy("copy"), compile.target_of("sm_90")).source
    attributes = {path[0]: value for path, value in source.attrs.items() if value}
    constants = {path[0]: value for path, value in source.constants.items()}
    out["specialized"] = {"signature": source.signature, "constants": constants, "attributes": attributes}

    same = [copy("copy"), copy("copy", x_ptr=image(size=2048), M=64), copy("copy", M=47)]
    groups = compile.compile_all([(launch, "sm_90") for launch in same], jobs=2)
    out["groups"] = sorted(sorted(group) for group, _ in groups)

    out["held"] = held()
    compile.compile_launch = lambda launch, chip: launch.kernel == "nothing" or os._exit(3)
    out["dead"] = [resources.status for _, resources in compile.compile_all([(copy("copy"), "sm_90")], jobs=1)]
    json.dump(out, sys.stdout)


if __name__ == "__main__":
    main()
