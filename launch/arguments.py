"""Further arguments and variables of a site profile: they may not say what the launcher says itself."""

import re
from collections.abc import Iterable, Mapping

from bench.config.grammar import WordError
from bench.config.slurm import OF_RANKS

__all__ = ["CACHES", "check_arguments", "check_variables", "split"]

RANKS = "ranks_per_node= of the command line"
GPUS = "gpus_per_node, or gres"
ITSELF = "the launcher"
# What is decided elsewhere: a key of the profile of the same name, or of this one.
OF_BOTH = {
    "cpus-per-task": "cpus_per_task", "cpus-per-gpu": "cpus_per_task",
    "gpus": GPUS, "gpus-per-node": GPUS, "gres": GPUS,
    "nodes": "nodes= of the command line", "ntasks": RANKS, "ntasks-per-node": RANKS, "tasks-per-node": RANKS,
    "ntasks-per-gpu": RANKS, "mem": "mem", "mem-per-cpu": "mem", "mem-per-gpu": "mem", "exclusive": "exclusive",
    "oversubscribe": "exclusive", "share": "exclusive", "time": "time", "job-name": ITSELF, "output": ITSELF,
    "error": ITSELF, "input": ITSELF, "open-mode": ITSELF, "export": "env", "help": ITSELF, "usage": ITSELF,
    "version": ITSELF, "wait": ITSELF,
}  # fmt: skip
OF_SBATCH = {
    **{name: name for name in ("account", "partition", "qos", "constraint", "reservation", "exclude")}, **OF_BOTH,
    "gpus-per-task": GPUS, "signal": "signal_lead_s", "requeue": ITSELF, "no-requeue": ITSELF, "array": ITSELF,
    "wrap": ITSELF, "test-only": ITSELF, "parsable": ITSELF, "export-file": "env", "get-user-env": "env",
}  # fmt: skip
OF_SRUN = {
    **OF_BOTH, "unbuffered": ITSELF, "kill-on-bad-exit": ITSELF, "jobid": ITSELF, "pty": ITSELF, "multi-prog": ITSELF,
    "container-image": "image", "container-mounts": "mounts", "container-workdir": "container_workdir",
    "container-mount-home": "mount_home", "no-container-mount-home": "mount_home", "container-env": "env",
}  # fmt: skip
# Folder below `caches` by the variable that names it: compiled Triton kernels, those of torch.compile, what the driver
# has compiled, extensions of torch and DeepSpeed, and what kernels=auto has chosen.
CACHES = {
    "TRITON_CACHE_DIR": "triton", "TORCHINDUCTOR_CACHE_DIR": "inductor", "CUDA_CACHE_PATH": "cuda",
    "TORCH_EXTENSIONS_DIR": "extensions", "RESNET_BENCH_CACHE": "choices",
}  # fmt: skip


def check_arguments(where: str, arguments: Iterable[str], decided: Mapping[str, str]) -> None:
    """Check extra arguments of sbatch or srun.

    Args:
        where: the profile and the key.
        arguments: each `--name` or `--name=value`.
        decided: what decides an option, by its name.

    Raises:
        WordError: another form, one of these options or a short form of its name, or an option twice.
    """
    seen: set[str] = set()
    for argument in arguments:
        found = re.fullmatch(r"--([a-z][a-z0-9-]*)(?:=.*)?", argument)
        if not found:
            words = argument.lstrip("-").split(maxsplit=1)
            near = "--" + "=".join(words) if argument.startswith("--") and len(words) == 2 else "--name=value"
            raise WordError(f"{where} has {argument}, expected --name or --name=value; nearest is {near}")
        name = found[1]
        # Both commands take the beginning of a name for the whole.
        taken = name if name in decided else next((option for option in decided if option.startswith(name)), None)
        if taken:
            by = decided[taken]
            choice = "leave it out" if by == ITSELF or "command line" in by else f"nearest is the key {by}"
            raise WordError(f"{where} has {argument}, but --{taken} is decided by {by}; {choice}")
        if name in seen:
            raise WordError(f"{where} has --{name} twice; leave one of them out")
        seen.add(name)


def split(argument: str) -> tuple[str, str | None]:
    """Return an argument's name without its dashes, and its value; None where it has none."""
    name, equals, value = argument.removeprefix("--").partition("=")
    return name, value if equals else None


def check_variables(where: str, variables: Iterable[str], decided: Mapping[str, str]) -> None:
    """Check names of environment variables for ranks.

    Args:
        where: the profile and the key.
        decided: which key decides a variable, by its name.

    Raises:
        WordError: no name of a variable, one of Slurm's or of the launcher's own, or one that a key decides.
    """
    for name in variables:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            near = re.sub(r"^(?=[0-9])|[^A-Za-z0-9_]", "_", name)
            raise WordError(f"{where} of {name!r}, expected letters, digits and _; nearest is {near}")
        if name in decided:
            raise WordError(f"{where} of {name}, which is decided by another key; nearest is {decided[name]}")
        if name in OF_RANKS or re.match(r"(SLURM|SBATCH|SALLOC|SRUN|SUBMITIT|PYXIS)_", name):
            raise WordError(f"{where} of {name}, which is set in each job; nearest is srun_args, or leave it out")
