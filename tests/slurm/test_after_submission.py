"""What becomes of a sweep on a true Slurm: shown, followed, cancelled and begun again."""

import json
import sys
import time
from pathlib import Path

import pytest
from throwaway.cluster import Cluster
from throwaway.layout import until
from throwaway.settings import LOW

from bench.config.paths import ROOT
from launch.cli import main
from launch.sweep.manifest import Manifest, find, read
from launch.sweep.status import CellState, look
from results.store.files import journals, read_rows

pytestmark = [pytest.mark.slurm, pytest.mark.ranks]  # so it looks from here

WORDS = ["depth=8", "dataset=digits", "ranks_per_node=1", "cluster=throwaway"]


@pytest.fixture(autouse=True)
def _here(slurm: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands in this process reach the cluster: how long another process takes to start is the machine's load."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)


def submit(slurm: Cluster, rows: Path, *words: str) -> Manifest:
    slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS, *words, f"results={rows}")
    return read(find([str(rows)])[0])


def states(rows: Path) -> list[CellState]:
    manifest = read(find([str(rows)])[0])
    return list(look(manifest, rows, manifest.cells).cells)


def trains(rows: Path) -> bool:
    return any(b'"kind":"steps"' in path.read_bytes() for path in journals(rows))


def owner(rows: Path, run_id: str) -> dict[str, str]:
    with (rows / "journal" / f"{run_id}.0.jsonl").open() as file:
        return json.loads(file.readline())["owner"]


def test_a_killed_rank_a_cancelled_cell_and_their_retry(
    slurm: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = tmp_path / "rows"
    slurm.partition(LOW, "DOWN")
    sweep = submit(slurm, rows, "nodes=2", "epochs=500", "seed=0,1")
    jobs = [cell.submissions[-1].job_id for cell in sweep.cells]
    until(lambda: [cell.detail for cell in states(rows)] == ["PartitionDown"] * 2, "both wait", 30)
    assert {cell.state for cell in states(rows)} == {"pending"}
    slurm.call("scontrol", "hold", jobs[1])
    slurm.partition(LOW, "UP")
    until(lambda: trains(rows), "it trains", 240)
    victim, waits = states(rows)
    assert (victim.state, waits.state, waits.detail) == ("running", "pending", "JobHeldAdmin")
    assert victim.progress.step and victim.progress.images_per_s and victim.nodes == "n[1-2]" and victim.submission
    process = owner(rows, victim.submission.run_id)
    slurm.on(process["hostname"], "kill", "-9", str(process["pid"]))
    began = time.monotonic()
    until(lambda: states(rows)[0].state == "killed", "it shows", 30)
    assert time.monotonic() - began < 10
    ((row,), _) = read_rows(rows, "runs")
    assert f"rank 0 on {process['hostname']} was killed by signal 9" in row["failure_message"]
    assert (row["run_id"], row["failure_kind"], row["recovered"]) == (victim.submission.run_id, "rank_lost", True)

    assert main("slurm", ["cancel", f"results={rows}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 job cancelled; 1 had ended before"
    assert main("slurm", ["wait", f"results={rows}"]) == 1
    found = {cell.cell.label: cell.state for cell in states(rows)}
    assert found == {"seed=0": "killed", "seed=1": "cancelled"}
    assert not journals(rows)
    capsys.readouterr()

    assert main("slurm", ["retry", f"results={rows}", "cell=seed=0"]) == 0
    again = states(rows)
    assert [len(cell.cell.submissions) for cell in again] == [2, 1]
    (new,) = [cell for cell in again if cell.lives]
    assert new.submission and new.submission.job_id not in jobs
    assert new.submission.run_id != victim.submission.run_id
    slurm.wait(new.submission.job_id, "RUNNING")
    assert main("slurm", ["cancel", f"results={rows}"]) == 0


def test_a_sweep_is_followed_to_its_end_with_and_without_accounting(
    slurm: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = tmp_path / "rows"
    submit(slurm, rows, "nodes=1", "steps=4", "seed=0,1")
    assert main("slurm", ["wait", f"results={rows}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].endswith(": 2 cells: 2 completed")
    assert sum(": completed" in line for line in lines[1:-1]) == 2
    assert main("slurm", ["tail", f"results={rows}", "cell=seed=1"]) == 0
    out, err = capsys.readouterr()
    assert "seed=1, of sweep" in out and ".0-0.log <==" in out and err.endswith(": COMPLETED\n")
    assert main("slurm", ["retry", f"results={rows}"]) == 0
    assert capsys.readouterr().err == "launch: 2 cells completed\nlaunch: nothing to submit again\n"
    sacct = tmp_path / "commands" / "sacct"
    sacct.parent.mkdir()
    sacct.write_text("#!/bin/sh\necho 'Slurm accounting storage is disabled' >&2\nexit 1\n")
    sacct.chmod(0o755)
    monkeypatch.setenv("PATH", str(sacct.parent), prepend=":")
    assert main("slurm", ["status", f"results={rows}"]) == 0
    out = capsys.readouterr().out
    assert out.count("completed n") == 2 and out.endswith(
        "from rows, journals, squeue\nsacct does not answer: accounting is off\n"
    )


def test_a_node_without_power_is_named(slurm: Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    submit(slurm, rows, "nodes=2", "epochs=500")
    until(lambda: trains(rows), "it trains", 240)
    process = owner(rows, states(rows)[0].submission.run_id)  # type: ignore[union-attr]
    slurm.power_off(process["hostname"])
    began = time.monotonic()
    until(lambda: states(rows)[0].state == "killed", "it shows", 120)
    # Slurm itself takes SlurmdTimeout to miss a node, and asks for a while longer.
    assert time.monotonic() - began < 100
    cell = states(rows)[0]
    assert cell.kind == "rank_lost" and "NODE_FAIL on n[1-2]" in cell.message, cell  # of both, which Slurm does not say
    ((row,), _) = read_rows(rows, "runs")
    assert (row["status"], row["failure_kind"]) == ("killed", "rank_lost")


def test_a_cancelled_run_that_saved_goes_on_by_retry_and_by_no_other_sweep(
    slurm: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, path = tmp_path / "rows", tmp_path / "a.safetensors"
    first = submit(slurm, rows, "nodes=1", "epochs=40", f"save={path}")
    until(path.exists, "it has saved", 240)
    assert main("slurm", ["cancel", f"results={rows}"]) == 0
    assert main("slurm", ["wait", f"results={rows}"]) == 1
    kept, saved = path.read_bytes(), states(rows)[0].progress.epoch
    capsys.readouterr()
    words = [*WORDS, "nodes=1", "epochs=40", f"save={path}", f"results={rows}"]
    assert main("slurm", words) == 2  # by the same command it would begin anew
    err = capsys.readouterr().err
    assert f"launch: save={path}: run {first.cells[0].submissions[0].run_id} has saved its weights there" in err
    assert path.read_bytes() == kept

    slurm.partition(LOW, "DOWN")
    try:
        submit(slurm, rows, "nodes=1", "epochs=40", f"save={path}", f"resume={path}")
        assert main("slurm", ["retry", f"results={rows}", first.sweep_id]) == 1  # the other one is to write there
        assert f"save={path}: job " in capsys.readouterr().err
        assert main("slurm", ["cancel", f"results={rows}"]) == 0
        capsys.readouterr()
        assert main("slurm", ["retry", f"results={rows}", first.sweep_id]) == 0
        assert "goes on from epoch " in capsys.readouterr().err
    finally:
        slurm.partition(LOW, "UP")
    assert main("slurm", ["wait", f"results={rows}", first.sweep_id]) == 0
    (done,) = [row for row in read_rows(rows, "runs")[0] if row["status"] == "completed"]
    assert done["resumed_from"] == f"{first.cells[0].submissions[0].run_id}.0" and done["epochs_completed"] == 40
    assert saved is not None and 1 <= done["resumed_epoch"] <= saved
