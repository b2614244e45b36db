"""Site profiles: what a cluster needs to know besides what is measured, one YAML file each."""

import os
import re
import stat
import subprocess
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from bench.config.grammar import WordError
from bench.config.paths import absolute
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
        if self.setup and (fault := _fault_of_shell(self.setup)):
            raise WordError(f"{where}: setup: {fault}")

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
    values = _values(name, FOLDER / "default.yaml") | _values(name, known[name])
    return ClusterConfig(name=name, **values)


def _values(name: str, path: Path) -> dict[str, Any]:
    """What a file has of the keys of a profile, each of its type."""
    where = f"cluster={name}: {path}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise WordError(f"{where} is not a file")
        # Nodes, not values: YAML takes 0123 for 83, 12:00:00 for 43200 and `no` for false. Here a scalar is what stands
        # in the file.
        root = yaml.compose(path.read_bytes(), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise WordError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise WordError(f"{where} is nested too deep; expected keys, and lists or names below them") from None
    except OSError as error:
        raise WordError(f"{where}: {error.strerror or error}") from None
    if root is None or _is_null(root):
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise WordError(f"{where} holds no keys")
    kinds = {option.name: option.type for option in fields(ClusterConfig) if option.name != "name"}
    found: dict[str, Any] = {}
    for key_node, node in root.value:
        key = str(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or a map"
        if key not in kinds:
            near = suggestion(key, kinds)
            choice = f"nearest is {near}" if near else f"choose from {', '.join(kinds)}"
            raise WordError(f"{where} has {key!r}, which is no key; {choice}")
        if key in found:
            raise WordError(f"{where} has {key} twice; leave one of them out")
        found[key] = _value(f"cluster={name}: {key}", kinds[key], node, lines=key == "setup")
    return found


def _value(where: str, kind: Any, node: yaml.Node, *, lines: bool) -> Any:
    """What a node holds, as the type of its key; with `lines` its texts may have several."""
    if kind == list[str]:
        if not isinstance(node, yaml.SequenceNode):
            raise WordError(f"{where}{_shown(node)}, expected a list such as [a, b], or []")
        return [_text(f"{where}, item {number}", item, lines) for number, item in enumerate(node.value, 1)]
    if kind == dict[str, str]:
        if not isinstance(node, yaml.MappingNode):
            raise WordError(f"{where}{_shown(node)}, expected names with a value each, or {{}}")
        pairs: dict[str, str] = {}
        for name_node, one in node.value:
            name = _text(f"{where}, a name", name_node, lines)
            if name in pairs:
                raise WordError(f"{where} has {name} twice; leave one of them out")
            pairs[name] = _text(f"{where} of {name}", one, lines)
        return pairs
    if kind == str | None and _is_null(node):
        return None
    text = _text(where, node, lines)
    if kind is not int:
        return text
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise WordError(f"{where}={text}, expected a whole number")
    return int(text)


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in ("", "~", "null", "Null", "NULL")


def _text(where: str, node: yaml.Node, lines: bool) -> str:
    """The text of a node, as it stands: a line break would end a line of the batch script."""
    if not isinstance(node, yaml.ScalarNode) or _is_null(node):
        raise WordError(f"{where}{_shown(node)}, expected a text")
    text = str(node.value)
    if node.tag != yaml.BaseLoader.DEFAULT_SCALAR_TAG:
        raise WordError(f"{where}={text}, expected it without the tag {node.tag}")
    if not text.strip():
        raise WordError(f"{where} is empty; leave it out")
    odd = [char for char in text if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp")]
    if odd := [char for char in odd if not (lines and char in "\n\t")]:
        raise WordError(f"{where}={text}, expected {'text' if lines else 'one line'} without {odd[0]!r}")
    return text


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return " is null" if _is_null(node) else f"={node.value}"
    return " is a list" if isinstance(node, yaml.SequenceNode) else " is a map"


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
