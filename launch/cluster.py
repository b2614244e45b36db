"""Site profiles: what a cluster needs to know besides what is measured, one YAML file each."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.config.grammar import WordError
from resnet.data import DATASETS
from results.words import nearest, suggestion

FOLDER = Path(__file__).parent / "conf" / "cluster"
VARIABLE = "RESNET_BENCH_CLUSTERS"
CONTAINERS = ("none", "pyxis", "apptainer")


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
    gpus_per_node: int
    cpus_per_task: int
    time: str
    signal_lead_s: int
    interface: str | None
    setup: list[str] = field(default_factory=list)
    container: str
    image: str | None
    mounts: list[str] = field(default_factory=list)
    python: str | None
    data: dict[str, str] = field(default_factory=dict)
    results: str | None

    def __post_init__(self) -> None:
        where = f"cluster={self.name}"
        for name, least in (("gpus_per_node", 0), ("cpus_per_task", 1), ("signal_lead_s", 0)):
            if getattr(self, name) < least:
                raise WordError(f"{where}: {name}={getattr(self, name)}, expected at least {least}")
        if self.container not in CONTAINERS:
            near = nearest(self.container, CONTAINERS)
            raise WordError(
                f"{where}: container={self.container}, expected one of {', '.join(CONTAINERS)}; nearest is {near}"
            )
        if self.container != "none" and not self.image:
            raise WordError(f"{where}: container={self.container} needs an image")
        for dataset in self.data:
            if dataset not in DATASETS:
                raise WordError(
                    f"{where}: data of {dataset!r}, expected one of {', '.join(DATASETS)}; "
                    f"nearest is {nearest(dataset, tuple(DATASETS))}"
                )
        if self.signal_lead_s >= 60 * self.time_min:
            raise WordError(f"{where}: signal_lead_s={self.signal_lead_s} leaves nothing of time={self.time}")

    @property
    def time_min(self) -> int:
        """The time limit in whole minutes, rounded up; Slurm's spellings are in `man sbatch`, --time."""
        found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", self.time.strip())
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


def gpus_here() -> int:
    """GPUs of this machine that a process may use, counted by the driver without starting CUDA."""
    try:
        import pynvml

        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return int(count)
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        return len(visible_gpus(visible, [pynvml.nvmlDeviceGetUUID(handle) for handle in handles]))
    except Exception:  # no driver, in one of NVML's own classes, or no NVML
        return 0


def visible_gpus(visible: str, uuids: Sequence[str]) -> list[str]:
    """What CUDA makes of CUDA_VISIBLE_DEVICES.

    Args:
        visible: indices, or the beginnings of UUIDs, with commas between them.
        uuids: of the GPUs that are there, such as "GPU-1b0c...", by index.

    Returns:
        The UUIDs of those before the first entry that names none: that entry hides the rest. None where one is named
        twice. A MIG instance stands for itself, and a process has only one.

    Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
    """
    found: list[str] = []
    for entry in map(str.strip, visible.split(",")):
        if entry.startswith("MIG-"):
            return found or [entry]
        number = re.match(r"[+-]?\d+", entry)
        alike = [uuid for uuid in uuids if entry.startswith("GPU-") and uuid.startswith(entry)]
        if number:
            index = int(number[0])
            alike = [uuids[index]] if 0 <= index < len(uuids) else []
        if len(alike) != 1:
            break
        if alike[0] in found:
            return []
        found += alike
    return found


def profiles() -> dict[str, Path]:
    """Files of the known profiles by name; one in the folder of RESNET_BENCH_CLUSTERS hides ours."""
    folders = [FOLDER] + ([Path(os.environ[VARIABLE]).expanduser()] if os.environ.get(VARIABLE) else [])
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
    keys = [option.name for option in fields(ClusterConfig) if option.name != "name"]
    values: dict[str, Any] = {}
    for path in (FOLDER / "default.yaml", known[name]):
        try:
            read = yaml.safe_load(path.read_text()) or {}
        except yaml.YAMLError as error:
            raise WordError(f"cluster={name}: {path} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(read, dict):
            raise WordError(f"cluster={name}: {path} holds no keys")
        for key in read:
            if key not in keys:
                near = suggestion(str(key), keys)
                choice = f"nearest is {near}" if near else f"choose from {', '.join(keys)}"
                raise WordError(f"cluster={name}: {path} has {key!r}, which is no key; {choice}")
        values |= read
    if not isinstance(values["time"], str):  # YAML reads 12:00:00 as a number of base 60
        raise WordError(f'cluster={name}: time={values["time"]}, expected it in quotes, as "HH:MM:SS"')
    try:
        typed = OmegaConf.merge(OmegaConf.structured(ClusterConfig), OmegaConf.create(values | {"name": name}))
    except OmegaConfBaseException as error:
        raise WordError(f"cluster={name}: {error.full_key}: {str(error).splitlines()[0]}") from None
    config = OmegaConf.to_object(typed)
    assert isinstance(config, ClusterConfig)
    return config
