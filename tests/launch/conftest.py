"""Lets the tests of this folder import the helpers that lie beside them, and those of `bench`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "bench"), str(HERE.parent / "results" / "store")]
