"""Lets the tests of this folder import the helpers that lie beside them."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "resnet")]
