"""The environment of a job and its ranks: what is written is read back, in Python and by bash, and bad values named."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.environment import (
    JobEnvironment,
    RankEnvironment,
    ShellExpression,
    VariableError,
    checkout_first,
    threads_from,
)
from bench.config.paths import ROOT
from bench.training.process_group import start_process_group
from bench.training.ranks import free_port, rank_environment

JOBS = [
    JobEnvironment(address="127.0.0.1", port=29500, threads=4),
    JobEnvironment(address="node-7.example", port=1, threads=None, python_path=("/a b", "", "/c")),
    JobEnvironment(
        address="10.0.0.1", port=65535, threads=1, cores=3, python_path=(), accelerator="cpu", interface="ib0"
    ),
    JobEnvironment(
        address="fe80::1%eth0", port=10001, threads=96, python_path=("/it's; $HOME `id`",), interface="eth0,eth1"
    ),
]
RANKS = [
    RankEnvironment(rank=0, world_size=1, local_rank=0, local_world_size=1),
    RankEnvironment(rank=7, world_size=16, local_rank=3, local_world_size=4),
    RankEnvironment(rank=15, world_size=16, local_rank=0, local_world_size=1),
]
JOB, RANK = JOBS[0].to_env(), RANKS[1].to_env()


@pytest.mark.parametrize("job", JOBS)
def test_a_job_is_read_back(job: JobEnvironment) -> None:
    assert JobEnvironment.from_env(job.to_env()) == job
    assert job.rendezvous() == (job.address, job.port)


@pytest.mark.parametrize("rank", RANKS)
def test_a_rank_is_read_back(rank: RankEnvironment) -> None:
    assert RankEnvironment.from_env(rank.to_env()) == rank


def test_variables_have_the_names_that_torch_and_the_others_read() -> None:
    assert RANK == {"RANK": "7", "WORLD_SIZE": "16", "LOCAL_RANK": "3", "LOCAL_WORLD_SIZE": "4"}
    job = JobEnvironment(
        address="a", port=2, threads=3, cores=5, python_path=("/p", "/q"), accelerator="cpu", interface="lo"
    )
    assert job.to_env() == {
        "PYTHONPATH": "/p:/q",
        "PYTHONSAFEPATH": "1",
        "OMP_NUM_THREADS": "3",
        "RESNET_BENCH_CORES": "5",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "2",
        "NCCL_SOCKET_IFNAME": "lo",
        "GLOO_SOCKET_IFNAME": "lo",
        "DS_ACCELERATOR": "cpu",
    }


def in_bash(lines: list[str], **environment: str) -> dict[str, str]:
    """What a process that bash starts after these lines has in its environment."""
    code = "import os, sys; sys.stdout.buffer.write(b'\\0'.join(k + b'=' + v for k, v in os.environb.items()))"
    text = "\n".join(["set -eu", *lines, 'exec "$PYTHON" -I -c "$CODE"'])
    environment |= {"PYTHON": sys.executable, "CODE": code}
    done = subprocess.run(["bash", "-c", text], env=environment, capture_output=True, check=True)
    return dict(pair.split("=", 1) for pair in done.stdout.decode().split("\0"))


@pytest.mark.parametrize("job", JOBS)
def test_bash_sets_the_same_variables(job: JobEnvironment) -> None:
    bare = in_bash([])
    found = {name: value for name, value in in_bash(job.to_shell()).items() if name not in bare}
    assert found == job.to_env()


def test_in_bash_the_path_of_the_job_comes_behind_ours() -> None:
    assert in_bash(JOBS[0].to_shell(), PYTHONPATH="/site:/more")["PYTHONPATH"] == f"{ROOT}:/site:/more"
    assert os.pathsep.join(checkout_first({"PYTHONPATH": "/site:/more"})) == f"{ROOT}:/site:/more"
    assert checkout_first({"PYTHONPATH": ""}) == checkout_first({}) == (str(ROOT),)


def test_an_expression_is_for_bash_alone() -> None:
    port = ShellExpression("$((10000 + SLURM_JOB_ID))")
    job = JobEnvironment(address=ShellExpression('$(echo "$SLURM_NODE" | head -n 1)'), port=port, threads=2)
    found = in_bash(job.to_shell(), SLURM_JOB_ID="7", SLURM_NODE="n 1\nn2")
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("n 1", "10007")
    for call in (job.to_env, job.rendezvous):
        with pytest.raises(TypeError, match="^MASTER_ADDR: .* for bash to evaluate"):
            call()


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT"])
def test_a_missing_variable_of_the_job_is_named_with_what_sets_it(name: str) -> None:
    for environ in ({key: value for key, value in JOB.items() if key != name}, JOB | {name: ""}):
        with pytest.raises(VariableError, match=f"^{name} is missing from the environment; .*launch/local.py.*$"):
            JobEnvironment.from_env(environ)


@pytest.mark.parametrize("name", RANK)
def test_a_missing_variable_of_a_rank_is_named_with_what_sets_it(name: str) -> None:
    with pytest.raises(VariableError, match=f"^{name} is missing from the environment; launch.job sets it"):
        RankEnvironment.from_env({key: value for key, value in RANK.items() if key != name})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http: expected a whole number; the launcher"),
        ({"MASTER_PORT": "0"}, "MASTER_PORT=0: expected at least 1 and at most 65535 (nearest: 1); the launcher"),
        ({"MASTER_PORT": "65536"}, "MASTER_PORT=65536: expected at least 1 and at most 65535 (nearest: 65535);"),
        ({"RESNET_BENCH_CORES": "0"}, "RESNET_BENCH_CORES=0: expected at least 1 and at most 4096 (nearest: 1); "),
        ({"RESNET_BENCH_CORES": "x"}, "RESNET_BENCH_CORES=x: expected a whole number; the launcher"),
        ({"RANK": "3.0"}, "RANK=3.0: expected a whole number; launch.job sets it"),
        ({"RANK": "16"}, "RANK=16: expected at least 0 and at most WORLD_SIZE - 1 = 15 (nearest: 15); launch.job"),
        ({"RANK": "-1"}, "RANK=-1: expected at least 0 and at most WORLD_SIZE - 1 = 15 (nearest: 0); launch.job"),
        ({"LOCAL_RANK": "4"}, "LOCAL_RANK=4: expected at least 0 and at most LOCAL_WORLD_SIZE - 1 = 3 (nearest: 3);"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE=0: expected at least 1 (nearest: 1); launch.job"),
        ({"LOCAL_WORLD_SIZE": "17"}, "LOCAL_WORLD_SIZE=17: expected at least 1 and at most WORLD_SIZE = 16"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_the_nearest(change: dict[str, str], message: str) -> None:
    environ = JOB | RANK | change
    with pytest.raises(VariableError) as raised:
        JobEnvironment.from_env(environ)
        RankEnvironment.from_env(environ)
    assert str(raised.value).startswith(message) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("0", 1), ("-1", 1), ("abc", 1), ("\u0664", 1), ("99999", 4096), ("4097", 4096), ("9" * 5000, 4096), ("4,2", 4),
        ("2.5", 2), ("8 ", 8), (" 8", 8), ("+8", 8), ("1e3", 1), ("0x10", 1), ("-0", 1),
    ],
)  # fmt: skip
def test_threads_that_cannot_be_are_one_line_with_the_nearest(text: str, nearest: int) -> None:
    said = f"OMP_NUM_THREADS={text}: expected a whole number from 1 to 4096 (nearest: {nearest}); unset it, and "
    with pytest.raises(VariableError) as raised:
        JobEnvironment.from_env(JOB | {"OMP_NUM_THREADS": text})
    assert str(raised.value) == f"{said}the launcher sets it"


@pytest.mark.parametrize("name", ["MASTER_PORT", "RESNET_BENCH_CORES", "RANK", "WORLD_SIZE"])
def test_a_number_of_more_digits_than_python_reads_is_named(name: str) -> None:
    with pytest.raises(VariableError, match=f"^{name}=9+: expected a whole number; "):
        environ = JOB | RANK | {name: "9" * 5000}
        JobEnvironment.from_env(environ)
        RankEnvironment.from_env(environ)


def test_no_threads_said_is_none() -> None:
    assert threads_from({}) is threads_from({"OMP_NUM_THREADS": ""}) is None
    assert threads_from({"OMP_NUM_THREADS": "3"}) == threads_from({"OMP_NUM_THREADS": "003"}) == 3
    assert threads_from({"OMP_NUM_THREADS": "4096"}) == 4096
    assert (
        JobEnvironment.from_env({key: value for key, value in JOB.items() if key != "OMP_NUM_THREADS"}).threads is None
    )


def test_ranks_on_this_machine_are_told_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/more")
    monkeypatch.delenv("RESNET_BENCH_HOSTS", raising=False)
    monkeypatch.setenv("KEPT", "as it was")
    found = rank_environment(1, 2, 29501, 3)
    assert RankEnvironment.from_env(found) == RankEnvironment(rank=1, world_size=2, local_rank=1, local_world_size=2)
    assert JobEnvironment.from_env(found) == JobEnvironment(
        address="127.0.0.1", port=29501, threads=3, cores=3, python_path=(str(ROOT), "/more"),
        accelerator=os.environ.get("DS_ACCELERATOR"), interface=os.environ.get("GLOO_SOCKET_IFNAME"),
    )  # fmt: skip
    assert found["KEPT"] == "as it was"


def test_ranks_on_this_machine_inherit_nothing_of_a_task_of_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_CPUS_PER_TASK": "8", "SLURM_RESTART_COUNT": "2", "SUBMITIT_EXECUTOR": "slurm"}.items():
        monkeypatch.setenv(name, value)
    found = rank_environment(1, 2, 29501, 3)
    assert not [name for name in found if name.startswith(("SLURM", "SUBMITIT"))]


@pytest.mark.parametrize(("text", "said"), [("abc", "expected a whole number"), ("0", "expected at least 1")])
def test_a_rank_of_slurm_whose_cores_cannot_be_is_one_line(
    text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (rank_environment(0, 1, free_port(), 1) | {"SLURM_CPUS_PER_TASK": text}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RESNET_BENCH_CORES")
    with pytest.raises(VariableError, match=f"^SLURM_CPUS_PER_TASK={text}: {said}[^\n]*$"):
        start_process_group(lambda failure: None)


def test_joining_a_run_that_nothing_describes_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*JOB, *RANK):
        if name.startswith(("MASTER", "RANK", "WORLD", "LOCAL")):
            monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match="^MASTER_ADDR is missing"):
        start_process_group(lambda failure: None)


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("given", "share", "of_slurm", "expected"),
    [
        ("3", "", "", "3 2"), ("", "", "", "2 2"),
        # Srun started it, and gave it cores of its own.
        ("", "", "5", "5 5"), ("3", "", "5", "3 5"),
        # A launcher started it, and Slurm's word is of the launcher's task.
        ("", "1", "", "1 1"), ("3", "1", "5", "3 1"),
    ],
)  # fmt: skip
def test_a_ranks_threads_are_what_was_set_else_its_share_of_the_cores(
    given: str, share: str, of_slurm: str, expected: str
) -> None:
    """Those of torch, then those that the rank may keep busy in all, on a machine that shows two cores."""
    code = (
        "import os; os.sched_getaffinity = lambda pid: {0, 1}\n"
        "import torch; from bench.training.process_group import start_process_group\n"
        "world = start_process_group(lambda failure: None)\n"
        "print(torch.get_num_threads(), world.threads, world.rank, world.local_size); world.close()"
    )
    variables = rank_environment(0, 1, free_port(), 1) | {"OMP_NUM_THREADS": given}
    variables |= {"RESNET_BENCH_CORES": share, "SLURM_CPUS_PER_TASK": of_slurm}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, cwd=Path.home())
    assert done.stdout == f"{expected} 0 1\n", done.stderr
