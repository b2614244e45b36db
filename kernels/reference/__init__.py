"""What the kernels should compute, in plain PyTorch, and the check that says whether they do."""

from kernels.reference.check import errors, poisoned, wrong
from kernels.reference.conv import conv1x1, conv3x3, conv_dgrad, conv_inference, pack_weights
from kernels.reference.pointwise import (
    bn_act,
    bn_act_backward_apply,
    bn_act_backward_reduce,
    bn_stats,
    join_gradient,
    normalize,
    pack,
    stem,
    stem_backward_apply,
    stem_backward_reduce,
    unpack,
)

__all__ = [
    "errors",
    "poisoned",
    "wrong",
    "bn_act",
    "bn_act_backward_apply",
    "bn_act_backward_reduce",
    "bn_stats",
    "conv1x1",
    "conv3x3",
    "conv_dgrad",
    "conv_inference",
    "join_gradient",
    "normalize",
    "pack",
    "pack_weights",
    "stem",
    "stem_backward_apply",
    "stem_backward_reduce",
    "unpack",
]
