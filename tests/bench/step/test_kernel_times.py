"""Kernels of a profiled step beside their predictions: events that were recorded once on an H200, and made-up ones."""

import math
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from bench.machine_code.predict import Rates
from bench.measure import machine
from bench.roofline.step import net
from bench.step import compare, kernel_times
from bench.step.kernel_times import Event, Profile, device_events, kernel_rows, match, predictions, profile_table
from bench.step.plan import plan
from bench.step.rows import Measured
from bench.step.variants import Stepper, Variant
from kernels import runtime
from kernels.aot import cases
from kernels.ops.bn_act import bn_act
from kernels.ops.conv1x1 import conv1x1
from kernels.tiles.tile_configs import default_config
from results.store.files import read_rows
from results.store.schema import clean_row

TABLES = Path(__file__).resolve().parents[3] / "docs/tables"
RECORDED = "resnet50-v1.5-batch256-bf16.parquet"
STEP = net(depth=50)
CPU = torch.device("cpu")
FUNCTIONS = {"conv1x1": "conv_kernel", "conv3x3": "conv_kernel", "pack_weights": "pack_kernel"}


@pytest.fixture(scope="module")
def recorded():
    """Three steps of ResNet-50 as torch's profiler saw them on an H200, and the kernels of each by name."""
    events = [Event(**row) for row in pq.read_table(TABLES / f"profile-H200-{RECORDED}").to_pylist()]
    launches = pq.read_table(TABLES / f"machine-code-{RECORDED}").to_pylist()
    ours = [row for row in launches if row["gpu"] == "H200" and not row["kernel"].startswith("library")]
    return events, [FUNCTIONS.get(row["kernel"], f"{row['kernel']}_kernel") for row in ours]


def launches():
    x, weight = cases.image(8, 64, 14, torch.bfloat16), cases.weight(128, 64, 1, torch.bfloat16)
    with runtime.capture_launches("sm_90") as found:
        runtime.set_layer("layer1.0.conv1")
        y, stats = conv1x1(x, weight, running=cases.running(128))
        runtime.set_layer("layer1.0.conv2")
        bn_act(y, cases.norm(128))
    return found


def test_recorded_events_are_told_apart_by_their_order(recorded):
    events, names = recorded
    samples = match(events, names, 3)
    assert len(samples) == len(names) == 183 and {len(one) for one in samples} == {3}
    # As it was looked up by hand: the projection of stage 1, and the gradient of its last block's first convolution.
    assert samples[6] == pytest.approx([434.4] * 3, abs=2.5)
    assert samples[168] == pytest.approx([856.3] * 3, abs=8)
    ours_us = math.fsum(us for one in samples for us in one) / 3
    assert ours_us == pytest.approx(math.fsum(e.us for e in events if e.name in set(names)) / 3)
    assert Counter(event.name for event in events)["Memset (Device)"] > 0  # others run between ours


def test_events_are_sorted_by_when_they_began(recorded):
    events, names = recorded
    assert match(events[::-1], names, 3) == match(events, names, 3)


def test_a_kernel_more_or_less_is_said(recorded):
    events, names = recorded
    first = next(event for event in events if event.name == names[0])
    with pytest.raises(ValueError, match="^the profiler saw 548 of our kernels in 3 steps of 183$"):
        match([event for event in events if event is not first], names, 3)
    with pytest.raises(ValueError, match="^launch 0 of a step is stem_kernel, but pack_kernel ran$"):
        match(events, [names[2], *names[1:2], names[0], *names[3:]], 3)


def test_events_of_the_device_alone_are_taken():
    def event(name, kind, start, us):
        span = SimpleNamespace(start=start, elapsed_us=lambda: us)
        return SimpleNamespace(name=name, device_type=kind, time_range=span)

    kinds = torch.autograd.DeviceType
    found = device_events([event("conv_kernel", kinds.CUDA, 3.0, 7.5), event("aten::add", kinds.CPU, 1.0, 2.0)])
    assert found == [Event("conv_kernel", 3.0, 7.5)]


def test_a_launch_has_its_row():
    found = Profile(launches(), [[4.0, 9.0, 5.0], [2.0, 2.0, 2.0]])
    conv, act = kernel_rows(STEP, Variant("triton"), found, [3.5, None])
    assert (conv["op"], conv["shape"]) == ("conv1x1", "layer1.0.conv1 1568x64x128")
    assert conv["config"] == str(default_config("conv1x1", "sm_90", torch.bfloat16, 1568, 128, 64))
    assert (conv["samples_us"], conv["p50"], conv["predicted_us"]) == ([4.0, 9.0, 5.0], 5.0, 3.5)
    assert conv["flops"] == 2 * 1568 * 64 * 128 and conv["bytes_min"] > 2 * 1568 * (64 + 128)
    assert (act["op"], act["predicted_us"], act["flops"]) == ("bn_act", None, 0)
    for row in (conv, act):
        assert clean_row("kernels", {**row, "run_id": "r"})["copy_bytes_per_s"] == STEP.copy_bytes_per_s
    console = Console(width=140)
    with console.capture() as shown:
        console.print(profile_table(STEP, Variant("triton"), [conv, conv, act]))
    lines = {line.split()[0]: line.split()[1:] for line in shown.get().splitlines() if line.strip()}
    assert lines["conv1x1"][0] == "2" and lines["conv1x1"][2:] == ["0.01", "0.01", "1.43"]
    assert lines["bn_act"][0] == "1" and lines["bn_act"][-1] == "0.00"  # measured; no model
    assert lines["all"][0] == "3" and lines["all"][-1] == "0.01"


def test_predictions_are_of_the_rates_that_were_measured(monkeypatch):
    told = []
    monkeypatch.setattr(kernel_times, "predicted_us", lambda *words: told.append(words) or [1.0, 2.0])
    monkeypatch.setattr(kernel_times, "processors", lambda device: 114)
    found = Profile(launches(), [[1.0], [1.0]])
    monkeypatch.setattr(machine, "gpu_name", lambda device: "NVIDIA H200")
    assert predictions(STEP, found, CPU) == [1.0, 2.0]
    (words,) = told
    rates = Rates(STEP.copy_bytes_per_s, STEP.flops_per_s, pytest.approx(1.98e9), 114)
    assert words == (found.launches, "sm_90", rates)
    for unknown in ("NVIDIA A100-SXM4-80GB", None):
        monkeypatch.setattr(machine, "gpu_name", lambda device, name=unknown: name)
        assert predictions(STEP, found, CPU) == [None, None]


@pytest.mark.parametrize("words", [["kernels=torch,compile"], ["kernels=triton", "graphs=true"]])
def test_a_profile_of_nobody_s_kernels_is_refused(words):
    with pytest.raises(ValueError, match="^profile=true: no variant launches our kernels one by one; add kernels="):
        plan(["depth=50", "profile=true", *words])
    assert plan(["depth=50", "profile=true", "kernels=triton"])[0].keys.profile


def test_the_rows_of_a_profiled_variant_are_kept_with_its_run(tmp_path, monkeypatch):
    (one,) = plan(["depth=8", "batch=4", "image_size=8", "kernels=triton,auto", "graphs=false", f"results={tmp_path}"])
    profiled = Profile(launches(), [[4.0, 5.0], [2.0, 2.0]])
    results = {
        Variant("triton"): Measured(rounds=[[1.0]], ended_ns=[10**9], profile=profiled),
        Variant("auto"): Measured(rounds=[[1.0]], ended_ns=[10**9], profile="the profiler saw nothing"),
    }

    def fail(*_):
        raise RuntimeError("no nvdisasm\nhere")

    monkeypatch.setattr(compare, "measure", lambda *_: results)
    for peak in ("copy_peak", "matrix_peak"):
        monkeypatch.setattr(compare.device_rates, peak, lambda *_: 1e12)
    monkeypatch.setattr(kernel_times, "predictions", fail)
    with (tmp_path / "log").open("w") as log:
        assert compare.run_plan(one, CPU, Console(file=log, width=140)) is False
    said = (tmp_path / "log").read_text()
    assert "auto: not profiled: the profiler saw nothing" in said
    assert "triton: no predictions: RuntimeError: no nvdisasm" in said and "conv1x1" in said
    kept, bad = read_rows(tmp_path, "kernels")
    assert not bad and [row["op"] for row in kept] == ["conv1x1", "bn_act"]
    assert kept[0]["run_id"].endswith("-triton") and kept[0]["p50"] == 4.5 and kept[0]["predicted_us"] is None


def test_what_the_profiler_did_not_see_costs_no_times(monkeypatch):
    (one,) = plan(
        ["depth=8", "batch=4", "image_size=8", "kernels=torch,triton", "graphs=false", "profile=true", "rounds=2"]
    )

    def fail(stepper):
        raise ValueError("the profiler saw nothing")

    model = compare.build_model(one.step, "torch")
    monkeypatch.setattr(compare, "build_model", lambda step, kernels: model)
    monkeypatch.setattr(Stepper, "prepare", lambda self, pool=None: compare.Losses((1.0,) * 6))
    monkeypatch.setattr(Stepper, "time", lambda self, steps: ([1.0] * steps, 1.0))
    monkeypatch.setattr(kernel_times, "profile", fail)
    found = compare.measure(one, CPU, Console(quiet=True))
    assert found[Variant("triton")].profile == "the profiler saw nothing" and len(found[Variant("triton")].rounds) == 2
    assert found[Variant("torch")].profile is None
    profiled = Profile([], [])
    monkeypatch.setattr(kernel_times, "profile", lambda stepper: profiled)
    assert compare.measure(one, CPU, Console(quiet=True))[Variant("triton")].profile is profiled
