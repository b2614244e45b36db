"""Checks every form of a network's kernels at tiny shapes, in fp32 on the CPU under Triton's interpreter.

    TRITON_INTERPRET=1 python -m bench.micro.verify depth=50 op=conv1x1

A line of JSON a form: op, form, status. `bench.micro` runs it where there is no CUDA device.
"""

import json
import sys

import torch

from bench.micro import backends
from bench.micro.cases import cases, tiny
from bench.micro.measure import Result, bound_of, check
from bench.micro.op import Case
from bench.micro.plan import plan
from kernels import runtime
from kernels.operands import TileConfig


def forms(found: list[Case]) -> list[Case]:
    """One case of each form, filter and stride, made tiny."""
    return list({(c.op, c.form, c.shape.kernel, c.shape.stride): tiny(c) for c in found}.values())


def verify(case: Case, tile_config: TileConfig | None = None) -> Result:
    """Compare our kernels' result with fp64; see `bench.micro.measure.measure`."""
    operands = backends.operands(case, torch.float32, torch.device("cpu"))
    truth = backends.maths(case, rewrite=True)(backends.wide(operands))
    return check("triton", backends.fused(case, tile_config), operands, truth, bound_of(case, operands, truth))


def main(words: list[str]) -> int:
    """Print a line a form; returns 2 unless the interpreter is on."""
    if not runtime.INTERPRETED:
        print("bench.micro.verify: runs under Triton's interpreter; set TRITON_INTERPRET=1", file=sys.stderr)
        return 2
    (one,) = plan(words)
    with torch.no_grad():
        for case in forms(cases(one.step, one.ops)):
            print(
                json.dumps({"op": case.op, "form": case.name, "status": verify(case, one.tile_config).status}),
                flush=True,
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
