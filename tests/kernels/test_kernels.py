"""The leaf package stays a leaf."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import kernels
from kernels import ops, reference

ROOT = Path(__file__).resolve().parents[2]
OPS = sorted(module.name for module in pkgutil.iter_modules(ops.__path__))


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kernels.__version__)


def test_import_is_light_and_pulls_in_no_other_package():
    code = "import sys, kernels; print(*{'torch', 'resnet', 'bench', 'launch', 'results'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def op(name):
    """The function that a file of `kernels.ops` is named after."""
    return getattr(importlib.import_module(f"kernels.ops.{name}"), name)


def test_there_are_ops():
    assert {"bn_stats", "bn_act", "conv1x1", "conv_dgrad", "stem", "pack_weights"} <= set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_an_op_says_what_it_takes_moves_gives_and_raises(name):
    for part in ("Args:", "Returns:", "Raises:", "KernelError", "Bytes moved"):
        assert part in inspect.getdoc(op(name)), part


@pytest.mark.parametrize("name", OPS)
def test_an_op_has_a_reference_with_the_same_arguments(name):
    expected = [key for key in inspect.signature(op(name)).parameters if key != "tile_config"]
    assert list(inspect.signature(getattr(reference, name)).parameters) == expected


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_tested_and_compiled_ahead(name):
    tests = "".join(path.read_text() for path in (ROOT / "tests" / "kernels" / "ops").glob("test_*.py"))
    assert f"from kernels.ops.{name} import" in tests
    cases = (ROOT / "kernels" / "aot" / "cases.py").read_text()
    assert f"from kernels.ops.{name} import" in cases
