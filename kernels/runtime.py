"""How kernels are launched: where they run, what they allocate, and the ledger of what was launched."""

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kernels import chips

# Read before triton is: under the interpreter `triton.jit` makes no kernels for a device.
INTERPRETED = os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y")
# Contraction of a*b+c must not depend on the compiler's default, which later versions of Triton turn off: the backward
# pass computes masks again and has to round as the forward pass did.
os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")


@dataclass(frozen=True)
class Launch:
    """One launch: which kernel, for which layer, with what."""

    kernel: str
    layer: str
    function: Any = field(repr=False)
    grid: tuple[int, ...]
    arguments: dict[str, Any] = field(repr=False)
    options: dict[str, int] = field(repr=False)


class _State:
    layer: str = ""
    ledger: list[Launch] | None = None
    capture_chip: str | None = None


_state = _State()
_counters: dict[tuple[int, int], Tensor] = {}
COUNTERS = 8192
CAPTURED = -1  # in place of a stream: launches that a CUDA graph captures


def set_layer(name: str) -> None:
    """Name the layer that the launches from here on are for, in the ledger."""
    _state.layer = name


@contextlib.contextmanager
def record_launches() -> Iterator[list[Launch]]:
    """Collect every launch of a kernel in the `with` block."""
    before, _state.ledger = _state.ledger, []
    try:
        yield _state.ledger
    finally:
        _state.ledger = before


@contextlib.contextmanager
def capture_launches(chip: str) -> Iterator[list[Launch]]:
    """Collect what would be launched on `chip`, one of `chips.CHIPS`, and launch nothing: operands are meta tensors."""
    before, _state.capture_chip = _state.capture_chip, chip
    try:
        with record_launches() as launches:
            yield launches
    finally:
        _state.capture_chip = before


def captured_chip() -> str | None:
    """The chip that launches are captured for; None where they are launched."""
    return _state.capture_chip


def observed() -> bool:
    """Whether launches are collected, or captured in place of being launched."""
    return _state.ledger is not None or _state.capture_chip is not None


def launch(name: str, function: Any, grid: Sequence[int], arguments: dict[str, Any], **options: int) -> object:
    """Launch a Triton kernel on the current device, and give what Triton compiled; None where it compiles nothing.

    Args:
        name: of the kernel in the ledger, such as "bn_stats".
        function: a `triton.jit` function.
        grid: programs along up to three axes.
        arguments: every parameter of the function by name, constexprs included; None for a pointer that is not used.
        options: num_warps, num_stages.
    """
    if _state.ledger is not None:
        _state.ledger.append(Launch(name, _state.layer, function, tuple(grid), dict(arguments), dict(options)))
    return function[tuple(grid)](**arguments, **options) if _state.capture_chip is None else None


def chip(device: torch.device) -> str:
    """Which of the lists of configurations fits a device: its architecture, or the nearest older one."""
    if _state.capture_chip:
        return _state.capture_chip
    if device.type != "cuda":
        return chips.DEFAULT
    if torch.version.hip:
        # Its features follow the name: gfx942:sramecc+:xnack-.
        return chips.chip_of("hip", torch.cuda.get_device_properties(device).gcnArchName.partition(":")[0])
    major, minor = torch.cuda.get_device_capability(device)
    return chips.chip_of("cuda", 10 * major + minor)


def shared_bytes(device: torch.device) -> int:
    """Shared memory that one program may have: the chip's, less where the device that takes its list has less."""
    most = chips.CHIPS[chip(device)].shared_bytes
    if device.type != "cuda" or torch.version.hip or _state.capture_chip:
        return most
    return min(most, torch.cuda.get_device_properties(device).shared_memory_per_block_optin)  # type: ignore[attr-defined]


def runs_here(device: torch.device) -> bool:
    """Whether kernels can run on tensors of a device: a GPU, or the CPU under Triton's interpreter."""
    if device.type == "cuda":
        return not INTERPRETED
    return (device.type == "cpu" and INTERPRETED) or (device.type == "meta" and _state.capture_chip is not None)


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialized contiguous tensor; every output and workspace of every kernel comes from here."""
    return torch.empty(tuple(shape), dtype=dtype, device=device)


def empty_image(n: int, c: int, h: int, w: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialized [N, C, H, W] tensor in channels_last: memory in the order N, H, W, C whatever the sizes."""
    return empty((n, h, w, c), dtype, device).permute(0, 3, 1, 2)


def _stream(index: int) -> int:
    """The current stream of a GPU, without the object that `torch.cuda.current_stream` makes for it."""
    from triton.runtime import driver

    return int(driver.active.get_current_stream(index))


def counters(count: int, device: torch.device) -> Tensor:
    """At least `count` int32 zeros, for kernels whose last-arriving program finishes and sets its counter back to 0.

    Launches of one stream share them, since they follow one another; each stream has its own. CUDA graphs of a device
    share one set too: those over these kernels are not to be replayed at the same time.

    Raises:
        ValueError: more than there are.
    """
    if count > COUNTERS:
        raise ValueError(f"counters: {count} asked for, {COUNTERS} there are")
    if device.type == "meta":
        return torch.empty(count, dtype=torch.int32, device=device)
    index, stream = device.index or 0, 0
    if device.type == "cuda":
        if torch.cuda.is_current_stream_capturing():
            # Zeros that a graph makes cost it a launch and exist in its replays alone: only where there are no others.
            made = _counters.get((index, CAPTURED))
            return torch.zeros(count, dtype=torch.int32, device=device) if made is None else made
        stream = _stream(index)
    found = _counters.get((index, stream))
    if found is None:
        for key in ((index, stream), (index, CAPTURED)):
            if key not in _counters:
                _counters[key] = torch.zeros(COUNTERS, dtype=torch.int32, device=device)
        found = _counters[index, stream]
    return found
