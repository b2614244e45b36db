"""Runs of launch/local.py in the environment of a task of Slurm, beside one without: the same rows."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from stub import OF_A_TASK

from bench.config.paths import ROOT
from bench.config.slurm import of_a_task
from results.store.files import read_rows

pytestmark = pytest.mark.ranks

# Of a run's row: its name, when it was, and how fast.
OF_ONE_RUN = {
    "run_id", "init_start", "init_stop", "run_start", "run_stop", "prepare_s", "tta_s", "images_per_s", "step_ms_p50",
    "step_ms_p95", "data_wait_frac", "peak_mem_bytes", "instrumentation_s", "elapsed_s", "active_s", "train_s",
    "final_top1", "best_top1", "epochs_to_target", "git_commit", "dirty",
}  # fmt: skip


def trained(folder: Path, *words: str, **variables: str) -> dict[str, Any]:
    """The row of a small run over two ranks."""
    bare = {name: value for name, value in os.environ.items() if name not in of_a_task(os.environ)}
    bare.pop("OMP_NUM_THREADS", None)
    small = ("depth=8", "dataset=digits", "batch=16", "steps=4", f"results={folder}")
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "local.py"), *small, *words],
        env=bare | variables, cwd=folder, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (row,) = read_rows(folder, "runs")[0]
    return row


def test_what_slurm_says_of_a_task_changes_no_run_in_it(tmp_path: Path) -> None:
    found = []
    # One core of two would be another share for each of two ranks only if a rank took all of them.
    for name, variables in {"bare": {}, "login": OF_A_TASK, "node": OF_A_TASK | {"SLURMD_NODENAME": "n1"}}.items():
        (tmp_path / name).mkdir()
        found.append(trained(tmp_path / name, **variables))
    bare, login, node = ({key: value for key, value in row.items() if key not in OF_ONE_RUN} for row in found)
    assert bare["slurm_job_id"] is None and bare["restart_count"] == 0 and bare["loader_threads"] >= 1
    if len(os.sched_getaffinity(0)) > 2:  # each rank would have more than the one core of the task
        for row in (login, node):
            assert row["loader_threads"] == row["threads_per_rank"] == 1
        names = {"loader_threads", "threads_per_rank", "comparability_key", "comparability_parts"}
        bare, login, node = (
            {key: value for key, value in row.items() if key not in names} for row in (bare, login, node)
        )
    assert login == bare
    assert node == bare | {"slurm_job_id": "70", "array_task": 3}
    assert all(str(row["run_id"]).split("-")[1:3] == ["resnet8A", "digits"] for row in found)


@pytest.mark.parametrize(
    ("words", "variables", "used"),
    [
        (["loader_threads=48"], {}, 16),  # one an image of the batch
        pytest.param(["loader_threads=5", "loader=torch"], {}, 5, marks=pytest.mark.soak),
        pytest.param(["loader_threads=0", "loader=torch"], {}, 0, marks=pytest.mark.soak),
        ([], {"SLURM_CPUS_PER_TASK": "48", "OMP_NUM_THREADS": "1"}, None),
    ],
)  # fmt: skip
def test_a_run_has_the_loader_threads_that_its_row_says(
    words: list[str], variables: dict[str, str], used: int | None, tmp_path: Path
) -> None:
    row = trained(tmp_path, *words, **variables)
    share = max(1, min(len(os.sched_getaffinity(0)), 48) // 2)
    assert row["loader_threads"] == (min(share, 16) if used is None else used)
    if variables:
        assert row["threads_per_rank"] == 1
