"""What makes two measurements the same: hashes of configurations, parts of comparability, names of runs and systems.

Two runs may be compared where all the *parts* of their comparability agree: what was measured, on which content, on
which class of system, with which software. The parts are named and kept as JSON beside their hash, so that a refusal
can say which part differs. They follow from a row of `runs` alone, so older rows, which lack the column, have them too.
"""

import hashlib
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from results.words import PATH_KEYS, ConfigError, parse_json

__all__ = [
    "BENCHMARKS", "Difference", "PARTS_VERSION", "benchmark_of", "comparability", "config_hash", "digest",
    "first_difference", "flat_parts", "key_of", "named_as_of_pairs", "new_run_id", "parts_of",
    "slurm_run_id", "system_class", "system_id",
    "system_parts",
]  # fmt: skip

# Version 1 was a hash without named parts, and without the content of the data.
PARTS_VERSION = 2
BENCHMARKS = ("training", "step", "micro")
PACKAGES = ("torch", "deepspeed", "dali")  # whose major and minor version figures depend on
# Of a configuration: what a reader would name first where several keys differ, most of which follow from these.
LEADING = ("family", "dataset", "depth", "shortcut", "stride", "image_size", "num_classes", "nodes", "ranks_per_node")
# Of a configuration, what is no part by itself: paths; the seed, as runs of different seeds are repetitions; and the
# threads that were asked for, since those that were used are a part.
NO_PARTS = (*PATH_KEYS, "seed", "loader_threads")
_OF_PAIRS = re.compile(r".+-pairs-[0-9a-f]{8}-(?:p\d+)?[ab]")  # as `bench.pairs` names its runs
_CLASS = re.compile(r"(?P<hardware>.*);(?P<packages>[^;]*);python(?P<python>[^;]*)")


def canonical(value: Any) -> str:
    """Return the one text of a JSON value: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits of a JSON value's content."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def config_hash(config: Mapping[str, Any]) -> str:
    """Return the hash of what is measured, the seed included; not of where data, rows and weights lie."""
    return digest({name: value for name, value in config.items() if name not in PATH_KEYS})


def system_id(row: Mapping[str, Any]) -> str:
    """Return the content hash (16 hex digits) of a `system` row, whichever run it was written by."""
    content = {key: value for key, value in row.items() if key not in ("system_id", "run_id", "restart")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def system_class(row: Mapping[str, Any]) -> str:
    """Return what two machines must share for their figures to be comparable, as the text of column `hardware`.

    Args:
        row: of `system`.

    Returns:
        Processors and versions, such as "8xNVIDIA H100 80GB HBM3;torch2.13,deepspeed0.19,dali2.4;python3.11".
    """
    count, model = ("gpu_count", "gpu_model") if row["gpu_count"] else ("cpu_cores", "cpu_model")
    packages = ",".join(f"{name}{_minor(row[name])}" for name in PACKAGES)
    return f"{row[count]}x{row[model]};{packages};python{_minor(row['python'])}"


def _minor(version: Any) -> str:
    """Major and minor version: a release that mends faults keeps figures comparable."""
    return ".".join(str(version).split(".")[:2])


def system_parts(text: str | None) -> tuple[str | None, dict[str, str]]:
    """Return processors and versions by name, from what `system_class` made."""
    match = _CLASS.fullmatch(text or "")
    if match is None:  # of a system that is described in another way
        return text, {}
    versions = {"python": match["python"]}
    for word in match["packages"].split(","):
        name = next((name for name in PACKAGES if word.startswith(name)), word)
        versions[name] = word.removeprefix(name)
    return match["hardware"], versions


def benchmark_of(row: Mapping[str, Any]) -> str:
    """Return what a run was, one of `BENCHMARKS`; rows without the column had it in `engine`."""
    if row.get("benchmark") is not None:
        return str(row["benchmark"])
    return str(row["engine"]) if row.get("engine") in BENCHMARKS else "training"


def parts_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the named parts of a run's comparability, in the order in which a difference is looked for.

    Not all of a configuration is in them, see `NO_PARTS`.

    Args:
        row: of `runs`, of any age.

    Raises:
        ValueError: the row has no configuration, or one that is not JSON.
    """
    if not row.get("config_json"):
        raise ValueError(f"run {row.get('run_id')}: has no configuration (config_json), so nothing can be compared")
    try:
        config = parse_json(row["config_json"])
    except ValueError as error:
        raise ValueError(f"run {row.get('run_id')}: config_json is not JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"run {row.get('run_id')}: config_json is {type(config).__name__}, expected an object")
    processors, software = system_parts(row.get("hardware"))
    names = [*(key for key in LEADING if key in config), *(key for key in config if key not in LEADING)]
    # Only where there is any: the keys of all other runs stay as they were.
    mixed = {"mixed": row["mixed"]} if row.get("mixed") else {}
    shared = {"node_shared": True} if row.get("node_shared") else {}
    return {
        "version": PARTS_VERSION,
        "benchmark": benchmark_of(row),
        "configuration": {key: config[key] for key in names if key not in NO_PARTS},
        "data": {"sample": row.get("sample"), "hash": row.get("dataset_hash")},
        "processors": processors,
        "software": software,
        "threads": {"per_rank": row.get("threads_per_rank"), "loader": row.get("loader_threads")},
        "kernels": row.get("choices_hash"),
        **mixed,
        **shared,
    }


def key_of(parts: Mapping[str, Any]) -> str:
    """Return the hash of `parts_of`: equal where two runs may be compared."""
    return digest(parts)


def comparability(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of `runs` that say what a run may be compared with, from the others of its row."""
    parts = parts_of(row)
    return {"comparability_key": key_of(parts), "comparability_parts": canonical(parts)}


@dataclass(frozen=True)
class Difference:
    """The first part in which two runs differ.

    Attributes:
        part: its name, such as "software.torch" or "configuration.batch".
        ours, theirs: its values.
    """

    part: str
    ours: Any
    theirs: Any

    def __str__(self) -> str:
        return f"{self._name} {_shown(self.ours)} against {_shown(self.theirs)}"

    @property
    def moved(self) -> str:
        """In words where ours came first and theirs after it."""
        return f"{self._name} from {_shown(self.ours)} to {_shown(self.theirs)}"

    @property
    def _name(self) -> str:
        group, _, name = self.part.rpartition(".")
        # "per_rank" alone, or "hash", would name nothing.
        return f"{group} {name}" if group in ("threads", "data") else name


def first_difference(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Difference | None:
    """Return the first named part that differs between two results of `parts_of`; None where the keys are equal."""
    mine, other = flat_parts(ours), flat_parts(theirs)
    for part in dict.fromkeys((*mine, *other)):
        if part not in mine or part not in other or canonical(mine[part]) != canonical(other[part]):
            return Difference(part, mine.get(part), other.get(part))
    return None


def flat_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of parts that hold others, under names such as "software.torch", in their order."""
    return dict(_flat("", parts))


def _flat(prefix: str, parts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in parts.items():
        if isinstance(value, dict) and value:
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", value


def _shown(value: Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else canonical(value)


def new_run_id(*words: str) -> str:
    """Return a name that no other run has and that sorts by time: the time, what the run is, and chance."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{'-'.join(words)}-{secrets.token_hex(4)}"


def named_as_of_pairs(run_id: str) -> bool:
    """Return whether an id says that its run was made for interleaved pairs, whatever the table of pairs says."""
    return _OF_PAIRS.fullmatch(run_id) is not None


def slurm_run_id(name: str, configuration_hash: str, environment: Mapping[str, str]) -> str:
    """Return a run's name when only the job knows itself: the same on all ranks, and after a requeue.

    Args:
        name: what the run is.
        configuration_hash: of `config_hash`.
        environment: of a process that Slurm started.

    Raises:
        ConfigError: it is of another.
    """
    array = [environment[key] for key in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if key in environment]
    job = "_".join(array) or environment.get("SLURM_JOB_ID")
    if not job:
        raise ConfigError("SLURM_JOB_ID is missing from the environment; Slurm sets it in every job")
    return f"{name}-{configuration_hash[:8]}-job{job}"
