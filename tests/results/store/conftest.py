"""Lets the tests of this folder import the generator of stores that lies beside them."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]
