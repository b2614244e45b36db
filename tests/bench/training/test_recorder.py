"""A run's row: what it starts with, what it ends with, and why a figure is missing."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.measure import machine, revision
from bench.measure.failure import Failure
from bench.measure.metrics import WARMUP_STEPS, Throughput
from bench.training import recorder as recorders
from bench.training.process_group import World
from bench.training.recorder import Recorder, outcome, run_row
from kernels.choose.choice import TORCH
from resnet.fused.layer_choices import LayerChoices
from results import identity
from results.store.files import read_rows
from results.store.schema import SCHEMAS

CPU = torch.device("cpu")
SLURM = (
    "SUBMITIT_EXECUTOR", "SLURMD_NODENAME", "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_NODELIST", "SLURM_JOB_GPUS", "RESNET_BENCH_OVERSUBSCRIBE",
)  # fmt: skip
TASK = {"SUBMITIT_EXECUTOR": "slurm"}  # of a rank that srun started


def config(results: Path | str = "/r", **changes: Any) -> RunConfig:
    keys = RunKeys(
        depth=20, dataset="digits", batch=8, grad_accum=2, nodes=3, ranks_per_node=2, steps=77, seed=5, lr=0.3,
        weight_decay=0.01, target=0.9, epochs=4, zero_stage=1, results=str(results), recipe="fast",
    )  # fmt: skip
    resolved, _ = resolve(keys, Host(ranks_per_node=2, visible=False))
    return dataclasses.replace(resolved, **changes)


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SLURM:
        monkeypatch.delenv(name, raising=False)


def test_the_row_that_a_run_starts_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revision, "running", lambda: revision.Code(commit="c0ffee", dirty=True, snapshot="ab"))
    before = datetime.now(UTC)
    chosen = config()
    row = run_row(chosen, "r", 2)
    assert before <= row.pop("init_start") <= datetime.now(UTC)
    assert row == {
        "run_id": "r", "restart_count": 2, "benchmark": "training", "schema_version": 1,
        "config_hash": identity.config_hash(chosen.values()), "config_json": chosen.to_json(),
        "git_commit": "c0ffee", "dirty": True, "snapshot": "ab",
        "family": "cifar", "depth": 20, "shortcut": "A", "stride": "v1",
        "extension": False, "dataset": "digits", "image_size": 32, "num_classes": 10, "eval_protocol": "whole image",
        "kernels": "torch", "loader": "dali", "synthetic": False, "engine": "deepspeed", "precision": "bf16",
        "comm_dtype": "fp32", "zero_stage": 1, "recipe": "fast", "lr": 0.3, "weight_decay": 0.01, "seed": 5,
        "batch_per_device": 8, "bn_span": 8, "grad_accum": 2, "nodes": 3, "ranks_per_node": 2, "world_size": 6,
        "global_batch": 96, "epochs": 4, "steps_cap": 77, "target_top1": 0.9, "eval_interval": 1, "warmup_steps": 10,
        "slurm_job_id": None, "array_task": None, "nodelist": None,
        "node_shared": None, "slurm_gpus": None, "experiment": None, "scale": None,
        "activation_checkpointing": None,
    }  # fmt: skip
    assert set(row) <= set(SCHEMAS["runs"].names)


@pytest.mark.parametrize(
    ("environment", "job", "task", "nodes"),
    [
        ({**TASK, "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]"}, "77", None, "n[1-2]"),
        ({**TASK, "SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "0"}, "70", 0, None),
        ({**TASK, "SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "", "SLURM_ARRAY_TASK_ID": "12"}, "71", 12, None),
        # What runs in an allocation of several nodes, on the one where it was started.
        ({"SLURMD_NODENAME": "n1", "SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]"}, "77", None, None),
        ({"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "n[1-2]", "SLURM_ARRAY_TASK_ID": "1"}, None, None, None),
    ],
)
def test_slurm_s_names_of_a_job(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], job: str, task: int | None, nodes: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    row = run_row(config(), "r", 0)
    assert (row["slurm_job_id"], row["array_task"], row["nodelist"]) == (job, task, nodes)


@pytest.mark.parametrize(
    ("said", "shared"), [("NO", False), ("OK", True), ("YES", True), ("USER", True), ("MCS", True), ("", None)]
)
def test_whether_others_ran_beside_a_job_is_what_slurm_said(
    monkeypatch: pytest.MonkeyPatch, said: str, shared: bool | None
) -> None:
    monkeypatch.setenv("RESNET_BENCH_OVERSUBSCRIBE", said)
    monkeypatch.setenv("SLURM_JOB_GPUS", "2,3")
    row = run_row(config(), "r", 0)  # what runs in a job without being a rank of it
    assert (row["node_shared"], row["slurm_gpus"]) == (None, None)
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    row = run_row(config(), "r", 0)
    assert (row["node_shared"], row["slurm_gpus"]) == (shared, "2,3")


def test_what_is_no_figure_of_the_paper_s_nets_says_so() -> None:
    assert run_row(config(loader="synthetic"), "r", 0)["synthetic"] is True
    assert run_row(config(loader="torch"), "r", 0)["synthetic"] is False
    assert run_row(config(shortcut="B"), "r", 0)["extension"] is True
    assert run_row(config(dataset="imagenet"), "r", 0)["eval_protocol"] == "1-crop"


def throughput(steps: int, images: int = 64, waited_s: float = 0.0) -> Throughput:
    """Each step takes 1 s, but the warm-up's 5 s and every 20th after it 3 s."""
    found = Throughput()
    found.begin(0.0)
    at_s = 0.0
    for step in range(1, steps + 1):
        step_s = 5.0 if step <= WARMUP_STEPS else 3.0 if (step - WARMUP_STEPS) % 20 == 0 else 1.0
        at_s += step_s
        found.step_ms.append(1e3 * step_s)
        if found.step(images):
            found.warm(at_s)
    found.end(at_s, waited_s)
    return found


def test_the_figures_of_a_run_on_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda device: "NVIDIA H100 80GB HBM3")
    row, reasons = outcome(config(), World(0, 6, 0, 2, CPU, 1), throughput(30, waited_s=14.4), 1_000_000_000, 11)
    rate = 20 * 64 / 22.0
    assert row == {
        "images_per_s": rate,
        "step_ms_p50": 1000.0,
        "step_ms_p95": pytest.approx(1000.0 + 0.05 * 2000.0),  # the 19.05th of 20 steps
        "data_wait_frac": 14.4 / 72.0,
        "flops_per_image": 6_000_000_000,
        "parameters": 11,
        "multiply_adds": 1_000_000_000,
        "mfu": pytest.approx(rate / 6 * 6e9 / 989.4e12, rel=1e-12),  # of one of six GPUs
        "peak_flops_per_s": 989.4e12,
        "peak_name": "dense bf16 peak of NVIDIA H100 80GB HBM3",
    }
    assert reasons == {}


def test_a_run_no_longer_than_its_warm_up_has_reasons_in_place_of_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda device: "NVIDIA H100 80GB HBM3")
    row, reasons = outcome(config(), World(0, 1, 0, 1, CPU, 1), throughput(10), 1, 11)
    missing = ("images_per_s", "step_ms_p50", "step_ms_p95", "mfu")
    assert [row[name] for name in missing] == [None] * 4 and row["peak_flops_per_s"] == 989.4e12
    assert reasons == dict.fromkeys(missing, "no longer than the warm-up of 10 steps")


@pytest.mark.parametrize(("gpu", "named"), [(None, "this CPU"), ("GeForce 8800", "GeForce 8800")])
def test_an_unknown_peak_is_a_reason(monkeypatch: pytest.MonkeyPatch, gpu: str | None, named: str) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda device: gpu)
    for steps in (30, 10):
        row, reasons = outcome(config(), World(0, 1, 0, 1, CPU, 1), throughput(steps), 1, 11)
        assert (row["mfu"], row["peak_flops_per_s"], row["peak_name"]) == (None, None, None)
        assert reasons["mfu"] == reasons["peak_flops_per_s"] == f"the peak of {named} in bf16 is not known"


def only_row(root: Path) -> dict[str, Any]:
    rows, bad = read_rows(root, "runs")
    assert len(rows) == 1 and not bad
    return rows[0]


def test_a_row_has_the_machine_the_choices_and_what_it_compares_with(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 1)
    recorder.system(CPU)
    choices = LayerChoices.of({"conv1": TORCH})
    recorder.choices(choices, "")
    assert recorder._writer.row.get("comparability_key") is None  # not before the data are known
    recorder.begin(dataset_hash="abc", sample="digits")
    recorder.finish("completed", images_per_s=1.0)
    row = only_row(tmp_path)
    (system,), _ = read_rows(tmp_path, "system")
    assert (row["system_id"], row["hardware"]) == (system["system_id"], identity.system_class(system))
    assert (row["kernels_choices"], row["choices_hash"]) == (choices.to_json(), choices.hash())
    assert row["comparability_key"] == identity.key_of(identity.parts_of(row))
    assert json.loads(row["comparability_parts"])["data"] == {"sample": "digits", "hash": "abc"}
    assert row["images_per_s"] == 1.0 and row["run_stop"] >= row["init_start"]


def test_only_what_has_no_value_has_a_reason(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 0)
    recorder.null("not yet", "tta_s", "mfu", "energy_j")
    recorder.update(energy_j=3.0)
    recorder.finish("completed", tta_s=1.0)
    assert only_row(tmp_path)["null_reasons"] == {"mfu": "not yet"}


def test_a_failure_is_in_the_row_and_only_the_first_end_counts(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 0)
    recorder.null("no counter", "energy_j")
    recorder.fail(Failure("failed", "oom", "out of memory", 1))
    recorder.fail(Failure("killed", "interrupted", "later", 0))
    recorder.finish("completed")
    row = only_row(tmp_path)
    assert (row["status"], row["failure_kind"], row["failure_message"]) == ("failed", "oom", "out of memory")
    reasons = row["null_reasons"]
    assert reasons["tta_s"] == "failed after epoch 0, before top-1 0.9 was reached"
    assert reasons["final_top1"] == "failed after epoch 0 in a run of 77 steps"
    assert reasons["energy_j"] == "no counter" and reasons["peak_mem_bytes"] == "failed (oom) before it was measured"


def test_what_the_network_costs_is_known_however_early_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "gpu_name", lambda device: "NVIDIA H100 80GB HBM3")
    recorder = Recorder(config(tmp_path), "r", 0)
    recorder.network(World(0, 6, 0, 2, CPU, 1), 1_000_000_000, 11)
    for epoch in (1, 2, 3):
        recorder.epoch(epoch=epoch, elapsed_s=10.0 * epoch, images=9600, top1=0.5, eval_s=2.0)
    recorder.fail(Failure("killed", "interrupted", "rank 0 was stopped by SIGTERM", 0))
    row = only_row(tmp_path)
    assert (row["flops_per_image"], row["parameters"], row["multiply_adds"]) == (6_000_000_000, 11, 1_000_000_000)
    rate = 9600 / 8.0
    assert row["images_per_s"] == rate and row["mfu"] == pytest.approx(rate / 6 * 6e9 / 989.4e12, rel=1e-12)


def test_an_unknown_peak_is_said_from_the_start(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 0)
    recorder.network(World(0, 6, 0, 2, CPU, 1), 1, 11)
    recorder.fail(Failure("killed", "interrupted", "rank 0 was stopped by SIGTERM", 0))
    assert only_row(tmp_path)["null_reasons"]["mfu"] == "the peak of this CPU in bf16 is not known"


def test_steps_and_epochs_carry_the_attempt_and_their_rank(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 3)
    recorder.steps(0, [(1.0, 5.0, 10.0, 2.0, 8.0, 0.5)])
    recorder.steps(1, [(1.0, 6.0, 11.0, 3.0, 8.0, 0.25)])
    recorder.epoch(epoch=1, loss=0.375)
    recorder.finish("completed")
    steps, _ = read_rows(tmp_path, "steps")
    columns = ("run_id", "restart", "rank", "step", "t_ns", "step_ms", "data_ms", "compute_ms", "loss")
    assert [tuple(step[name] for name in columns) for step in steps] == [
        ("r", 3, 0, 1, 5, 10.0, 2.0, 8.0, 0.5),
        ("r", 3, 1, 1, 6, 11.0, 3.0, 8.0, 0.25),
    ]
    (epoch,), _ = read_rows(tmp_path, "epochs")
    assert (epoch["run_id"], epoch["restart"], epoch["epoch"], epoch["loss"]) == ("r", 3, 1, 0.375)


def test_a_step_with_other_columns_is_a_fault(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 0)
    for row in ((1.0, 5.0, 10.0, 2.0, 8.0), (1.0, 5.0, 10.0, 2.0, 8.0, 0.5, 0.5)):
        with pytest.raises(ValueError, match="argument"):
            recorder.steps(0, [row])


def test_what_is_said_and_how_it_ends_reaches_whoever_watches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_BENCH_PROGRESS", str(tmp_path / "progress"))
    recorder = recorders.Recorder(config(tmp_path / "rows"), "r", 0)
    recorder.say("compiling")
    recorder.choices(LayerChoices.of({"conv1": TORCH}), "table")
    recorder.finish("completed")
    recorder.say("10-crop: top-1 90%")  # what is found out about the net comes after its rows
    recorder.close()
    events = [json.loads(line) for line in (tmp_path / "progress").read_text().splitlines()]
    assert [event["event"] for event in events] == ["note", "choices", "note", "end"]
    assert events[0]["text"] == "compiling" and events[1]["table"] == "table" and events[3]["status"] == "completed"


def test_an_end_that_cannot_be_written_leaves_room_for_the_failure(tmp_path: Path) -> None:
    recorder = Recorder(config(tmp_path), "r", 0)
    with pytest.raises(ValueError, match="tta_s"):
        recorder.finish("completed", tta_s="x")
    recorder.fail(Failure("failed", "unknown", "ValueError: tta_s", 0))
    row = only_row(tmp_path)
    assert (row["status"], row["failure_message"], row["tta_s"]) == ("failed", "ValueError: tta_s", None)
