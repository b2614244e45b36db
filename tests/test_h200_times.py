"""The times of an H200 in docs/kernels.md are those of the kept rows."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from results.statistics import median
from results.store.files import read_rows
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/kernels.md").read_text()
LINE = re.compile(
    r"^\| (gradient of )?(\dx\d) (\d+) -> (\d+) at (\d+), (statistics|join|inner)[^|]*"
    r"\| (\d+)(?: \((\d+)\))? \| (\d+) \| \d+ \+ \d+ \|$",
    re.M,
)
LAYERS = LINE.findall(TEXT)


def times(kernels: str) -> tuple[str, ...]:
    """Milliseconds of a step launched one by one, its quartiles, and captured, as the table has them."""
    rows = {row["cuda_graph"]: row for row in read_rows(RECORD_ROOT, "runs")[0] if row["kernels"] == kernels}
    return tuple(f"{rows[graph]['step_ms_p50']:.1f}" for graph in (False, True))


@pytest.mark.parametrize("kernels", ["torch", "compile", "triton"])
def test_a_step_takes_what_the_rows_say(kernels: str) -> None:
    (line,) = re.findall(rf"^\| {kernels}\b[^|]*\| ([\d.]+)[^|]*\| ([\d.]+) \|$", TEXT, re.M)
    assert line == times(kernels)


def test_every_layer_of_the_table_is_held_to_the_rows() -> None:
    assert len(LAYERS) == 14


@pytest.mark.parametrize("line", LAYERS, ids=lambda line: " ".join(line[:6]))
def test_a_layer_took_what_the_rows_say(line: tuple[str, ...]) -> None:
    gradient, kernel, c_in, c_out, size, form, before, other, _ = line
    op = "conv_dgrad" if gradient else f"conv{kernel}"
    forms = ("identity" if form == "join" else form, "inner+z" if gradient else "prologue")
    shape = f"256x{c_in}x{size}x{size} -> {c_out}, {kernel}/1"
    found = {
        row["shape"]: f"{row['p50']:.0f}"
        for row in read_rows(RECORD_ROOT, "kernels")[0]
        if (row["op"], row["backend"], row["l2"]) == (op, "triton", "cold")
    }
    assert before == found[f"{forms[0]} {shape}"]
    assert other == "" or other == found[f"{forms[1]} {shape}"]


@pytest.mark.parametrize("line", LAYERS, ids=lambda line: " ".join(line[:6]))
def test_what_a_layer_takes_now_is_the_fastest_that_was_tried_of_its_kind(line: tuple[str, ...]) -> None:
    gradient, kernel, c_in, c_out, size, form, _, _, now = line
    names = (f"1x1 {c_in} -> {c_out} at {size}" if kernel == "1x1" else f"3x3 {c_in} at {size}"), form
    site = ", ".join(names) if gradient else names[0]
    short = kernel == "1x1" and int(c_out) <= 256  # channels that are multiplied
    epilogue = "channels first, loads ahead" if gradient and short else "channels first"
    config = "128x128x64/w8/s3" if kernel == "3x3" and not gradient and int(c_out) >= 128 else "128x64x64/w4/s3"
    rows = pq.read_table(ROOT / "docs/tables/epilogues-H200-resnet50-v1.5-batch256-bf16.parquet").to_pylist()
    (us,) = [
        row["us"]
        for row in rows
        if (row["op"], row["site"], row["tile_config"], row["epilogue"])
        == ("gradient" if gradient else "forward", site, config, epilogue)
    ]
    assert f"{us:.0f}" == now
    assert us <= min(row["us"] for row in rows if (row["site"], row["epilogue"]) == (site, "pixels first"))


def test_a_prologue_and_the_z_that_goes_with_it_cost_more_than_the_pass_that_they_save() -> None:
    us = {
        (row["op"], row["shape"]): row["p50"]
        for row in read_rows(RECORD_ROOT, "kernels")[0]
        if (row["backend"], row["l2"]) == ("triton", "cold")
    }
    sites = [shape.removeprefix("inner+z ") for op, shape in us if shape.startswith("inner+z ")]
    for site in sites:
        op, image = f"conv{site.split(', ')[1][:3]}", site.split(" ")[0]
        prologue = us[op, f"prologue {site}"] - us[op, f"statistics {site}"]
        z = us["conv_dgrad", f"inner+z {site}"] - us["conv_dgrad", f"inner {site}"]
        assert prologue + z > us["bn_act", f"relu {image}"], site
        if site == "256x64x56x56 -> 256, 1x1/1":
            assert f"1x1 64 -> 256 {prologue:.0f} and {z:.0f} us more, where `bn_act` takes" in " ".join(TEXT.split())
    assert len(sites) == 8


def test_the_median_of_a_step_is_of_its_steps() -> None:
    for run in read_rows(RECORD_ROOT, "runs")[0]:
        if run["kernels"] in ("compile", "triton") and run["step_ms_p50"]:
            steps = [row["step_ms"] for row in read_rows(RECORD_ROOT, "steps", [run["run_id"]])[0]]
            assert len(steps) == 50 and run["step_ms_p50"] == pytest.approx(median(steps))
