"""Jobs on a true Slurm of two nodes: submitted, asked about, and from a printed script."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm_cluster

from bench.config.paths import ROOT
from results.store.files import read_rows

pytestmark = pytest.mark.slurm

WORDS = ["depth=8", "dataset=digits", "ranks_per_node=1", "cluster=here"]
PROFILE = """\
partition: all
gpus_per_node: 0
cpus_per_task: 1
time: "00:10:00"
signal_lead_s: 30
interface: lo
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm_cluster.Cluster]:
    if reason := slurm_cluster.missing():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm"))  # pytest's own folders are too deep for a socket
    try:
        with slurm_cluster.cluster(folder) as found:
            (folder / "here.yaml").write_text(PROFILE)
            found.environment["RESNET_BENCH_CLUSTERS"] = str(folder)
            yield found
    finally:
        shutil.rmtree(folder)


def launch(cluster: slurm_cluster.Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return cluster.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS, *words, check=False)


def logs(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".log", ".out")]
    return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in files)


def check_row(rows: Path, job_id: str, run_id: str) -> None:
    (row,) = read_rows(rows, "runs")[0]
    assert (row["run_id"], row["status"], row["slurm_job_id"]) == (run_id, "completed", job_id), logs(rows)
    assert (row["nodes"], row["world_size"], row["nodelist"]) == (2, 2, "n[1-2]")
    (epoch,) = read_rows(rows, "epochs")[0]
    assert epoch["top1"] is not None


def test_a_submitted_job_trains_over_both_nodes(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    words = ("nodes=2", "epochs=1", f"results={tmp_path}/rows")
    done = launch(cluster, *words)
    said = re.fullmatch(r"job (\d+)  run (\S+)  nodes=2 ranks_per_node=1\n", done.stdout)
    assert said, done
    assert cluster.wait(said[1]) == "COMPLETED", logs(tmp_path)
    check_row(tmp_path / "rows", said[1], said[2])
    again = launch(cluster, *words)
    assert (again.returncode, again.stdout) == (0, "") and "has a completed result" in again.stderr


def test_a_printed_script_runs_wherever_it_is_submitted_from(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "kernels").mkdir(parents=True)
    (tmp_path / "elsewhere" / "kernels" / "__init__.py").write_text("raise ImportError('the wrong kernels')")
    script = launch(cluster, "nodes=2", "epochs=1", f"results={tmp_path}/rows", "mode=print").stdout
    (tmp_path / "job.sh").write_text(script)
    job_id = cluster.call("sbatch", "--parsable", "../job.sh", cwd=tmp_path / "elsewhere").stdout.strip()
    assert cluster.wait(job_id) == "COMPLETED", logs(tmp_path)
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    check_row(tmp_path / "rows", job_id, f"resnet8A-digits-{row['config_hash'][:8]}-job{job_id}")
    assert os.listdir(tmp_path / "rows" / "jobs") == [f"resnet8A-digits-{job_id}"]
    names = sorted(os.listdir(tmp_path / "rows" / "jobs" / f"resnet8A-digits-{job_id}"))
    assert names == [f"resnet8A-digits-{job_id}.0-{rank}.log" for rank in range(2)]


def test_slurm_says_when_a_job_would_start(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    done = launch(cluster, "nodes=2", f"results={tmp_path}/rows", "mode=test")
    assert done.returncode == 0
    assert re.match(r"resnet8A-digits: sbatch: Job \d+ to start at .* on nodes n\[1-2\]", done.stdout)
    done = launch(cluster, "nodes=3", f"results={tmp_path}/rows", "mode=test")
    assert done.returncode == 1
    assert done.stderr.startswith("launch: resnet8A-digits: ") and done.stderr.count("\n") == 1
    assert not (tmp_path / "rows").exists()


def test_a_cancelled_job_leaves_its_row_and_ends_on_all_nodes(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    job_id = launch(cluster, "nodes=2", "epochs=500", f"results={rows}").stdout.split()[1]
    slurm_cluster.until(lambda: any(b'"epoch"' in path.read_bytes() for path in rows.glob("journal/*.jsonl")), 60)
    cluster.call("scancel", job_id)
    assert cluster.wait(job_id, 60) == "CANCELLED"
    slurm_cluster.until(lambda: bool(read_rows(rows, "runs")[0]), 10)
    (row,) = read_rows(rows, "runs")[0]
    assert row["status"] == "killed" and "SIGTERM" in row["failure_message"]


def test_pairs_run_over_the_nodes_of_one_allocation(cluster: slurm_cluster.Cluster, tmp_path: Path) -> None:
    words = [*WORDS, "nodes=2", "epochs=1", "metric=final_top1", f"results={tmp_path}/rows"]
    pairs = [sys.executable, "-m", "bench.pairs", "a=commit:HEAD", "b=commit:HEAD", *words]
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {shlex.join(pairs)}\n")
    options = ["--nodes=2", "--parsable", f"--output={tmp_path}/pairs.out"]
    job_id = cluster.call("sbatch", *options, str(tmp_path / "job.sh")).stdout.strip()
    assert cluster.wait(job_id, 300) == "COMPLETED", logs(tmp_path)
    assert "no difference is shown" in (tmp_path / "pairs.out").read_text()
    rows, bad = read_rows(tmp_path / "rows", "pairs")
    assert [row["run_id"] for row in rows] == [f"{rows[0]['pairs_id']}-p01{side}" for side in "ab"] and not bad
    assert {row["allocation"] for row in rows} == {f"slurm-{job_id}"}
    runs = read_rows(tmp_path / "rows", "runs")[0]
    assert {row["run_id"] for row in runs} == {row["run_id"] for row in rows}
    for row in runs:
        assert (row["status"], row["nodes"], row["world_size"], row["slurm_job_id"]) == ("completed", 2, 2, job_id)


def test_a_local_run_in_an_allocation_shares_the_cores_of_its_task(
    cluster: slurm_cluster.Cluster, tmp_path: Path
) -> None:
    words = ["depth=8", "dataset=digits", "steps=4", f"results={tmp_path}/rows"]
    cluster.call("srun", "-N1", "-n1", "-c2", sys.executable, str(ROOT / "launch" / "local.py"), *words)
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    assert (row["status"], row["ranks_per_node"], row["restart_count"]) == ("completed", 2, 0)
    assert row["loader_threads"] == row["threads_per_rank"] == 1  # nobody binds here
    assert str(row["slurm_job_id"]).isdecimal() and row["array_task"] is None and "job" not in row["run_id"]
    assert row["nodelist"] not in ("n1", "n2")
    done = cluster.call(
        "srun", "-N1", "-n1", "-c1", sys.executable, str(ROOT / "launch" / "local.py"), *words, "ranks_per_node=9",
        check=False,
    )  # fmt: skip
    assert "ranks_per_node=9: this machine has 1 cores and no GPU" in done.stderr
