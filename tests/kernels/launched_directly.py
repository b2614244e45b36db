"""Launch ops on a GPU that is not there, and print what reached its driver; see `test_prepared`."""

import json
import time
from collections.abc import Callable
from typing import Any

import torch
import triton
from standin_driver import Launched, install, launched
from torch import Tensor

from kernels import prepared, runtime
from kernels.operands import Norm, Producer, Running
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv_dgrad import conv_dgrad

N, C, K, SIZE = 2, 64, 256, 8
BF16 = torch.bfloat16


def image(c: int, place: int = 0) -> Tensor:
    """[N, C, SIZE, SIZE] in channels_last, `place` elements behind an address that is a multiple of 16."""
    size = N * SIZE * SIZE * c
    return torch.zeros(size + 8, dtype=BF16)[place:][:size].view(N, SIZE, SIZE, c).permute(0, 3, 1, 2)


def norm(c: int) -> Norm:
    return Norm(torch.zeros(2, c), torch.zeros(c), torch.zeros(c))


def told(one: Launched) -> dict[str, Any]:
    """A launch in plain words: addresses of tensors, and the parameters that the code takes as multiples of 16."""
    names = one.source.fn.arg_names
    return {
        "kernel": one.source.fn.__name__,
        "grid": one.grid,
        "stream": one.stream,
        "tensors": sum(isinstance(value, Tensor) for value in one.arguments.values()),
        "arguments": {
            name: value.data_ptr() if isinstance(value, Tensor) else value for name, value in one.arguments.items()
        },
        "aligned": [names[path[0]] for path, attributes in one.source.attrs.items() if attributes],
    }


def calls() -> dict[str, Callable[[], dict[str, Tensor | None]]]:
    """Calls of ops by name; each gives the tensors that the kernel should have got, by parameter."""
    y, x, other, weight = image(K), image(C), image(K, 1), torch.zeros(K, 1, 1, C, dtype=BF16).permute(0, 3, 1, 2)
    wide, narrow = norm(K), norm(C)
    running = Running(torch.zeros(K), torch.zeros(K), 0.25)

    def act(y: Tensor) -> dict[str, Tensor | None]:
        z, mask = bn_act(y, wide, shortcut=y, keep_mask=True)
        own = {"y_ptr": y, "shortcut_ptr": y, "z_ptr": z, "mask_ptr": mask, "shortcut_stats_ptr": None}
        return own | {"stats_ptr": wide.stats, "weight_ptr": wide.weight, "bias_ptr": wide.bias}

    def stats() -> dict[str, Tensor | None]:
        return {"y_ptr": y, "stats_ptr": bn_stats(y, running=running), "running_mean_ptr": running.mean}

    def conv() -> dict[str, Tensor | None]:
        out, made = conv1x1(x, weight, prologue=narrow, running=running)
        own = {"x_ptr": x, "weight_ptr": weight, "y_ptr": out, "stats_ptr": made, "running_var_ptr": running.var}
        return own | {"prologue_stats_ptr": narrow.stats, "prologue_bias_ptr": narrow.bias}

    def dgrad() -> dict[str, Tensor | None]:
        g, sums, z = conv_dgrad(y, weight, producer=Producer(x, narrow), write_activation=True)
        return {
            "dy_ptr": y,
            "weight_ptr": weight,
            "y_ptr": x,
            "g_ptr": g,
            "sums_ptr": sums,
            "z_ptr": z,
            "mask_ptr": None,
        }

    return {
        "bn_act": lambda: act(y),
        "misaligned": lambda: act(other),
        "bn_stats": stats,
        "conv1x1": conv,
        "conv_dgrad": dgrad,
    }


def observe(call: Callable[[], dict[str, Tensor | None]]) -> dict[str, Any]:
    """The launch that a call makes, and the addresses that it should have got."""
    launched.clear()
    tensors = call()
    (one,) = launched
    expected = {name: None if tensor is None else tensor.data_ptr() for name, tensor in tensors.items()}
    return told(one) | {"expected": expected}


def best_us(call: Callable[[], object]) -> float:
    """Microseconds of a call, the best of many: what a busy machine adds is not the call's."""
    found = []
    for _ in range(400):
        start = time.perf_counter_ns()
        call()
        found.append(time.perf_counter_ns() - start)
    launched.clear()
    return min(found) / 1000


def unprepared(call: Callable[[], object]) -> Callable[[], object]:
    """A call that checks, plans and asks Triton for its kernel each time."""

    def run() -> object:
        prepared.forget()
        return call()

    return run


def main() -> None:
    driver = install()
    runtime.runs_here = lambda device: True  # the CPU stands for the GPU
    compiled: list[str] = []
    triton.knobs.compilation.listener = lambda **told: compiled.append(told["src"].fn.__name__)
    found: dict[str, Any] = {"first": {}, "then": {}, "again": {}}
    ours = calls()
    for turn in found:
        for name, call in ours.items():
            found[turn][name] = observe(call)
    found["compiled"] = list(compiled)
    with runtime.record_launches() as ledger:
        found["recorded"] = observe(ours["bn_act"])
    found["ledger"] = [launch.kernel for launch in ledger]
    with runtime.capture_launches("sm_90"):
        launched.clear()
        ours["bn_act"]()
        found["captured"] = len(launched)
    hooked: list[object] = []
    triton.knobs.runtime.launch_enter_hook = lambda metadata: hooked.append(metadata.get()["name"])
    ours["bn_act"]()
    triton.knobs.runtime.launch_enter_hook = None
    found["hooked"] = hooked
    found["us"] = {
        name: [best_us(ours[name]), best_us(unprepared(ours[name]))] for name in ("bn_act", "conv1x1", "conv_dgrad")
    }
    driver.device = 1
    found["other stream"] = observe(ours["bn_act"])["stream"]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
