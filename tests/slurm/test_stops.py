"""A job that is asked to stop saves within its epoch on all its nodes, and retry goes on as if it had never been."""

import sys
from pathlib import Path

import pytest
from test_after_submission import states, trains
from throwaway.cluster import Cluster
from throwaway.layout import until
from throwaway.settings import HIGH

from bench.config.paths import ROOT
from launch.cli import main
from launch.sweep.manifest import Manifest, find, read
from results.store.files import read_rows

pytestmark = [pytest.mark.slurm, pytest.mark.ranks]

# Two nodes of two ranks; 22 steps an epoch would be over before anybody could stop them.
LONG = [
    "depth=8",
    "dataset=digits",
    "cluster=throwaway",
    "nodes=2",
    "ranks_per_node=2",
    "batch=4",
    "epochs=3",
    "precision=fp32",
    "image_size=16",
]


@pytest.fixture(autouse=True)
def _here(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)


def submit(slurm: Cluster, rows: Path, *words: str) -> Manifest:
    slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *LONG, *words, f"results={rows}")
    return read(find([str(rows)])[0])


def losses(rows: Path) -> dict[tuple[int, int], list[float]]:
    found: dict[tuple[int, int], list[float]] = {}
    for row in read_rows(rows, "steps")[0]:
        found.setdefault((row["rank"], row["step"]), []).append(row["loss"])
    return found


@pytest.mark.parametrize(("kind", "words"), [("preempted", []), ("timeout", ["loader=torch", "zero_stage=2"])])
def test_a_stopped_job_goes_on_at_its_step_and_with_its_losses(
    slurm: Cluster, tmp_path: Path, kind: str, words: list[str]
) -> None:
    whole, rows = tmp_path / "whole", tmp_path / "rows"
    submit(slurm, whole, *words)
    assert main("slurm", ["wait", f"results={whole}"]) == 0
    sweep = submit(slurm, rows, *words, f"save={tmp_path}/a.safetensors")
    job = sweep.cells[0].submissions[-1].job_id
    until(lambda: trains(rows), "it trains", 240)
    if kind == "preempted":
        slurm.submit("--nodes=4", "--exclusive", f"--partition={HIGH}", "--wrap=true")
    else:
        slurm.call("scancel", "--signal=USR2", job)  # as Slurm sends it ahead of the limit, to the ranks
    assert main("slurm", ["wait", f"results={rows}"]) == 1  # for its row, and until Slurm has let go of the job
    assert states(rows)[0].state == "killed"
    ((row,), _) = read_rows(rows, "runs")
    assert (row["status"], row["failure_kind"]) == ("killed", kind), row["failure_message"]
    assert "; saved after step " in row["failure_message"]
    step = int(row["failure_message"].partition("saved after step ")[2].partition(":")[0])
    assert main("slurm", ["retry", f"results={rows}"]) == 0
    assert main("slurm", ["wait", f"results={rows}"]) == 0
    (done,) = [row for row in read_rows(rows, "runs")[0] if row["status"] == "completed"]
    assert (done["resumed_step"], done["resumed_from"]) == (step, f"{row['run_id']}.0") and done["mixed"] is None
    undisturbed, resumed = losses(whole), losses(rows)
    assert {key: len(values) for key, values in resumed.items()} == dict.fromkeys(undisturbed, 1)
    assert resumed == undisturbed
