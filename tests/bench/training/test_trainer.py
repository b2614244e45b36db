"""What the figures of a run mean: the Trainer over a clock, a loader and an evaluation whose times are known exactly.

A time is told by its binary fraction of a second, so that all sums are exact.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_run import (
    BATCH,
    BUILD_S,
    CPU,
    DATA_S,
    EVAL_S,
    OPEN_S,
    PREPARE_S,
    SAVE_S,
    STEPS,
    FakeRun,
    config,
)

import bench.training.trainer
from bench.training.checkpoint import compatibility, of_run, tensors
from bench.training.checkpoint.ancestor import Ancestor
from bench.training.checkpoint.contents import Checkpoint, CheckpointError
from bench.training.evaluate import Accuracy
from bench.training.process_group import World
from bench.training.state import RunState
from bench.training.trainer import Trainer
from results.recover import killed_row
from results.store.files import read_rows
from results.store.journal import read


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRun:
    return FakeRun(monkeypatch)


# Seconds of the run's clock, which leaves the preparation out: opening, two loaders, then epoch by epoch.
BEGIN_S = OPEN_S + 2 * BUILD_S
TRAIN_S = (10 * 3.0 + 2 * 1.0, 12 * 1.0, 10 * 1.0 + 2 * 3.0)
EPOCH_1_S = BEGIN_S + TRAIN_S[0] + EVAL_S
EPOCH_2_S = EPOCH_1_S + SAVE_S + TRAIN_S[1] + EVAL_S
EPOCH_3_S = EPOCH_2_S + SAVE_S + TRAIN_S[2] + EVAL_S
END_S = EPOCH_3_S + SAVE_S


def test_the_figures_of_a_run_are_exact(fake: FakeRun, tmp_path: Path) -> None:
    row = fake.train(config(tmp_path))
    assert (EPOCH_1_S, EPOCH_2_S, EPOCH_3_S, END_S) == (41.0, 59.0, 81.0, 83.0)
    counted_s, images = 2.0 + 12.0 + 16.0, 4 * (2 + 12 + 12)
    expected = {
        "status": "completed",
        "prepare_s": 5.0,
        "tta_s": 59.0,
        "epochs_to_target": 2,
        "elapsed_s": 83.0,
        "active_s": 83.0,
        "downtime_s": None,
        "train_s": counted_s,
        "images_per_s": images / counted_s,
        "data_wait_frac": 36 * DATA_S / sum(TRAIN_S),
        "step_ms_p50": 1000.0,
        "step_ms_p95": 1000.0 + 0.75 * 2000.0,  # the 24.75th of 26 steps, two of which take 3 s
        "final_top1": 0.8,
        "best_top1": 0.9,
        "steps_completed": 36,
        "epochs_completed": 3,
        "images_per_epoch": 48,
        "energy_j": 2 * (83.0 - OPEN_S),
        "peak_mem_bytes": 1234,
        "flops_per_image": 42,
        "multiply_adds": 7,
        "parameters": 40,
        "instrumentation_s": 0.0,
        "dataset_hash": "abc",
        "sample": "digits",
        "benchmark": "training",
        "threads_per_rank": torch.get_num_threads(),
        "loader_threads": 3,
        "mfu": None,
    }
    assert {name: row[name] for name in expected} == expected
    assert set(row["null_reasons"]) == {"mfu", "peak_flops_per_s"}
    assert row["comparability_key"]


def test_the_epochs_and_steps_of_a_run_are_exact(fake: FakeRun, tmp_path: Path) -> None:
    fake.train(config(tmp_path))
    epochs, _ = read_rows(tmp_path, "epochs")
    columns = ("epoch", "elapsed_s", "top1", "top5", "images", "eval_s", "checkpoint_s")
    assert [tuple(epoch[name] for name in columns) for epoch in epochs] == [
        (1, 41.0, 0.5, 1.0, 48, 4.0, 2.0),
        (2, 59.0, 0.9, 1.0, 48, 4.0, 2.0),
        (3, 81.0, 0.8, 1.0, 48, 4.0, 2.0),
    ]
    steps, _ = read_rows(tmp_path, "steps")
    assert [step["step"] for step in steps] == list(range(1, 37))
    assert [step["step_ms"] for step in steps] == [1e3 * (fake.step_s(n) + DATA_S) for n in range(1, 37)]
    assert {(step["data_ms"], step["rank"]) for step in steps} == {(250.0, 0)}
    assert all(step["compute_ms"] == step["step_ms"] - 250.0 for step in steps)


def test_a_step_of_several_micro_batches_counts_all_their_images_and_waits(fake: FakeRun, tmp_path: Path) -> None:
    fake.grad_accum = 2
    row = fake.train(config(tmp_path, grad_accum=2, save=None))
    # Each step is two micro-batches, which each take what a step of one takes.
    assert (row["images_per_s"], row["train_s"]) == (8 * 26 / 60.0, 60.0)
    assert row["data_wait_frac"] == 72 * DATA_S / (2 * sum(TRAIN_S)) and row["step_ms_p50"] == 2000.0
    assert row["steps_completed"] == 36
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [epoch["images"] for epoch in epochs] == [96, 96, 96]
    steps, _ = read_rows(tmp_path, "steps")
    assert {step["data_ms"] for step in steps} == {500.0}


class TwoRanks(World):
    """Rank 0 beside another rank with twice its losses, memory and energy, which prepares nothing."""

    def all_reduce(self, values: Sequence[float]) -> list[float]:
        return list(values)

    def gather(self, rows: torch.Tensor) -> list[torch.Tensor]:
        other = rows.clone()
        if rows.shape[1] == 2:  # memory and energy
            other *= 2
        else:
            other[:, -1] *= 2
        return [rows, other]


def test_the_figures_of_all_ranks_come_together(fake: FakeRun, tmp_path: Path) -> None:
    chosen = config(tmp_path, ranks_per_node=2)
    row = fake.train(chosen, world=TwoRanks(0, 2, 0, 2, CPU, 3))
    assert chosen.global_batch == 8
    assert (row["images_per_s"], row["tta_s"], row["prepare_s"]) == (8 * 26 / 30.0, 59.0, 5.0)
    assert row["peak_mem_bytes"] == 2 * 1234 and row["energy_j"] == 3 * 2 * (83.0 - OPEN_S)
    steps, _ = read_rows(tmp_path, "steps")
    losses = {rank: [step["loss"] for step in steps if step["rank"] == rank] for rank in (0, 1)}
    assert losses[1] == [2 * loss for loss in losses[0]] and len(losses[0]) == 36
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [epoch["loss"] for epoch in epochs] == pytest.approx(
        [1.5 * sum(losses[0][12 * n : 12 * n + 12]) / 12 for n in range(3)]
    )
    assert [epoch["images"] for epoch in epochs] == [96, 96, 96]


def test_a_target_that_is_met_exactly_is_reached_and_one_that_is_missed_has_no_time(
    fake: FakeRun, tmp_path: Path
) -> None:
    met = fake.train(config(tmp_path / "met", target=0.5, save=None))
    assert (met["tta_s"], met["epochs_to_target"]) == (41.0, 1)
    fake.evaluations = fake.steps = 0
    missed = fake.train(config(tmp_path / "missed", target=0.91, save=None))
    assert (missed["tta_s"], missed["epochs_to_target"]) == (None, None)
    assert missed["null_reasons"]["tta_s"] == "top-1 never reached 0.91 (best 0.9000)"


def test_a_run_without_a_target_or_without_images_says_so(fake: FakeRun, tmp_path: Path) -> None:
    row = fake.train(config(tmp_path / "none", target=None, save=None))
    assert row["final_top1"] == 0.8 and row["null_reasons"]["tta_s"] == "no target"
    fake.steps = 0
    row = fake.train(config(tmp_path / "synthetic", target=None, save=None, loader="synthetic"))
    assert row["elapsed_s"] == OPEN_S + BUILD_S + sum(TRAIN_S) and row["dataset_hash"] is None
    assert row["null_reasons"]["final_top1"] == "synthetic images: nothing to evaluate"
    assert row["images_per_s"] == 104 / 30.0


def test_what_a_checkpoint_holds_is_the_state_as_it_was(fake: FakeRun, tmp_path: Path) -> None:
    fake.train(config(tmp_path))
    assert [found.state for found in fake.saved] == [
        RunState(epoch=1, step=12, elapsed_s=41.0, top1=[0.5]),
        RunState(epoch=2, step=24, elapsed_s=59.0, top1=[0.5, 0.9], tta_s=59.0, epochs_to_target=2),
        RunState(epoch=3, step=36, elapsed_s=81.0, top1=[0.5, 0.9, 0.8], tta_s=59.0, epochs_to_target=2),
    ]
    first = fake.saved[0]
    assert first.saved_at == 5e8 + 100.0 + PREPARE_S + 41.0 and first.net == compatibility.net_of(config(tmp_path))
    assert (first.run_id, first.restart, first.chain) == ("run-3", 0, ())
    assert (first.dataset_hash, first.steps_per_epoch) == ("abc", STEPS)
    assert first.facts["kernels"] == ["torch"] and first.facts["loader_threads"] == ["3"]


def resume(
    fake: FakeRun,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    state: RunState,
    away_s: float,
    facts: dict[str, list[str | None]] | None = None,
    dataset_hash: str = "abc",
    **changes: Any,
) -> dict[str, Any]:
    chosen = config(tmp_path, **{"resume": str(tmp_path / "w.safetensors"), "save": None} | changes)
    # The warm-up of the network, 100 s, comes before the checkpoint is read.
    saved = Checkpoint(
        run_id="r",
        restart=0,
        net=compatibility.net_of(chosen),
        saved_at=fake.wall + 100.0 - away_s,
        state=state,
        chain=(Ancestor(run_id="q", restart=0, epoch=1),),
        facts=facts or {},
        dataset_hash=dataset_hash,
        steps_per_epoch=STEPS,
    )
    monkeypatch.setattr(of_run, "read_at", lambda path, weights: saved)
    monkeypatch.setattr(tensors, "agreed", lambda path, world: path)
    monkeypatch.setattr(tensors, "load_momentum", lambda *arguments: None)
    monkeypatch.setattr(tensors, "load_weights", lambda *arguments: None)
    return fake.train(chosen, restart=1)


def test_downtime_is_on_the_clock_of_a_resumed_run(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.evaluations = 1
    state = RunState(epoch=1, step=12, elapsed_s=41.0, downtime_s=7.0, top1=[0.5])
    row = resume(fake, monkeypatch, tmp_path, state, away_s=64.0)
    # All begins again but the clock, which goes on from 41 s and 64 s of downtime; the warm-up is one of its own.
    reached_s = 41.0 + 64.0 + BEGIN_S + 32.0 + EVAL_S
    assert (row["tta_s"], row["epochs_to_target"]) == (reached_s, 2)
    assert row["downtime_s"] == 7.0 + 64.0
    assert row["elapsed_s"] == reached_s + 12.0 + EVAL_S
    assert row["active_s"] == row["elapsed_s"] - 71.0
    assert (row["images_per_s"], row["steps_completed"], row["final_top1"]) == (4 * 14 / 14.0, 36, 0.8)
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [epoch["epoch"] for epoch in epochs] == [2, 3]


def test_a_resumed_run_names_what_it_went_on_from(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = fake.train(config(tmp_path / "whole"))
    assert [whole[name] for name in ("resumed_from", "resumed_epoch", "lineage", "mixed")] == [None] * 4
    facts = fake.saved[0].facts | {"kernels": ["triton"], "threads_per_rank": ["1", "2", "1"]}
    fake.evaluations, fake.steps = 1, 0
    state = RunState(epoch=1, step=12, elapsed_s=41.0, top1=[0.5])
    row = resume(fake, monkeypatch, tmp_path, state, away_s=1.0, facts=facts)
    assert (row["resumed_from"], row["resumed_epoch"], row["lineage"]) == ("r.0", 1, "q.0@1 r.0@1")
    threads = ["1", "2", "1", *([str(row["threads_per_rank"])] if row["threads_per_rank"] != 1 else [])]
    assert json.loads(row["mixed"]) == {"kernels": ["triton", "torch"], "threads_per_rank": threads}
    assert json.loads(row["comparability_parts"])["mixed"] == row["mixed"]
    assert row["comparability_key"] != whole["comparability_key"]


def test_the_chain_goes_on_in_the_next_checkpoint(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.evaluations = 1
    state = RunState(epoch=1, step=12, elapsed_s=41.0, top1=[0.5])
    resume(fake, monkeypatch, tmp_path, state, away_s=1.0, save=str(tmp_path / "v.safetensors"))
    assert [str(each) for each in fake.saved[-1].chain] == ["q.0@1", "r.0@1"]
    assert (fake.saved[-1].restart, fake.saved[-1].facts["kernels"]) == (1, [None, "torch"])  # r did not say


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"step": 11}, "state.step=11 after 1 epochs, which have 12 steps each here"),
        ({"dataset_hash": "other"}, r"dataset_hash=other \(here abc\)"),
    ],
)
def test_a_checkpoint_that_does_not_fit_the_data_ends_the_run(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    state = RunState(epoch=1, step=changes.get("step", 12), elapsed_s=41.0, top1=[0.5])
    with pytest.raises(CheckpointError, match=message):
        resume(fake, monkeypatch, tmp_path, state, 1.0, dataset_hash=changes.get("dataset_hash", "abc"))


def test_a_cold_start_goes_on_where_it_was(fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was seen since the last look at the training error is part of the next one."""
    monkeypatch.setattr(bench.training.trainer, "COLD_STEPS", 16)
    plain = config(tmp_path)
    recipe = dataclasses.replace(
        plain.recipe, cold_lr=0.01, cold_error=0.8, schedule="multistep", milestones=(0.5,), lr=0.1
    )
    looks: list[list[float]] = []
    real = World.all_reduce
    monkeypatch.setattr(World, "all_reduce", lambda self, values: looks.append(list(values)) or real(self, values))
    Trainer(dataclasses.replace(plain, recipe=recipe), World(0, 1, 0, 1, CPU, 1), None).fit()
    first = fake.saved[0].state
    assert first.cold and first.cold_images == STEPS * BATCH and 0 <= first.cold_wrong <= first.cold_images
    whole = [look for look in looks if len(look) == 2 and look[1] == 16 * BATCH]
    assert whole and fake.saved[1].state.cold_images == 8 * BATCH
    looks.clear()
    fake.evaluations, fake.steps = 1, 12
    seen = dataclasses.replace(first, cold_wrong=first.cold_images)
    chosen = dataclasses.replace(plain, recipe=recipe)
    resume(fake, monkeypatch, tmp_path, seen, away_s=1.0, recipe=chosen.recipe)
    (look, *_) = [look for look in looks if len(look) == 2 and look[1] > 0]
    assert look[1] == 16 * BATCH and look[0] >= STEPS * BATCH


def test_what_came_before_a_resume_is_journalled_before_anything_is_trained(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(Trainer, "fit", lambda self: None)  # killed here
    state = RunState(epoch=2, step=24, elapsed_s=59.0, tta_s=59.0, epochs_to_target=2, top1=[0.5, 0.9])
    with pytest.raises(StopIteration):  # no row yet
        resume(fake, monkeypatch, tmp_path, state, away_s=1.0)
    (journal,) = (tmp_path / "journal").iterdir()
    with journal.open("rb") as file:
        row = killed_row(read(file, "j"), file, "unknown", None)
    columns = ("tta_s", "epochs_to_target", "best_top1", "epochs_completed", "downtime_s")
    assert tuple(row[name] for name in columns) == (59.0, 2, 0.9, 2, 1.0)
    assert (row["parameters"], row["multiply_adds"], row["flops_per_image"]) == (40, 7, 42)
    assert row["null_reasons"]["final_top1"] == "killed after epoch 2 of 3"


def test_a_resumed_run_keeps_the_time_at_which_the_target_was_reached(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake.evaluations = 2
    state = RunState(epoch=2, step=24, elapsed_s=59.0, tta_s=59.0, epochs_to_target=2, top1=[0.5, 0.9])
    row = resume(fake, monkeypatch, tmp_path, state, away_s=-30.0)  # the other machine's clock was ahead
    assert (row["tta_s"], row["epochs_to_target"], row["best_top1"], row["final_top1"]) == (59.0, 2, 0.9, 0.8)
    assert row["downtime_s"] == 0.0 and row["elapsed_s"] == 59.0 + BEGIN_S + 32.0 + EVAL_S


def test_the_time_left_is_at_the_pace_of_this_attempt(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(
        bench.training.recorder.Emitter, "emit", lambda self, event, **fields: seen.append({"event": event, **fields})
    )
    fake.train(config(tmp_path))
    epochs = [event for event in seen if event["event"] == "epoch"]
    # After an epoch and its checkpoint: 43 s for 12 steps, 24 steps to go; and so on.
    assert [event["left_s"] for event in epochs] == [43.0 / 12 * 24, 61.0 / 24 * 12, 0.0]
    assert [event["images_per_s"] for event in epochs] == [4.0, 4.0, 48 / 16.0]
    assert [event["reached"] for event in epochs] == [False, True, False]


def test_files_that_are_left_out_are_said_once_and_summed_in_the_row(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said: list[str] = []
    monkeypatch.setattr(bench.training.recorder.Recorder, "say", lambda self, line: said.append(line))
    fake.splits = dataclasses.replace(fake.splits, left_out={".txt": 10, ".xml": 2})
    row = fake.train(config(tmp_path))
    assert row["files_left_out"] == 12 and said == ["digits: 12 files left out (10 .txt, 2 .xml)"]


def test_an_evaluation_that_missed_images_is_a_fault(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.training.trainer, "evaluate", lambda *arguments: Accuracy(0.5, 0.5, STEPS * BATCH - 1))
    with pytest.raises(AssertionError, match="evaluated 47 of 48"):
        fake.train(config(tmp_path))


def test_the_cold_start_ends_at_the_first_look_at_which_the_error_is_low_enough(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench.training.trainer, "COLD_STEPS", 5)
    plain = config(tmp_path, save=None)
    recipe = dataclasses.replace(
        plain.recipe, cold_lr=0.01, cold_error=0.8, schedule="multistep", milestones=(0.5,), lr=0.1
    )
    trainer = Trainer(dataclasses.replace(plain, recipe=recipe, lr=0.2), World(0, 1, 0, 1, CPU, 1), None)
    assert trainer.state.cold
    rates: list[float] = []
    wrong = iter([1] * 5 + [1, 1, 1, 1, 0] + [0] * 100)  # all of a batch or none; 80% in the second look, which is high

    def forward(images: torch.Tensor) -> torch.Tensor:
        rates.append(trainer.engine.optimizer.param_groups[0]["lr"])
        scores = torch.zeros(BATCH, 10)
        scores[:, next(wrong)] = 1.0  # the labels are 0
        return scores.requires_grad_()

    trainer.engine.forward = forward  # type: ignore[method-assign]
    trainer.fit()
    # Scaled as the peak is: 0.01 of 0.1 is 0.02 of 0.2. The schedule counts all steps, the cold ones too.
    assert rates == pytest.approx([0.02] * 15 + [0.2] * 3 + [0.02] * 18)
    assert not trainer.state.cold


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(
    fake: FakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, loss: float
) -> None:
    monkeypatch.setattr(bench.training.trainer.functional, "cross_entropy", lambda *_, **__: torch.tensor(loss))
    with pytest.raises(bench.training.trainer.Diverged, match=r"at step 1 \(epoch 1\): lr="):
        fake.train(config(tmp_path))
