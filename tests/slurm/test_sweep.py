"""Sweeps on a true Slurm: what is submitted, once each, of which code, and what is not."""

import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from throwaway.cluster import Cluster
from throwaway.layout import until
from throwaway.settings import LOW

from bench.config.paths import ROOT
from launch.sweep import manifest
from launch.sweep.manifest import Manifest
from results.store.files import read_rows

pytestmark = pytest.mark.slurm

WORDS = ["dataset=digits", "steps=4", "ranks_per_node=1", "cluster=throwaway"]
ODD = 'rows 100%n of "it\'s" $HOME'  # also of a pattern of Slurm's, a quote and a variable


def launch(
    slurm: Cluster, rows: Path, *words: str, root: Path = ROOT, **options: object
) -> subprocess.CompletedProcess[str]:
    results = str(rows).replace("'", "\\'")
    command = [sys.executable, str(root / "launch" / "slurm.py"), *WORDS, f"results='{results}'", *words]
    return slurm.call(*command, check=False, **options)


def queue(slurm: Cluster) -> list[str]:
    return sorted(slurm.call("squeue", "--noheader", "--array", "--format=%i").stdout.split())


def sweeps(rows: Path) -> list[Manifest]:
    return [manifest.read(path) for path in manifest.find([str(rows)])]


def submitted(rows: Path) -> dict[str, str]:
    """The job of each configuration; fails where one has two."""
    found: dict[str, str] = {}
    for sweep in sweeps(rows):
        for cell in sweep.cells:
            for one in cell.submissions:
                assert cell.config_hash not in found, cell
                found[cell.config_hash] = one.job_id
    return found


def ran(slurm: Cluster, job_id: str) -> dict[str, str]:
    """When a job ran, and on which nodes."""
    (row,) = (row for row in slurm.sacct(job_id, "JobID", "Start", "End", "NodeList") if row["JobID"] == job_id)
    return row


@pytest.fixture
def held(slurm: Cluster) -> Iterator[Cluster]:
    """A Slurm that queues jobs and starts none."""
    slurm.partition(LOW, "DOWN")
    yield slurm


def test_a_sweep_runs_each_configuration_once_on_nodes_of_its_own(slurm: Cluster, tmp_path: Path) -> None:
    """Three depths by three options of shortcuts, on one node and on two."""
    rows, words = tmp_path / ODD, ["depth=20,32,44", "shortcut=A,B,C", "nodes=1,2"]
    done = launch(slurm, rows, *words)
    assert done.returncode == 0, done.stderr
    assert re.match(r"job \d+_\[0-8\]  9 configurations  nodes=1 .*\njob \d+_\[0-8\]  9 .* nodes=2 ", done.stdout)
    again = launch(slurm, rows, *words)
    assert (again.returncode, again.stdout) == (0, "") and again.stderr.count(" has it, and") == 18, again.stderr
    (sweep,) = sweeps(rows)
    assert len(sweep.cells) == len({cell.config_hash for cell in sweep.cells}) == 18
    times: dict[str, list[tuple[str, str, str]]] = {node: [] for node in slurm.nodes}
    for cell in sweep.cells:
        one = cell.submissions[-1]
        log = Path(one.log)
        state = slurm.wait(one.job_id, patience_s=600)
        logs = "\n".join(f"{path}:\n{path.read_text()[-2000:]}" for path in log.glob("*.[lo][ou]*"))
        assert state == "COMPLETED", logs
        assert f"{cell.label}, of sweep {sweep.sweep_id}" in logs and cell.label.replace(" ", "-") in log.name
        until(lambda job_id=one.job_id: ran(slurm, job_id)["End"] != "Unknown", f"{one.job_id} has its end", 60)  # type: ignore[misc]
        job = ran(slurm, one.job_id)
        for node in slurm.call("scontrol", "show", "hostnames", job["NodeList"]).stdout.split():
            times[node].append((job["Start"], job["End"], one.job_id))
    for node, jobs in times.items():
        jobs.sort()
        assert all(first[1] <= second[0] for first, second in pairwise(jobs)), (node, jobs)
    assert sum(map(len, times.values())) == 9 * 1 + 9 * 2
    found = read_rows(rows, "runs")[0]
    assert len(found) == 18
    for row in found:
        cell = next(cell for cell in sweep.cells if cell.config_hash == row["config_hash"])
        assert (row["status"], row["run_id"]) == ("completed", cell.submissions[-1].run_id)
        assert f"{row['slurm_job_id']}_{row['array_task']}" == cell.submissions[-1].job_id
        assert (row["nodes"], row["restart_count"]) == (cell.nodes, 0)
        assert (row["git_commit"] or "", row["dirty"], row["snapshot"]) == (sweep.commit, sweep.dirty, sweep.snapshot)
    again = launch(slurm, rows, *words)
    assert (again.returncode, again.stdout) == (0, "") and again.stderr.count("has a completed result") == 18


def test_many_configurations_are_handed_over_in_seconds(held: Cluster, tmp_path: Path) -> None:
    words = ["depth=8,14,20,26", "shortcut=A,B,C", "nodes=1,2,4", "seed=0,1,2"]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = launch(held, tmp_path / "rows", *words)
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and "108 configurations in 3 arrays" in done.stdout, done
    assert queue(held) == sorted(submitted(tmp_path / "rows").values()) and len(queue(held)) == 108
    # Of the processor: the tests may share this machine.
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_s < 5, f"{cpu_s:.1f} s of processor time, {wall_s:.1f} s in all"


def test_arrays_are_cut_to_what_the_cluster_takes(held: Cluster, tmp_path: Path) -> None:
    conf = held.layout.folder / "slurm.conf"
    whole = conf.read_text()

    def most() -> str:
        return held.call("scontrol", "show", "config").stdout.partition("MaxArraySize")[2].split()[1]

    def use(text: str, size: str) -> None:
        conf.write_text(text)
        held.stop_controller()
        held.start_controller()
        until(lambda: most() == size, f"MaxArraySize is {size}", 30)
        # Until the nodes have reported to it, it takes no job.
        idle = lambda: set(held.call("sinfo", "-hN", "-o", "%T").stdout.split()) == {"idle"}  # noqa: E731
        until(idle, "all nodes are idle", 60)

    try:
        use(re.sub(r"MaxArraySize=\d+", "MaxArraySize=5", whole), "5")
        held.partition(LOW, "DOWN")
        done = launch(held, tmp_path / "rows", "depth=8,14,20", "shortcut=A,B,C")
        assert done.returncode == 0 and "9 configurations in 2 arrays" in done.stdout, done
        assert queue(held) == sorted(submitted(tmp_path / "rows").values()) and len(queue(held)) == 9
        assert [len(array.cells) for array in sweeps(tmp_path / "rows")[0].arrays] == [5, 4]
    finally:
        held.call("scancel", "--user=root")
        use(whole, str(held.layout.max_array))


def test_one_that_can_never_run_keeps_all_from_being_submitted(slurm: Cluster, tmp_path: Path) -> None:
    done = launch(slurm, tmp_path / "rows", "depth=8", "nodes=1,9,2")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert "nodes=9" in done.stderr and "nearest is nodes=4" in done.stderr and queue(slurm) == []


def test_a_limit_in_the_middle_leaves_the_rest_to_the_same_command(held: Cluster, tmp_path: Path) -> None:
    rows, words = tmp_path / "rows", ["depth=8,14,20,26,32"]
    held.max_submit(3)
    done = launch(held, rows, *words)
    assert done.returncode == 1 and "2 of 5 configurations remain; the same command submits them" in done.stderr, done
    assert "MaxSubmitJobLimit" in done.stderr and len(queue(held)) == 3
    done = launch(held, rows, *words)
    assert done.returncode == 1 and done.stdout == "" and len(queue(held)) == 3
    held.max_submit(None)
    done = launch(held, rows, *words)
    assert done.returncode == 0, done.stderr
    assert queue(held) == sorted(submitted(rows).values()) and len(queue(held)) == 5 and len(sweeps(rows)) == 1


def test_a_kill_after_sbatch_submits_nothing_twice(held: Cluster, tmp_path: Path) -> None:
    real = shutil.which("sbatch", path=held.environment.get("PATH"))
    deadly = tmp_path / "deadly"
    deadly.mkdir()
    (deadly / "sbatch").write_text(
        f'#!/bin/sh\n[ "$1" = --test-only ] && exec {real} "$@"\n{real} "$@"\nkill -9 $PPID\n'
    )
    (deadly / "sbatch").chmod(0o755)
    rows, words = tmp_path / "rows", ["depth=8,14"]
    environment = {**held.environment, "PATH": f"{deadly}:{held.environment['PATH']}"}
    assert launch(held, rows, *words, env=environment).returncode == -9
    assert len(queue(held)) == 2 and submitted(rows) == {}
    done = launch(held, rows, *words)
    assert (done.returncode, done.stdout) == (0, "") and done.stderr.count("(PENDING) of sweep ") == 2
    assert queue(held) == sorted(submitted(rows).values()) and len(queue(held)) == 2


def test_the_code_of_submission_runs(held: Cluster, tmp_path: Path) -> None:
    root, rows = tmp_path / "checkout", tmp_path / "checkout" / "results" / "v1"
    shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(".git", ".venv", "v1", "__pycache__"))

    def git(*words: str) -> str:
        named = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root)]
        return subprocess.run(["git", *named, *words], check=True, capture_output=True, text=True).stdout.strip()

    job = root / "launch" / "job.py"
    whole = job.read_text()
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "as it is")
    commit = git("rev-parse", "HEAD")
    main = "    def __call__(self) -> None:\n"
    assert main in whole
    job.write_text(whole.replace(main, f'{main}        print("the code of submission")\n'))
    done = launch(held, rows, "depth=8", root=root)
    assert done.returncode == 0, done.stderr
    job.write_text(whole.replace(main, f'{main}        raise SystemExit("the code of later")\n'))
    git("commit", "-q", "-a", "-m", "later")
    held.partition(LOW, "UP")
    (sweep,) = sweeps(rows)
    (one,) = sweep.cells[0].submissions
    assert held.wait(one.job_id, patience_s=300) == "COMPLETED"
    assert any("the code of submission" in path.read_text() for path in Path(one.log).glob("*.log"))
    (row,) = read_rows(rows, "runs")[0]
    assert (row["status"], row["git_commit"], row["dirty"]) == ("completed", commit, True)
    assert (
        row["snapshot"] == sweep.snapshot
        and len(sweep.snapshot) == 16
        and (sweep.commit, sweep.dirty) == (commit, True)
    )
    assert f"copy of commit {commit[:12]} with changes" in done.stdout


def test_a_task_of_an_array_submits_a_job_of_its_own(slurm: Cluster, tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), *WORDS, "depth=8", f"results={rows}"]
    # From a step of a job that is itself a task of an array, with memory and a binding of its own.
    step = f"srun --ntasks=1 --mem-per-cpu=100 {' '.join(command)}"
    outer = slurm.submit("--array=3", f"--output={tmp_path}/outer", f"--chdir={tmp_path}", f"--wrap={step}")
    assert slurm.wait(f"{outer}_3") == "COMPLETED", (tmp_path / "outer").read_text()
    (job_id,) = submitted(rows).values()
    assert job_id != outer and "_" not in job_id
    assert slurm.wait(job_id, patience_s=300) == "COMPLETED"
    (row,) = read_rows(rows, "runs")[0]
    assert (row["status"], row["slurm_job_id"], row["array_task"]) == ("completed", job_id, None)
    assert os.listdir(rows / "jobs" / sweeps(rows)[0].sweep_id / "logs") == ["000-resnet8A-digits"]
