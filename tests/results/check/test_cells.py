"""Cells and their samples: one value for each allocation, and the baseline that is nearest."""

from typing import Any

import pytest
from made_up import NEW, Memory

from results.check.cells import Cell, Evidence, cells_of, nearest_baseline, samples
from results.check.labels import labels
from results.check.metrics import KERNEL, METRICS, of_benchmark
from results.check.runs import load

RATE = METRICS[0]
ONE = ("bn", "torch", "8", "bf16", "NHWC", "cold")


def evidence(memory: Memory, **columns: Any) -> Evidence:
    return Evidence(root=memory.root, candidates=[], whole=True, baselines={}, runs=load(memory.root).by_id, **columns)


def test_a_cell_is_its_key_and_its_kernel_whatever_it_is_called() -> None:
    assert Cell("k", "a", "training") == Cell("k", "b", "step") != Cell("k", "a", "training", ONE)
    assert Cell("k", "a", "training") != Cell("l", "a", "training")
    assert Cell("k", "a", "step").metrics == of_benchmark("step") and Cell("k", "a", "micro", ONE).metrics == (KERNEL,)


def test_an_allocation_has_one_value_and_the_last_ones_count(memory: Memory) -> None:
    ids = [memory.run(rate, slurm_job_id=job) for rate, job in zip((1.0, 2.0, 5.0, 7.0, 9.0), "aabca", strict=True)]
    nothing = memory.run(None)
    known = evidence(memory)
    whole = samples(known, RATE, known.runs.values())
    assert whole.values == [2.0, 5.0, 7.0] and whole.runs == [ids[0], ids[1], ids[4], ids[2], ids[3]]
    assert whole.without == {nothing: "no value"}
    last = samples(known, RATE, known.runs.values(), last=2)
    assert last.values == [5.0, 7.0] and last.runs == ids[2:4] and last.without == whole.without


@pytest.mark.parametrize(
    ("row", "number", "reason"),
    [
        ({"p50": 3.0, "status": "ok"}, 3.0, ""),
        ({"p50": 3.0, "status": None}, 3.0, ""),
        ({"p50": 3.0, "status": "wrong result"}, None, "wrong result"),
        (None, None, "not timed by this run"),
    ],
)
def test_a_kernels_value(memory: Memory, row: dict[str, Any] | None, number: float | None, reason: str) -> None:
    run_id = memory.run(None, benchmark="micro")
    known = evidence(memory, kernels={run_id: {} if row is None else {ONE: row}})
    found = known.value(known.runs[run_id], KERNEL, ONE)
    assert (found.number, found.reason) == (number, reason)
    assert list(cells_of(known, known.runs.values())) == (
        [] if row is None else [Cell(known.runs[run_id].key, "", "", ONE)]
    )


def test_runs_are_grouped_by_key_in_order(memory: Memory) -> None:
    ids = [memory.run(config={"lr": lr}) for lr in (0.2, 0.1, 0.2)]
    memory.run(git_commit=NEW, config={"lr": 0.1})
    known = evidence(memory)
    groups = [[run.run_id for run in runs] for runs in cells_of(known, known.runs.values()).values()]
    assert groups[0] == [ids[0], ids[2]] and groups[1][0] == ids[1] and len(groups) == 2
    assert {cell.benchmark for cell in cells_of(known, known.runs.values())} == {"training"}


def test_the_nearest_is_the_first_of_those_that_differ_in_as_many_parts(memory: Memory) -> None:
    ids = [memory.run(), memory.run(config={"lr": 0.2}), memory.run(config={"lr": 0.3}), memory.run(config={"lr": 0.1})]
    runs = load(memory.root).by_id
    run, same = runs[ids[0]], runs[ids[3]]
    assert nearest_baseline(run, [same]) is None and nearest_baseline(run, []) is None
    for order in (ids[1:3], ids[2:0:-1]):
        found = nearest_baseline(run, [same, *(runs[run_id] for run_id in order)])
        assert found and found[0].run_id == order[0] and found[1].part == "configuration.lr"


def test_the_nearest_measured_the_same_thing_elsewhere_if_any_did(memory: Memory) -> None:
    run_id, other_lr = memory.run(), memory.run(config={"lr": 0.2})
    elsewhere = memory.run(hardware="8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11", threads_per_rank=4)
    runs = load(memory.root).by_id
    for order in ((other_lr, elsewhere), (elsewhere, other_lr)):
        found = nearest_baseline(runs[run_id], [runs[one] for one in order])
        assert found and (found[0].run_id, found[1].part) == (elsewhere, "processors")


def test_what_only_a_baseline_has_is_a_difference_too(memory: Memory) -> None:
    run_id, more = memory.run(), memory.run(config={"lr": 0.2, "wide": 2, "deep": 3})
    both = memory.run(config={"lr": 0.2, "batch": 64})
    runs = load(memory.root).by_id
    found = nearest_baseline(runs[run_id], [runs[more], runs[both]])
    assert found and found[0].run_id == both


def test_cells_of_one_name_are_told_apart_by_what_differs_alone(memory: Memory) -> None:
    for _ in range(2):
        memory.run()
    memory.run(depth=56)
    one, two, three = load(memory.root).by_id.values()
    parts = {one.run_id: {"configuration.lr": "0.1", "data": "d"}, two.run_id: {"data": "d"}}
    found = labels({"a": [one], "b": [two], "c": [three]}, lambda run: parts.get(run.run_id, {"lr": "0.3"}))
    assert found == {"a": f"{one.label} lr=0.1", "b": f"{two.label} lr=unknown", "c": three.label}


@pytest.mark.parametrize("columns", [{"synthetic": True}, {"loader": "synthetic"}])
def test_a_cell_with_a_run_on_made_up_images_says_so(memory: Memory, columns: dict[str, Any]) -> None:
    memory.run(), memory.run(**columns)
    real, made_up = load(memory.root).by_id.values()
    assert labels({"a": [real, made_up], "b": [real]}, lambda run: {}) == {
        "a": f"{real.label} SYNTHETIC",
        "b": real.label,
    }
