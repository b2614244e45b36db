"""Compares a training step over the fused kernels with the reference, on the CPU under Triton's interpreter.

    TRITON_INTERPRET=1 python -m bench.step.verify depth=50

A tiny net of the same kind of blocks and shortcuts takes two steps in fp32; one line of JSON says how they went.
`bench.step` runs it where there is no CUDA device.
"""

import json
import sys
from dataclasses import fields, replace

import torch

from bench.step.variants import Losses, Stepper, batch_of, recipe_of
from kernels import runtime
from kernels.reference import poisoned
from resnet import Architecture, ResNet
from resnet.layers import he_init
from resnet.model import fuse

STEPS = 2


class Tiny(Architecture):
    """A network of two blocks, the second with stride 2."""

    @property
    def blocks(self) -> tuple[int, ...]:
        return (1, 1)

    @property
    def widths(self) -> tuple[int, ...]:
        # No narrower than what the stem puts out: the first block of no net here is.
        return (16, 32) if self.bottleneck or self.family != "imagenet" else (64, 128)


def verify(architecture: Architecture) -> str:
    """ "ok", or what is wrong with the losses of the fused net beside those of the reference."""
    from bench.roofline.step import net

    named = {field.name: getattr(architecture, field.name) for field in fields(Architecture)}
    side = 16 if architecture.family == "imagenet" else 8
    step = net(depth=architecture.depth, family=architecture.family, batch=2, image_size=side)
    step = replace(step, architecture=Tiny(**(named | {"num_classes": 10})), precision="fp32")
    images, labels = batch_of(step, 0, torch.device("cpu"))
    losses = {}
    for kernels in ("torch", "triton"):
        torch.manual_seed(0)
        model = ResNet(step.architecture)
        he_init(model)
        fuse(model, kernels)
        stepper = Stepper(model, images, labels, recipe_of(step), step.precision)
        with poisoned():  # what a kernel leaves unwritten makes a loss NaN
            losses[kernels] = Losses(tuple(float(stepper.step()) for _ in range(STEPS)))
    return losses["triton"].problem(losses["torch"], graph=False) or "ok"


def main(words: list[str]) -> int:
    """Print the verdict; returns 1 where the step is wrong, 2 unless the interpreter is on."""
    if not runtime.INTERPRETED:
        print("bench.step.verify: runs under Triton's interpreter; set TRITON_INTERPRET=1", file=sys.stderr)
        return 2
    from bench.step.plan import plan

    status = verify(plan(words)[0].step.architecture)
    print(json.dumps({"status": status}), flush=True)
    return int(status != "ok")


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
