"""The table of docs/kernels.md, model beside profiler, is that of the kept rows."""

import re
from math import fsum
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.machine_code.rows import LIBRARY, SCHEMA
from results.statistics import median
from results.store.files import read_rows
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parents[3]
KEPT = "resnet50-v1.5-batch256-bf16.parquet"
FUNCTIONS = {"conv1x1": "conv_kernel", "conv3x3": "conv_kernel", "pack_weights": "pack_kernel"}
LIBRARIES = ("cudnn", "xmma", "nvjet", "cutlass", "cublas")
NOW = f"machine-code-31d36f7-H200-{KEPT}"
PROFILED = "20261126T190659"  # of commit 2dfac62, each launch in a step
STEPS = "20261126T190426"
TEXT = (ROOT / "docs/kernels.md").read_text()
WORDS = " ".join(TEXT.split())
RANGE = r"[\d,]+(?:-[\d,]+)?"
NOW_LINE = re.compile(
    rf"^\| `(\w+)` \| +(\w*) ?\| (\d+) \| ({RANGE}) \| ({RANGE}) \| ({RANGE}) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) "
    r"\| ([\d.]+) \| ([\d.]+) \|$",
    re.M,
)
LINE = re.compile(r"^\| (\S+) \| +(\w*) ?\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", re.M)


@pytest.fixture(scope="module")
def modelled():
    return pq.read_table(ROOT / "docs/tables" / f"machine-code-{KEPT}")


@pytest.fixture(scope="module")
def events():
    return pq.read_table(ROOT / "docs/tables" / f"profile-H200-{KEPT}").to_pylist()


def ours(table):
    """Rows of our launches on an H200, and those of what libraries compute."""
    rows = [row for row in table.to_pylist() if row["gpu"] == "H200"]
    return tuple([row for row in rows if row["kernel"].startswith(LIBRARY) == library] for library in (False, True))


def kind(row):
    """The line of a table that a launch is in."""
    at = "downsample" if "downsample" in row["layer"] else row["layer"].rpartition(".")[2]
    return row["kernel"], at if row["kernel"].startswith("conv") else ""


@pytest.fixture(scope="module")
def first(modelled, events):
    """Of each launch of 0.3.0 its kind, bytes' time, model and measured time, in us."""
    rows, _ = ours(modelled)
    names = [FUNCTIONS.get(row["kernel"], f"{row['kernel']}_kernel") for row in rows]
    own = sorted((event for event in events if event["name"] in set(names)), key=lambda event: event["start_us"])
    assert [event["name"] for event in own] == 3 * names
    measured = [median([event["us"] for event in own[place :: len(rows)]]) for place in range(len(rows))]
    return [(kind(row), row["memory_us"], row["total_us"], us) for row, us in zip(rows, measured, strict=True)]


def test_the_table_is_that_of_the_kept_rows(modelled, first):
    assert modelled.schema.equals(SCHEMA)
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for (kernel, at), *times in first:
        for name in ((f"`{kernel}`", at), ("all", "")):
            groups.setdefault(name, []).append(times)
    expected = {}
    for name, times in groups.items():
        moved, model, measured = (fsum(one) / 1e3 for one in zip(*times, strict=True))
        expected[name] = (str(len(times)), f"{moved:.2f}", f"{model:.2f}", f"{measured:.2f}", f"{measured / model:.2f}")
    assert {(kernel, at): tuple(figures) for kernel, at, *figures in LINE.findall(TEXT)} == expected


def test_what_torch_computes_is_as_it_is_said(modelled, events):
    rows = [row for row in modelled.to_pylist() if row["gpu"] == "H200" and row["kernel"].startswith(LIBRARY)]
    calibrated = fsum(row["total_us"] for row in rows) / 1e3
    library = fsum(one["us"] for one in events if any(word in one["name"] for word in LIBRARIES)) / 3e3
    # Without a vector: torch's copies between layouts, which cannot read and write in the same order.
    copies = (
        "void at::native::elementwise_kernel<",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy",
    )
    copied = fsum(one["us"] for one in events if one["name"].startswith(copies)) / 3e3
    said = re.search(
        r"is ([\d.]+) ms at the\ncalibrated rates; the profiler saw ([\d.]+) ms of the libraries, and ([\d.]+)", TEXT
    )
    assert said and said.groups() == (f"{calibrated:.1f}", f"{library:.1f}", f"{copied:.1f}")


def test_the_kept_rows_have_what_was_counted_independently(modelled):
    """Of the kernels of 0.3.0: 1,935 instructions up to the counter, 384 shuffles and one that broadcasts it."""
    rows = [row for row in modelled.to_pylist() if row["gpu"] == "H200" and not row["kernel"].startswith(LIBRARY)]
    (widening,) = [row for row in rows if row["layer"] == "layer1.0.conv3" and row["kernel"] == "conv1x1"]
    assert abs(widening["instructions_outside"] - 1935) < 20 and widening["shuffles"] == 384 + 1
    assert widening["resident"] == 2
    gradients = {
        row["resident"] for row in rows if (row["kernel"], row["config"]) == ("conv_dgrad", "128x128x64/w8/s3")
    }
    assert gradients == {1}
    assert {row["measured"] for row in modelled.to_pylist()} == {False}


@pytest.fixture(scope="module")
def present():
    """Of each launch as it is now its row, with the model and the profile of commit 2dfac62 in us."""
    table = pq.read_table(ROOT / "docs/tables" / NOW)
    assert table.schema.equals(SCHEMA)
    rows, _ = ours(table)
    profile = [row for row in read_rows(RECORD_ROOT, "kernels")[0] if row["run_id"].startswith(PROFILED)]
    assert [row["kernel"] for row in rows] == [row["op"] for row in profile]
    return [{**row, "then_us": one["predicted_us"], "us": one["p50"]} for row, one in zip(rows, profile, strict=True)]


def span(values):
    least, most = min(values), max(values)
    return f"{least:,}" if least == most else f"{least:,}-{most:,}"


def test_the_present_table_is_that_of_the_kept_rows(present, first):
    groups: dict[tuple[str, str], list[dict]] = {}
    for row in present:
        groups.setdefault(kind(row), []).append(row)
    before = {
        name: fsum(model for other, _, model, _ in first if other == name) / 1e3 for name in {one[0] for one in first}
    }
    expected = {}
    for name, rows in groups.items():
        now, then, measured = (fsum(row[column] for row in rows) / 1e3 for column in ("total_us", "then_us", "us"))
        executed = [row["instructions_inside"] + row["instructions_outside"] for row in rows]
        expected[name] = (
            str(len(rows)), *(span([row[column] for row in rows]) for column in ("regs", "resident")), span(executed),
            f"{before[name]:.2f}", f"{now:.2f}", f"{then:.2f}", f"{measured:.2f}", f"{measured / then:.2f}",
        )  # fmt: skip
    assert {(kernel, at): tuple(figures) for kernel, at, *figures in NOW_LINE.findall(TEXT)} == expected
    now, then, measured = (fsum(row[column] for row in present) / 1e3 for column in ("total_us", "then_us", "us"))
    whole = f"| all | | {len(present)} | | | | {fsum(before.values()):.2f} | {now:.2f} | {then:.2f} | {measured:.2f} | "
    assert f"{whole}{measured / then:.2f} |\n" in TEXT


def told(present, first, column, libraries):
    """Milliseconds of our launches by the factors of 0.3.0: each kind's own, the least and the most of its sort."""
    factors = {}
    for name in {one[0] for one in first}:
        model, measured = (fsum(one[place] for one in first if one[0] == name) for place in (2, 3))
        factors[name] = measured / model
    found = [0.0, 0.0, 0.0]
    for row in present:
        sort = [
            value for name, value in factors.items() if name[0].startswith("conv") == row["kernel"].startswith("conv")
        ]
        for place, factor in enumerate((factors[kind(row)], min(sort), max(sort))):
            found[place] += row[column] * factor / 1e3
    own, least, most = found
    return own, libraries[0], (own + libraries[0], least + libraries[0], most + libraries[1])


def test_what_the_factors_of_0_3_0_tell_of_a_step(present, first, modelled, events):
    then = fsum(row["total_us"] for row in ours(modelled)[1])
    seen = fsum(one["us"] for one in events if any(word in one["name"] for word in LIBRARIES)) / 3
    calibrated = fsum(row["total_us"] for row in ours(pq.read_table(ROOT / "docs/tables" / NOW))[1]) / 1e3
    steps = {row["kernels"]: row["step_ms_p50"] for row in read_rows(RECORD_ROOT, "runs")[0]
             if row["run_id"].startswith(STEPS) and row["cuda_graph"]}  # fmt: skip
    compiled = steps["compile"]
    libraries = (calibrated * seen / then, calibrated)
    own, other, (step, least, most) = told(present, first, "then_us", libraries)
    measured = fsum(row["us"] for row in present) / 1e3
    assert f"give {own:.1f} + {other:.1f} = {step:.1f} ms at commit 2dfac62" in WORDS
    assert f"took {steps['triton']:.1f} ms, {measured:.1f} of them ours" in WORDS
    assert f"{compiled / step:.2f} times the speed of compile with its {compiled:.1f} ms, where" in WORDS
    assert f"{least:.1f} to {most:.1f} ms, and the ratio {compiled / most:.2f} to {compiled / least:.2f}" in WORDS
    _, _, (step, least, most) = told(present, first, "total_us", libraries)
    ratios = f"{compiled / step:.2f} ({compiled / most:.2f} to {compiled / least:.2f})"
    assert f"At 31d36f7 the same gives {step:.1f} ms and {ratios}" in WORDS
    assert f"calibrated figure, {calibrated:.1f} ms, by" in WORDS
