"""Fills Triton's cache with all that a table of choices will measure, on all cores, before it is measured one by one.

A launch finds its kernel in the cache by source, types, constants, alignments, options and target. These are found
from operands without memory, in a process of its own that never touches the GPU.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kernels.child_process import die_with_parent
from kernels.choose.sites import ConvSite

Target = tuple[str, Any, int]  # backend, architecture and warp size, as Triton's driver gives them


def precompile(sites: Sequence[ConvSite], chip: str, target: Target, jobs: int | None = None) -> int:
    """Compile every candidate of some sites for a target, and the passes around them.

    What does not compile is left out: it is rejected with its reason when its turn to be measured comes.

    Args:
        sites: of bf16 or fp16.
        chip: whose configurations are candidates, one of `kernels.chips.CHIPS`.
        target: see `running_target`.
        jobs: processes; None for one a core.

    Returns:
        How many kernels Triton's cache has now.

    Raises:
        RuntimeError: the compiling process failed; one line.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    order = {"chip": chip, "target": target, "jobs": jobs, "sites": [asdict(site) for site in sites]}
    done = subprocess.run(
        [sys.executable, "-m", "kernels.choose.precompile_worker"],
        input=json.dumps(order),
        cwd=Path(__file__).parents[2],  # from where this package is found; it can import no other's ROOT
        # Under the interpreter there is nothing to compile.
        env={**os.environ, "TRITON_INTERPRET": ""},
        preexec_fn=die_with_parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"kernels.choose.precompile: {lines[-1]:.200}")
    return int(done.stdout.split()[-1])


def running_target() -> Target:
    """What Triton compiles for on the current GPU."""
    import triton

    target = triton.runtime.driver.active.get_current_target()
    return target.backend, target.arch, target.warp_size
