"""The leaf package stays a leaf."""

import re
import subprocess
import sys

import kernels


def test_version_is_a_version():
    assert re.fullmatch(r"\d+\.\d+\.\d+", kernels.__version__)


def test_every_public_name_exists():
    assert all(hasattr(kernels, name) for name in kernels.__all__)


def test_import_is_light_and_pulls_in_no_other_package():
    code = "import sys, kernels; print(*{'torch', 'resnet', 'bench', 'launch', 'results'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""
