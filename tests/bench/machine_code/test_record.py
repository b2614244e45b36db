"""The table of docs/kernels.md, model beside profiler, is that of the kept rows."""

import re
from math import fsum
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from bench.machine_code.rows import LIBRARY, SCHEMA
from results.statistics import median

ROOT = Path(__file__).resolve().parents[3]
KEPT = "resnet50-v1.5-batch256-bf16.parquet"
FUNCTIONS = {"conv1x1": "conv_kernel", "conv3x3": "conv_kernel", "pack_weights": "pack_kernel"}
LIBRARIES = ("cudnn", "xmma", "nvjet", "cutlass", "cublas")
TEXT = (ROOT / "docs/kernels.md").read_text()
LINE = re.compile(r"^\| (\S+) \| +(\w*) ?\| (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", re.M)


@pytest.fixture(scope="module")
def modelled():
    return pq.read_table(ROOT / "docs/tables" / f"machine-code-{KEPT}")


@pytest.fixture(scope="module")
def events():
    return pq.read_table(ROOT / "docs/tables" / f"profile-H200-{KEPT}").to_pylist()


def test_the_table_is_that_of_the_kept_rows(modelled, events):
    assert modelled.schema.equals(SCHEMA)
    rows = [row for row in modelled.to_pylist() if row["gpu"] == "H200" and not row["kernel"].startswith(LIBRARY)]
    names = [FUNCTIONS.get(row["kernel"], f"{row['kernel']}_kernel") for row in rows]
    ours = sorted((event for event in events if event["name"] in set(names)), key=lambda event: event["start_us"])
    assert [event["name"] for event in ours] == 3 * names
    groups: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
    for place, row in enumerate(rows):
        at = "downsample" if "downsample" in row["layer"] else row["layer"].rpartition(".")[2]
        measured = median([event["us"] for event in ours[place :: len(rows)]])
        times = (row["memory_us"], row["total_us"], measured)
        for name in ((f"`{row['kernel']}`", at if row["kernel"].startswith("conv") else ""), ("all", "")):
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
