"""The training-step benchmark: words, the check of losses, rows. Every time here is made up for the test."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench.measure import device_rates
from bench.roofline.step import net
from bench.step import command, compare
from bench.step.plan import plan
from bench.step.rows import Measured, choices_line, floors_line, outcome, ratios, step_rows, step_table
from bench.step.variants import (
    LOSS_TOLERANCE,
    Losses,
    Stepper,
    Variant,
    batch_of,
    build_model,
    initial_state,
    recipe_of,
)
from kernels.choose.choice import TORCH, Choice
from kernels.operands import TileConfig
from resnet.fused.layer_choices import LayerChoices
from results.export import export
from results.identity import key_of
from results.store.files import read_rows
from results.store.schema import SCHEMAS, clean_row

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
SMALL = ["depth=8", "batch=4", "image_size=8"]


def test_words_are_grouped_by_what_variants_share() -> None:
    plans = plan(["depth=50", "precision=bf16,fp16", "kernels=torch,triton", "graphs=false,true"])
    assert [one.step.precision for one in plans] == ["bf16", "fp16"]
    assert [str(variant) for variant in plans[0].variants] == ["torch", "triton", "torch+graph", "triton+graph"]
    (whole,) = plan(["depth=110"])
    assert len(whole.variants) == 8 and whole.step.batch == 128 and whole.step.image_size == 32
    (one,) = plan(["depth=50", "batch=64", "graphs=true", "kernels=compile"])
    assert one.variants == (Variant("compile", True),) and one.step.batch == 64


@pytest.mark.parametrize(
    ("word", "said"),
    [("kernels=tritn", "nearest: kernels=triton"), ("graphs=maybe", "true or false"), ("rounds=1", "at least 2"),
     ("depth=21", "nearest is 18")],
)  # fmt: skip
def test_a_bad_word_is_one_line_and_exit_status_2(word, said, capsys) -> None:
    assert command.main([word]) == 2
    line = capsys.readouterr().err
    assert line.startswith("bench.step: ") and line.count("\n") == 1 and word in line and said in line


def test_losses_are_held_against_eager_s() -> None:
    eager = Losses((7.0, 6.5, 6.0, 5.5))
    assert Losses((7.0, 6.5 * (1 + LOSS_TOLERANCE / 2), 0.0, 0.0)).problem(eager, graph=False) is None
    assert "step 2 is 6.9" in (Losses((7.0, 6.9, 6.0, 5.5)).problem(eager, graph=False) or "")
    assert "step 1 is nan" in (Losses((float("nan"), 6.5, 6.0, 5.5)).problem(eager, graph=False) or "")
    replayed = Losses((7.0, 6.5, 6.0, 7.0)).problem(eager, graph=True)
    assert replayed == "loss at step 4 is 7, eager's is 5.5"


@pytest.mark.slow
def test_a_step_trains_and_variants_start_alike() -> None:
    one = net(depth=8, batch=4, image_size=8)
    state = initial_state(one, 0, CPU)
    images, labels = batch_of(one, 0, CPU)
    losses = []
    for _ in range(2):
        model = build_model(one, "torch")
        model.load_state_dict(state)
        stepper = Stepper(model, images, labels, recipe_of(one), one.precision)
        losses.append(stepper.prepare())
        assert stepper.peak_mem_bytes is None  # a CPU has no figure for it
        assert all(parameter.grad is None for parameter in model.parameters())
    assert losses[0] == losses[1] and losses[0].values[-1] < losses[0].values[0]


def made_up() -> dict[Variant, Measured]:
    def one(ms: float, **fields: object) -> Measured:
        return Measured(rounds=[[ms, ms, 2 * ms], [ms, ms, ms]], ended_ns=[10**9, 2 * 10**9], loss=6.9, **fields)  # type: ignore[arg-type]

    config = TileConfig((("BLOCK_M", 128), ("BLOCK_N", 64), ("BLOCK_K", 32)), 4, 3)
    ours = Choice(forward="prologue", dgrad="triton", forward_config=config)
    choices = LayerChoices.of({"conv1": TORCH, "layer1.0.conv1": ours, "layer1.0.conv2": ours})
    return {
        Variant("torch"): one(40.0, peak_mem_bytes=2**31),
        Variant("compile"): one(30.0, peak_mem_bytes=2**30),
        Variant("triton"): one(20.0, peak_mem_bytes=2**30, choices=choices),
        Variant("auto"): Measured(problem="OutOfMemoryError: CUDA out of memory", failure_kind="oom"),
        Variant("triton", True): one(19.0),
    }


def test_figures_follow_from_the_samples() -> None:
    one = net(depth=50)
    found = outcome(one, made_up()[Variant("triton")], multiply_adds=4 * 10**9, parameters=10, gpu="NVIDIA H100 80GB")
    assert found["images_per_s"] == pytest.approx(256 * 6 / 0.140)  # images over time, not a mean of rates
    assert (found["step_ms_p50"], found["steps_completed"], found["peak_mem_bytes"]) == (20.0, 6, 2**30)
    assert found["mfu"] == pytest.approx(found["images_per_s"] * 24e9 / 989.4e12)
    assert outcome(one, made_up()[Variant("torch")], multiply_adds=1, parameters=1, gpu=None)["mfu"] is None
    rows = step_rows(made_up()[Variant("triton")])
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6] and rows[2]["step_ms"] == 40.0
    assert [row["t_ns"] for row in rows[:3]] == [10**9 - 60 * 10**6, 10**9 - 40 * 10**6, 10**9]
    for row in rows:
        clean_row("steps", row)


def test_ratios_are_of_variants_that_are_captured_alike() -> None:
    found = made_up()
    assert ratios(found, Variant("triton")) == {"torch": "2.000 [2.000, 2.000]", "compile": "1.500 [1.500, 1.500]"}
    assert ratios(found, Variant("torch"))["torch"] == ""
    assert ratios(found, Variant("triton", True)) == {"torch": "", "compile": ""}


def test_the_table_says_what_was_not_timed() -> None:
    console = Console(width=140)
    with console.capture() as capture:
        console.print(step_table(net(depth=50), made_up()))
    text = capture.get()
    assert "not timed: OutOfMemoryError" in text and "20.00 (20.00-20.00)" in text and "1.00" in text
    choices = made_up()[Variant("triton")].choices
    assert choices and choices_line(Variant("triton"), choices) == (
        f"triton ({choices.hash()}), 3 layers: 2 x forward prologue 128x64x32/w4/s3 dgrad triton inference torch; "
        "1 x forward torch dgrad torch inference torch"
    )
    assert "compile 32." in floors_line(net(depth=50))


def test_what_computes_each_layer_is_in_the_row(tmp_path: Path) -> None:
    (one,) = plan([*SMALL, "graphs=false", f"results={tmp_path}"])
    measured = made_up()
    other = LayerChoices.of({"conv1": TORCH})
    measured[Variant("auto")] = replace(measured[Variant("triton")], choices=other)
    compare.write(one, measured, CPU, datetime.now(UTC), {})
    rows = {(row["kernels"], row["cuda_graph"]): row for row in read_rows(tmp_path, "runs")[0]}
    for kernels in ("triton", "auto"):
        row, choices = rows[kernels, False], measured[Variant(kernels)].choices
        assert choices and row["kernels_choices"] == choices.to_json() and row["choices_hash"] == choices.hash()
        assert row["choices_hash"] == hashlib.sha256(row["kernels_choices"].encode()).hexdigest()[:16]
    assert rows["torch", False]["kernels_choices"] is None and rows["torch", False]["choices_hash"] is None
    keys = {row["comparability_key"] for row in rows.values()}
    assert len(keys) == len(rows)


@pytest.mark.slow
def test_every_variant_leaves_a_run_and_the_failed_one_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole of a plan on the CPU with a clock that is made up."""
    samples = iter(range(1, 1000))
    monkeypatch.setattr(Stepper, "time", lambda self, steps: ([float(next(samples)) for _ in range(steps)], 1.0))
    for peak in ("copy_peak", "matrix_peak"):
        monkeypatch.setattr(device_rates, peak, lambda *_: 1e12)
    monkeypatch.setattr("kernels.runtime.INTERPRETED", False)
    words = [*SMALL, "kernels=torch,triton", "graphs=false", "rounds=3", "steps=2", f"results={tmp_path}"]
    (one,) = plan(words)
    with (tmp_path / "log").open("w") as log:
        assert compare.run_plan(one, CPU, Console(file=log, width=140)) is False
    rows, bad = read_rows(tmp_path, "runs")
    assert not bad
    eager, triton = sorted(rows, key=lambda row: row["kernels"])
    assert (eager["status"], eager["benchmark"], eager["engine"]) == ("completed", "step", None)
    assert eager["loader"] == "synthetic" and eager["comparability_key"] != triton["comparability_key"]
    assert eager["comparability_key"] == key_of(json.loads(eager["comparability_parts"]))
    assert eager["synthetic"] and eager["cuda_graph"] is False and eager["images_per_s"] > 0
    assert eager["choices_hash"] is None and eager["kernels_choices"] is None
    assert json.loads(eager["config_json"])["loss_scale"] == 1.0 and eager["null_reasons"]["tta_s"]
    assert (triton["status"], triton["failure_kind"], triton["images_per_s"]) == ("failed", "config", None)
    assert "kernels=triton" in triton["failure_message"]
    assert eager["run_id"].removesuffix("-torch") == triton["run_id"].removesuffix("-triton")
    steps, _ = read_rows(tmp_path, "steps")
    assert len(steps) == 6 and {row["run_id"] for row in steps} == {eager["run_id"]}
    assert len(read_rows(tmp_path, "system")[0]) == 2 and not list((tmp_path / "journal").glob("*"))
    assert export(tmp_path, [row["run_id"] for row in rows], tmp_path / "record")


@pytest.mark.slow
def test_what_another_variant_s_losses_are_is_checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = Stepper.prepare
    monkeypatch.setattr(Stepper, "time", lambda self, steps: ([1.0] * steps, 1.0))

    def prepare(self, pool=None):
        losses = whole(self, pool)
        return replace(losses, values=tuple(1.5 * loss for loss in losses.values)) if self.model.fused else losses

    monkeypatch.setattr(Stepper, "prepare", prepare)

    class Fused:
        def network(self, model, images):
            model.fused = None
            try:
                return model(images)
            finally:
                model.fused = self

        def forget(self):
            pass

    def build(one, kernels):
        model = build_model(one, "torch")
        model.fused = Fused() if kernels == "triton" else None
        return model

    monkeypatch.setattr(compare, "build_model", build)
    monkeypatch.setattr(compare, "choices_of", lambda model: None)
    (one,) = plan([*SMALL, "kernels=torch,triton", "graphs=false", "rounds=2"])
    with (tmp_path / "log").open("w") as log:
        found = compare.measure(one, CPU, Console(file=log))
    assert found[Variant("torch")].rounds and not found[Variant("triton")].rounds
    wrong = found[Variant("triton")]
    assert wrong.failure_kind == "diverged" and "eager's is" in (wrong.problem or "")


def test_one_step_of_a_turn_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = {"ms": 0.0}

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at_ms = clock["ms"]

        def elapsed_time(self, end: "Event") -> float:
            return end.at_ms - self.at_ms

    def run(self: Stepper) -> torch.Tensor:
        clock["ms"] += 4.0 if clock["ms"] else 100.0
        return torch.tensor(clock["ms"])

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr(Stepper, "run", run)
    stepper = Stepper.__new__(Stepper)
    stepper.device = CPU
    assert stepper.time(3) == ([4.0, 4.0, 4.0], 112.0)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_constant_loss_scale_cancels_out(precision: str) -> None:
    one = net(depth=8, batch=4, image_size=8)
    state, (images, labels) = initial_state(one, 0, CPU), batch_of(one, 0, CPU)
    found = {}
    for word in ("fp32", precision):
        model = build_model(one, "torch")
        model.load_state_dict(state)
        stepper = Stepper(model, images, labels, recipe_of(one), word)
        losses = [float(stepper.step()) for _ in range(2)]
        found[word] = losses, torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    assert found[precision][0] == pytest.approx(found["fp32"][0], rel=0.01)
    assert (found[precision][1] - found["fp32"][1]).norm() < 1e-2 * found["fp32"][1].norm()


def test_an_exception_becomes_a_reason() -> None:
    assert compare.failed(torch.OutOfMemoryError("CUDA out of memory.\nmore")).failure_kind == "oom"
    assert compare.failed(ValueError("x")).failure_kind == "config"
    found = compare.failed(RuntimeError("\n first \n second"))
    assert (found.problem, found.failure_kind) == ("RuntimeError: first", "unknown")


def test_columns_of_a_step_are_there() -> None:
    assert {"cuda_graph", "choices_hash", "kernels_choices"} <= set(SCHEMAS["runs"].names)


@pytest.mark.interpreted
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_device_nothing_is_timed_and_nothing_written(tmp_path: Path) -> None:
    words = ["depth=20", "precision=bf16,fp16", f"results={tmp_path / 'v1'}"]
    done = subprocess.run([sys.executable, "-m", "bench.step", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert sum("No CUDA device here: nothing was timed and nothing written" in line for line in lines) == 1
    assert sum(line.endswith("beside the reference's: ok") for line in lines) == 2
    assert sum(line.startswith("predicted floors at 3.00 TB/s") for line in lines) == 2
    assert not (tmp_path / "v1").exists()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="captures and times on a CUDA device; there is none here")
def test_a_captured_step_trains_as_eager_does(tmp_path: Path) -> None:
    words = ["depth=20", "kernels=torch,triton", "rounds=2", "steps=2", f"results={tmp_path}"]
    assert command.main([*words, "precision=bf16,fp16"]) == 0
    rows, _ = read_rows(tmp_path, "runs")
    assert len(rows) == 8 and {row["status"] for row in rows} == {"completed"}
    assert all(row["peak_mem_bytes"] > 0 for row in rows)
