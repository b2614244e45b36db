"""Precompile a site for sm_90, launch what measuring it launches as if that GPU were here, and print what was cached.

Nothing runs: Triton's launcher is asked to warm up, which ends where the kernel would be loaded.
"""

import json
import sys

import torch
import triton

from kernels.choose.precompile import precompile, running_target
from kernels.choose.precompile_worker import captured
from kernels.choose.sites import ConvSite


class Driver:
    """A GPU that is not there, as far as the launcher asks about one."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_current_target(self):
        return triton.backends.compiler.GPUTarget("cuda", self.arch, 32)

    def get_current_device(self) -> int:
        return self.arch

    def get_current_stream(self, device: int) -> int:
        return 0


def hits(site: ConvSite, arch: int) -> list[bool]:
    """Of each kernel that the launcher wants, whether the cache had it."""
    found: list[bool] = []
    triton.knobs.compilation.listener = lambda **told: found.append(told["cache_hit"])
    triton.runtime.driver.set_active(Driver(arch))
    for launch in captured([site], "sm_90"):
        launch.function.run(grid=launch.grid, warmup=True, **launch.arguments, **launch.options)
    return found


def main() -> None:
    site = ConvSite(**json.loads(sys.argv[1]))
    triton.runtime.driver.set_active(Driver(90))
    count = precompile([site], "sm_90", running_target(), jobs=2)
    found, other = hits(site, 90), hits(site, 80)
    print(json.dumps({"count": count, "hits": found, "other": other, "cuda": torch.cuda.is_initialized()}))


if __name__ == "__main__":
    main()
