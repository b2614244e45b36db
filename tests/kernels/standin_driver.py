"""A GPU that is not there, as far as Triton asks about one: kernels are compiled for it, and their launches noted.

For processes of their own: Triton's driver is the process's, and under the interpreter there is none.
"""

from typing import Any

import triton
from triton.backends.compiler import GPUTarget


class Launched:
    """A launch as it would reach the driver.

    Attributes:
        source: what was compiled, with its signature and attributes.
        grid, stream: of the launch.
        arguments: of the kernel by name, constexprs included; tensors, or addresses of such.
    """

    def __init__(self, source: Any, grid: tuple[int, ...], stream: int, arguments: tuple[Any, ...]) -> None:
        self.source, self.grid, self.stream = source, grid, stream
        self.arguments = dict(zip(source.fn.arg_names, arguments, strict=True))


class _Launcher:
    def __init__(self, source: Any, metadata: Any) -> None:
        self.source = source

    def __call__(self, x: int, y: int, z: int, stream: int, function: int, *rest: Any) -> None:
        packed, metadata, enter_hook, exit_hook, *arguments = rest
        for hook in (enter_hook, exit_hook):
            if hook is not None:
                hook(metadata)
        launched.append(Launched(self.source, (x, y, z), stream, tuple(arguments)))


class _Utils:
    def load_binary(self, name: str, code: bytes, shared: int, device: int) -> tuple[int, ...]:
        return 1, 2, 0, 0, 1024

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {"max_shared_mem": 232_448}


class Driver:
    """What `triton.runtime.driver` asks of a driver."""

    utils = _Utils()
    launcher_cls = _Launcher
    device = 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return self.device

    def get_current_stream(self, device: int) -> int:
        return 70 + device


launched: list[Launched] = []


def install() -> Driver:
    """Make it the driver of this process."""
    driver = Driver()
    triton.runtime.driver.set_active(driver)
    return driver
