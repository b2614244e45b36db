"""The operands of a case of the microbenchmarks, and what each backend computes of them."""

from collections.abc import Mapping

import torch
from torch import Tensor

from bench.micro.op import Case, Run
from bench.micro.operands import Draw, Tensors
from bench.micro.ops import OPS
from kernels.operands import TileConfig


def operands(case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensors:
    """Random operands of a case: images in channels_last, BN's values in fp32, and what follows from them."""
    return OPS[case.op].operands(case, Draw(dtype, device, seed))


def wide(found: Mapping[str, Tensor]) -> Tensors:
    """The same operands in fp64."""
    return {key: value.double() if value.is_floating_point() else value for key, value in found.items()}


def maths(case: Case, *, rewrite: bool = False) -> Run:
    """A case in PyTorch's operations, fit for fp64 and for torch.compile.

    Args:
        rewrite: make what our kernel writes again, too. PyTorch kept it in the forward pass, so it is not timed.
    """
    op = OPS[case.op]
    run, again = op.maths(case), op.rewritten.get(case.form)
    if not rewrite or again is None:
        return run
    return lambda t: run(t) | {again.output: again.maths(t)}


def rewritten(case: Case) -> str | None:
    """The output that is ours alone to make, since PyTorch has it from the forward pass."""
    again = OPS[case.op].rewritten.get(case.form)
    return again.output if again else None


def eager(case: Case, found: Tensors) -> Run:
    """A case as PyTorch runs it: on a CUDA device by the kernels of BN that it chooses for these operands."""
    op = OPS[case.op]
    if op.eager is None or not found["y"].is_cuda:
        return op.maths(case)
    return op.eager(case, found)


def cudnn_fused(case: Case) -> Run | None:
    """A case in one call of cuDNN's fusions, None where PyTorch reaches none."""
    fused = OPS[case.op].cudnn_fused
    return fused(case) if fused else None


def fused(case: Case, tile_config: TileConfig | None = None) -> Run:
    """A case by our kernels.

    Args:
        tile_config: of a convolution; None leaves it to the shape.
    """
    return OPS[case.op].fused(case, tile_config)
