"""Compile launches without a GPU, as the launcher would compile them on one."""

import functools
import multiprocessing
import os
import re
import signal
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from kernels import runtime
from kernels.aot.resources import Resources, failed, read_resources
from kernels.chips import CHIPS
from kernels.runtime import Launch

DEADLINE_S = 300.0  # of one compilation; one takes about a second


@dataclass(frozen=True)
class Variant:
    """A launch as the launcher specializes it for a chip: what is compiled.

    Attributes:
        source, target, options: arguments of `triton.compile`.
        multiplies: whether it has to use the chip's matrix instruction.
    """

    source: Any
    target: Any
    options: dict[str, Any]
    multiplies: bool

    @property
    def key(self) -> str:
        """Equal in variants that compile to the same code."""
        return f"{self.source.hash()} {self.target} {self.options}"


def compile_launch(launch: Launch, chip: str) -> Resources:
    """Compile what a launch would run on a chip; needs no GPU.

    Args:
        launch: from `runtime.capture_launches(chip)`; its tensors may be meta tensors.
        chip: one of `kernels.chips.CHIPS`.

    Returns:
        What the kernel takes. `status` says what is wrong, a failed compilation included.

    Raises:
        RuntimeError: Triton's interpreter is on, under which there are no kernels to compile.
    """
    return compile_variant(launch, chip, _resources)


def _resources(compiled: Any, launch: Launch, chip: str, multiplies: bool) -> Resources:
    return read_resources(compiled, chip, multiplies=multiplies)


def compile_variant(launch: Launch, chip: str, read: Callable[[Any, Launch, str, bool], Resources]) -> Resources:
    """Compile a launch and read what is asked for; see `compile_launch`.

    Args:
        read: of what `triton.compile` returned, the launch, its chip, and whether it has to use the chip's matrix
            instruction.
    """
    if runtime.INTERPRETED:
        raise RuntimeError("TRITON_INTERPRET=1 is set, under which Triton compiles nothing; unset it")
    try:
        variant = specialize(launch, target_of(chip))
        compiled = triton.compile(variant.source, target=variant.target, options=variant.options)
        return read(compiled, launch, chip, variant.multiplies)
    except Exception as error:  # of any kind: MLIR, LLVM and ptxas each have their own
        return failed(one_line(error))


def target_of(chip: str) -> GPUTarget:
    """What Triton compiles for on a chip, one of `CHIPS`."""
    return GPUTarget(*CHIPS[chip].target)


def specialize(launch: Launch, target: GPUTarget) -> Variant:
    """Types, constants and alignments of a launch's arguments, found by the code that a launch on a GPU runs.

    A pointer of None and an integer of 1 become constants, integers beyond 32 bits are i64, pointers and integers that
    are multiples of 16 are marked as such, and on AMD tensors of less than 2 GB are.
    """
    backend, binder = _binder(launch.function, target)
    given = {**launch.arguments, **launch.options}
    bound, specialization, rest = binder(**given)
    options, signature, constants, attributes = launch.function._pack_args(backend, given, bound, specialization, rest)
    half = any(kind in ("*bf16", "*fp16") for kind in signature.values())
    multiplies = half and (launch.kernel.startswith("conv") or "tl.dot(" in launch.function.src)
    source = ASTSource(launch.function, signature, constants, attributes)
    return Variant(source, target, options.__dict__, multiplies)


@functools.cache
def _binder(function: Any, target: GPUTarget) -> tuple[Any, Any]:
    backend = make_backend(target)
    return backend, create_function_from_signature(function.signature, function.params, backend)


ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)  # signals that end a process


def compile_all(
    launches: Sequence[tuple[Launch, str]], jobs: int, compile_one: Callable[[Launch, str], Resources] | None = None
) -> Iterator[tuple[list[int], Resources]]:
    """Compile what differs, each in a process of its own: a compiler that dies or hangs takes only its own launches.

    Args:
        launches: each with its chip.
        jobs: processes at a time.
        compile_one: what is done with a launch; `compile_launch` where it is not given.

    Yields:
        The places in `launches` that share a compilation, and its outcome, as each is done.
    """
    groups: dict[str, list[int]] = {}
    for place, (launch, chip) in enumerate(launches):
        try:
            groups.setdefault(specialize(launch, target_of(chip)).key, []).append(place)
        except Exception as error:
            yield [place], failed(one_line(error))
    _warm_up({chip for _, chip in launches})
    queue = list(groups.values())[::-1]
    running: dict[Connection, tuple[BaseProcess, list[int], float]] = {}
    while queue or running:
        while queue and len(running) < jobs:
            group = queue.pop()
            receiver, process = _start(*launches[group[0]], compile_one)
            running[receiver] = (process, group, time.monotonic() + DEADLINE_S)
        ready = wait(list(running), timeout=1.0)
        for receiver in [key for key in running if key in ready]:
            process, group, _ = running.pop(receiver)
            yield group, _receive(receiver, process)
        for receiver in [key for key, (_, _, deadline) in running.items() if time.monotonic() > deadline]:
            process, group, _ = running.pop(receiver)
            process.kill()
            process.join()
            yield group, failed(f"no result after {DEADLINE_S:.0f} s")


@triton.jit
def _nothing_kernel(out_ptr):
    tl.store(out_ptr, 0.0)


def _warm_up(chips: Iterable[str]) -> None:
    """Load the compilers into this process, so that those it forks start with them (they save 0.4 s each)."""
    for chip in chips:
        out = torch.empty(1, device="meta")
        compile_launch(Launch("nothing", "", _nothing_kernel, (1,), {"out_ptr": out}, {"num_warps": 1}), chip)


def _start(
    launch: Launch, chip: str, compile_one: Callable[[Launch, str], Resources] | None = None
) -> tuple[Connection, BaseProcess]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    # What a signal's handler raises in the middle of a fork is dropped: signals wait until it is over.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        process = context.Process(target=_compile_and_send, args=(launch, chip, compile_one, sender, mask), daemon=True)
        process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    sender.close()
    return receiver, process


def _compile_and_send(
    launch: Launch,
    chip: str,
    compile_one: Callable[[Launch, str], Resources] | None,
    sender: Connection,
    mask: set[signal.Signals],
) -> None:
    """Compile in this process, a child; what compilers write to stderr tells more than what they raise."""
    for number in ENDING:  # no Python of the parent's while a compiler runs
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    with tempfile.TemporaryFile() as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        resources = (compile_one or compile_launch)(launch, chip)
        file.seek(0)
        said = re.search(r"error: (.*)", file.read().decode(errors="replace"))
    if said and resources.regs is None:
        resources = failed(f"{resources.status.removeprefix('failed: ')}: {said[1]}")
    sender.send(resources)


def _receive(receiver: Connection, process: BaseProcess) -> Resources:
    try:
        return receiver.recv()
    except EOFError:
        process.join()
        return failed(f"the compiler died with status {process.exitcode}")
    finally:
        receiver.close()
        process.join()


def one_line(error: Exception) -> str:
    """An exception in one line; Triton's messages end with what is wrong, after the code around it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"[:300]
