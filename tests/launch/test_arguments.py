"""Further arguments and variables of a profile: which are refused, and what is named in their place."""

import pytest

from bench.config.grammar import WordError
from launch.arguments import OF_SBATCH, OF_SRUN, check_arguments, check_variables, split


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--nodes=2", "--nodes is decided by nodes= of the command line; leave it out"),
        ("--partition=gpu", "--partition is decided by partition; nearest is the key partition"),
        ("--part=gpu", "--partition is decided by partition"),
        ("--exclusive", "--exclusive is decided by exclusive; nearest is the key exclusive"),
        ("--exclusive=user", "--exclusive is decided by exclusive"),
        ("--oversubscribe", "--oversubscribe is decided by exclusive"),
        ("--mem-per-cpu=2G", "--mem-per-cpu is decided by mem"),
        ("--gres=gpu:8", "--gres is decided by gpus_per_node, or gres"),
        ("--time=1", "--time is decided by time"),
        ("--requeue", "--requeue is decided by the launcher; leave it out"),
        ("--outp=/x", "--output is decided by the launcher; leave it out"),
        ("--export=NONE", "--export is decided by env"),
        ("-p gpu", "expected --name or --name=value; nearest is --name=value"),
        ("--comment two words", "nearest is --comment=two words"),
        ("comment=a", "expected --name or --name=value"),
        ("--=a", "expected --name or --name=value"),
    ],
)
def test_what_sbatch_is_told_elsewhere_is_refused(argument: str, said: str) -> None:
    with pytest.raises(WordError) as raised:
        check_arguments("cluster=a: sbatch_args", ["--hold", argument], OF_SBATCH)
    assert str(raised.value).startswith(f"cluster=a: sbatch_args has {argument}") and said in str(raised.value)


@pytest.mark.parametrize(
    "argument", ["--container-image=a", "--cpus-per-task=3", "--kill-on-bad-exit=0", "--no-container-mount-home"]
)
def test_what_srun_is_told_elsewhere_is_refused(argument: str) -> None:
    with pytest.raises(WordError, match="is decided by"):
        check_arguments("cluster=a: srun_args", [argument], OF_SRUN)


def test_an_argument_stands_once_and_others_are_taken() -> None:
    check_arguments(
        "a", ["--hold", "--comment=a --nodes=2", "--time-min=30", "--switches=1@30:00", "--nice"], OF_SBATCH
    )
    check_arguments("a", ["--mpi=none", "--container-name=a", "--gpu-bind=closest", "--cpu-bind=cores"], OF_SRUN)
    with pytest.raises(WordError, match="has --comment twice"):
        check_arguments("a", ["--comment=a", "--hold", "--comment=b"], OF_SBATCH)
    assert [split(word) for word in ("--hold", "--a=b=c", "--a=")] == [("hold", None), ("a", "b=c"), ("a", "")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("A-B", "'A-B', expected letters, digits and _; nearest is A_B"),
        ("1A", "nearest is _1A"),
        ("A=B", "nearest is A_B"),
        ("MASTER_ADDR", "MASTER_ADDR, which is set in each job"),
        ("SLURM_CPU_BIND", "nearest is srun_args"),
        ("RESNET_BENCH_RUN_ID", "which is set in each job"),
        ("OMP_NUM_THREADS", "OMP_NUM_THREADS, which is decided by another key; nearest is cpus_per_task"),
    ],
)
def test_variables_that_a_job_has_already_are_refused(name: str, said: str) -> None:
    with pytest.raises(WordError) as raised:
        check_variables("cluster=a: env", ["NCCL_DEBUG", name], {"OMP_NUM_THREADS": "cpus_per_task"})
    assert str(raised.value).startswith("cluster=a: env of ") and said in str(raised.value)
