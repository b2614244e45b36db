"""The process that compiles for `kernels.choose.precompile`: it captures launches and never touches the GPU."""

import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch

from kernels import runtime
from kernels.child_process import die_with_parent
from kernels.choose.candidates import Chain
from kernels.choose.choice import PARTS
from kernels.choose.sites import ConvSite, site_from_dict
from kernels.runtime import Launch


def captured(sites: Sequence[ConvSite], chip: str) -> list[Launch]:
    """Every launch that measuring some sites makes."""
    with runtime.capture_launches(chip) as launches, torch.no_grad():
        for site in sites:
            chain = Chain(site, torch.device("meta"))
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
    launches = captured([site_from_dict(site) for site in order["sites"]], order["chip"])
    variants = (specialize(launch, GPUTarget(*order["target"])) for launch in launches)
    _variants[:] = {variant.key: variant for variant in variants}.values()
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(order["jobs"], fork, initializer=die_with_parent, initargs=(os.getpid(),)) as pool:
        done = list(pool.map(_compile, range(len(_variants))))
    print(sum(done))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
