"""Without a GPU the fused kernels run in the interpreter, which has to be chosen before anything imports Triton."""

import os

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
