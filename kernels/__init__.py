"""Fused GPU kernels for residual networks: a leaf package that imports none of the others.

Each kernel lives in a module of `kernels.ops` named after its operation, and has a reference in plain PyTorch. The
modules of `resnet` hold the parameters; a kernel takes them as arguments, so choosing one never changes a state dict.
The names below are imported on first use: `import kernels` loads neither torch nor Triton. No module of this folder may
have one of these names: importing it would put the module here in place of the operation.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.choose.cache import ChoiceCache
    from kernels.choose.choice import TORCH, Choice, static_choice
    from kernels.choose.decide import measure_choices
    from kernels.choose.sites import ConvSite
    from kernels.choose.table import Table, agree
    from kernels.operands import KernelError, Norm, Producer, Running, TileConfig
    from kernels.ops.bn_act import bn_act
    from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
    from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
    from kernels.ops.bn_stats import bn_stats
    from kernels.ops.conv1x1 import conv1x1
    from kernels.ops.conv3x3 import conv3x3
    from kernels.ops.conv_dgrad import conv_dgrad
    from kernels.ops.conv_inference import conv_inference, fold
    from kernels.ops.join_gradient import join_gradient
    from kernels.ops.pack_weights import pack_weights
    from kernels.ops.stem import stem
    from kernels.ops.stem_backward_apply import stem_backward_apply
    from kernels.ops.stem_backward_reduce import stem_backward_reduce


_MODULES = {
    "bn_stats": "ops.bn_stats",
    "bn_act": "ops.bn_act",
    "bn_act_backward_reduce": "ops.bn_act_backward_reduce",
    "join_gradient": "ops.join_gradient",
    "bn_act_backward_apply": "ops.bn_act_backward_apply",
    "stem": "ops.stem",
    "stem_backward_reduce": "ops.stem_backward_reduce",
    "stem_backward_apply": "ops.stem_backward_apply",
    "conv1x1": "ops.conv1x1",
    "conv3x3": "ops.conv3x3",
    "conv_dgrad": "ops.conv_dgrad",
    "conv_inference": "ops.conv_inference",
    "fold": "ops.conv_inference",
    "pack_weights": "ops.pack_weights",
    "Norm": "operands",
    "Running": "operands",
    "Producer": "operands",
    "TileConfig": "operands",
    "KernelError": "operands",
    "ConvSite": "choose.sites",
    "Choice": "choose.choice",
    "Table": "choose.table",
    "TORCH": "choose.choice",
    "static_choice": "choose.choice",
    "ChoiceCache": "choose.cache",
    "measure_choices": "choose.decide",
    "agree": "choose.table",
}

__version__ = "0.2.0"
__all__ = [
    "__version__",
    "agree",
    "bn_act",
    "bn_act_backward_apply",
    "bn_act_backward_reduce",
    "bn_stats",
    "Choice",
    "ChoiceCache",
    "TileConfig",
    "conv1x1",
    "conv3x3",
    "conv_dgrad",
    "conv_inference",
    "measure_choices",
    "fold",
    "join_gradient",
    "KernelError",
    "ConvSite",
    "Norm",
    "pack_weights",
    "Producer",
    "Running",
    "static_choice",
    "stem",
    "stem_backward_apply",
    "stem_backward_reduce",
    "Table",
    "TORCH",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"kernels.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
