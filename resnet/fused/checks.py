"""What the fused path takes, and what it refuses: devices, images, dtypes, hooks, modules that are not these networks'.

All of it is asked before a pass changes anything.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kernels import runtime
from kernels.operands import DTYPES
from resnet.layers import Block, ConvBn, Projection, StridedIdentity
from results.words import ConfigError

# The method of a module or tensor that converts it.
CONVERSIONS = {torch.float32: "float()", torch.float16: "half()", torch.bfloat16: "bfloat16()"}


def check_device(word: str, device: torch.device) -> None:
    """See that Triton's kernels run on a device.

    Raises:
        ConfigError: they do not; one line with what would do instead.
    """
    if not runtime.runs_here(device):
        raise ConfigError(
            f"kernels={word}: images on {device}, where Triton's kernels do not run; nearest is kernels=torch "
            "(TRITON_INTERPRET=1 in the environment runs them in the interpreter, for tests)"
        )


def check_images(x: Tensor, channels: int) -> None:
    """See that a tensor is a batch of images, which may be empty, as the first convolution reads them.

    Raises:
        ValueError: it is not; one line that names what is wrong and what would do.
    """
    if x.dim() != 4:
        raise ValueError(f"images: expected [N, C, H, W], got shape {tuple(x.shape)}; nearest is images[None]")
    n, c, h, w = x.shape
    if c != channels:
        raise ValueError(f"images: {c} channels in shape {tuple(x.shape)}; nearest is {(n, channels, h, w)}")
    if 0 in (h, w):
        raise ValueError(f"images: shape {tuple(x.shape)} is empty; nearest is {(n, c, max(h, 1), max(w, 1))}")
    if not x.is_floating_point():
        raise ValueError(f"images: dtype {_word(x.dtype)} is not floating; nearest is images.float()")


def check_dtypes(
    word: str, layers: Sequence[ConvBn], dtype: torch.dtype, classifier: nn.Module | None, *, autocast: bool
) -> None:
    """See that a pass can compute in a dtype: that kernels have it, and that parameters are in it or in fp32.

    Args:
        layers: what the pass goes through.
        dtype: that it computes in: of the images, or of autocast.
        classifier: the layer behind, None where the pass ends before it or something between them may cast.
        autocast: whether it is on, under which the classifier is cast.

    Raises:
        ConfigError: it cannot; one line that names the tensor and what would do.
    """
    if dtype not in DTYPES:
        raise ConfigError(
            f"kernels={word}: images in {_word(dtype)}, in which Triton's kernels do not compute; "
            "nearest is float32, by images.float() and model.float(); kernels=torch computes in any dtype"
        )
    computes, convert = _word(dtype), CONVERSIONS[torch.float32 if autocast else dtype]
    for layer in layers:
        for place, tensor in enumerate(_tensors(layer)):
            if tensor is None or tensor.dtype is torch.float32 or tensor.dtype is dtype:
                continue
            where = f"autocast computes in {computes}" if autocast else f"images are in {computes}"
            fits = "float32" if dtype == torch.float32 else "that or float32"
            nearest = f"model.{convert}"
            if not autocast and _converted(layers, classifier, tensor.dtype):
                nearest = f"images.{CONVERSIONS[tensor.dtype]}"
            raise ConfigError(
                f"kernels={word}: {_names(layer)[place]} in {_word(tensor.dtype)}, where {where} and parameters may be "
                f"in {fits}; nearest is {nearest}"
            )
    if type(classifier) is nn.Linear:
        for name, parameter in classifier.named_parameters():
            if parameter.dtype != dtype and (not autocast or parameter.dtype == torch.float64):
                other = "" if autocast else ", or torch.autocast"
                raise ConfigError(
                    f"kernels={word}: fc.{name} in {_word(parameter.dtype)}, where its input comes in {computes}; "
                    f"nearest is model.fc.{convert}{other}"
                )


def _converted(layers: Sequence[ConvBn], classifier: nn.Module | None, dtype: torch.dtype) -> bool:
    """Whether a network is one of a dtype that kernels have, as `nn.Module.half` makes it, BN in fp32 or not."""
    weights = [layer.conv.weight for layer in layers] + ([] if classifier is None else list(classifier.parameters()))
    tensors = [tensor for layer in layers for tensor in _tensors(layer) if tensor is not None]
    whole = all(one.dtype == dtype for one in weights) and {one.dtype for one in tensors} <= {dtype, torch.float32}
    return dtype in DTYPES and whole


def classifier_of(model: Any) -> nn.Module | None:
    """The layer that takes a network's features as they come; None where a hook may cast them on their way."""
    stage = model.stages()[-1]
    before = any(one._forward_hooks for one in (stage, *stage[-1:]))
    fc: nn.Module = model.fc
    return None if before or fc._forward_pre_hooks else fc


def _tensors(layer: ConvBn) -> tuple[Tensor | None, ...]:
    """What kernels read of a layer; its names are `_names`."""
    own, kept = layer.bn._parameters, layer.bn._buffers
    return layer.conv._parameters["weight"], own["weight"], own["bias"], kept["running_mean"], kept["running_var"]


def _names(layer: ConvBn) -> tuple[str, ...]:
    """The names in the network of what `_tensors` gives."""
    place, dot, conv = layer.name.rpartition(".")
    bn = place + dot + ("1" if conv == "0" else conv.replace("conv", "bn"))
    return f"{layer.name}.weight", f"{bn}.weight", f"{bn}.bias", f"{bn}.running_mean", f"{bn}.running_var"


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def all_modules(module: nn.Module) -> list[nn.Module]:
    """A module and all inside it; a few times faster than `module.modules()`, and with repetitions."""
    found = [module]
    for one in found:  # which grows
        found += [child for child in one._modules.values() if child is not None]
    return found


def modules_inside(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules of a block, or of a network's blocks and stem, that do not run themselves, by name."""
    blocks = [module] if isinstance(module, Block) else [m for m in module.modules() if isinstance(m, Block)]
    inside = [(f"{block.name}.{name}", child) for block in blocks for name, child in block.named_modules() if name]
    if not isinstance(module, Block):
        inside += [(name, child) for name, child in module.named_children() if name in ("conv1", "bn1", "maxpool")]
    return inside


def check_modules(inside: Iterable[tuple[str, nn.Module]]) -> None:
    """Refuse what the fused path would leave out or compute as something else.

    Args:
        inside: from `modules_inside`.

    Raises:
        RuntimeError: a hook on a module that does not run, or a module other than those that the network was built
            with; one line that names it.
    """
    for name, child in inside:
        if child._forward_hooks or child._forward_pre_hooks or child._backward_hooks or child._backward_pre_hooks:
            raise RuntimeError(
                f"{name}: a hook on it would never fire, since the block is computed as one; use kernels=torch"
            )
        if problem := _problem(name, child):
            raise RuntimeError(f"{name}: {problem} is not fused; use kernels=torch")


def _problem(name: str, module: nn.Module) -> str | None:
    """What about a module is not as the networks of this package have it, None where nothing is.

    Args:
        name: whose last word is the module's role, such as "conv2"; a projection's parts are "0" and "1".
    """
    role = name.rpartition(".")[2]
    kind = type(module).__name__
    if role.startswith("conv") or role == "0":
        if type(module) is not nn.Conv2d:
            return f"{kind} in place of a Conv2d"
        size = module.kernel_size[0]
        fits = module.kernel_size == (size, size) and module.padding == (size // 2, size // 2) and module.bias is None
        plain = module.dilation == (1, 1) and module.groups == 1 and module.padding_mode == "zeros"
        return None if fits and plain and module.stride[0] == module.stride[1] else f"Conv2d({module.extra_repr()})"
    if role.startswith("bn") or role == "1":
        if type(module) is not nn.BatchNorm2d:
            return f"{kind} in place of a BatchNorm2d"
        return None if module.affine else "BatchNorm2d without weight and bias"
    if role == "maxpool":
        known = type(module) is nn.MaxPool2d and not (module.ceil_mode or module.return_indices)
        if known and (module.kernel_size, module.stride, module.padding, module.dilation) == (3, 2, 1, 1):
            return None
        return f"{kind}({module.extra_repr()})"
    return None if isinstance(module, StridedIdentity | Projection) else f"{kind} on a shortcut"
