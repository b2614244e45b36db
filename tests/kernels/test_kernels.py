"""The leaf package stays a leaf."""

import inspect
import re
import subprocess
import sys

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


def test_import_is_light_and_pulls_in_no_other_package():
    code = "import sys, kernels; print(*{'torch', 'resnet', 'bench', 'launch', 'results'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def operations():
    """Public functions that launch a kernel, by name."""
    functions = {name: getattr(kernels, name) for name in kernels.__all__ if inspect.isfunction(getattr(kernels, name))}
    launching = {name: f for name, f in functions.items() if f.__module__.removeprefix("kernels.") in OPERATIONS}
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
