"""The commands, for tests that hold for every one."""

import importlib
from collections.abc import Callable, Sequence

MODULES = [
    "bench.check_data", "bench.depth", "bench.evaluate", "bench.gpu", "bench.machine_code", "bench.micro",
    "bench.pairs", "bench.peers", "bench.peers.plain", "results.plot", "bench.roofline", "bench.step",
    "kernels.aot", "results.baseline", "results.calibrate", "results.check", "results.compare", "results.export",
    "results.exporters",
    "results.history", "results.paper", "results.query", "results.recover", "results.report",
]  # fmt: skip
LAUNCHERS = {"launch/local.py": "local", "launch/slurm.py": "slurm"}
COMMANDS = [*MODULES, *LAUNCHERS]


def main_of(name: str) -> Callable[[Sequence[str]], int]:
    """A command's entry point."""
    if name in LAUNCHERS:
        from launch.cli import main

        return lambda words: main(LAUNCHERS[name], words)  # type: ignore[arg-type]
    where = f"{name}.__main__" if hasattr(importlib.import_module(name), "__path__") else name
    return importlib.import_module(where).main  # type: ignore[no-any-return]
