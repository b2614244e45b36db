"""The queries over rows, run as they stand. Rows beside the recorded ones are made up for the test."""

import importlib.util
import os
import re
import statistics
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from results.store.files import read_rows, table_path, write_once
from results.store.schema import to_table
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parents[2]
TARGETS = (0.6, 0.7, 0.8, 0.85, 0.9)
LIBRARIES = ("duckdb", "polars")


def asked(library, *words):
    """The two tables that a query prints, each as rows of texts."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed here; `make setup` brings it")
    script = ROOT / "examples" / f"query_{library}.py"
    done = subprocess.run([sys.executable, script, *map(str, words)], capture_output=True, text=True,
                          env={**os.environ, "PYTHONIOENCODING": "utf-8"}, cwd=ROOT)  # fmt: skip
    assert done.returncode == 0, done.stderr
    speeds, _, seconds = done.stdout.partition("seconds to each accuracy:")
    return rows_of(speeds), rows_of(seconds)


def rows_of(text):
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split("[│┆]", line)[1:-1]]
        if any(re.fullmatch(r"-?[\d.]+", cell) for cell in cells):  # heads have no numbers
            found.append(cells)
    return found


def expected_speeds(store):
    groups = {}
    for path in sorted((store / "runs").glob("month=*/*.parquet")):
        rows, _ = read_rows(store, "runs", [path.name.removesuffix(".parquet").rpartition(".")[0]])
        for row in rows:
            attempt = f"{row['run_id']}.{row['restart_count']}.parquet"
            if attempt == path.name and row["status"] == "completed" and row["images_per_s"] is not None:
                net = tuple(str(row[name]) for name in "family depth shortcut hardware precision world_size".split())
                groups.setdefault(net, []).append((row["images_per_s"], path.parent.name.removeprefix("month=")))
    return {
        net: (len(found), round(statistics.median(one[0] for one in found), 1), max(one[1] for one in found))
        for net, found in groups.items()
    }


def expected_seconds(store):
    found = {}
    for row in read_rows(store, "epochs")[0]:
        for target in TARGETS:
            if row["top1"] is not None and row["top1"] >= target:
                before = found.get((row["run_id"], target), (float("inf"), 10**9))
                found[row["run_id"], target] = min(before[0], row["elapsed_s"]), min(before[1], row["epoch"])
    return found


def check(library, store, *words):
    speeds, seconds = asked(library, *words)
    found = {tuple(cells[:6]): (int(cells[6]), float(cells[7]), cells[8]) for cells in speeds}
    assert found == expected_speeds(store) and len(found) == len(speeds) > 0
    found = {(cells[0], float(cells[3])): (float(cells[4]), int(cells[5])) for cells in seconds}
    expected = expected_seconds(store)
    assert found == {key: (round(elapsed_s, 1), epoch) for key, (elapsed_s, epoch) in expected.items()}
    assert len(found) == len(seconds) > 0
    return len(speeds), len(seconds)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_recorded_rows_without_a_word(library):
    check(library, RECORD_ROOT)


@pytest.fixture
def store(tmp_path):
    """Two months, four nets, a restart, a run that failed, one without an evaluation, and a file without columns."""

    def add(month, run_id, restart=0, points=(), lacking=(), **row):
        known = {"run_id": run_id, "schema_version": 1, "restart_count": restart, "status": "completed", "depth": 20,
                 "family": "cifar", "shortcut": "A", "hardware": "2xTest", "precision": "bf16", "world_size": 2,
                 "dataset": "digits", "elapsed_s": 999.9, "null_reasons": {"mfu": "for the test"}}  # fmt: skip
        runs = to_table("runs", [{**known, **row}])
        write_once(table_path(tmp_path, "runs", month, run_id, restart), [runs.drop_columns(list(lacking))])
        epochs = [{"run_id": run_id, "restart": restart, "epoch": number, "elapsed_s": seconds, "top1": top1}
                  for number, seconds, top1 in points]  # fmt: skip
        write_once(table_path(tmp_path, "epochs", month, run_id, restart), [to_table("epochs", epochs)])

    add("2000-01", "one", points=[(1, 10.04, 0.5), (2, 20.06, 0.75)], images_per_s=100.0, lacking=["mfu", "benchmark"])
    add("2000-02", "two", points=[(1, 5.0, 0.7), (2, 9.96, 0.69), (3, 15.0, 0.91)], images_per_s=301.0)
    add("2000-02", "three", 0, points=[(1, 7.0, 0.61)], status="killed", images_per_s=9.0, depth=56)
    add("2000-02", "three", 1, points=[(2, 70.0, 0.86)], images_per_s=50.0, depth=56)
    add("2000-02", "four", points=[(1, 1.0, None)], images_per_s=4.0, precision="fp32")
    add("2000-02", "five", status="failed")
    add("2000-02", "six", 1, points=[(3, 30.0, 0.65)], images_per_s=8.0, depth=8)  # its first attempt is lost
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_a_store_of_many_runs(library, store):
    assert check(library, store, store) == (4, 12)


@pytest.mark.parametrize("library", LIBRARIES)
def test_what_is_no_store_is_one_line(library, tmp_path):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed here; `make setup` brings it")
    script = ROOT / "examples" / f"query_{library}.py"
    done = subprocess.run([sys.executable, script, tmp_path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"{tmp_path}: no store of rows, it has no folder runs\n"


def test_what_installs_the_tests_brings_what_the_examples_need():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    assert set(extras["examples"]) <= set(extras["test"])
    brought = {re.match(r"\w+", one)[0] for one in (*project["dependencies"], *extras["examples"])}
    scripts = "".join(path.read_text() for path in (ROOT / "examples").glob("*.py"))
    needed = {name for name in ("duckdb", "pandas", "polars", "pyarrow") if f"import {name}" in scripts}
    assert needed == {"duckdb", "pandas", "polars", "pyarrow"} and needed <= brought
