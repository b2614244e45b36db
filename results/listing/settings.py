"""Which settings differ between rows, so that no two rows of different settings look alike."""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from results.identity import benchmark_of, canonical, system_parts
from results.store.schema import SCHEMAS, Row
from results.words import PATH_KEYS, parse_json, printable

# The columns of `runs`, each in one of these groups; a test sees that none is left out.
#
# In every table, though not each in a cell of its own.
ALWAYS = (
    "family", "depth", "shortcut", "extension", "dataset", "sample", "loader", "synthetic", "kernels", "engine",
    "benchmark", "precision", "world_size",
)  # fmt: skip
# Shown whenever they differ, in this order.
CHOSEN = (
    "seed", "lr", "batch_per_device", "epochs", "target_top1", "nodes", "stride", "recipe", "image_size", "num_classes",
    "comm_dtype", "zero_stage", "grad_accum", "weight_decay", "steps_cap", "eval_interval", "warmup_steps",
    "threads_per_rank", "loader_threads", "cuda_graph", "git_commit", "dirty", "hardware", "mixed",
    "node_shared", "activation_checkpointing",
)  # fmt: skip
# What follows from the others: shown where rows that are alike in those differ in it.
FOLLOWING = (
    "ranks_per_node", "global_batch", "bn_span", "eval_protocol", "dataset_hash", "images_per_epoch", "choices_hash",
    "parameters", "multiply_adds", "flops_per_image", "peak_name", "peak_flops_per_s", "snapshot", "scale",
)  # fmt: skip
# Names of things, and what became of a run: never a setting.
OUTCOMES = (
    "run_id", "schema_version", "config_hash", "comparability_key", "comparability_parts", "system_id", "config_json",
    "kernels_choices", "slurm_job_id", "array_task", "restart_count", "nodelist", "status", "failure_kind",
    "failure_message", "init_start", "init_stop", "run_start", "run_stop", "prepare_s", "downtime_s", "best_top1",
    "final_top1", "epochs_to_target", "tta_s", "images_per_s", "step_ms_p50", "step_ms_p95", "data_wait_frac", "mfu",
    "peak_mem_bytes", "energy_j", "null_reasons", "epochs_completed", "steps_completed", "elapsed_s", "active_s",
    "train_s", "instrumentation_s", "recovered", "files_left_out", "decoder_warnings", "resumed_from", "resumed_epoch",
    "resumed_step",
    "lineage", "slurm_gpus", "experiment",
)  # fmt: skip
# Null where a run ended before it was known, or its file is older than the column: not another setting.
_UNKNOWN = {
    "eval_interval", "warmup_steps", "threads_per_rank", "loader_threads", "cuda_graph", "git_commit", "dirty",
    "hardware", "node_shared", *FOLLOWING,
}  # fmt: skip
# Repeats differ in these: what else follows from a configuration is looked for without them.
OF_REPEATS = ("seed", "git_commit", "dirty")
_HEADS = {
    "batch_per_device": "batch",
    "target_top1": "target\ntop-1",
    "git_commit": "commit",
    "steps_cap": "steps\ncap",
}
_HASHES = ("git_commit", "dataset_hash", "choices_hash", "snapshot")
# Keys of config_json that stand in a column of another name.
_IN_COLUMNS = ("batch", "target", "steps")

Read = Callable[[Row], Any]


@dataclass(frozen=True)
class Setting:
    """A setting that differs between rows.

    Attributes:
        name: of its column, or its path in the configuration, such as "recipe.momentum".
        values: of each row.
        texts: the same as shown: different where the values are.
    """

    name: str
    values: tuple[Any, ...]
    texts: tuple[str, ...]

    @property
    def head(self) -> str:
        """Its name over a column, on two lines where it is long."""
        if self.name in _HEADS:
            return _HEADS[self.name]
        cuts = [index for index, char in enumerate(self.name) if char in "_." and len(self.name) > 8]
        cut = min(cuts, key=lambda index: abs(2 * index + 1 - len(self.name)), default=len(self.name))
        return f"{self.name[: cut + 1]}\n{self.name[cut + 1 :]}".strip()

    @property
    def word(self) -> str:
        """Its name before an equals sign, where there is no room for a column."""
        return self.head.partition("\n")[0] if self.name in _HEADS else self.name

    @property
    def numeric(self) -> bool:
        """Whether its values are numbers."""
        kinds = {type(value) for value in self.values if value is not None}
        return bool(kinds) and kinds <= {int, float}


def clean(value: Any) -> Any:
    """Return a value of a row, None for a number that is none: other tools write NaN for what is missing."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def look(row: Row) -> tuple[Hashable, ...]:
    """Return what a table always shows of a row's settings: rows of one look cannot be told apart by it."""
    data = data_name(row)
    loader = "SYNTHETIC" if is_synthetic(row) else row.get("loader")
    shown = (row.get(name) for name in ("family", "depth", "shortcut", "extension", "kernels", "precision"))
    return (*shown, data, loader, ran(row), row.get("world_size"))


def data_name(row: Row) -> Any:
    """Return what the images of a run are called."""
    return row.get("sample") or row.get("dataset")


def is_synthetic(row: Row) -> bool:
    """Whether a run read no real image."""
    return bool(row.get("synthetic")) or row.get("loader") == "synthetic"


def ran(row: Row) -> str:
    """Return what ran: the engine of a training run, else the benchmark."""
    return str(row["engine"]) if benchmark_of(row) == "training" and row.get("engine") else benchmark_of(row)


def differing(rows: Sequence[Row], also: Sequence[str] = ()) -> list[Setting]:
    """Return the settings that must be shown beside `look`: those that were chosen differently, the usual ones first,
    and what else tells rows apart that would look alike.

    Args:
        also: columns that a table does not show, though `look` has them.
    """
    chosen = [*_chosen(rows), *((name, _column(name)) for name in also)]
    found = [setting for name, read in chosen if (setting := _setting(name, read, rows, name in _UNKNOWN))]
    told = [setting for setting in found if setting.name not in OF_REPEATS]
    looks: list[Any] = [(look(row), *(one.values[index] for one in told)) for index, row in enumerate(rows)]
    shown = {setting.name for setting in found}
    for name, read in _others(rows):
        if name in shown:
            continue
        setting = _setting(name, read, rows, name in _UNKNOWN)
        if setting is None:
            continue
        alike: dict[Any, set[Any]] = {}
        # Two folders of images that are called the same are never to be taken for one, whatever else differs.
        keys: list[Any] = [data_name(row) for row in rows] if name == "dataset_hash" else looks
        if name == "snapshot":  # of another commit it is another one
            keys = [(row.get("git_commit"), row.get("dirty")) for row in rows]
        for key, value in zip(keys, setting.values, strict=True):
            if value is not None or name not in _UNKNOWN:
                alike.setdefault(key, set()).add(value)
        if any(len(values) > 1 for values in alike.values()):
            found.append(setting)
            shown.add(name)
            looks = [(*key, value) for key, value in zip(looks, setting.values, strict=True)]
    return found


def _setting(name: str, read: Read, rows: Sequence[Row], unknown: bool) -> Setting | None:
    values = tuple(clean(read(row)) for row in rows)
    kinds = set(values) - ({None} if unknown else set())
    if len(kinds) < 2:
        return None
    return Setting(name, values, texts(name, values))


def texts(name: str, values: Sequence[Any]) -> tuple[str, ...]:
    """Return values as they are shown, shortened only as far as they stay different."""
    short = tuple(_short(name, value) for value in values)
    if len(set(short)) < len(set(values)):
        return tuple("-" if value is None else _whole(value) for value in values)
    return short


def _short(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:g}"
    return _whole(value)[:8] if name in _HASHES else _whole(value)


def _whole(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else printable(str(value))


def _column(name: str) -> Read:
    return lambda row: row.get(name)


def _chosen(rows: Sequence[Row]) -> Iterator[tuple[str, Read]]:
    for name in CHOSEN:
        if name != "hardware":
            yield name, _column(name)
            continue
        for part in dict.fromkeys(part for row in rows for part in _system(row.get("hardware"))):
            yield part, lambda row, part=part: _system(row.get("hardware")).get(part)  # type: ignore[misc]


def _others(rows: Sequence[Row]) -> Iterator[tuple[str, Read]]:
    for name in (*FOLLOWING, *ALWAYS):
        yield name, _column(name) if name != "benchmark" else benchmark_of
    for path in dict.fromkeys(path for row in rows for path in _configuration(row.get("config_json"))):
        yield path, lambda row, path=path: _configuration(row.get("config_json")).get(path)  # type: ignore[misc]


@lru_cache(maxsize=1024)
def _system(hardware: str | None) -> dict[str, str]:
    if hardware is None:
        return {}
    processors, versions = system_parts(hardware)
    return {"processors": str(processors), **versions}


@lru_cache(maxsize=4096)
def _configuration(config_json: str | None) -> Mapping[str, Any]:
    """What a configuration has beside the columns, by path; nothing of one that is not JSON."""
    try:
        config = parse_json(config_json or "{}")
    except ValueError:
        return {}
    names = {*SCHEMAS["runs"].names, *_IN_COLUMNS, *PATH_KEYS} - {"recipe"}
    return dict(_flat("", config, names)) if isinstance(config, dict) else {}


def _flat(prefix: str, config: Mapping[str, Any], left_out: set[str]) -> Iterator[tuple[str, Any]]:
    for name, value in config.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{name}.", value, set())
        elif name not in left_out and value is not None:
            yield f"{prefix}{name}", value if isinstance(value, str | int | float) else canonical(value)
