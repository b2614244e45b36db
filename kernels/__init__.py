"""Fused GPU kernels for residual networks: a leaf package that imports none of the others.

Each kernel lives in a module named after its operation, beside a reference in plain PyTorch. The modules of `resnet`
hold the parameters; a kernel takes them as arguments, so choosing one never changes a state dict.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
