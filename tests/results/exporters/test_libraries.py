"""Rows that were handed to a library and read back from it equal ours: the real libraries, in their local modes."""

import importlib.util
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import reading_back
from reading_back import Held

from results.exporters.runs import AXES, MEASURED
from results.store.files import read_rows
from results.store.schema import SCHEMAS, TIME
from results.words import RECORD_ROOT

ROOT = Path(__file__).resolve().parents[3]
LIBRARIES = ("tensorboard", "mlflow", "wandb", "trackio")
# Of the record: the last of three that went on from each other, one of these that was killed,
# one whose choices are a long text, and a small one.
RUNS = (
    "20261128T045758-resnet20A-cifar10-2ec02a48",
    "20261128T013207-resnet20A-cifar10-f4662503",
    "20261126T192446-resnet50B-v1.5-bf16-step-18e7d996-auto-graph",
    "20261126T092646-resnet20A-digits-2a8fc747",
)
PROJECT = "record"
pytestmark = pytest.mark.slow
# `make test-exporters` says that they are to be there.
WANTED = os.environ.get("RESNET_BENCH_EXPORTERS") == "1"


def lacking(library: str) -> bool:
    return importlib.util.find_spec(library) is None


@pytest.fixture(scope="module", params=LIBRARIES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    library = request.param
    if lacking(library):
        assert not WANTED, f"no {library} here"
        pytest.skip(f"no {library} here: make test-exporters")
    to = tmp_path_factory.mktemp(library)
    ended = export(library, to)
    assert ended.returncode == 0, ended.stderr
    assert sorted(ended.stdout.split()) == sorted(RUNS)
    assert "4 runs exported, 0 there already" in ended.stderr
    return library, to


def export(library: str, to: Path, *words: str, runs: tuple[str, ...] = RUNS) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "results.exporters", f"library={library}", f"to={to}", f"project={PROJECT}"]
    command += [f"results={RECORD_ROOT}", f"run={','.join(runs)}", *words]
    env = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "MLFLOW_", "TRACKIO_"))}
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT, env=env)


def held(library: str, to: Path, run_id: str, monkeypatch: pytest.MonkeyPatch) -> Held:
    if library == "trackio":
        import trackio.sqlite_storage

        monkeypatch.setattr(trackio.sqlite_storage, "TRACKIO_DIR", to)
    return getattr(reading_back, library)(to, PROJECT, run_id)  # type: ignore[no-any-return]


def same(library: str, ours: Any, theirs: Any) -> bool:
    """Parameters of MLflow are texts, numbers of TensorBoard's table doubles; the rest is as it was."""
    if library == "mlflow":
        return str(ours) == theirs
    return bool(ours == theirs) and (isinstance(ours, str) == isinstance(theirs, str))


@pytest.mark.parametrize("run_id", RUNS)
def test_rows_read_back_equal_ours(exported: tuple[str, Path], run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    library, to = exported
    row = read_rows(RECORD_ROOT, "runs", [run_id])[0][-1]
    epochs = {one["epoch"]: one for one in read_rows(RECORD_ROOT, "epochs", [run_id])[0]}
    found = held(library, to, run_id, monkeypatch)
    known = {name: value for name, value in row.items() if value is not None}
    for name, value in known.items():
        if name in MEASURED and not isinstance(value, datetime):
            assert found.figures.pop(name) == value, name
            continue
        if SCHEMAS["runs"].field(name).type == TIME:
            value = value.astimezone(UTC).isoformat(timespec="microseconds")
        elif isinstance(value, dict):
            value = json.dumps(value, sort_keys=True)
        assert same(library, value, found.settings.pop(name)), name
    assert found.figures == {} and [name for name in found.settings if not name.startswith("_")] == []
    assert sorted(found.epochs) == sorted(epochs)
    for number, epoch in epochs.items():
        values = {name: value for name, value in epoch.items() if value is not None and name not in AXES}
        assert found.epochs[number] == values
        if library != "trackio":  # which takes no times
            stop, elapsed_s = row["run_stop"].timestamp(), row["elapsed_s"]
            if elapsed_s is None:  # killed, and none of its figures is known
                assert found.times[number] >= row["run_start"].timestamp()
            else:
                assert found.times[number] == pytest.approx(stop - elapsed_s + epoch["elapsed_s"], abs=0.001)
    if library == "mlflow":
        assert found.status == {"completed": "FINISHED", "killed": "KILLED"}[row["status"]]


def test_what_is_there_is_left_as_it_is(exported: tuple[str, Path]) -> None:
    library, to = exported
    before = {
        path: path.stat().st_mtime_ns for path in to.rglob("*") if path.suffix in (".wandb",) or "events" in path.name
    }
    again = export(library, to)
    assert again.returncode == 0 and again.stdout == "" and "0 runs exported, 4 there already" in again.stderr
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_run_that_was_cut_short_is_written_anew(
    exported: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the middle of a run, the same command makes it whole."""
    library, _ = exported
    killed = "\n".join((
        "import os, results.exporters.command as command, results.exporters.runs as runs",
        "class Dying(dict):",
        "    def items(self): os._exit(9)",
        "real = runs._exported",
        "def dying(row, epochs):",
        "    run = real(row, epochs)",
        "    object.__setattr__(run.epochs[len(run.epochs) // 2], 'values', Dying())",
        "    return run",
        "runs._exported = dying",
        f"command.main(['library={library}', 'to={tmp_path}', 'project={PROJECT}', 'results={RECORD_ROOT}',",
        f"              'run={RUNS[0]}'])",
    ))  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", killed], capture_output=True, text=True, timeout=120, cwd=ROOT)
    assert ended.returncode == 9, ended.stderr
    again = export(library, tmp_path, runs=RUNS[:1])
    assert again.returncode == 0 and again.stdout.split() == [RUNS[0]], again.stderr
    assert len(held(library, tmp_path, RUNS[0], monkeypatch).epochs) == len(
        read_rows(RECORD_ROOT, "epochs", RUNS[:1])[0]
    )
    if library in ("tensorboard", "wandb"):
        assert [path for path in tmp_path.rglob(".*") if path.is_dir()] == []
    assert export(library, tmp_path, runs=RUNS[:1]).stdout == ""


def test_a_folder_that_cannot_be_written_to_is_one_line(exported: tuple[str, Path], tmp_path: Path) -> None:
    library, _ = exported
    (tmp_path / "file").write_text("")
    ended = export(library, tmp_path / "file" / "in")
    assert ended.returncode in (1, 2) and ended.stdout == ""
    assert ended.stderr.startswith("results.exporters: to=") and ended.stderr.count("\n") == 1
