"""Rows of a modelled step, its table and its command, and a whole ResNet-50 compiled for an H200."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console
from sass_text import stored

from bench.machine_code import command, rows
from bench.machine_code.launches import capture, least_bytes
from bench.machine_code.predict import predict
from bench.machine_code.rows import CALIBRATED, SCHEMA, launch_rows, library_rows, predict_launch, targets
from bench.machine_code.table import NOT_TIMED, launch_table, totals
from bench.machine_code.timeline import alone
from bench.roofline.step import net
from kernels import runtime
from kernels.aot import cases
from kernels.aot.counts import WIDTHS, counts
from kernels.aot.machine_code import MachineCode
from kernels.aot.resources import failed
from kernels.aot.sass import Path as CodePath
from kernels.aot.sass import parse, straight_path
from kernels.chips import CHIPS
from kernels.ops.conv1x1 import conv1x1
from kernels.tiles import tile_configs

ROOT = Path(__file__).resolve().parents[3]
STEP = net(depth=50)


@pytest.fixture(scope="module")
def widening():
    """The widening convolution of stage 1 as it is launched, and its code as it was compiled once."""
    x, weight = cases.image(256, 64, 56, torch.bfloat16), cases.weight(256, 64, 1, torch.bfloat16)
    tile_config = tile_configs.parse("128x128x64/w8/s3")
    with runtime.capture_launches("sm_90") as launches:
        runtime.set_layer("layer1.0.conv3")
        conv1x1(x, weight, prologue=cases.norm(64), running=cases.running(256), tile_config=tile_config)
    code = parse(stored("conv1x1-widening"))
    return launches[0], MachineCode(106, 32_768, 0, 0, "HGMMA", "ok", resident=2, code=code)


def test_products_are_told_by_their_names():
    assert set(targets()) == {"A100", "H100", "H200", "B200", "gfx942"}
    assert targets()["H200"].chip == "sm_90" and targets()["gfx942"].gpu is None
    rates = targets()["H200"].rates
    assert rates and (rates.copy_bytes_per_s, rates.flops_per_s, rates.clock_hz) == pytest.approx(
        (4.23e12, 806e12, 1.98e9)
    )
    assert rates.processors == 132
    assert [name for name, one in targets().items() if one.rates is None] == ["A100", "B200", "gfx942"]


def test_a_row_has_what_the_code_does_and_how_long(widening):
    launch, made = widening
    (row,) = launch_rows(STEP, targets()["H200"], [launch], {0: (5, made)})
    assert set(row) <= set(SCHEMA.names)
    assert (row["kernel"], row["config"], row["variant"], row["launch"]) == ("conv1x1", "128x128x64/w8/s3", 5, 0)
    assert (row["programs"], row["turns"], row["num_warps"], row["resident"]) == (12_544, 1, 8, 2)
    assert (row["instructions_inside"], row["instructions_outside"], row["instructions_tail"]) == (0, 1949, 1263)
    assert (row["shuffles"], row["barriers"]) == (385, 42)
    assert [row[f"loads_{width}b"] for width in (1, 2, 4, 8, 16)] == [0, 0, 0, 0, 16]
    assert [row[f"stores_{width}b"] for width in (1, 2, 4, 8, 16)] == [0, 0, 2, 0, 8]
    # 1,949 instructions of 8 warps on 4 schedulers, 12,544 programs on 132 multiprocessors at 1.98 GHz.
    assert row["issue_us"] == pytest.approx(1949 * 2 * 12_544 / 132 / 1.98e3)
    assert row["memory_us"] == pytest.approx(least_bytes(launch) / 4.23e6)
    assert row["matrix_us"] == pytest.approx(2 * 802_816 * 64 * 256 / 806e6)
    rates = targets()["H200"].rates
    assert rates and row["total_us"] == predict_launch(launch, made, "sm_90", rates).total_s * 1e6
    assert row["total_us"] > max(row[f"{name}_us"] for name in ("issue", "shared", "special", "matrix", "memory"))
    assert row["measured"] is False and row["reason"] == ""


def test_the_last_program_s_work_comes_behind_a_launch(widening):
    launch, made = widening
    rates = targets()["H200"].rates
    path = made.path(launch)
    assert rates
    tail, whole = (
        alone(one, CHIPS["sm_90"], 8, rates.cycles_per_flop) for one in (CodePath(path.code, path.tail, (), ()), path)
    )
    without = predict(
        whole, 0.0, path, moved=least_bytes(launch), programs=12_544, resident=2, rates=rates
    ).total_s  # fmt: skip
    assert predict_launch(launch, made, "sm_90", rates).total_s == pytest.approx(without + tail.cycles / 1.98e9)
    assert tail.cycles > len(path.tail)


def test_copies_ahead_are_loads():
    found = counts(straight_path(parse(stored("conv_dgrad-join")), 4))
    assert (found["loads_16b"], found["loads_8b"], found["stores_16b"]) == (8 * 6 + 20, 1, 8)


def test_where_nothing_was_measured_there_are_resources_alone(widening):
    launch, made = widening
    (row,) = launch_rows(STEP, targets()["A100"], [launch], {0: (0, made)})
    assert row["instructions_outside"] == 1949 and "total_us" not in row
    assert row["reason"] == "times: no rates were measured on this chip"
    unread = MachineCode(106, 32_768, 0, 0, "v_mfma", "ok", resident=2, reason="not told")
    (row,) = launch_rows(STEP, targets()["gfx942"], [launch], {0: (0, unread)})
    assert (row["regs"], row["resident"], row["reason"]) == (106, 2, "not told") and "shuffles" not in row
    (row,) = launch_rows(STEP, targets()["H200"], [launch], {0: (0, failed("dead"))})
    assert (row["status"], row["regs"], row["reason"]) == ("failed: dead", None, "failed: dead")


def test_what_the_library_computes_has_the_calibrated_time():
    captured = capture(STEP, "sm_90")
    found = library_rows(STEP, targets()["H100"], captured)
    assert len(found) == len(captured.library) and {row["reason"] for row in found} == {CALIBRATED}
    stem = next(row for row in found if row["kernel"] == "library conv" and row["layer"] == "conv1")
    one = next(one for one in STEP.passes("a") if one.op == "conv" and one.layer == "conv1")
    assert stem["total_us"] == pytest.approx(1e6 * max(one.bytes / (0.9 * 3.0e12), one.flops / (0.35 * 798e12)))
    (average,) = [row for row in found if row["kernel"] == "library average"]
    assert average["total_us"] == pytest.approx(1e6 * average["bytes"] / (0.9 * 3.0e12))
    assert all("total_us" not in row for row in library_rows(STEP, targets()["B200"], captured))


def test_the_table_says_that_nothing_was_timed(widening):
    launch, made = widening
    target = targets()["H200"]
    found = launch_rows(STEP, target, [launch, launch], {0: (0, made), 1: (0, made)})
    found += library_rows(STEP, target, capture(STEP, "sm_90"))
    console = Console(width=260)
    with console.capture() as shown:
        console.print(launch_table(STEP, target, found))
    (line,) = [line for line in shown.get().splitlines() if "conv1x1" in line]
    assert line.split()[:5] == ["conv1x1", "layer1.0.conv3", "128x128x64/w8/s3", "2", "12,544"] and "0 + 1,949" in line
    assert NOT_TIMED in shown.get() and f"{found[0]['total_us']:,.1f}" in line
    library_ms = sum(row["total_us"] for row in found[2:]) / 1e3
    text = totals(STEP, target, found)
    assert f"our 2 launches {2 * found[0]['total_us'] / 1e3:.1f} ms, " in text and NOT_TIMED in text
    assert f"compute {library_ms:.1f} ms (the roofline's calibrated figure)" in text
    ladder = {one.level: 1e3 * one.ideal_s for one in STEP.levels()}
    assert f"a {ladder['a']:.1f} / " in text and f"d {ladder['d']:.1f} / " in text
    found[1].pop("total_us")
    assert "; 1 launches have no time" in totals(STEP, target, found)
    assert totals(STEP, targets()["A100"], found) == (
        "A100: resources alone; no time is modelled where no rates were measured"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gpu=H300"], r"gpu=H300: choose from .* \(nearest: gpu=H[12]00\)"),
        (["precision=fp32"], "precision=fp32: choose from bf16, fp16.*"),
        (["to=/proc/x"], "to=/proc/x: no file can be written there; nearest is to=build/machine_code.parquet"),
        (["jobs=0"], "jobs=0: .*"),
        (["depth=21"], ".*nearest is 18.*"),
    ],
)
def test_bad_words_are_one_line(words, said, monkeypatch, capsys):
    monkeypatch.setattr(runtime, "INTERPRETED", False)
    assert command.main(words) == 2
    assert re.fullmatch(f"bench.machine_code: {said}\n", capsys.readouterr().err)


def test_an_interpreting_process_is_refused(monkeypatch, capsys):
    monkeypatch.setattr(runtime, "INTERPRETED", True)
    assert command.main(["depth=20"]) == 2
    assert "TRITON_INTERPRET=1 is set" in capsys.readouterr().err


def test_a_failed_kernel_is_exit_status_1_and_its_row_is_written(tmp_path, monkeypatch, capsys):
    def captured(step, chip):
        return capture(net(depth=8, batch=4), chip)

    def compiled(launches, jobs, compile_one):
        yield list(range(len(launches))), failed("no compiler")

    monkeypatch.setattr(runtime, "INTERPRETED", False)
    monkeypatch.setattr(rows, "capture", captured)
    monkeypatch.setattr(rows, "compile_all", compiled)
    path = tmp_path / "new" / "rows.parquet"
    assert command.main(["depth=8", "batch=4", f"to={path}"]) == 1
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    ours = [row for row in table.to_pylist() if not row["kernel"].startswith("library")]
    assert ours and {row["status"] for row in ours} == {"failed: no compiler"}
    assert f"{table.num_rows} rows: {path}" in capsys.readouterr().out


@pytest.mark.slow
def test_a_whole_step_is_told(tmp_path):
    """ResNet-50 at batch 256: every launch has a path and a time, and its accesses are those of its tensors."""
    path = tmp_path / "rows.parquet"
    inherited = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    words = [sys.executable, "-m", "bench.machine_code", "depth=50", "gpu=H200", f"to={path}"]
    done = subprocess.run(words, cwd=ROOT, env=inherited, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = pq.read_table(path).to_pylist()
    ours = [row for row in found if not row["kernel"].startswith("library")]
    assert len(ours) > 150 and {row["reason"] for row in ours} == {""} and {row["status"] for row in ours} == {"ok"}
    assert "a model, nothing was timed" in done.stdout
    for row in ours:
        threads = 32 * row["num_warps"] * row["programs"]
        accessed = threads * sum(row[f"{kind}_{width}b"] * width for kind in ("loads", "stores") for width in WIDTHS)
        assert accessed >= 0.99 * row["bytes"], row  # no loop has too few turns, no access is too narrow
        if row["kernel"] in ("bn_stats", "bn_act") and row["turns"] > 10:  # the channels' own vectors are little
            assert accessed <= 1.2 * row["bytes"], row  # nor too many: each tile goes by once
        units = [row[f"{name}_us"] for name in ("issue", "shared", "special", "matrix", "memory")]
        assert row["total_us"] >= 0.999 * max(units) and row["resident"] > 0, row
        if row["kernel"].startswith("conv"):
            assert row["matrix_us"] == pytest.approx(row["flops"] / 806e6, rel=0.01), row  # each turn multiplies once
