"""Activation checkpointing: blocks keep their input alone, and compute the rest again in the backward pass.

Source: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174: segments of about the square
root of the number of blocks keep the least, for one more forward pass a step.
"""

import contextlib
import math
from collections.abc import Sequence

from torch import Tensor
from torch.utils.checkpoint import checkpoint

from resnet.layers import Block, running_statistics_kept

__all__ = ["checkpointed"]


def checkpointed(blocks: Sequence[Block], x: Tensor) -> Tensor:
    """Run blocks in a row; a backward pass runs each segment of them again.

    Gradients and running statistics are those of running them plainly, to the bit on a device that computes the same
    twice: the second pass takes the statistics of the same batch, and leaves the running ones alone.

    Args:
        blocks: over modules (`kernels=torch`).
        x: [N, C, H, W], what the first takes.

    Returns:
        What the last puts out.
    """
    size = math.isqrt(len(blocks) - 1) + 1
    for start in range(0, len(blocks), size):
        segment = blocks[start : start + size]

        def contexts(
            part: Sequence[Block] = segment,
        ) -> tuple[contextlib.AbstractContextManager[None], contextlib.AbstractContextManager[None]]:
            return contextlib.nullcontext(), running_statistics_kept(part)

        # Nothing in a block is random: there is no generator's state to keep.
        x = checkpoint(_run, segment, x, use_reentrant=False, preserve_rng_state=False, context_fn=contexts)
    return x


def _run(blocks: Sequence[Block], x: Tensor) -> Tensor:
    for block in blocks:
        x = block(x)
    return x
