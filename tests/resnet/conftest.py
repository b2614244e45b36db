"""Lets the tests of this folder import the helpers that lie beside them; fused kernels run in Triton's interpreter."""

import os
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton
