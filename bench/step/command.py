"""Times whole training steps of a network, every way of computing it in turn on one GPU.

    python -m bench.step depth=50 stride=v1.5 batch=256 precision=bf16,fp16 kernels=torch,compile,triton,auto \
        graphs=false,true

A step is forward under autocast, cross entropy, backward and torch's fused SGD with momentum, over random images that
lie on the device; compiling, choosing kernels and warming up come before. With graphs=true the whole step is captured
and replayed, in the same way for every variant. In fp16 a constant loss scale stands in for a GradScaler, in every
variant, because a GradScaler's step cannot be captured. Each variant's losses must be eager's before it is timed.
Without a CUDA device the fused kernels are verified under Triton's interpreter and the floors predicted; nothing is
timed then, and nothing written.
"""

from collections.abc import Sequence

import torch

from bench.config import command
from bench.config.command import Terminal
from bench.measure import device_rates
from bench.step.compare import run_plan
from bench.step.plan import Keys, Plan, plan
from bench.step.predict import verify_and_predict

PIPE_WIDTH = 140


def run_plans(plans: Sequence[Plan]) -> int:
    """Time what is planned; returns 1 where a variant was not timed."""
    console = Terminal(PIPE_WIDTH)
    if not torch.cuda.is_available():
        return 0 if verify_and_predict(plans, console) else 1
    torch.backends.cudnn.benchmark = True
    device = device_rates.require_device()
    return 0 if all([run_plan(one, device, console) for one in plans]) else 1


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.step", __doc__, Keys, plan, run_plans, words, goes_on=True)
