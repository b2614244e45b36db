"""Kernels that each have one fault, and one that has none."""

from functools import partial
from typing import Any

import torch
import triton
import triton.language as tl
from cases import Case, Put

from kernels.prepared import Made, Prepared
from kernels.tiles.pointwise import arrives_last

SIZE, BLOCK, PROGRAMS = 108, 16, 7


@triton.jit
def load_from(ptr, places, mask):
    return tl.load(ptr + places, mask=mask)


@triton.jit
def sum_kernel(
    x_ptr,
    out_ptr,
    partials_ptr,
    counter_ptr,
    total_ptr,
    SIZE,
    LOAD: tl.constexpr,  # beyond the end that the mask of each kind of access lets through, in elements
    STORE: tl.constexpr,
    BACK: tl.constexpr,  # before the start, likewise
    COUNTER: tl.constexpr,
    HELPER: tl.constexpr,
    FINISH: tl.constexpr,  # which program adds the partial sums
    RESET: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_P: tl.constexpr,
):
    program, P = tl.program_id(0), tl.num_programs(0)
    places = program * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + places, mask=places < SIZE + LOAD, other=0.0)
    if BACK:
        x += tl.load(x_ptr + places - BACK, mask=places < SIZE, other=0.0)
    if HELPER:
        x += load_from(x_ptr, places, places < SIZE + 1)
    tl.store(out_ptr + places, x, mask=places < SIZE + STORE)
    tl.store(partials_ptr + program, tl.sum(x, axis=0))
    if FINISH == "float atomics":
        tl.atomic_add(total_ptr, tl.sum(x, axis=0))
    else:
        last = program == P - 1
        if FINISH == "whoever is last":
            last = arrives_last(counter_ptr + COUNTER, P)
        if not RESET:
            tl.atomic_add(counter_ptr, 1)
        if last:
            p = tl.arange(0, BLOCK_P)
            tl.store(total_ptr, tl.sum(tl.load(partials_ptr + p, mask=p < P, other=0.0), axis=0))


def launch(outputs: int, partials: int, constants: dict[str, Any], put: Put) -> None:
    Prepared(
        "planted",
        sum_kernel,
        (PROGRAMS,),
        device=torch.device("cpu"),
        operands=("x_ptr", "total_ptr"),
        outputs={"out_ptr": Made((outputs,), torch.float32)},
        workspace={"partials_ptr": Made((partials,), torch.float32)},
        counters=("counter_ptr", 1),
        constants=constants,
        options={"num_warps": 4},
    ).launch((torch.randn(SIZE), torch.zeros(1)))


def planted(words: str, *, outputs: int = SIZE, partials: int = PROGRAMS, **constants: Any) -> Case:
    right = {"LOAD": 0, "STORE": 0, "BACK": 0, "COUNTER": 0, "HELPER": False, "FINISH": "whoever is last"}
    given = {"SIZE": SIZE, "BLOCK": BLOCK, "BLOCK_P": 8, "RESET": True, **right, **constants}
    return Case("planted", words, partial(launch, outputs, partials, given))


# The first has no fault.
PLANTED = (
    planted("sound"),
    planted("load without its mask", LOAD=BLOCK),
    planted("load of one more", LOAD=1),
    planted("store without its mask", STORE=BLOCK),
    planted("store of one more", STORE=1),
    planted("load before the start", BACK=1),
    planted("load in a function of the kernel", HELPER=True),
    planted("counter that is not there", COUNTER=1),
    planted("output that is too short", outputs=SIZE - 1),
    planted("workspace that is too short", partials=PROGRAMS - 1),
    planted("last program of the grid finishes", FINISH="the last of the grid"),
    planted("sum by floating-point atomics", FINISH="float atomics"),
    planted("counter that is left", RESET=False),
)
