"""Times each fused kernel beside PyTorch, at the layers of a network, once its result has been checked.

    python -m bench.micro [op=conv1x1,conv3x3] [depth=50] [batch=256] [precision=bf16,fp16] [backend=triton,eager]

The backends take turns in one process. Each result is checked against fp64 first, and what fails is not timed. Times
are the device's, of single runs: launch gaps are hidden, so what launches cost is in `bench.step` alone. Fractions are
of the copy and matrix rates measured in the same process. Without a CUDA device the kernels are verified under Triton's
interpreter and their floors predicted; nothing is timed then, and nothing written.
"""

from collections.abc import Sequence

import torch

from bench.config import command
from bench.config.command import Terminal
from bench.measure import device_rates
from bench.micro.plan import Keys, Plan, plan
from bench.micro.predict import verify_and_predict
from bench.micro.run import run_plan
from results.store.files import read_rows

PIPE_WIDTH = 150


def run_plans(plans: Sequence[Plan]) -> int:
    """Time what is planned; returns 1 where a kernel is wrong."""
    console = Terminal(PIPE_WIDTH)
    if not torch.cuda.is_available():
        return 0 if verify_and_predict(plans, console) else 1
    torch.backends.cudnn.benchmark = True
    device = device_rates.require_device()
    wrong = False
    for one in plans:
        run_id = run_plan(one, device, console)
        rows, _ = read_rows(one.keys.results, "kernels", [run_id])
        failed = [row for row in rows if row["backend"] == "triton" and (row["status"] or "").startswith("failed")]
        for row in failed:
            console.print(f"triton {row['op']} {row['shape']}: {row['status']}", style="red", soft_wrap=True)
        wrong |= bool(failed)
    return int(wrong)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.micro", __doc__, Keys, plan, run_plans, words, goes_on=True)
