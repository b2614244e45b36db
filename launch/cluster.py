"""Site profiles: what a cluster needs to know besides what is measured, one YAML file each."""

import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from bench.config.grammar import WordError
from bench.config.paths import ROOT, absolute
from bench.config.run_config import RunConfig
from launch.arguments import CACHES, OF_SBATCH, OF_SRUN, check_arguments, check_variables
from launch.profile_file import read
from resnet.data import DATASETS
from results.words import nearest

FOLDER = Path(__file__).parent / "conf" / "cluster"
VARIABLE = "RESNET_BENCH_CLUSTERS"
CONTAINERS = ("none", "pyxis", "apptainer")
# It keeps Slurm from filling in the names of logs.
NO_BACKSLASH = "Slurm writes no logs below a name with a backslash"
# Place of the number of GPUs in `gres`.
GPUS = "{gpus}"


@dataclass(kw_only=True)
class ClusterConfig:
    """A site profile; `conf/cluster/example.yaml` explains the keys, `default.yaml` has the defaults.

    Attributes:
        time: limit of a job, in any of Slurm's spellings.
        signal_lead_s: seconds before the limit at which a job is told to stop.
        data: folder by dataset.
    """

    name: str
    account: str | None
    partition: str | None
    qos: str | None
    constraint: str | None
    reservation: str | None
    exclude: str | None
    exclusive: bool
    mem: str | None
    gpus_per_node: int
    gres: str | None
    cpus_per_task: int
    numa: bool
    time: str
    signal_lead_s: int
    sbatch_args: list[str] = field(default_factory=list)
    srun_args: list[str] = field(default_factory=list)
    interface: str | None
    env: dict[str, str] = field(default_factory=dict)
    setup: list[str] = field(default_factory=list)
    container: str
    image: str | None
    mounts: list[str] = field(default_factory=list)
    mount_home: bool
    container_workdir: str | None
    python: str | None
    caches: str | None
    data: dict[str, str] = field(default_factory=dict)
    results: str | None

    def __post_init__(self) -> None:
        where = f"cluster={self.name}"
        for name, least in (("gpus_per_node", 0), ("cpus_per_task", 1), ("signal_lead_s", 0)):
            if getattr(self, name) < least:
                raise WordError(f"{where}: {name}={getattr(self, name)}, expected at least {least}")
        for dataset in self.data:
            if dataset not in DATASETS:
                raise WordError(
                    f"{where}: data of {dataset!r}, expected one of {', '.join(DATASETS)}; "
                    f"nearest is {nearest(dataset, tuple(DATASETS))}"
                )
        if self.signal_lead_s >= 60 * self.time_min:
            raise WordError(f"{where}: signal_lead_s={self.signal_lead_s} leaves nothing of time={self.time}")
        self._check_resources(where)
        self._check_container(where)
        check_arguments(f"{where}: sbatch_args", self.sbatch_args, OF_SBATCH)
        check_arguments(f"{where}: srun_args", self.srun_args, OF_SRUN | ({"cpu-bind": "numa"} if self.numa else {}))
        check_variables(f"{where}: env", self.env, self._decided_variables())
        if self.setup and (fault := _fault_of_shell(self.setup)):
            raise WordError(f"{where}: setup: {fault}")

    def _check_resources(self, where: str) -> None:
        if self.mem and not re.fullmatch(r"(0|[1-9][0-9]{0,9})[KMGT]?", self.mem):
            raise WordError(f"{where}: mem={self.mem}, expected a node's memory such as 200G")
        if self.mem and self.mem.rstrip("KMGT") == "0" and not self.exclusive:
            raise WordError(
                f"{where}: mem={self.mem} is all of a node, which exclusive=false leaves to others too; nearest is "
                "exclusive: true, or a part such as mem: 64G"
            )
        if self.gres and not self.gpus_per_node:
            raise WordError(f"{where}: gres={self.gres} asks for GPUs, and gpus_per_node=0 has none; leave it out")
        if self.gres and (self.gres.count(GPUS) != 1 or re.search(r"[{}]", self.gres.replace(GPUS, ""))):
            near = re.sub(r":?(\d+|\{\w*\}?)?$", "", self.gres.partition(",")[0])
            raise WordError(
                f"{where}: gres={self.gres}, expected {GPUS} once, where the number of a job's GPUs on a node is to "
                f"stand; nearest is gres: {near}:{GPUS}"
            )
        if self.numa and not self.gpus_per_node:
            raise WordError(f"{where}: numa=true is about GPUs, and gpus_per_node=0 has none; nearest is numa: false")

    def _check_container(self, where: str) -> None:
        if self.container not in CONTAINERS:
            near = nearest(self.container, CONTAINERS)
            raise WordError(
                f"{where}: container={self.container}, expected one of {', '.join(CONTAINERS)}; nearest is {near}"
            )
        if self.container != "none" and not self.image:
            raise WordError(f"{where}: container={self.container} needs an image")
        for name in ("image", "mounts", "mount_home", "container_workdir"):
            if self.container == "none" and getattr(self, name):
                raise WordError(f"{where}: {name} is of a container, and container=none; leave out one of the two")
        if self.caches:
            self._check_path("caches", self.caches)
        if self.results and "\\" in self.results:
            raise WordError(f"{where}: results={self.results}: {NO_BACKSLASH}; rename it")
        for mount in self.mounts:
            parts = mount.split(":")
            if len(parts) > 3 or not all(parts):
                raise WordError(f"{where}: mounts has {mount}, expected HOST or HOST:CONTAINER, and :FLAGS behind it")
            if sign := self._unmountable(parts):
                raise WordError(f"{where}: mounts has {mount}: {self._says(sign)}")

    def _decided_variables(self) -> dict[str, str]:
        """The keys by which variables are set, by variable."""
        decided = {"OMP_NUM_THREADS": "cpus_per_task", "PYTHONPATH": "setup, as export PYTHONPATH=/FOLDER"}
        if self.interface:
            decided |= dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"), "interface")
        if not self.gpus_per_node:
            decided["DS_ACCELERATOR"] = "gpus_per_node"
        return decided | (dict.fromkeys(CACHES, "caches") if self.caches else {})

    def check_paths(self, config: RunConfig) -> None:
        """See that the folders of a run can be mounted in the container, if there is one.

        Raises:
            WordError: one has a sign in its name that cannot be said to the container.
        """
        for name, path in {"checkout": str(ROOT), **folders(config)}.items():
            self._check_path(name, path)

    def _check_path(self, name: str, path: str) -> None:
        if self.container != "none" and (sign := self._unmountable([path], ":")):
            raise WordError(f"cluster={self.name}: {name}={path} cannot be mounted: {self._says(sign)}")

    def _unmountable(self, paths: Iterable[str], signs: str = "") -> str:
        # What pyxis hands to enroot is a file of mounts, whose fields end at blanks; apptainer reads its list as CSV.
        signs += "," + (" \t" if self.container == "pyxis" else '"')
        return next((char for path in paths for char in path if char in signs), "")

    def _says(self, sign: str) -> str:
        return f"{self.container} takes {sign!r} for the end of a path; rename it, or name a link to it"

    @property
    def time_min(self) -> int:
        """The time limit in whole minutes, rounded up; Slurm's spellings are in `man sbatch`, --time."""
        found = re.fullmatch(r"(?:([0-9]{1,9})-)?([0-9]{1,9})(?::([0-9]{1,9}))?(?::([0-9]{1,9}))?", self.time.strip())
        if not found:
            raise WordError(f"cluster={self.name}: time={self.time}, expected HH:MM:SS, D-HH:MM:SS, MM:SS or minutes")
        days, *rest = found.groups()
        first, second, third = (int(part or 0) for part in rest)
        if days is not None or rest[2] is not None:
            hours, minutes, seconds = first, second, third
        else:
            hours, minutes, seconds = 0, first, second
        total_s = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
        return -(-total_s // 60)


def profiles() -> dict[str, Path]:
    """Files of the known profiles by name; one in the folder of RESNET_BENCH_CLUSTERS hides ours."""
    folders = [FOLDER] + ([absolute(os.environ[VARIABLE])] if os.environ.get(VARIABLE) else [])
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load(name: str) -> ClusterConfig:
    """Read a site profile over the defaults.

    Raises:
        WordError: an unknown profile, key, type or value; one line with the nearest valid one.
    """
    known = profiles()
    if name not in known:
        raise WordError(
            f"cluster={name}: no such profile in {FOLDER} or ${VARIABLE}; choose from "
            f"{', '.join(known)} (nearest: cluster={nearest(name, list(known))})"
        )
    kinds = {option.name: option.type for option in fields(ClusterConfig) if option.name != "name"}
    paths = (FOLDER / "default.yaml", known[name])
    values = {key: value for path in paths for key, value in read(f"cluster={name}", path, kinds).items()}
    return ClusterConfig(name=name, **values)


def _fault_of_shell(lines: Sequence[str]) -> str:
    """Why the shell cannot read lines to their end and go on behind them; empty where it can."""
    text = "\n".join(lines)
    if (len(text) - len(text.rstrip("\\"))) % 2:
        return "ends in a backslash, which takes in the next line of the script"
    # Of a here-document without an end it warns, and no more. Patterns of extglob are what a line may have switched on.
    words = ["bash", "-O", "extglob", "-n"]
    try:
        said = subprocess.run(words, input=f"{text}\n".encode(), capture_output=True, env={"LC_ALL": "C"}).stderr
    except OSError:  # no bash here: that of the job will say so
        return ""
    return said.decode(errors="replace").partition("\n")[0].removeprefix("bash: ")


def folders(config: RunConfig) -> dict[str, str]:
    """The folders that a run reads or writes, by the key that names them."""
    files = {"save": config.save, "resume": config.resume}
    found = {"data": config.data, "results": config.results}
    return {
        **{name: path for name, path in found.items() if path},
        **{name: os.path.dirname(path) for name, path in files.items() if path},
    }
