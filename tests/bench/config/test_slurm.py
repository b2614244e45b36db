"""What is read of Slurm's variables, by whom, and that they say nothing of a run that only shares an allocation."""

import os
import re
from pathlib import Path

import pytest

from bench.config import slurm
from bench.config.environment import VariableError
from bench.config.paths import ROOT

# Every module that names one of Slurm's or submitit's variables, and what for. Who reads a further one says so here.
READERS = {
    "bench/config/slurm.py": "the only one that says what they mean to a process",
    "bench/pairs/process.py": "the allocation that pairs run in, and what srun is told in place of sbatch",
    "bench/training/causes.py": "the step of a rank that srun started, which the script ends where srun does not",
    "bench/training/recorder.py": "the nodes of a rank that srun started",
    "launch/batch/options.py": "text that bash evaluates in the job",
    "launch/batch/script.py": "text that bash evaluates in the job",
    "launch/batch/shell.py": "text that bash evaluates in the job",
    "launch/foreground.py": "submitit's number of a rank that the launcher itself started",
    "launch/job.py": "the number of nodes, of a rank that srun started",
    "launch/sweep/account.py": "squeue's and sacct's own variables, which would change what they print",
    "launch/sweep/arrays.py": "text that bash evaluates in the job",
    "results/identity.py": "the name of a run that only its job knows, of a rank that srun started",
}
NAMES = re.compile(r"(?:SLURM|SLURMD|SBATCH|SRUN|SALLOC|SUBMITIT)_[A-Z]\w+")
TASK = {"SUBMITIT_EXECUTOR": "slurm"}


def test_no_other_module_reads_what_is_slurm_s() -> None:
    found = {
        str(path.relative_to(ROOT))
        for package in ("bench", "kernels", "launch", "resnet", "results")
        for path in (ROOT / package).rglob("*.py")
        if NAMES.search(path.read_text())
    }
    assert found == set(READERS)


@pytest.mark.parametrize(
    ("bound", "given", "cores"),
    [(8, None, 8), (8, "", 8), (8, "4", 4), (4, "4", 4), (2, "48", 2), (8, "1", 1), (1, "96", 1)],
)
def test_cores_are_those_that_are_bound_or_given_whichever_are_fewer(
    bound: int, given: str | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(bound)))
    environ = {} if given is None else {"SLURM_CPUS_PER_TASK": given}
    assert slurm.cores_here(environ) == cores
    assert slurm.task_cores(environ) == (int(given) if given else None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abc", "SLURM_CPUS_PER_TASK=abc: expected a whole number, at least 1; Slurm sets it"),
        ("0", "SLURM_CPUS_PER_TASK=0: expected at least 1 (nearest: 1); Slurm sets it"),
        ("-4", "SLURM_CPUS_PER_TASK=-4: expected a whole number, at least 1"),
        ("2.5", "SLURM_CPUS_PER_TASK=2.5: expected a whole number"),
        ("4(x2)", r"SLURM_CPUS_PER_TASK=4(x2): expected a whole number"),
        ("\u0664", "SLURM_CPUS_PER_TASK=\u0664: expected a whole number"),
        (" ", "SLURM_CPUS_PER_TASK= : expected a whole number"),
    ],
)
def test_cores_that_cannot_be_are_one_line(text: str, said: str) -> None:
    for read in (slurm.cores_here, slurm.task_cores):
        with pytest.raises(VariableError) as raised:
            read({"SLURM_CPUS_PER_TASK": text})
        assert str(raised.value).startswith(said) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, (None, None)),
        # A shell of salloc, or what somebody exported: nothing says that this process is in the job.
        ({"SLURM_JOB_ID": "7"}, (None, None)),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "x"}, (None, None)),
        ({"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}, ("7", None)),
        ({"SLURM_JOB_ID": "7", **TASK}, ("7", None)),
        ({"SLURM_JOB_ID": "", "SLURMD_NODENAME": "n1"}, (None, None)),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "0", **TASK}, ("6", 0)),
        (
            {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "6", "SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "n"},
            ("6", 3),
        ),
        ({"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "", "SLURM_ARRAY_TASK_ID": "", **TASK}, ("7", None)),
        ({"SLURM_ARRAY_TASK_ID": "3", "SLURMD_NODENAME": "n1"}, (None, None)),
    ],
)
def test_the_allocation_is_the_job_that_a_process_runs_in(
    environ: dict[str, str], found: tuple[str | None, int | None]
) -> None:
    assert slurm.allocation(environ) == found


def test_a_task_of_an_array_that_is_no_number_is_one_line() -> None:
    with pytest.raises(VariableError, match=r"^SLURM_ARRAY_TASK_ID=x: expected a whole number, at least 0; Slurm sets"):
        slurm.allocation({"SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "x", "SLURMD_NODENAME": "n1"})


@pytest.mark.parametrize(
    ("environ", "count"),
    [
        ({}, 0), (TASK, 0), ({"SLURM_RESTART_COUNT": "2"}, 0), ({"SLURM_RESTART_COUNT": "2", **TASK}, 2),
        ({"SLURM_RESTART_COUNT": "", **TASK}, 0), ({"SLURM_RESTART_COUNT": "2", "SUBMITIT_EXECUTOR": "local"}, 0),
    ],
)  # fmt: skip
def test_only_a_task_of_slurm_was_started_again_by_it(environ: dict[str, str], count: int) -> None:
    assert slurm.restarts(environ) == count


def test_what_a_task_starts_inherits_nothing_of_it_but_where_it_runs() -> None:
    kept = {"PATH": "/bin", "SLURMISH": "1", "MY_SLURM_JOB_ID": "5", "RESNET_BENCH_RUN_ID": "r"}
    environ = {
        **kept, "SLURM_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4",
        "SBATCH_PARTITION": "x", "SALLOC_QOS": "y", "SRUN_DEBUG": "3", "SLURM_CPU_BIND": "mask", **TASK,
    }  # fmt: skip
    assert set(environ) - slurm.of_a_task(environ) == set(kept)
    on_node = environ | {"SLURMD_NODENAME": "n1"}
    left = set(on_node) - slurm.of_a_task(on_node)
    assert left == set(kept) | {"SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURMD_NODENAME"}
    rest = {name: on_node[name] for name in left}
    assert slurm.allocation(rest) == slurm.allocation(on_node) == ("7", 1)
    assert slurm.cores_here(rest) == len(os.sched_getaffinity(0)) and not slurm.is_task(rest)


def test_the_table_of_readers_is_of_files_that_are_there() -> None:
    assert all((ROOT / Path(name)).is_file() for name in READERS)
