"""Pictures of measured kernels. Every time and rate here is made up for the test and describes no machine."""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from PIL import Image

from results.plot import kernels
from results.store.files import table_path, write_once
from results.store.schema import table_schema, to_table
from results.words import ConfigError

pytestmark = pytest.mark.slow  # pictures are drawn

ROOT = Path(__file__).resolve().parents[3]
RUN = "20000101-000000-testonly"
GPU = "Test-Only GPU 1"
RATES = {"copy_bytes_per_s": 1e12, "matrix_flops_per_s": 1e14}


def kernel(op="bn_act", shape="8x7x7x64", backend="triton", p50=100.0, bytes_min=50_000_000, flops=10_000_000, **row):
    known = {"dtype": "bf16", "layout": "channels_last", "l2": "cold", "status": "ok", "run_id": RUN}
    return {"op": op, "shape": shape, "backend": backend, "p50": p50, "bytes_min": bytes_min, "flops": flops,
            "samples_us": [p50] if p50 else [], "max_err": 0.0, **known, **RATES, **row}  # fmt: skip


def store(root, rows, gpu_model=GPU):
    """Writes rows as they come from a measurement, columns that this schema lacks included."""
    for run_id in {row["run_id"] for row in rows}:
        own = [row for row in rows if row["run_id"] == run_id]
        table = to_table("kernels", own)
        for name in RATES:
            if name not in table_schema("kernels").names and any(name in row for row in own):
                table = table.append_column(name, pa.array([row.get(name) for row in own], pa.float64()))
        write_once(table_path(root, "kernels", "2000-01", run_id, 0), [table])
        system = {"system_id": "test", "run_id": run_id, "gpu_model": gpu_model}
        write_once(table_path(root, "system", "2000-01", run_id, 0), [to_table("system", [system])])
    return root


def many():
    rows = []
    for index, (op, flops, size) in enumerate(
        [
            ("bn_stats", 2e6, 1e6),
            ("bn_act", 3e6, 2e6),
            ("bn_act_backward_reduce", 6e6, 3e6),
            ("stem", 1e6, 4e6),
            ("conv1x1", 3e9, 4e7),
            ("conv3x3", 9e9, 3e7),
            ("conv_dgrad", 8e9, 5e7),
        ]
        * 4  # fmt: skip
    ):
        for step, backend in enumerate(("torch", "triton", "compile")):
            for l2 in ("cold", "warm"):
                scale = 1 + index // 7
                floor_us = max(size * scale / 1e12, flops * scale / 1e14) * 1e6
                p50 = floor_us * (2.4 - 0.5 * step + 0.03 * index) * (0.9 if l2 == "warm" else 1)
                rows.append(kernel(op, f"256x{64 * scale}x{56 // scale}x{56 // scale}", backend, p50,
                                   int(size * scale), int(flops * scale), l2=l2, dtype="fp16" if index == 5 else "bf16",
                                   matrix_flops_per_s=1.2e14 if index == 5 else 1e14))  # fmt: skip
    return rows


@pytest.mark.slow
def test_pictures(tmp_path, run):
    rows = many()
    status, out, err = run(f"results={store(tmp_path / 'store', rows)}", f"to={tmp_path / 'new' / 'pictures'}")
    assert (status, err) == (0, "")
    svg, png = (Path(line) for line in out.splitlines())
    assert svg.parent == png.parent == tmp_path / "new" / "pictures" and svg.stem == png.stem
    assert ElementTree.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    with Image.open(png) as image:
        image.verify()
    with Image.open(png) as image:
        assert image.format == "PNG" and min(image.size) > 800
    text = svg.read_text()
    for word in (GPU, RUN, "measured", "FLOP / byte", "TFLOP/s", "time / floor", "torch", "triton", "compile",
                 "1 TB/s and 100 TFLOP/s, bf16", "1 TB/s and 120 TFLOP/s, fp16", "256x64x56x56"):  # fmt: skip
        assert word in text, word


@pytest.mark.slow
def test_the_same_rows_give_the_same_picture(tmp_path, run):
    root = store(tmp_path / "store", [kernel(), kernel(backend="torch", p50=200.0)])
    first = [run(f"results={root}", f"to={tmp_path / name}") for name in ("one", "two")]
    assert [status for status, _, _ in first] == [0, 0]
    one, two = (tmp_path / name / f"roofline-{RUN}.svg" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_floors_follow_the_rows():
    found, left = kernels.points([kernel(), kernel("conv1x1", flops=10**10, copy_bytes_per_s=2e12)])
    assert left == []
    assert [point.floor_s for point in found] == pytest.approx([50e-6, 1e-4])  # bytes bind one, FLOPs the other
    assert [point.over_floor for point in found] == pytest.approx([2, 1])
    assert [point.label for point in found] == ["bn_act  8x7x7x64  bf16", "conv1x1  8x7x7x64  bf16"]


def test_a_kernel_without_flops_has_a_floor_but_no_intensity(tmp_path, run):
    root = store(tmp_path / "store", [kernel(flops=None)])
    assert run(f"results={root}", f"to={tmp_path}")[0] == 0


def test_rows_without_a_time_are_named(tmp_path, run):
    rates = {name: None for name in RATES}
    wrong = [kernel("stem", p50=None, status="failed: wrong", **rates), kernel("bn_stats", status="failed: wrong")]
    status, _, err = run(f"results={store(tmp_path / 'store', [kernel(), *wrong])}", f"to={tmp_path}")
    assert status == 0
    assert err.splitlines() == [
        f"not drawn: {op}  8x7x7x64  bf16, triton: no time (failed: wrong)" for op in ("stem", "bn_stats")
    ]
    assert run(f"results={store(tmp_path / 'wrong', wrong)}", f"to={tmp_path}")[0] == 2


@pytest.mark.slow
def test_a_run_is_chosen_by_the_end_of_its_id_and_the_latest_by_default(tmp_path, run, refused):
    root = store(tmp_path / "store", [kernel(run_id="20000101-one"), kernel(run_id="20000102-two")])
    assert "20000102-two" in run(f"results={root}", f"to={tmp_path}")[1]
    assert "20000101-one" in run(f"results={root}", f"to={tmp_path}", "run=one")[1]
    assert refused(run(f"results={root}", f"to={tmp_path}", "run=2000"), "2 runs have it")
    assert refused(run(f"results={root}", f"to={tmp_path}", "run=three"), "no such run")


def test_what_cannot_be_drawn(tmp_path, run, refused):
    to = f"to={tmp_path / 'pictures'}"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert refused(run(f"results={empty}", to), "no epochs or steps or kernels in it")
    assert refused(run(f"results={tmp_path / 'missing'}", to), "no such folder")
    assert refused(run(f"results={empty}"), "to is missing")
    assert refused(run(f"results={empty}", to, "rn=1"), "did you mean run=1?")
    rates = {name: None for name in RATES}
    assert refused(run(f"results={store(tmp_path / 'a', [kernel(**rates)])}", to), "copy_bytes_per_s")
    assert refused(run(f"results={store(tmp_path / 'b', [kernel()], gpu_model=None)}", to), "no GPU model")
    assert refused(run(f"results={store(tmp_path / 'c', [kernel(bytes_min=None)])}", to, "run=9"), "no such run")
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_time_or_rate_that_is_no_such_thing_is_not_drawn(value):
    found, left = kernels.points([kernel(), kernel("stem", p50=value)])
    assert [point.op for point in found] == ["bn_act"] and left == ["stem  8x7x7x64  bf16, triton: no time (ok)"]
    with pytest.raises(ConfigError, match="no copy_bytes_per_s or matrix_flops_per_s"):
        kernels.points([kernel(copy_bytes_per_s=value)])


def test_words_that_mean_something_to_the_painter_are_text(tmp_path, run):
    root = store(tmp_path / "store", [kernel(backend="a$\\frac$b")], gpu_model="GPU $x$ $")
    assert run(f"results={root}", f"to={tmp_path}")[0] == 0
    assert "GPU $x$ $" in (tmp_path / f"roofline-{RUN}.svg").read_text()


def test_pictures_that_cannot_be_written(tmp_path, run, refused):
    results = f"results={store(tmp_path / 'store', [kernel()])}"
    (tmp_path / "file").touch()
    for to in (tmp_path / "file", tmp_path / "file" / "x", "/proc/x"):
        assert refused(run(results, f"to={to}"), f"to={to}: ")
    (tmp_path / "a" / f"roofline-{RUN}.svg").mkdir(parents=True)
    assert refused(run(results, f"to={tmp_path / 'a'}"), f"to={tmp_path / 'a'}: Is a directory", ended=1)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [f"roofline-{RUN}.svg"]


def test_what_is_no_file_and_rows_of_no_run_are_left_out(tmp_path, run):
    root = store(tmp_path / "store", [kernel()])
    folder = table_path(root, "kernels", "2000-01", RUN, 0).parent
    os.mkfifo(folder / "pipe.parquet")
    os.mkfifo(folder / f"{RUN}.1.parquet")
    for name in ("nameless.parquet", f"{RUN}.2.parquet"):
        write_once(folder / name, [to_table("kernels", [kernel(run_id=None)])])
    status, _, err = run(f"results={root}", f"to={tmp_path}")
    assert status == 0
    assert err.splitlines() == [
        f"left out {folder / 'nameless.parquet'}: not named RUN.RESTART.parquet",
        f"left out {folder / 'pipe.parquet'}: not named RUN.RESTART.parquet",
        f"left out {folder / f'{RUN}.1.parquet'}: not a file",
        f"left out {folder / f'{RUN}.2.parquet'}: a row has no run_id",
    ]


def test_numbers_are_grouped():
    assert kernels._ranges([3, 1, 2, 7]) == "1-3, 7"


def test_it_draws_without_torch():
    code = "import results.plot, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_mark_stands_at_its_time_over_its_floor() -> None:
    def point(label: str, time_s: float) -> kernels.Point:
        return kernels.Point(label=label, op="o", dtype="bf16", backend="triton", cold=True, time_s=time_s, bytes_min=2,
                             flops=0, copy_bytes_per_s=1.0, flops_per_s=1.0)  # fmt: skip

    axes = Figure().add_subplot()
    points, styles = [point("b", 5.0), point("a", 3.0), point("c", 9.0)], {"triton": ("#0072B2", "o")}
    kernels.over_floor(axes, points, ["a", "b"], styles, ink="#000000")
    marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert sorted(marks) == [(1.5, 0), (2.5, 1)]  # of the kernel that is not named there is none
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
