"""The times of an H200 in docs/kernels.md are those of the kept rows."""

import importlib
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from kernels.tiles.pointwise import NUM_WARPS
from results.statistics import median
from results.store.files import read_rows
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs/kernels.md").read_text()
README = " ".join((ROOT / "README.md").read_text().split())
LINE = re.compile(
    r"^\| (gradient of )?(\dx\d) (\d+) -> (\d+) at (\d+), (statistics|join|inner)[^|]*"
    r"\| (\d+)(?: \((\d+)\))? \| (\d+)(?: \((\d+)\))? \| \d+ \+ \d+ \|$",
    re.M,
)
LAYERS = LINE.findall(TEXT)
WORDS = " ".join(TEXT.split())
# When the rows were written: those of the kernels as they are, and of the first that met a GPU.
STEP, MICRO = "20261126T190426", "20261126T190000"
FIRST_STEP, FIRST_MICRO = "20261126T155328", "20261126T160000"
AUTO = "20261126T192446"


def runs(when: str) -> dict[tuple[str, bool], dict[str, Any]]:
    """Runs of a command by kernels and whether they were captured as a CUDA graph."""
    rows = read_rows(RECORD_ROOT, "runs")[0]
    return {(row["kernels"], row["cuda_graph"]): row for row in rows if row["run_id"].startswith(when)}


def step_ms(when: str, kernels: str) -> tuple[str, ...]:
    """Milliseconds of a step launched one by one, and captured, as the text has them."""
    return tuple(f"{runs(when)[kernels, graph]['step_ms_p50']:.1f}" for graph in (False, True))


def cold_us(when: str) -> dict[tuple[str, str], float]:
    """Microseconds of our kernels with a cold L2 in a run of microbenchmarks, by op and shape."""
    return {
        (row["op"], row["shape"]): row["p50"]
        for row in read_rows(RECORD_ROOT, "kernels")[0]
        if row["run_id"].startswith(when) and (row["backend"], row["l2"]) == ("triton", "cold")
    }


@pytest.mark.parametrize("kernels", ["torch", "compile", "triton"])
def test_a_step_takes_what_the_rows_say(kernels: str) -> None:
    (line,) = re.findall(rf"^\| {kernels}\b[^|]*\| ([\d.]+)[^|]*\| ([\d.]+) \|$", TEXT, re.M)
    assert line == step_ms(STEP, kernels)


def test_a_step_of_the_first_version_took_what_the_rows_say() -> None:
    ours, torchs, compiles = (step_ms(FIRST_STEP, kernels) for kernels in ("triton", "torch", "compile"))
    assert re.search(
        rf"took {ours[0]} ms \([^)]*\) one by one and {ours[1]} as a graph, "
        rf"beside torch's {torchs[0]} and {torchs[1]} and compile's {compiles[0]} and {compiles[1]}\.",
        WORDS,
    )


def test_speedups_and_auto_are_those_of_the_rows() -> None:
    now = {kernels: runs(STEP)[kernels, True]["step_ms_p50"] for kernels in ("torch", "compile", "triton")}
    # Of medians; the text has the median of ratios in turn.
    for kernels in ("compile", "torch"):
        (said,) = re.findall(rf"([\d.]+) times as fast as {kernels}'s", WORDS)
        assert float(said) == pytest.approx(now[kernels] / now["triton"], abs=0.015)
    auto = [f"{runs(AUTO)[kernels, True]['step_ms_p50']:.1f}" for kernels in ("auto", "triton", "torch")]
    assert "`auto` took {} ms, triton {} and torch {}:".format(*auto) in WORDS


def test_the_readme_says_the_same() -> None:
    found = re.findall(r"takes ([\d.]+) ms with the fused kernels, ([\d.]+) with torch.compile and ([\d.]+) in", README)
    assert found == [tuple(step_ms(STEP, kernels)[1] for kernels in ("triton", "compile", "torch"))]


def test_every_layer_of_the_table_is_held_to_the_rows() -> None:
    assert len(LAYERS) == 14


@pytest.mark.parametrize("line", LAYERS, ids=lambda line: " ".join(line[:6]))
def test_a_layer_took_what_the_rows_say(line: tuple[str, ...]) -> None:
    gradient, kernel, c_in, c_out, size, form, first, first_other, now, other = line
    op = "conv_dgrad" if gradient else f"conv{kernel}"
    forms = ("identity" if form == "join" else form, "inner+z" if gradient else "prologue")
    shape = f"256x{c_in}x{size}x{size} -> {c_out}, {kernel}/1"
    for when, plain, more in ((FIRST_MICRO, first, first_other), (MICRO, now, other)):
        us = cold_us(when)
        assert plain == f"{us[op, f'{forms[0]} {shape}']:.0f}"
        assert more == "" or more == f"{us[op, f'{forms[1]} {shape}']:.0f}"
    assert bool(first_other) == bool(other)


@pytest.mark.parametrize("line", LAYERS, ids=lambda line: " ".join(line[:6]))
def test_the_epilogue_that_ends_sums_is_the_fastest_that_was_tried(line: tuple[str, ...]) -> None:
    gradient, kernel, c_in, c_out, size, form, *_ = line
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
    assert us <= min(row["us"] for row in rows if (row["site"], row["epilogue"]) == (site, "pixels first"))


@pytest.mark.parametrize("when", [FIRST_MICRO, MICRO])
def test_a_prologue_and_the_z_that_goes_with_it_cost_more_than_the_pass_that_they_save(when: str) -> None:
    us = cold_us(when)
    sites = [shape.removeprefix("inner+z ") for op, shape in us if shape.startswith("inner+z ")]
    for site in sites:
        op, image = f"conv{site.split(', ')[1][:3]}", site.split(" ")[0]
        prologue = us[op, f"prologue {site}"] - us[op, f"statistics {site}"]
        z = us["conv_dgrad", f"inner+z {site}"] - us["conv_dgrad", f"inner {site}"]
        assert prologue + z > us["bn_act", f"relu {image}"], site
        if when == MICRO and site == "256x64x56x56 -> 256, 1x1/1":
            pass_us = us["bn_act", "relu 256x64x56x56"]
            assert f"1x1 64 -> 256 {prologue:.0f} and {z:.0f} us more, where `bn_act` takes {pass_us:.0f})" in WORDS
    assert len(sites) == 8


TILES = pq.read_table(ROOT / "docs/tables/tiles-H200-stem-bn_stats-batch256-bf16.parquet").to_pylist()


@pytest.mark.parametrize("op", ["stem", "stem_backward_reduce", "stem_backward_apply"])
def test_tiles_of_the_stem_are_the_fastest_that_were_tried(op: str) -> None:
    module = importlib.import_module(f"kernels.ops.{op}")
    tried = {(row["elements"], row["num_warps"]): row["us"] for row in TILES if row["op"] == op}
    assert len(tried) == 10 and min(tried, key=tried.__getitem__) == (module.ELEMENTS, module.NUM_WARPS)
    word = f"{tried[module.ELEMENTS, module.NUM_WARPS]:.0f}"
    assert re.search(rf"(?<!\d){word}(?!\d)[^.]*(us forward|for the two backward passes)", WORDS)


def test_tiles_of_bn_stats_are_the_fastest_that_were_tried() -> None:
    tried: dict[tuple[int, ...], list[float]] = {}
    for row in TILES:
        if row["op"] == "bn_stats":
            how = (row["elements"], row["num_warps"], row["programs_per_sm"])
            tried.setdefault(how, []).append(row["us"])
    total = {how: sum(us) for how, us in tried.items()}
    module = importlib.import_module("kernels.ops.bn_stats")
    assert len(total) == 10 and min(total, key=total.__getitem__) == (
        module.ELEMENTS,
        NUM_WARPS,
        2,
    )
    assert round(100 * (1 - total[2048, 8, 2] / total[4096, 8, 2])) == 4


def test_passes_over_memory_reach_the_share_of_the_copy_rate_that_the_text_says() -> None:
    share: dict[str, list[float]] = {}
    for row in read_rows(RECORD_ROOT, "kernels")[0]:
        if row["run_id"].startswith(MICRO) and (row["backend"], row["l2"]) == ("triton", "cold"):
            if row["bytes_min"] >= 200e6 and row["op"] in ("bn_act", "bn_stats"):
                share.setdefault(row["op"], []).append(row["bytes_min"] / row["p50"] * 1e6 / row["copy_bytes_per_s"])
    least, most = (f"{100 * f(share['bn_act']):.0f}" for f in (min, max))
    assert f"`bn_act` ran at {least} to {most}% of the copy rate" in WORDS
    least, most = (f"{100 * f(share['bn_stats']):.0f}" for f in (min, max))
    assert f"`bn_stats` at {least} to {most}%" in WORDS


def test_the_median_of_a_step_is_of_its_steps() -> None:
    for run in read_rows(RECORD_ROOT, "runs")[0]:
        if run["benchmark"] == "step" and run["kernels"] in ("compile", "triton"):
            steps = [row["step_ms"] for row in read_rows(RECORD_ROOT, "steps", [run["run_id"]])[0]]
            assert len(steps) == 50 and run["step_ms_p50"] == pytest.approx(median(steps))
