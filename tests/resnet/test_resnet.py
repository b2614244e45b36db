"""The package's public names and what importing it costs."""

import subprocess
import sys

import pytest

import resnet


def test_import_costs_no_torch():
    code = "import sys, resnet, resnet.architecture; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_resolves():
    assert all(getattr(resnet, name).__module__.startswith("resnet.") for name in resnet.__all__)
    assert set(resnet.__all__) <= set(dir(resnet))


def test_unknown_name_raises():
    with pytest.raises(AttributeError, match="'resnet' has no attribute 'biuld'"):
        _ = resnet.biuld
