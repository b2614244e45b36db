"""Tests of this folder may import the machine code that lies beside the tests of kernels."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "kernels"))
