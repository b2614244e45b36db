"""The microbenchmarks: words, cases, the check before the clock, rows. Every time here is made up for the test."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from bench.config.grammar import WordError
from bench.measure import device_rates, gpu_rows
from bench.micro import backends, measure, run
from bench.micro.cases import OPS, cases, tiny
from bench.micro.command import main
from bench.micro.measure import Peaks, Result, case_table, rows_of
from bench.micro.plan import plan
from bench.roofline.step import net
from bench.step.plan import plan as plan_step
from kernels import runtime
from kernels.choose.timer import CudaDevice, DeviceTimer
from kernels.reference import check
from kernels.tiles import tile_configs
from results.export import export
from results.store.files import read_rows, table_files

ROOT = Path(__file__).resolve().parents[3]
PEAKS = Peaks(2e12, 5e14)
CPU = torch.device("cpu")


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "bench.micro", *words], cwd=ROOT, capture_output=True, text=True)


def first(op: str, depth: int = 50):
    return cases(net(depth=depth), (op,))[0]


def test_words_are_grouped_by_net_and_precision() -> None:
    plans = plan(["op=conv1x1,bn_stats", "backend=eager,triton", "precision=bf16,fp16", "depth=50"])
    assert [one.keys.precision for one in plans] == ["bf16", "fp16"]
    assert plans[0].ops == ("bn_stats", "conv1x1") and plans[0].backends == ("triton", "eager")
    assert plans[0].step.architecture.stride == "v1.5" and plans[0].step.batch == 256
    (whole,) = plan(["depth=20"])
    assert whole.ops == OPS and whole.backends == measure.BACKENDS
    assert whole.step.architecture.stride == "v1" and whole.step.batch == 128


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["op=conv1x2"], ["op=conv1x2", "nearest: op=conv1x1"]),
        (["backend=cuda"], ["backend=cuda", "choose from triton"]),
        (["dept=50"], ["did you mean depth=50"]),
        (["depth=51"], ["depth=51", "nearest is 50"]),
        (["run=x", "precision=bf16,fp16"], ["run=x", "swept"]),
        (["run=x", "op=conv1x1", "cut=64x64x64/w4/s4,64x64x64/w8/s4"], ["run=x", "swept"]),
        (["op=conv1x1", "cut=64x64x65/w4/s4"], ["cut=64x64x65/w4/s4", "nearest is 64x64x64/w4/s4"]),
        (
            ["op=conv1x1", "cut=64x64x64/w4/s4", "backend=eager,compile"],
            ["cut=64x64x64/w4/s4", "backend=eager,compile"],
        ),
        (["run="], ["run=", "an id"]),
        (["op=conv1x1,stem", "cut=64x64x64/w4/s4"], ["stem is no convolution", "nearest is op=conv1x1"]),
    ],
)
def test_a_bad_word_is_one_line_and_exit_status_2(words, said, capsys) -> None:
    assert main(words) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and all(part in line for part in said)
    with pytest.raises(ValueError) as caught:
        plan(words)
    assert isinstance(caught.value, WordError) or "depth" in str(caught.value)


def test_cases_are_the_distinct_layers_of_the_net() -> None:
    step = net(depth=50)
    found = {op: cases(step, (op,)) for op in OPS}
    assert all(len(set(mine)) == len(mine) > 0 for mine in found.values())
    assert {case.form for case in found["conv_dgrad"]} == {"inner", "inner+z", "join", "plain"}
    assert {case.form for case in found["bn_act"]} == {"relu", "training", "add", "dual"}
    names = [case.name for case in found["conv1x1"]]
    assert "statistics 256x64x56x56 -> 256, 1x1/1" in names and len(names) == len(set(names))
    assert all(case.shape.c_in % 8 == 0 for case in found["conv3x3"])
    assert not cases(net(depth=20), ("stem", "conv1x1"))


def test_a_folder_at_home_is_where_rows_go(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (one,) = plan(["op=bn_stats", "results=~/rows"])
    assert one.keys.results == str(tmp_path / "rows")
    (variant,) = plan_step(["depth=20", "results=~/rows"])
    assert variant.keys.results == str(tmp_path / "rows")


def test_option_a_s_shortcut_has_cases_of_its_own() -> None:
    step = net(depth=20)
    padded = [case for case in cases(step, ("bn_act",)) if case.form == "padded"]
    assert [case.name for case in padded] == ["padded 128x32x16x16 /2", "padded 128x64x8x8 /2"]
    added = next(case for case in cases(step, ("bn_act",)) if case.form == "add" and case.shape.c_in == 32)
    # Half of the identity's channels are read.
    assert added.bytes_min(2) - padded[0].bytes_min(2) == 128 * 16 * 16 * 16 * 2
    narrow = [case for case in cases(step, ("bn_act_backward",)) if case.form == "narrow"]
    joined = next(case for case in cases(step, ("bn_act_backward",)) if case.form == "join")
    assert [case.shape.stride for case in narrow] == [2, 2]
    # A quarter of the skip's pixels is.
    assert joined.bytes_min(2) - narrow[0].bytes_min(2) == 128 * 32 * 32 * 16 * 2 * 3 // 4
    bottleneck = [case.name for case in cases(net(depth=50, shortcut="A"), ("bn_act",))]
    assert "padded 256x256x56x56" in bottleneck and "padded 256x512x28x28 /2" in bottleneck


@pytest.mark.parametrize("op", ["conv1x1", "conv3x3", "conv_dgrad", "conv_inference"])
def test_a_cut_is_that_of_every_launch_of_a_convolution(op: str) -> None:
    cut = tile_configs.parse("32x16x16/w2/s1")
    with torch.no_grad():
        for case in {case.form: tiny(case) for case in cases(net(depth=50), (op,))}.values():
            operands = backends.operands(case, torch.float32, CPU)
            with runtime.capture_launches("sm_90") as launches:
                backends.fused(case, cut)(operands)
            (launch,) = [launch for launch in launches if launch.kernel.startswith("conv")]
            assert measure.describe_launches([launch]) == f"{launch.kernel} {cut}"


def test_least_bytes_and_floor_of_a_case() -> None:
    case = first("bn_act_backward")
    pixels = 256 * 56 * 56 * 64 * 2
    # dz and y are read twice, dy is written; per-channel vectors are all that comes on top.
    assert 5 * pixels < case.bytes_min(2) < 5 * pixels + 10_000
    assert case.floor_s(2, 1e12, 1e-3) == case.bytes_min(2) / 1e12  # its arithmetic is not the matrix units'
    conv = first("conv3x3")
    assert conv.floor_s(2, 1e30, 1e12) == pytest.approx(conv.flops / 1e12)


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize("op", OPS)
def test_maths_in_bf16_is_near_fp64_and_eager_is_judged_right(op: str, shortcut: str) -> None:
    forms = {case.form: tiny(case) for case in cases(net(depth=50, shortcut=shortcut), (op,))}
    with torch.no_grad():
        for case in forms.values():
            operands = backends.operands(case, torch.bfloat16, CPU)
            truth = backends.maths(case)(backends.wide(operands))
            found = check.errors(backends.eager(case, operands)(operands), truth)
            assert all(error < 0.02 for error in found.values()), (case.name, found)
            assert check.wrong(found, found) == []
            twice = backends.operands(case, torch.bfloat16, CPU)
            assert all(torch.equal(operands[key], twice[key]) for key in operands)


def test_what_is_wrong_is_found_before_it_is_timed() -> None:
    case = tiny(first("bn_act"))
    operands = backends.operands(case, torch.float32, CPU)
    right = backends.maths(case)
    truth = right(backends.wide(operands))
    bound = check.errors(right(operands), truth)

    def off(t):
        return {"z": right(t)["z"] * 1.01}

    def nan(t):
        return {"z": right(t)["z"].fill_(float("nan"))}

    def raises(t):
        raise RuntimeError("first line\nsecond line")

    assert measure.check("eager", right, operands, truth, bound).status == "ok"
    for wrong, words in ((off, "z is off by 0.01"), (nan, "z is off by nan"), (raises, "RuntimeError: first line")):
        result = measure.check("eager", wrong, operands, truth, bound)
        assert result.status.startswith("failed: ") and words in result.status and result.samples_us is None
    assert measure.check("eager", nan, operands, truth, bound).max_err is None
    missing = measure.check("eager", lambda t: {}, operands, truth, bound)
    assert missing.status.startswith("failed")


def test_what_pytorch_kept_is_no_work_of_its_own() -> None:
    """Our dgrad writes z again; eager and compile have it, so only ours is held to it, and only ours takes the time."""
    case = next(tiny(case) for case in cases(net(depth=50), ("conv_dgrad",)) if case.form == "inner+z")
    operands = backends.operands(case, torch.float32, CPU)
    truth = backends.maths(case, rewrite=True)(backends.wide(operands))
    assert set(truth) == {"g", "d_bias", "d_weight", "z"} and measure.rewritten(case) == "z"
    assert set(backends.maths(case)(operands)) == {"g", "d_bias", "d_weight"}
    assert max(measure.bound_of(case, operands, truth).values()) < 1e-5


def test_cudnn_s_fusions_are_said_to_be_unavailable() -> None:
    conv, inference = first("conv1x1"), first("conv_inference")
    assert measure.build("cudnn-fused", conv, {}, "bf16").startswith("unavailable: cuDNN")
    assert measure.build("cudnn-fused", conv, {}, "fp16").startswith("unavailable: PyTorch")
    assert callable(measure.build("cudnn-fused", inference, {}, "fp16"))


def results() -> dict[str, Result]:
    samples = {"warm": [4.0, 5.0, 9.0], "cold": [8.0, 10.0, 12.0]}
    slower = {l2: [2 * us for us in values] for l2, values in samples.items()}
    return {
        "triton": Result("ok", 1e-3, "bn_stats 64x64/w8", samples),
        "eager": Result("ok", 1e-3, None, slower),
        "compile": Result("failed: z is off by 1 (relative L2), torch's own by 0.001", 1.0),
        "cudnn-fused": Result("unavailable: no such fusion"),
    }


def test_rows_have_raw_samples_and_no_time_for_what_failed(tmp_path: Path) -> None:
    rows = rows_of(first("bn_stats"), "bf16", results(), PEAKS)
    assert [(row["backend"], row.get("l2")) for row in rows] == [
        ("triton", "warm"), ("triton", "cold"), ("eager", "warm"), ("eager", "cold"), ("compile", None),
        ("cudnn-fused", None),
    ]  # fmt: skip
    path = gpu_rows.write_kernels(tmp_path, "r", "2000-01", rows)
    again = gpu_rows.write_kernels(tmp_path, "r", "2000-01", rows[:1])
    assert (path.name, again.name) == ("r.0.parquet", "r.1.parquet")
    stored, bad = read_rows(tmp_path, "kernels", ["r"])
    assert not bad and len(stored) == 7
    cold = stored[1]
    assert cold["samples_us"] == [8.0, 10.0, 12.0] and cold["p50"] == 10.0 and cold["config"] == "bn_stats 64x64/w8"
    assert (cold["copy_bytes_per_s"], cold["matrix_flops_per_s"]) == (2e12, 5e14)
    failed = stored[4]
    assert failed["samples_us"] is None and failed["p50"] is None and failed["status"].startswith("failed: z")
    assert gpu_rows.write_kernels(tmp_path, "r", "2000-01", []) is None


def test_table_lines_give_fractions_of_the_peaks_and_paired_ratios() -> None:
    case = first("conv1x1")
    triton, eager, failed, unavailable = case_table(case, "bf16", results(), PEAKS)
    assert triton[:4] == [case.name, "triton", "10.00 (9.00-11.00)", "5.00 (4.50-7.00)"]
    share = case.bytes_min(2) / 10e-6 / PEAKS.copy_bytes_per_s
    assert triton[5].endswith(f"({share:.0%})") and triton[7].startswith("2.000 [2.000, 2.000]")
    assert eager[0] == "" and eager[7] == ""
    assert failed[-1].startswith("failed") and unavailable[-1].startswith("unavailable") and failed[2] == ""


def test_a_run_goes_on_where_it_was_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock that is made up: which cases are measured, which files are written, and when a run is complete."""
    measured: list[str] = []

    def measure(case, backends, device, **_):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(case.name)
        return {backend: results()["triton"] for backend in backends}

    monkeypatch.setattr(run, "measure", measure)
    monkeypatch.setattr(run, "CHUNK", 2)
    for peak in ("copy_peak", "matrix_peak"):
        monkeypatch.setattr(device_rates, peak, lambda *_: 1e12)
    (one,) = plan(["depth=20", "op=bn_act", "backend=triton", f"results={tmp_path}", "run=r"])
    wanted = [case.name for case in cases(one.step, ("bn_act",))]
    console = Console(file=(tmp_path / "log").open("w"), width=150)
    with pytest.raises(KeyboardInterrupt):
        run.run_plan(one, CPU, console)
    assert measured == wanted[:3] and not table_files(tmp_path, "runs")
    assert len(read_rows(tmp_path, "kernels")[0]) == 4 and len(read_rows(tmp_path, "system")[0]) == 1
    measured.clear()
    monkeypatch.setattr(run, "measure", lambda case, backends, device, **_: measured.append(case.name) or results())
    assert run.run_plan(one, CPU, console) == "r"
    assert measured == wanted[2:]
    (row,), _ = read_rows(tmp_path, "runs")
    assert (row["status"], row["benchmark"], row["engine"]) == ("completed", "micro", None)
    assert (row["kernels"], row["images_per_s"]) == ("all", None) and row["comparability_key"]
    assert row["null_reasons"]["images_per_s"] and row["system_id"] == read_rows(tmp_path, "system")[0][0]["system_id"]
    measured.clear()
    run.run_plan(one, CPU, console)
    assert not measured
    assert len(export(tmp_path, ["r"], tmp_path / "record")) == 2 + len(table_files(tmp_path, "kernels"))


@pytest.mark.interpreted
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a CUDA device")
def test_without_a_device_nothing_is_timed_and_nothing_written(tmp_path: Path) -> None:
    done = command("op=bn_stats,conv1x1", "depth=50", f"results={tmp_path / 'v1'}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No CUDA device here: nothing was timed and nothing written" in done.stdout
    assert "1 of 1" in done.stdout and "3 of 3" in done.stdout and "floor ms" in done.stdout
    assert not (tmp_path / "v1").exists()
    for call in (device_rates.copy_peak, lambda: device_rates.matrix_peak(torch.bfloat16)):
        with pytest.raises(device_rates.NoDevice, match="nothing is timed"):
            call()
    with pytest.raises(device_rates.NoDevice):
        measure.measure(first("bn_stats"), ("eager",), CPU, precision="bf16", rounds=2, repeats=1)


def test_each_l2_is_timed_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warm samples are warm ones and cold cold, of what is right alone, and each backend's are its own."""

    class Timer(DeviceTimer):
        def interleaved(self, runs, *, rounds, repeats, cold):
            for one in runs.values():
                one()
            return {name: [float(len(name)) + 100 * cold] * rounds * repeats for name in runs}

    monkeypatch.setattr(measure, "DeviceTimer", Timer)
    monkeypatch.setattr(device_rates, "require_device", lambda: CPU)
    one = tiny(first("bn_act"))
    monkeypatch.setattr(torch, "compile", lambda run, **_: lambda t: {"z": t["y"]})  # a wrong one
    found = measure.measure(one, ("eager", "compile"), CPU, precision="bf16", rounds=2, repeats=3)
    assert found["eager"].samples_us == {"warm": [5.0] * 6, "cold": [105.0] * 6}
    assert found["compile"].status.startswith("failed: z is off by") and found["compile"].samples_us is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="times on a CUDA device; there is none here")
def test_times_on_a_device(tmp_path: Path) -> None:
    x = torch.randn(1 << 22, device="cuda")
    timer = DeviceTimer(CudaDevice(device_rates.require_device()))
    samples = timer.interleaved({"a": x.clone, "b": x.sum}, rounds=3, repeats=2, cold=True)
    assert {name: len(values) for name, values in samples.items()} == {"a": 6, "b": 6}
    assert all(us > 0 for values in samples.values() for us in values)
    words = ["op=bn_act,conv1x1", "backend=triton,eager", "depth=50", "batch=8", "image_size=64", "rounds=2"]
    assert main([*words, f"results={tmp_path}"]) == 0
    rows, _ = read_rows(tmp_path, "kernels")
    assert rows and {row["status"] for row in rows} == {"ok"} and all(row["samples_us"] for row in rows)
