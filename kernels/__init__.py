"""Fused GPU kernels for residual networks: a leaf package that imports none of the others.

An op is the function that its file in `kernels.ops` is named after, and has a reference in plain PyTorch under the same
name in `kernels.reference`. The modules of `resnet` hold the parameters; an op takes them as arguments, so choosing one
never changes a state dict. `import kernels` loads neither torch nor Triton.
"""

__version__ = "0.3.0"
