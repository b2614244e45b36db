"""Deep residual networks after He et al. (arXiv:1512.03385): models, shortcuts, data and recipes.

The names below are imported on first use, so that `import resnet` (and `resnet.recipe`, `resnet.architecture`) costs no
import of torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet.architecture import Architecture
    from resnet.counts import Counts, count
    from resnet.model import ResNet, build
    from resnet.weights import WeightsError, architecture_of, load_weights, save_weights

__all__ = [
    "Architecture", "Counts", "ResNet", "WeightsError", "architecture_of", "build", "count", "load_weights",
    "save_weights",
]  # fmt: skip

_MODULES = {
    "Architecture": "resnet.architecture",
    "Counts": "resnet.counts",
    "ResNet": "resnet.model",
    "WeightsError": "resnet.weights",
    "architecture_of": "resnet.weights",
    "build": "resnet.model",
    "count": "resnet.counts",
    "load_weights": "resnet.weights",
    "save_weights": "resnet.weights",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
