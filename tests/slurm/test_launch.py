"""Jobs on a true Slurm of four nodes: submitted, asked about, and from a printed script."""

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from throwaway.cluster import Cluster
from throwaway.layout import until
from throwaway.settings import HIGH, LOW

from bench.config.paths import ROOT
from results.store.files import read_rows

pytestmark = pytest.mark.slurm

WORDS = ["depth=8", "dataset=digits", "ranks_per_node=1", "cluster=throwaway"]


def launch(slurm: Cluster, *words: str) -> subprocess.CompletedProcess[str]:
    return slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS, *words, check=False)


def logs(folder: Path) -> str:
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".log", ".out")]
    return "\n".join(f"{path}:\n{path.read_text()[-3000:]}" for path in files)


def check_row(rows: Path, job_id: str, run_id: str, nodes: int) -> None:
    (row,) = read_rows(rows, "runs")[0]
    assert (row["run_id"], row["status"], row["slurm_job_id"]) == (run_id, "completed", job_id), logs(rows)
    assert (row["nodes"], row["world_size"], row["nodelist"]) == (nodes, nodes, f"n[1-{nodes}]")
    (epoch,) = read_rows(rows, "epochs")[0]
    assert epoch["top1"] is not None


def test_a_submitted_job_trains_over_all_nodes(slurm: Cluster, tmp_path: Path) -> None:
    words = ("nodes=4", "epochs=1", f"results={tmp_path}/rows")
    done = launch(slurm, *words)
    said = re.match(r"job (\d+)  run (\S+)  nodes=4 ranks_per_node=1\n", done.stdout)
    assert said, done
    assert slurm.wait(said[1]) == "COMPLETED", logs(tmp_path)
    check_row(tmp_path / "rows", said[1], said[2], 4)
    again = launch(slurm, *words)
    assert (again.returncode, again.stdout) == (0, "") and "has a completed result" in again.stderr


def test_a_printed_script_runs_wherever_it_is_submitted_from(slurm: Cluster, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "kernels").mkdir(parents=True)
    (tmp_path / "elsewhere" / "kernels" / "__init__.py").write_text("raise ImportError('the wrong kernels')")
    script = launch(slurm, "nodes=2", "epochs=1", f"results={tmp_path}/rows", "mode=print").stdout
    (tmp_path / "job.sh").write_text(script)
    job_id = slurm.call("sbatch", "--parsable", "../job.sh", cwd=tmp_path / "elsewhere").stdout.strip()
    assert slurm.wait(job_id) == "COMPLETED", logs(tmp_path)
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    check_row(tmp_path / "rows", job_id, f"resnet8A-digits-{row['config_hash'][:8]}-job{job_id}", 2)
    assert os.listdir(tmp_path / "rows" / "jobs") == [f"resnet8A-digits-{job_id}"]
    names = sorted(os.listdir(tmp_path / "rows" / "jobs" / f"resnet8A-digits-{job_id}"))
    assert names == [f"resnet8A-digits-{job_id}.0-{rank}.log" for rank in range(2)]


# What a shell may have, of options for every sbatch, of the job that it runs in, and of another run's ranks.
HOSTILE = {
    "SBATCH_PARTITION": HIGH, "SBATCH_TIMELIMIT": "5", "SBATCH_REQUEUE": "1", "SLURM_MEM_PER_CPU": "10",
    "SLURM_MEM_PER_NODE": "10", "SLURM_CPU_BIND": "map_cpu:77", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_JOB_ID": "7", "SLURM_NTASKS": "1", "SLURM_NPROCS": "1", "SLURM_RESTART_COUNT": "4", "RANK": "3",
    "WORLD_SIZE": "9", "MASTER_PORT": "1", "RESNET_BENCH_CORES": "0", "RESNET_BENCH_RUN_ID": "another",
}  # fmt: skip


@pytest.mark.ranks  # so it looks from here
@pytest.mark.parametrize("export", [{}, {"SBATCH_EXPORT": "NONE"}], ids=["", "export-none"])
@pytest.mark.parametrize("how", ["submitted", "printed"])
def test_the_shell_that_submits_changes_nothing(
    slurm: Cluster, tmp_path: Path, how: str, export: dict[str, str]
) -> None:
    hostile = {**slurm.environment, **HOSTILE, **export}
    words = ["nodes=2", "steps=4", f"results={tmp_path}/rows"]
    if how == "submitted":
        said = slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS, *words, env=hostile)
        job_id = said.stdout.split()[1]
    else:
        (tmp_path / "job.sh").write_text(launch(slurm, *words, "mode=print").stdout)
        first = slurm.call("sbatch", "--parsable", "job.sh", env=hostile, cwd=tmp_path).stdout.strip()
        assert slurm.wait(first) == "COMPLETED", logs(tmp_path)
        job_id = first
        if not export:  # else the script cannot see what sbatch was told in its place
            log = (tmp_path / f"resnet8A-digits-{first}.out").read_text()
            assert "under SBATCH_PARTITION SBATCH_REQUEUE SBATCH_TIMELIMIT; it is submitted again" in log
            job_id = re.search(r"Submitted batch job (\d+)", log)[1]  # type: ignore[index]
    assert slurm.wait(job_id) == "COMPLETED", logs(tmp_path)
    if how == "submitted" or not export:
        job = slurm.job(job_id)
        assert (job["Partition"], job["TimeLimit"], job["Requeue"]) == (LOW, "00:30:00", "0")
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    assert (row["status"], row["slurm_job_id"], row["array_task"]) == ("completed", job_id, None)
    assert (row["world_size"], row["restart_count"], row["nodelist"]) == (2, 0, "n[1-2]")
    assert row["run_id"] != "another"


def test_a_run_takes_another_port_and_finds_its_way_by_itself(slurm: Cluster, tmp_path: Path) -> None:
    profile = slurm.layout.profiles / "routed.yaml"
    profile.write_text((slurm.layout.profiles / "throwaway.yaml").read_text().replace("interface: eth0\n", ""))
    before = slurm.submit("--nodes=1", "--wrap=true")
    port = 10000 + (int(before) + 2) % 20000  # that of --test-only is the next one
    words = ["nodes=2", "steps=4", "cluster=routed", f"results={tmp_path}/rows"]
    with slurm.listener("n1", port):
        said = slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS[:-1], *words)
        job_id = said.stdout.split()[1]
        assert int(job_id) == int(before) + 2
        assert slurm.wait(job_id) == "COMPLETED", logs(tmp_path)
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    assert (row["status"], row["slurm_job_id"], row["world_size"]) == ("completed", job_id, 2)


def test_a_rank_that_cannot_start_is_named_and_its_job_ends(slurm: Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    with slurm.hidden("n2", rows):
        job_id = launch(slurm, "nodes=2", "epochs=50", f"results={rows}").stdout.split()[1]
        slurm.wait(job_id, "RUNNING")
        began = time.monotonic()
        assert slurm.wait(job_id) in ("FAILED", "CANCELLED"), logs(tmp_path)
        assert time.monotonic() - began < 90
    (row,) = read_rows(rows, "runs")[0]
    assert row["failure_kind"] == "rank_lost", row["failure_message"]
    assert "1 of 2 ranks did not come within 60 s: rank 1 (n2)" in row["failure_message"]


def test_slurm_says_when_a_job_would_start(slurm: Cluster, tmp_path: Path) -> None:
    done = launch(slurm, "nodes=4", f"results={tmp_path}/rows", "mode=test")
    assert done.returncode == 0
    assert re.match(r"resnet8A-digits: sbatch: Job \d+ to start at .* on nodes n\[1-4\]", done.stdout)
    done = launch(slurm, "nodes=5", f"results={tmp_path}/rows", "mode=test")
    assert done.returncode == 1
    assert done.stderr.startswith("launch: resnet8A-digits nodes=5 ranks_per_node=1: ")
    assert "nearest is nodes=4" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "rows").exists()


def test_a_cancelled_job_leaves_its_row_and_ends_on_all_nodes(slurm: Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    job_id = launch(slurm, "nodes=4", "epochs=500", f"results={rows}").stdout.split()[1]
    trains = lambda: any(b'"epoch"' in path.read_bytes() for path in rows.glob("journal/*.jsonl"))  # noqa: E731
    until(trains, "an epoch is over", 90)
    slurm.call("scancel", job_id)
    assert slurm.wait(job_id, patience_s=60) == "CANCELLED"
    until(lambda: read_rows(rows, "runs")[0], "the row is there", 10)
    (row,) = read_rows(rows, "runs")[0]
    assert row["status"] == "killed" and "SIGTERM" in row["failure_message"]
    # The controller may call a job over a moment before the last of its processes is gone.
    running = lambda: [node for node in slurm.nodes if "launch.job" in slurm.on(node, "ps", "-eo", "args").stdout]  # noqa: E731
    until(lambda: not running(), "no rank runs on any node", 10)


def test_pairs_run_over_the_nodes_of_one_allocation(slurm: Cluster, tmp_path: Path) -> None:
    words = [*WORDS, "nodes=2", "epochs=1", "metric=final_top1", f"results={tmp_path}/rows"]
    pairs = [sys.executable, "-m", "bench.pairs", "a=commit:HEAD", "b=commit:HEAD", *words]
    (tmp_path / "job.sh").write_text(f"#!/bin/sh\ncd {shlex.quote(str(ROOT))} && exec {shlex.join(pairs)}\n")
    job_id = slurm.submit("--nodes=2", f"--output={tmp_path}/pairs.out", str(tmp_path / "job.sh"))
    assert slurm.wait(job_id, patience_s=300) == "COMPLETED", logs(tmp_path)
    assert "no difference is shown" in (tmp_path / "pairs.out").read_text()
    rows, bad = read_rows(tmp_path / "rows", "pairs")
    assert [row["run_id"] for row in rows] == [f"{rows[0]['pairs_id']}-p01{side}" for side in "ab"] and not bad
    assert {row["allocation"] for row in rows} == {f"slurm-{job_id}"}
    runs = read_rows(tmp_path / "rows", "runs")[0]
    assert {row["run_id"] for row in runs} == {row["run_id"] for row in rows}
    for row in runs:
        assert (row["status"], row["nodes"], row["world_size"], row["slurm_job_id"]) == ("completed", 2, 2, job_id)


def test_a_local_run_in_an_allocation_shares_the_cores_of_its_task(slurm: Cluster, tmp_path: Path) -> None:
    local = [sys.executable, str(ROOT / "launch" / "local.py"), "depth=8", "dataset=digits", f"results={tmp_path}/rows"]
    slurm.call("srun", "-N1", "-n1", "-c2", *local, "steps=4")
    (row,) = read_rows(tmp_path / "rows", "runs")[0]
    assert (row["status"], row["ranks_per_node"], row["restart_count"]) == ("completed", 2, 0)
    assert row["loader_threads"] == row["threads_per_rank"] == 1  # nobody binds here
    assert str(row["slurm_job_id"]).isdecimal() and row["array_task"] is None and "job" not in row["run_id"]
    assert row["nodelist"] == "n1"  # where it ran, whatever the allocation has
    done = slurm.call("srun", "-N1", "-n1", "-c1", *local, "ranks_per_node=9", check=False)
    assert "ranks_per_node=9: this machine has 1 cores and no GPU" in done.stderr
