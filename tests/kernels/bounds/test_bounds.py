"""No kernel touches memory that is not an operand's, and no result depends on the order of programs.

Every tensor of a launch ends, or in every second call begins, at a page that nobody may touch, and each call runs the
programs of its grid in another order: what is written has to be equal to the bit.
"""

import importlib
import inspect
import json
import os
import pkgutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from triton.runtime.jit import KernelInterface

import kernels
from kernels import ops

pytestmark = [
    pytest.mark.interpreted,
    pytest.mark.skipif("TRITON_INTERPRET" not in os.environ, reason="there is a GPU, on which kernels run"),
]

ROOT = Path(__file__).resolve().parents[3]
OPS = sorted(module.name for module in pkgutil.iter_modules(ops.__path__))
OUT = "out of bounds"
# What is said of each planted kernel; "sound" has no fault.
SAID = {
    "sound": None,
    "load without its mask": (OUT, "load at tests/", "x = tl.load(x_ptr"),
    "load of one more": (OUT, "flush at its end", "load at tests/", "x = tl.load(x_ptr"),
    "store without its mask": (OUT, "store at tests/", "tl.store(out_ptr"),
    "store of one more": (OUT, "flush at its end", "store at tests/", "tl.store(out_ptr"),
    "load before the start": (OUT, "flush at its start", "load at tests/", "tl.load(x_ptr + places - BACK"),
    "load in a function of the kernel": (OUT, " in load_from: ", "called at tests/", " in sum_kernel: x += load_from("),
    "counter that is not there": (OUT, "atomic operation at kernels/tiles/pointwise.py", " in sum_kernel: last ="),
    "output that is too short": (OUT, "tl.store(out_ptr"),
    "workspace that is too short": (OUT, "tl.store(partials_ptr"),
    "last program of the grid finishes": ("order reverse", "total_ptr is not what it is in order forward"),
    "sum by floating-point atomics": ("total_ptr is not what it is in order forward",),
    "counter that is left": ("counter_ptr is not 0 after the launch",),
}


@pytest.fixture(scope="module")
def reports():
    """What came of the cases of an op, each run once; by the name of the op."""
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    found = {}
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("launches.py"))],
        env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None

        def report(op):
            if op not in found:
                print(op, file=process.stdin, flush=True)
                answer = process.stdout.readline()
                assert answer, f"launches.py ended with {process.wait()}, not with what came of {op}"
                found[op] = json.loads(answer)
            return found[op]

        yield report


@pytest.mark.parametrize("op", OPS)
def test_an_op_keeps_within_its_operands_in_any_order(reports, op):
    cases = reports(op)
    assert cases, f"{op} has no case in {Path(__file__).with_name('cases.py').relative_to(ROOT)}"
    faults = [case["fault"] for case in cases if case["fault"]]
    assert not faults, "\n".join(faults)
    assert {launch["op"] for case in cases for launch in case["launches"]} == {op}


@pytest.fixture
def launches(reports):
    """All launches of the cases of all ops, by kernel."""
    found = defaultdict(list)
    for op in OPS:
        for case in reports(op):
            for launch in case["launches"]:
                found[launch["kernel"]].append(launch)
    return found


def test_every_kernel_has_cases(launches):
    """A kernel is what asks Triton which program it is, wherever in the package."""
    expected = set()
    for module in pkgutil.walk_packages(kernels.__path__, "kernels."):
        if not module.name.endswith("__main__"):
            for value in vars(importlib.import_module(module.name)).values():
                if isinstance(value, KernelInterface) and "tl.program_id(" in inspect.getsource(value.fn):
                    expected.add(f"{value.fn.__module__}.{value.fn.__name__}")
    assert len(expected) > 9 and set(launches) == expected


def test_every_operand_is_given_and_every_variant_is_run(launches):
    for kernel, all_launches in launches.items():
        module, _, name = kernel.rpartition(".")
        for key in getattr(importlib.import_module(module), name).arg_names:
            if key.endswith("_ptr"):
                assert any(key in launch["tensors"] for launch in all_launches), f"{kernel}: {key} is never given"
                continue
            values = {launch["constants"][key] for launch in all_launches}
            if any(isinstance(value, bool) for value in values):
                assert values == {True, False}, f"{kernel}: {key} is never {not values.pop()}"
            elif key.endswith(("STRIDE", "TAPS", "TILES")):
                assert len(values) > 1, f"{kernel}: {key} is always {values.pop()}"


def test_the_last_tiles_are_parts_and_programs_are_several(launches):
    for kernel, all_launches in launches.items():
        for size, block in (("M", "BLOCK_M"), ("C", "BLOCK_C"), ("C", "BLOCK_N"), ("K", "BLOCK_N"), ("C", "BLOCK_K")):
            parts = [
                launch["constants"][size] % launch["constants"][block]
                for launch in all_launches
                if {size, block} <= launch["constants"].keys()
            ]
            assert not parts or any(parts), f"{kernel}: {size} is always a multiple of {block}"
        several = [launch for launch in all_launches if launch["grid"][0] > 2]
        assert several, f"{kernel}: never more than two programs"
        counted = [launch for launch in several if "counter_ptr" in launch["tensors"]]
        assert counted or not any("counter_ptr" in launch["tensors"] for launch in all_launches), kernel


@pytest.mark.parametrize("words", SAID)
def test_a_planted_fault_is_named(reports, words):
    (fault,) = [case["fault"] for case in reports("planted") if case["case"] == f"planted, {words}"]
    if SAID[words] is None:
        assert fault is None
    else:
        assert fault.startswith(f"planted, {words}; ") and all(part in fault for part in SAID[words]), fault


def test_every_planted_fault_is_looked_for(reports):
    assert [case["case"] for case in reports("planted")] == [f"planted, {words}" for words in SAID]
