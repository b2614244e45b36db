"""What the fused path takes, and what it refuses: devices, hooks and modules other than those of these networks."""

from collections.abc import Iterable

import torch
from torch import nn

from kernels import runtime
from resnet.layers import Block, Projection, StridedIdentity
from results.words import ConfigError


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
