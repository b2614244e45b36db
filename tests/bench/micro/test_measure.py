"""The check before the clock, rows and tables. Every time here is made up for the test."""

from pathlib import Path

import pytest
import torch

from bench.measure import device_rates, gpu_rows
from bench.micro import backends, measure
from bench.micro.cases import tiny
from bench.micro.measure import Peaks, case_table, rows_of
from kernels.choose.timer import DeviceTimer
from kernels.reference import check
from results.store.files import read_rows

PEAKS = Peaks(2e12, 5e14)
CPU = torch.device("cpu")


def test_what_is_wrong_is_found_before_it_is_timed(first) -> None:
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


def test_cudnn_s_fusions_are_said_to_be_unavailable(first) -> None:
    conv, inference = first("conv1x1"), first("conv_inference")
    assert measure.build("cudnn-fused", conv, {}, "bf16").startswith("unavailable: cuDNN")
    assert measure.build("cudnn-fused", conv, {}, "fp16").startswith("unavailable: PyTorch")
    assert callable(measure.build("cudnn-fused", inference, {}, "fp16"))


def test_rows_have_raw_samples_and_no_time_for_what_failed(first, results, tmp_path: Path) -> None:
    rows = rows_of(first("bn_stats"), "bf16", results, PEAKS)
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


def test_table_lines_give_fractions_of_the_peaks_and_paired_ratios(first, results) -> None:
    case = first("conv1x1")
    triton, eager, failed, unavailable = case_table(case, "bf16", results, PEAKS)
    assert triton[:4] == [case.name, "triton", "10.00 (9.00-11.00)", "5.00 (4.50-7.00)"]
    share = case.bytes_min(2) / 10e-6 / PEAKS.copy_bytes_per_s
    assert triton[5].endswith(f"({share:.0%})") and triton[7].startswith("2.000 [2.000, 2.000]")
    assert eager[0] == "" and eager[7] == ""
    assert failed[-1].startswith("failed") and unavailable[-1].startswith("unavailable") and failed[2] == ""


def test_each_l2_is_timed_as_itself(first, monkeypatch: pytest.MonkeyPatch) -> None:
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
