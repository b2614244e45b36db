"""Launches that are prepared once: a call on operands that look like earlier ones only allocates and launches.

What an op checks and works out depends on how its operands look (shapes, strides, dtypes, devices) and on its options,
and a training step asks the same of it again and again. So each op has a function, marked by `prepared`, that checks
and plans, and is called once for each look. In the same way Triton finds out anew at each launch which of the compiled
kernels an argument list wants: that too is asked once, where nothing but the alignment of addresses can change it.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor
from triton.compiler import CompiledKernel

from kernels import runtime
from kernels.operands import KernelError

MOST = 1024  # prepared launches of an op that are kept; the oldest goes
ALIGNMENT = 16  # bytes: what Triton compiles for where an address is a multiple of them

Operands = tuple[Tensor | None, ...]

_all: list[dict[Any, "Prepared"]] = []


class Made(NamedTuple):
    """A tensor that each launch allocates, contiguous.

    Attributes:
        shape, dtype: of the memory.
        image: shape is [N, H, W, C], and the tensor its view [N, C, H, W].
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    image: bool = False


def image(n: int, c: int, h: int, w: int, dtype: torch.dtype) -> Made:
    """[N, C, H, W] in channels_last: memory in the order N, H, W, C whatever the sizes."""
    return Made((n, h, w, c), dtype, True)


class Prepared:
    """A launch of a Triton kernel but for its tensors.

    Args:
        name: of the kernel in the ledger, such as "bn_stats".
        function: a `triton.jit` function.
        grid: programs along up to three axes.
        device: of every operand.
        operands: parameters that the operands of a call are, in the order in which a call gives them; None for one that
            is checked and not passed.
        outputs: what a call allocates and returns, by parameter, in this order; None for a pointer that is not used.
        workspace: what it allocates and does not return, likewise.
        counters: the parameter that gets `runtime.counters`, and how many.
        floats: parameters of floats that a call gives, in order.
        constants: the other parameters, constexprs included.
        options: num_warps, num_stages.

    Raises:
        ValueError: a parameter of the function is given twice, or not at all.
    """

    def __init__(
        self,
        name: str,
        function: Any,
        grid: Sequence[int],
        *,
        device: torch.device,
        operands: Sequence[str | None],
        outputs: Mapping[str, Made | None],
        workspace: Mapping[str, Made | None] | None = None,
        counters: tuple[str, int] | None = None,
        floats: Sequence[str] = (),
        constants: Mapping[str, Any],
        options: Mapping[str, int],
    ) -> None:
        workspace = workspace or {}
        counter_names = (counters[0],) if counters else ()
        given = (*operands, *outputs, *workspace, *counter_names, *floats, *constants)
        named = sorted(key for key in given if key is not None)
        expected = sorted(function.arg_names)
        if named != expected:
            wrong = set(named) ^ set(expected) or {key for key in named if named.count(key) > 1}
            raise ValueError(f"{name}: {min(wrong)} is given twice, or not at all; expected each parameter once")
        self.name, self.function, self.grid, self.device = name, function, tuple(grid), device
        self.operands, self.options = tuple(operands), dict(options)
        self._index = device.index if device.type == "cuda" else None
        self._made = (*outputs.values(), *workspace.values())
        self._outputs = len(outputs)
        self._counters = counters[1] if counters else 0
        self._constants = tuple(constants.values())
        self._order = itemgetter(*(given.index(key) for key in function.arg_names))
        # What Triton compiled, by which addresses are multiples of ALIGNMENT; None where all are.
        self._compiled: dict[tuple[bool, ...] | None, Callable[..., object]] = {}

    def launch(self, operands: Operands, floats: tuple[float, ...] = ()) -> list[Any]:
        """Allocate and launch on the operands' device; returns the outputs, None where one is not used."""
        if self._index is None or self._index == torch.cuda.current_device():
            return self._launch(operands, floats)
        # Triton launches on the current device and its stream, wherever the operands are.
        with torch.cuda.device(self._index):
            return self._launch(operands, floats)

    def _launch(self, operands: Operands, floats: tuple[float, ...]) -> list[Any]:
        device, empty = self.device, runtime.empty
        made: list[Tensor | None] = []
        for one in self._made:
            if one is None:
                made.append(None)
            else:
                tensor = empty(one[0], one[1], device)
                made.append(tensor.permute(0, 3, 1, 2) if one[2] else tensor)
        tensors = [*operands, *made]
        if self._counters:
            tensors.append(runtime.counters(self._counters, device))
        if runtime.observed():
            self._start(tensors, floats)
        else:
            addresses = [0 if tensor is None else tensor.data_ptr() for tensor in tensors]
            together = 0
            for address in addresses:
                together |= address
            key = None if together % ALIGNMENT == 0 else tuple([address % ALIGNMENT == 0 for address in addresses])
            compiled = self._compiled.get(key)
            if compiled is not None:
                # Addresses in place of tensors: the driver is not asked about each whether a GPU can read it.
                compiled(*self._order((*addresses, *floats, *self._constants)))
            else:
                kernel = self._start(tensors, floats)
                # Under the interpreter there is none. On AMD it depends on how large the tensors' memory is, too.
                if isinstance(kernel, CompiledKernel) and not torch.version.hip:
                    self._compiled[key] = kernel[(*self.grid, 1, 1)[:3]]
        return made[: self._outputs]

    def _start(self, tensors: Sequence[Tensor | None], floats: tuple[float, ...]) -> object:
        """Launch as Triton does, and give what it launched."""
        values = self._order((*tensors, *floats, *self._constants))
        arguments = dict(zip(self.function.arg_names, values, strict=True))
        return runtime.launch(self.name, self.function, self.grid, arguments, **self.options)


def prepared(build: Callable[..., Prepared]) -> Callable[..., Prepared]:
    """Keep what a function prepares, for each look of its operands and each of its options.

    The function checks operands and options and plans the launch: `build(operands, *options)`, options hashable. It may
    depend on nothing else but the chip and, for what `operands` holds, shapes, strides, dtypes and devices. What it
    raises is not kept.

    Raises:
        KernelError: operands that are read are on two devices.
    """
    kept: dict[Any, Prepared] = {}
    _all.append(kept)

    @functools.wraps(build)
    def find(operands: Operands, *options: Any) -> Prepared:
        parts: list[Any] = [runtime.captured_chip(), options]
        for x in operands:
            if x is None:
                parts.append(None)
            else:
                parts += (x.shape, x.stride(), x.dtype, x.device)
        key = tuple(parts)
        found = kept.get(key)
        if found is None:
            found = build(operands, *options)
            _check_devices(found, operands)
            if len(kept) >= MOST:
                kept.pop(next(iter(kept)), None)
            kept[key] = found
        return found

    return find


def forget() -> None:
    """Drop all that is prepared: for tests that change what planning depends on."""
    for kept in _all:
        kept.clear()


def _check_devices(found: Prepared, operands: Operands) -> None:
    for name, x in zip(found.operands, operands, strict=True):
        if name is not None and x is not None and x.device != found.device:
            word = name.removesuffix("_ptr")
            raise KernelError(
                f"{found.name}: {word} on {x.device} beside {found.device}; nearest is {word}.to('{found.device}')"
            )
