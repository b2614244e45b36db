"""Fused GPU kernels for residual networks: a leaf package that imports none of the others.

Each kernel lives in a module named after its operation, beside a reference in plain PyTorch. The modules of `resnet`
hold the parameters; a kernel takes them as arguments, so choosing one never changes a state dict. The names below are
imported on first use: `import kernels` loads neither torch nor Triton.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernels.bn_act import bn_act
    from kernels.bn_act_backward import bn_act_backward_reduce, join_gradient
    from kernels.bn_act_backward_apply import bn_act_backward_apply
    from kernels.bn_stats import bn_stats
    from kernels.choice_cache import ChoiceCache
    from kernels.choice_table import Table, agree
    from kernels.conv1x1 import conv1x1
    from kernels.conv3x3 import conv3x3
    from kernels.conv_dgrad import conv_dgrad
    from kernels.conv_inference import conv_folded, fold
    from kernels.dispatch import decide
    from kernels.links import TORCH, Choice, Link, static_choice
    from kernels.operands import Config, KernelError, Norm, Producer, Running
    from kernels.pack import pack_weights
    from kernels.stem import stem
    from kernels.stem_backward import stem_backward_apply, stem_backward_reduce

if sys.argv[:1] == ["-m"]:  # `python -m PACKAGE.MODULE`, which is still to be loaded
    from results.loading import end_at_interrupt

    end_at_interrupt()

_MODULES = {
    "bn_stats": "bn_stats",
    "bn_act": "bn_act",
    "bn_act_backward_reduce": "bn_act_backward",
    "join_gradient": "bn_act_backward",
    "bn_act_backward_apply": "bn_act_backward_apply",
    "stem": "stem",
    "stem_backward_reduce": "stem_backward",
    "stem_backward_apply": "stem_backward",
    "conv1x1": "conv1x1",
    "conv3x3": "conv3x3",
    "conv_dgrad": "conv_dgrad",
    "conv_folded": "conv_inference",
    "fold": "conv_inference",
    "pack_weights": "pack",
    "Norm": "operands",
    "Running": "operands",
    "Producer": "operands",
    "Config": "operands",
    "KernelError": "operands",
    "Link": "links",
    "Choice": "links",
    "Table": "choice_table",
    "TORCH": "links",
    "static_choice": "links",
    "ChoiceCache": "choice_cache",
    "decide": "dispatch",
    "agree": "choice_table",
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
    "Config",
    "conv1x1",
    "conv3x3",
    "conv_dgrad",
    "conv_folded",
    "decide",
    "fold",
    "join_gradient",
    "KernelError",
    "Link",
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


class _Package(ModuleType):
    """The package, where the name of an operation is the operation, not the module of the same name."""

    def __setattr__(self, name: str, value: Any) -> None:
        # Python binds a submodule here once it is imported.
        if isinstance(value, ModuleType) and _MODULES.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
