"""What a site profile asks of a true Slurm: nodes to itself, GPUs by their type, text as it was typed."""

import json
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from throwaway.cluster import Cluster
from throwaway.settings import LOW

from bench.config.paths import ROOT
from results.store.files import read_rows

pytestmark = pytest.mark.slurm

# The pretended GPUs cannot compute: torch finds none and the ranks run on processors, which DeepSpeed has to be told.
SHARED = f"""
partition: {LOW}
exclusive: false
gpus_per_node: 4
gres: gpu:pretend:{{gpus}}
numa: true
cpus_per_task: 1
time: "00:10:00"
signal_lead_s: 30
interface: eth0
sbatch_args: [--nodelist=n1]
env: {{DS_ACCELERATOR: cpu}}
setup: ['echo "job ${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID sees $CUDA_VISIBLE_DEVICES"']
"""
ALONE = f"""
partition: {LOW}
gpus_per_node: 0
cpus_per_task: 1
time: "00:10:00"
signal_lead_s: 30
sbatch_args: [--nodelist=n1]
"""


def submitted(slurm: Cluster, name: str, profile: str, *words: str) -> list[str]:
    """Submit over a profile of this name, and return the ids of the jobs."""
    (slurm.layout.profiles / f"{name}.yaml").write_text(profile)
    line = ["depth=8", "dataset=digits", "nodes=1", f"cluster={name}", *words]
    said = slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *line)
    (first, last, array) = re.findall(r"^job (\d+)_\[0-(\d+)\]  (\d+) configurations", said.stdout, re.M)[0]
    assert int(array) == int(last) + 1
    return [f"{first}_{task}" for task in range(int(array))]


def rows_of(folder: Path, jobs: list[str]) -> list[dict[str, Any]]:
    rows = {f"{row['slurm_job_id']}_{row['array_task']}": row for row in read_rows(folder, "runs")[0]}
    assert set(rows) == set(jobs) and all(row["status"] == "completed" for row in rows.values()), rows
    return [rows[job] for job in jobs]


def times(slurm: Cluster, jobs: list[str]) -> list[dict[str, str]]:
    """When Slurm began and ended jobs."""
    return [row for job in jobs for row in slurm.sacct(job, "JobID", "Start", "End") if row["JobID"] == job]


def numbers(text: str) -> set[int]:
    """Of GPUs, such as "0-1" or "2,3"."""
    bounds = [part.split("-") for part in text.split(",")]
    return {number for part in bounds for number in range(int(part[0]), int(part[-1]) + 1)}


@pytest.mark.ranks  # so it looks from here
def test_jobs_that_share_a_node_have_gpus_of_their_own_and_say_so(slurm: Cluster, tmp_path: Path) -> None:
    words = ("ranks_per_node=2", "kernels=torch", "steps=4", "seed=0,1", f"results={tmp_path}/rows")
    jobs = submitted(slurm, "shared", SHARED, *words)
    assert len(jobs) == 2 and [slurm.wait(job, patience_s=400) for job in jobs] == ["COMPLETED"] * 2
    first, second = rows_of(tmp_path / "rows", jobs)
    # Both were there at a time, on one node, and no GPU was given to both.
    assert (first["nodelist"], second["nodelist"]) == ("n1", "n1")
    one, other = times(slurm, jobs)
    assert one["Start"] < other["End"] and other["Start"] < one["End"], (one, other)
    given = [numbers(row["slurm_gpus"]) for row in (first, second)]
    assert [len(each) for each in given] == [2, 2] and not given[0] & given[1]
    logs = "\n".join(path.read_text() for path in (tmp_path / "rows").rglob("*") if path.suffix in (".out", ".log"))
    for job, gpus in zip(jobs, given, strict=True):
        assert f"job {job} sees {','.join(map(str, sorted(gpus)))}\n" in logs
    assert logs.count("is bound to no NUMA node: the driver names no GPU") == 4  # a rank
    for row in (first, second):
        assert row["node_shared"] is True and row["world_size"] == 2
        assert json.loads(row["comparability_parts"])["node_shared"] is True


def test_a_job_has_its_node_to_itself(slurm: Cluster, tmp_path: Path) -> None:
    words = ("ranks_per_node=1", "steps=4", "seed=0,1", f"results={tmp_path}/rows")
    jobs = submitted(slurm, "alone", ALONE, *words)
    assert [slurm.wait(job, patience_s=400) for job in jobs] == ["COMPLETED"] * 2
    rows = rows_of(tmp_path / "rows", jobs)
    assert [(row["nodelist"], row["node_shared"]) for row in rows] == [("n1", False)] * 2
    assert all("node_shared" not in json.loads(row["comparability_parts"]) for row in rows)
    one, other = times(slurm, jobs)
    assert one["End"] <= other["Start"] or other["End"] <= one["Start"], (one, other)


def test_text_is_text_to_a_true_slurm(slurm: Cluster, tmp_path: Path) -> None:
    """Its own reading of a script's lines, and what srun does with paths and variables."""
    odd = '0123 it\'s  "$HOME" `id` $(id) a\\nb\\\\ %j %% #c ;&|*[a],!'
    folder = tmp_path / "a 100% $HOME 'x' %j"
    folder.mkdir()
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nenv -0 > {shlex.quote(str(tmp_path / 'VARIABLES'))}\n")
    python.chmod(0o755)

    def quoted(text: str) -> str:
        return "'" + text.replace("'", "''") + "'"

    more = f"sbatch_args: [--nodelist=n1, {quoted(f'--comment={odd}')}]\npython: {quoted(str(python))}\n"
    profile = ALONE.replace("sbatch_args: [--nodelist=n1]\n", more) + f"env: {{ODD: {quoted(odd)}}}\n"
    (slurm.layout.profiles / "odd.yaml").write_text(profile)
    line = ["depth=8", "dataset=digits", "ranks_per_node=1", f"results={folder}", "cluster=odd", "mode=print"]
    printed = slurm.call(sys.executable, str(ROOT / "launch" / "slurm.py"), *line).stdout
    (tmp_path / "job.sh").write_text(printed)
    job = slurm.call("sbatch", "--parsable", "job.sh", cwd=tmp_path).stdout.strip()
    assert slurm.wait(job) == "COMPLETED"
    shown = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%k"]
    assert slurm.call(*shown).stdout.rstrip("\n") == odd
    seen = dict(entry.split("=", 1) for entry in (tmp_path / "VARIABLES").read_text().split("\0")[:-1])
    assert seen["ODD"] == odd
    assert os.listdir(folder / "jobs" / f"resnet8A-digits-{job}") == [f"resnet8A-digits-{job}.0-0.log"]
