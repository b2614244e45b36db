"""The leaf package stays a leaf."""

import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

import kernels
from kernels import reference

# Modules whose function launches a kernel.
OPERATIONS = (
    "bn_stats", "bn_act", "bn_act_backward", "bn_act_backward_apply", "stem", "stem_backward", "conv1x1", "conv3x3",
    "conv_dgrad", "conv_inference", "pack",
)  # fmt: skip


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kernels.__version__)


def test_every_public_name_exists():
    assert all(hasattr(kernels, name) for name in kernels.__all__)


def test_no_module_takes_the_place_of_a_public_name():
    """Python binds a submodule to its package under its own name, over whatever had that name before."""
    modules = {module.name for module in pkgutil.iter_modules(kernels.__path__)}
    assert "ops" in modules and not modules & set(kernels.__all__)


ALL_OPERATIONS = """
import importlib, inspect, pkgutil, sys
import kernels.ops.bn_act as module
import kernels
from kernels import bn_act
assert inspect.ismodule(module) and inspect.isfunction(bn_act), (module, bn_act)
assert kernels.bn_act is bn_act is module.bn_act
for name in sorted(one.name for one in pkgutil.iter_modules(kernels.ops.__path__)):
    assert importlib.import_module(f"kernels.ops.{name}") is getattr(kernels.ops, name), name
wrong = [name for name in kernels.__all__ if inspect.ismodule(getattr(kernels, name))]
assert not wrong, wrong
"""


@pytest.mark.slow
def test_an_operation_is_a_function_and_its_file_a_module():
    """In a process of its own, since it matters which is imported first."""
    done = subprocess.run([sys.executable, "-c", ALL_OPERATIONS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_import_is_light_and_pulls_in_no_other_package():
    code = "import sys, kernels; print(*{'torch', 'resnet', 'bench', 'launch', 'results'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def operations():
    """Public functions that launch a kernel, by name."""
    functions = {name: getattr(kernels, name) for name in kernels.__all__ if inspect.isfunction(getattr(kernels, name))}
    launching = {name: f for name, f in functions.items() if f.__module__.removeprefix("kernels.ops.") in OPERATIONS}
    return {name: f for name, f in launching.items() if name != "fold"}


def test_everything_public_is_documented():
    for name in set(kernels.__all__) - {"__version__", "TORCH"}:
        assert inspect.getdoc(getattr(kernels, name)), name


def test_every_operation_says_what_it_takes_moves_gives_and_raises():
    assert len(operations()) == 13
    for name, operation in operations().items():
        for part in ("Args:", "Returns:", "Raises:", "KernelError", "Bytes moved"):
            assert part in inspect.getdoc(operation), f"{name}: {part}"


def test_every_operation_has_a_reference_with_the_same_arguments():
    for name, operation in operations().items():
        twin = getattr(reference, name)
        expected = [key for key in inspect.signature(operation).parameters if key != "config"]
        assert list(inspect.signature(twin).parameters) == expected, name
