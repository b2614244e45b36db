"""Fills Triton's cache with all that a table of choices will measure, on all cores, before it is measured one by one.

A launch finds its kernel in the cache by source, types, constants, alignments, options and target. These are found
from operands without memory, in a process of its own that never touches the GPU.
"""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kernels import runtime
from kernels.chains import Chain
from kernels.children import die_with_parent
from kernels.links import PARTS, Link, link_from_dict
from kernels.runtime import Launch

__all__ = ["captured", "precompile", "running_target"]

Target = tuple[str, Any, int]  # backend, architecture and warp size, as Triton's driver gives them


def precompile(links: Sequence[Link], chip: str, target: Target, jobs: int | None = None) -> int:
    """Compile every candidate of some links for a target, and the passes around them.

    What does not compile is left out: it is rejected with its reason when its turn to be measured comes.

    Args:
        links: of bf16 or fp16.
        chip: whose configurations are candidates, one of `kernels.chips.CHIPS`.
        target: see `running_target`.
        jobs: processes; None for one a core.

    Returns:
        How many kernels Triton's cache has now.

    Raises:
        RuntimeError: the compiling process failed; one line.
    """
    jobs = jobs or len(os.sched_getaffinity(0))
    order = {"chip": chip, "target": target, "jobs": jobs, "links": [asdict(link) for link in links]}
    done = subprocess.run(
        [sys.executable, "-m", "kernels.precompile"],
        input=json.dumps(order),
        cwd=Path(__file__).parent.parent,  # from where this package is found; it can import no other's ROOT
        # Under the interpreter there is nothing to compile.
        env={**os.environ, "TRITON_INTERPRET": ""},
        preexec_fn=die_with_parent,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise RuntimeError(f"kernels.precompile: {lines[-1]:.200}")
    return int(done.stdout.split()[-1])


def running_target() -> Target:
    """What Triton compiles for on the current GPU."""
    import triton

    target = triton.runtime.driver.active.get_current_target()
    return target.backend, target.arch, target.warp_size


def captured(links: Sequence[Link], chip: str) -> list[Launch]:
    """Every launch that measuring some links makes."""
    with runtime.capture_launches(chip) as launches, torch.no_grad():
        for link in links:
            chain = Chain(link, torch.device("meta"))
            for part in PARTS:
                for candidate in chain.candidates(part):
                    candidate()
    return launches


_variants: list[Any] = []  # of the processes to be forked


def _compile(place: int) -> bool:
    """Whether a variant compiles.

    Raises:
        OSError: it cannot be kept.
    """
    import triton

    variant = _variants[place]
    try:
        triton.compile(variant.source, target=variant.target, options=variant.options)
    except OSError:
        raise
    except Exception:  # of any kind; see `precompile`
        return False
    return True


def main() -> int:
    """Compile what stdin asks for; print how many kernels the cache has of it."""
    from triton.backends.compiler import GPUTarget

    from kernels.aot.compile import specialize

    order = json.load(sys.stdin)
    launches = captured([link_from_dict(link) for link in order["links"]], order["chip"])
    variants = (specialize(launch, GPUTarget(*order["target"])) for launch in launches)
    _variants[:] = {variant.key: variant for variant in variants}.values()
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(order["jobs"], fork, initializer=die_with_parent, initargs=(os.getpid(),)) as pool:
        done = list(pool.map(_compile, range(len(_variants))))
    print(sum(done))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
