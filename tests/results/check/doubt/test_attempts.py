"""Kernels of several attempts of a run, and rows that a file has twice: those of the last attempt count, once."""

from pathlib import Path
from typing import Any

import pytest
from judging import accept, check, no_pass
from made_up import NEW, Store

from results.check.runs import load_kernels
from results.check.verdict import exit_status

# Files are written.
pytestmark = pytest.mark.slow

RELU, CONV = (("relu", "triton", "8", "bf16", "nhwc", "warm"), ("conv", "triton", "8", "bf16", "nhwc", "warm"))


def micro(store: Store, **columns: Any) -> str:
    return store.run(None, benchmark="micro", target_top1=None, peak_mem_bytes=None, final_top1=None, **columns)


def kernels(store: Store, run_id: str, restart: int = 0, **times: float) -> None:
    facts = {"run_id": run_id, "backend": "triton", "shape": "8", "dtype": "bf16", "layout": "nhwc", "l2": "warm"}
    rows = [{**facts, "op": op.rstrip("_"), "p50": time, "status": "ok"} for op, time in times.items()]
    store.write("kernels", rows, run_id, restart)


@pytest.mark.parametrize(
    ("attempts", "files", "last", "wanted"),
    [
        ((0,), {0: 10.0}, 0, 10.0), ((0, 1), {0: 10.0, 1: 15.0}, 1, 15.0), ((0, 1), {0: 10.0}, 1, None),
        ((0,), {0: 15.0, 1: 10.0}, 0, 15.0), ((1,), {1: 15.0}, 1, 15.0), ((0, 2, 10), {2: 9.0, 10: 15.0}, 10, 15.0),
        ((None,), {0: 15.0}, 0, 15.0),
    ],
)  # fmt: skip
def test_kernels_are_those_of_the_attempt_that_the_row_is_of(
    store: Store, attempts: tuple[int | None, ...], files: dict[int, float], last: int, wanted: float | None
) -> None:
    for attempt in attempts:
        micro(store, run_id="R", restart_count=attempt)
    other = micro(store)
    kernels(store, other, relu=1.0)
    for restart, time in files.items():
        kernels(store, "R", restart, relu=time)
    found, faults = load_kernels(store.root, ["R", other])
    assert found.get("R", {}).get(RELU, {}).get("p50") == wanted and found[other][RELU]["p50"] == 1.0
    assert ("R" in found) == (wanted is not None)
    left = sorted(set(files) - {last})
    assert faults == [f"run=R: kernels of attempt {one} left out, attempt {last} counts" for one in left]


def test_a_kernel_that_a_file_has_twice_is_left_out_with_a_line(store: Store) -> None:
    run_id = micro(store)
    kernels(store, run_id, relu=30.0, conv=20.0, relu_=10.0)
    found, faults = load_kernels(store.root, [run_id])
    assert list(found[run_id]) == [CONV]
    assert faults == [f"run={run_id}: 1 kernel left out that it has twice, such as {' '.join(RELU)}"]


def test_a_file_of_the_last_attempt_that_cannot_be_read_leaves_none(store: Store) -> None:
    for restart in (0, 1):
        micro(store, run_id="R", restart_count=restart)
        kernels(store, "R", restart, relu=10.0)
    (path,) = (store.root / "kernels").rglob("R.1.parquet")
    path.write_bytes(b"PAR1")
    found, faults = load_kernels(store.root, ["R"])
    assert not found and len(faults) == 2 and str(path) in faults[1]


@pytest.mark.parametrize("fault", ["earlier", "later", "twice"])
def test_such_a_kernel_is_no_pass(store: Store, fault: str) -> None:
    held = [micro(store) for _ in range(10)]
    for index, run_id in enumerate(held):
        kernels(store, run_id, relu=10.0 + index / 100, conv=20.0 + index / 100)
    accept(store, held)
    store.count += 48
    for index in range(3):
        run_id = micro(store, git_commit=NEW)
        good, bad = {"relu": 10.0 + index / 100, "conv": 20.0}, {"relu": 15.0 + index / 100, "conv": 20.0}
        if fault == "twice":
            kernels(store, run_id, relu=30.0, conv=20.0, relu_=10.0)
            continue
        kernels(store, run_id, 0, **(good if fault == "earlier" else bad))
        kernels(store, run_id, 1, **({"conv": 20.0} if fault == "earlier" else good))
        if fault == "earlier":
            store.count -= 1
            micro(store, run_id=run_id, restart_count=1, git_commit=NEW)
    findings = check(store)
    assert exit_status(findings) in (3, 4) and any("relu" in one.kernel for one in no_pass(findings))


def test_nothing_is_asked_of_an_empty_store(tmp_path: Path) -> None:
    assert load_kernels(tmp_path, ["R"]) == ({}, []) == load_kernels(tmp_path, [])
