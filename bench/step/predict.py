"""What can be said of a training step without a device: whether the fused kernels are right, and the floors."""

import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from bench.config.grammar import word
from bench.config.paths import ROOT
from bench.step.plan import Plan
from bench.step.rows import floors_line
from kernels.child_process import die_with_parent
from resnet import Architecture


@functools.cache
def verify(architecture: Architecture, results: str) -> str:
    """ "ok", or what is wrong with a step over the fused kernels, in a process of its own under the interpreter."""
    words = [f"{name}={getattr(architecture, name)}" for name in ("depth", "family", "shortcut", "stride")]
    words.append(word("results", results))  # writes nothing, but checks its words
    # The child has its own environment: under the interpreter Triton makes no kernels for a device.
    done = subprocess.run(
        [sys.executable, "-m", "bench.step.verify", *words], cwd=ROOT, env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True, text=True, preexec_fn=die_with_parent,
    )  # fmt: skip
    said = [json.loads(line)["status"] for line in done.stdout.splitlines() if line.startswith("{")]
    return said[0] if said else (done.stderr.strip().splitlines() or ["bench.step.verify failed"])[-1]


def verify_and_predict(plans: Sequence[Plan], console: Console) -> bool:
    """What can be said without a device: whether a step over the fused kernels is right, and the floors."""
    start = time.monotonic()
    statuses = []
    for one in plans:
        statuses.append(verify(one.step.architecture, one.keys.results))
        lines = [
            f"{one.step.name()}: {', '.join(map(str, one.variants))}",
            f"losses of a tiny net of the same blocks over the fused kernels, beside the reference's: {statuses[-1]}",
            f"predicted {floors_line(one.step)}",
        ]
        console.print("\n".join(lines), soft_wrap=True)
    console.print(
        "No CUDA device here: nothing was timed and nothing written (verified in fp32 under Triton's interpreter in "
        f"{time.monotonic() - start:.0f} s).",
        soft_wrap=True,
    )
    return set(statuses) == {"ok"}
