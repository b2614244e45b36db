"""What a check reads of a store, and what it leaves out with a line."""

import math
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any

import pytest
from made_up import START, Memory, Store

from results.check.runs import NEVER, load, load_kernels, load_pairs


def test_the_last_attempt_of_a_run_counts(store: Store) -> None:
    started = START
    first = store.run(900.0, status="killed", failure_kind="preempted", run_id="R", started=started, config={"seed": 1})
    assert first == "R"
    store.run(1000.0, run_id="R", restart_count=1, started=started, config={"seed": 1})
    found = load(store.root)
    assert list(found.by_id) == ["R"] and found.by_id["R"].completed and not found.faults


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        ({"run_stop": START - timedelta(days=1)}, "run_stop 2026-10-31T00:00:00Z is before run_start"),
        ({"init_stop": START - timedelta(days=1)}, "init_stop 2026-10-31T00:00:00Z is before init_start"),
        ({"run_start": START - timedelta(days=1)}, "run_start 2026-10-31T00:00:00Z is before init_start"),
        ({"elapsed_s": -1.0}, "elapsed_s is -1"),
        ({"train_s": -0.5}, "train_s is -0.5"),
        ({"tta_s": -3.0}, "tta_s is -3"),
        ({"tta_s": 5.0, "elapsed_s": 0.0}, "tta_s 5 is after the end, elapsed_s 0"),
        ({"tta_s": 29.0}, "tta_s 29 is after the end, elapsed_s 28"),
    ],
)
def test_a_clock_that_goes_backwards_is_left_out(store: Store, columns: dict[str, Any], line: str) -> None:
    good, bad = store.run(), store.run(**columns)
    found = load(store.root)
    assert list(found.by_id) == [good]
    assert len(found.faults) == 1 and bad in found.faults[0] and line in found.faults[0]


@pytest.mark.parametrize("config", [None, "no JSON", "[1]"])
def test_a_run_without_its_configuration_is_left_out(store: Store, config: str | None) -> None:
    good, bad = store.run(), store.run(config_json=config)
    found = load(store.root)
    assert list(found.by_id) == [good] and len(found.faults) == 1 and bad in found.faults[0]


def test_a_truncated_file_is_left_out(store: Store) -> None:
    good, bad = store.run(), store.run()
    path = next(store.root.glob(f"runs/*/{bad}*"))
    path.write_bytes(path.read_bytes()[:-9])
    found = load(store.root)
    assert list(found.by_id) == [good] and len(found.faults) == 1 and str(path) in found.faults[0]


def test_no_store_holds_no_runs(tmp_path: Path) -> None:
    assert load(tmp_path / "nothing").by_id == {}


def test_seeds_share_a_key_and_settings_do_not(store: Store) -> None:
    ids = [
        store.run(config={"seed": 1}), store.run(config={"seed": 2}), store.run(config={"lr": 0.2}),
        store.run(threads_per_rank=2), store.run(hardware="other"), store.run(dataset_hash="d2"),
        store.run(choices_hash="c"), store.run(benchmark="step"),
    ]  # fmt: skip
    keys = [load(store.root).by_id[run_id].key for run_id in ids]
    assert keys[0] == keys[1] and len(set(keys)) == 7


def test_an_allocation_is_a_job_or_a_start(store: Store) -> None:
    ids = [
        store.run(), store.run(), store.run(slurm_job_id="7"), store.run(slurm_job_id="7"),
        store.run(slurm_job_id="7", array_task=1), store.run(slurm_job_id="7", array_task=2),
    ]  # fmt: skip
    runs = load(store.root).by_id
    assert [runs[run_id].allocation for run_id in ids] == [
        ids[0],
        ids[1],
        "slurm-7",
        "slurm-7",
        "slurm-7_1",
        "slurm-7_2",
    ]


def test_what_a_run_is_called(store: Store) -> None:
    ids = [
        store.run(),
        store.run(config={"shortcut": "none"}, stride="v1.5"),
        store.run(benchmark="step"),
    ]
    runs = load(store.root).by_id
    assert [runs[run_id].label for run_id in ids] == [
        "resnet20A digits dali torch deepspeed bf16 x2",
        "plain20 v1.5 digits dali torch deepspeed bf16 x2",
        "resnet20A step torch bf16 x2",
    ]


def test_commits_say_whether_there_were_changes(store: Store) -> None:
    ids = [store.run(git_commit="c" * 40), store.run(git_commit="c" * 40, dirty=True), store.run(git_commit=None)]
    ids += [store.run(git_commit="", dirty=dirty) for dirty in (False, True)]
    runs = load(store.root).by_id
    assert [runs[run_id].commit for run_id in ids] == ["c" * 40, "c" * 40 + "+", None, None, None]


def test_pairs_are_in_the_order_in_which_they_ran(store: Store) -> None:
    name = store.pairs([0.1, 0.2, 0.3])
    store.write("pairs", [{"pairs_id": name, "pair": 4, "side": "a", "run_id": "half"}], f"{name}-p04")
    store.write("pairs", [{"pairs_id": name, "pair": 5, "side": None, "run_id": "none"}], f"{name}-p05")
    store.write("pairs", [{"pairs_id": name, "pair": None, "side": None, "run_id": "failed"}], f"{name}-x")
    pairs, runs = load_pairs(store.root), load(store.root).by_id
    (found,) = pairs.sets
    assert found.pairs_id == name and [runs[b].row["images_per_s"] for _, b in found.pairs] == [900.0, 800.0, 700.0]
    assert len(pairs.unread) == 1 and "without its pair, side or run" in pairs.unread[0]
    assert pairs.run_ids == {*runs, "half", "none", "failed"}


def test_the_last_attempt_counts_whatever_is_read_first(memory: Memory) -> None:
    for restart in (2, 0, None, 1):
        memory.run(1000.0 + (restart or 0), run_id="R", restart_count=restart, started=START)
    found = load(memory.root)
    assert found.by_id["R"].row["images_per_s"] == 1002.0 and not found.faults


@pytest.mark.parametrize("restart", [0, 3])
def test_of_two_rows_of_one_attempt_the_first_counts(memory: Memory, restart: int) -> None:
    for rate in (900.0, 800.0):
        memory.run(rate, run_id="R", restart_count=restart, started=START)
    found = load(memory.root)
    assert found.by_id["R"].row["images_per_s"] == 900.0
    assert found.faults == [f"run=R: attempt {restart} has two rows; the first counts"]


def test_a_row_without_an_id_is_said(memory: Memory) -> None:
    good = memory.run()
    memory.write("runs", [{**memory.rows["runs"][0], "run_id": None}], "nobody")
    found = load(memory.root)
    assert list(found.by_id) == [good] and found.faults == [f"{memory.root}: a row of runs has no run id"]


@pytest.mark.parametrize(
    "columns",
    [
        {"run_stop": START + timedelta(seconds=2), "elapsed_s": 0.0, "train_s": 0.0, "tta_s": 0.0},
        {"elapsed_s": 20.0, "tta_s": 20.0},
        {"init_start": None}, {"run_stop": None}, {"run_start": None}, {"init_stop": None},
        {"elapsed_s": None},
    ],
)  # fmt: skip
def test_a_clock_that_stands_still_or_says_nothing_is_no_fault(memory: Memory, columns: dict[str, Any]) -> None:
    run_id = memory.run(started=START, **columns)
    assert list(load(memory.root).by_id) == [run_id]


def test_a_time_that_is_no_number_is_for_its_metric_to_say(memory: Memory) -> None:
    run_id = memory.run()
    memory.rows["runs"][0]["tta_s"] = -math.inf  # of a tool that is not as strict as ours
    assert list(load(memory.root).by_id) == [run_id]


def test_a_run_began_when_its_training_did_or_else_its_start(memory: Memory) -> None:
    ids = [
        memory.run(started=START), memory.run(started=START, run_start=None),
        memory.run(started=START, run_start=None, init_start=None),
    ]  # fmt: skip
    runs = load(memory.root).by_id
    assert [runs[run_id].started for run_id in ids] == [START + timedelta(seconds=2), START, NEVER]
    assert NEVER.year == 1 and NEVER.tzinfo is UTC


def test_words_that_a_run_does_not_have_are_left_out_of_its_name(memory: Memory) -> None:
    ids = [
        memory.run(sample=None, dataset="other", stride=None, shortcut=None),
        memory.run(sample="part", loader=None, precision=None),
    ]
    runs = load(memory.root).by_id
    assert [runs[run_id].label for run_id in ids] == [
        "resnet20 other dali torch deepspeed bf16 x2", "resnet20A part torch deepspeed x2",
    ]  # fmt: skip


def test_sets_and_their_pairs_are_in_order_whatever_is_read_first(memory: Memory) -> None:
    for name in ("later", "early"):
        for pair in (2, 1):
            for side in "ba":
                row = {"pairs_id": name, "pair": pair, "side": side, "run_id": f"{name}{pair}{side}"}
                memory.write("pairs", [row], name)
    pairs = load_pairs(memory.root)
    assert [(one.pairs_id, one.pairs) for one in pairs.sets] == [
        (name, [(f"{name}1a", f"{name}1b"), (f"{name}2a", f"{name}2b")]) for name in ("early", "later")
    ]
    assert not pairs.unread and len(pairs.run_ids) == 8


@pytest.mark.parametrize("bad", [{"pairs_id": None}, {"pair": None}, {"run_id": None}, {"side": None}])
def test_a_row_of_pairs_that_lacks_a_word_is_said(memory: Memory, bad: dict[str, Any]) -> None:
    memory.write("pairs", [{"pairs_id": "p", "pair": 1, "side": "a", "run_id": "R", **bad}], "p")
    pairs = load_pairs(memory.root)
    assert not [both for one in pairs.sets for both in one.pairs] and len(pairs.unread) == 1
    assert pairs.run_ids == ({"R"} if "run_id" not in bad else set())


def test_kernels_are_named_by_six_words_with_a_dash_for_none(memory: Memory) -> None:
    row = {"run_id": "R", "op": "bn", "backend": "torch", "shape": "8", "dtype": "bf16", "l2": "cold", "p50": 3.0}
    memory.write("kernels", [row, {**row, "run_id": "other"}], "R")
    found, faults = load_kernels(memory.root, ["R"])
    assert list(found) == ["R"] and list(found["R"]) == [("bn", "torch", "8", "bf16", "-", "cold")] and not faults
    assert found["R"]["bn", "torch", "8", "bf16", "-", "cold"]["p50"] == 3.0
