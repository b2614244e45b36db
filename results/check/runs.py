"""The runs of a store as a check sees them: what each may be compared with, where it ran, and what is wrong with it."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from results.identity import key_of, named_as_of_pairs, parts_of
from results.store.files import BadFile, read_file, read_table, table_files
from results.store.load import stem
from results.store.schema import STOPPED_KINDS, Row, to_rows
from results.words import counted

__all__ = [
    "Kernel",
    "PairSet",
    "Pairs",
    "Run",
    "Runs",
    "began",
    "changed",
    "kind_of",
    "load",
    "load_kernels",
    "load_pairs",
    "named_as_of_pairs",
    "written",
]

# Of the table `runs`, what a check reads: what `results.identity.parts_of` needs, and the rest.
PART_COLUMNS = (
    "benchmark", "engine", "config_json", "sample", "dataset_hash", "hardware", "threads_per_rank", "loader_threads",
    "choices_hash", "mixed", "node_shared",
)  # fmt: skip
COLUMNS = (
    "run_id", "restart_count", "status", "recovered", "failure_kind", "failure_message", "git_commit", "dirty",
    *PART_COLUMNS, "dataset", "family", "depth", "shortcut", "stride", "kernels", "loader", "precision", "nodes",
    "world_size", "global_batch", "synthetic", "seed", "slurm_job_id", "array_task", "init_start", "init_stop",
    "run_start", "run_stop", "elapsed_s", "train_s", "target_top1", "null_reasons", "images_per_s", "step_ms_p50",
    "tta_s", "epochs_to_target", "final_top1", "peak_mem_bytes",
)  # fmt: skip
NEVER = datetime(1, 1, 1, tzinfo=UTC)
_NAME = re.compile(
    r"(?:(\d{8}T\d{6})-)?(.*?)(?:-[0-9a-f]{8})?(?:-job[\d_]+)?"
)  # its time, what it is, chance or its job
AHEAD = timedelta(hours=1)  # that a clock of another machine may be before ours
CLOCKS = (("init_start", "init_stop"), ("init_start", "run_start"), ("run_start", "run_stop"))


@dataclass(frozen=True)
class Run:
    """The last attempt of a run.

    Attributes:
        row: of `runs`, with `COLUMNS`.
        root: of the store that has it.
        parts: of its comparability.
        key: their hash.
    """

    row: Row
    root: Path
    parts: Mapping[str, Any]
    key: str

    @property
    def run_id(self) -> str:
        return str(self.row["run_id"])

    @property
    def completed(self) -> bool:
        return self.row["status"] == "completed"

    @property
    def failed(self) -> bool:
        """Whether it ended badly by itself; so does one that does not say how it ended.

        One that was killed did where its failure has a kind of its own: out of memory, a lost rank. One that somebody
        stopped did not. One that was recovered and has no kind did: it ended by no signal that it could see, and while
        only its journal was there it counted as well.
        """
        if self.row["status"] == "killed":
            unsaid = () if self.row["recovered"] else (None, "unknown")
            return self.row["failure_kind"] not in (*unsaid, *STOPPED_KINDS)
        return not self.completed

    @property
    def ended(self) -> str:
        """How it ended, in words."""
        return f"{self.row['status'] or 'without a status'} ({self.row['failure_kind'] or 'unknown'})"

    @property
    def allocation(self) -> str:
        """Which nodes it was given, once: runs of one job share it. Without Slurm every start is one."""
        job, task = self.row["slurm_job_id"], self.row["array_task"]
        return self.run_id if job is None else f"slurm-{job}" + ("" if task is None else f"_{task}")

    @property
    def started(self) -> datetime:
        """When its training began, or else the attempt; the beginning of time where it does not say."""
        return _started(self.row)

    @property
    def commit(self) -> str | None:
        """What it was made of, "COMMIT+" where the checkout had changes; None where that is not known."""
        commit = self.row["git_commit"]
        return f"{commit}+" if commit and self.row["dirty"] else commit or None

    @property
    def commit_label(self) -> str:
        """Its commit in words."""
        return f"{self.commit[:12]}{'' if self.clean else '+'}" if self.commit else "no known commit"

    @property
    def clean(self) -> bool:
        """Whether its commit is known and is all that it was made of."""
        return self.commit is not None and not self.commit.endswith("+")

    @cached_property
    def shape(self) -> tuple[Any, Any]:
        """What was measured, whatever measured it: where these are equal a difference is one of machine or software."""
        return self.parts["benchmark"], repr(self.parts["configuration"])

    @cached_property
    def label(self) -> str:
        """Its cell in a few words, such as "resnet20A digits dali torch deepspeed bf16 x2"."""
        row = self.row
        plain = row["shortcut"] == "none"
        net = f"{'plain' if plain else 'resnet'}{row['depth']}{'' if plain else row['shortcut'] or ''}"
        words = [net, "" if row["stride"] in (None, "v1") else row["stride"]]
        if self.parts["benchmark"] == "training":
            words += [row["sample"] or row["dataset"], row["loader"], row["kernels"], row["engine"]]
        else:
            words += [self.parts["benchmark"], row["kernels"]]
        words += [row["precision"], f"x{row['world_size']}"]
        return " ".join(str(word) for word in words if word)


@dataclass
class Runs:
    """What a store holds.

    Attributes:
        by_id: the last attempt of each run, whatever became of it.
        faults: lines about files and rows that are left out, and why.
        unusable: of the same, those of a run, by its id.
        unread: likewise, of runs of which the file of the last attempt cannot be read.
        unlisted: lines about folders of which the files are not even known.
        began: when those that are unusable or unread began, by id: as the id says, or else the row or the file.
    """

    by_id: dict[str, Run] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unusable: dict[str, str] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    unlisted: list[str] = field(default_factory=list)
    began: dict[str, datetime] = field(default_factory=dict)

    def leave_out(self, row: Row, why: str) -> None:
        """Leave a run out."""
        run_id = row["run_id"]
        self.unusable[run_id] = why
        self.began[run_id] = began(run_id) or _started(row)
        self.faults.append(f"run={run_id}: left out, {why}")


def _started(row: Row) -> datetime:
    started: datetime = row["run_start"] or row["init_start"] or NEVER
    return started


def kind_of(run_id: str) -> str:
    """Return what an id says of the kind of its run, such as "resnet20A-digits"; "" where it says nothing."""
    found = _NAME.fullmatch(run_id)
    return found[2] if found else ""


def began(run_id: str) -> datetime | None:
    """Return when a run began by its id; None where that does not say."""
    found = _NAME.fullmatch(run_id)
    try:
        return datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC) if found and found[1] else None
    except ValueError:
        return None


def load(root: Path, run_ids: Iterable[str] | None = None, more: Iterable[str] = ()) -> Runs:
    """Read the runs of a store, of chosen ids or all; what cannot be used is left out and said.

    Args:
        more: columns of rows beside `COLUMNS`.
    """
    table, bad = read_table(root, "runs", run_ids, columns=list(dict.fromkeys((*COLUMNS, *more))))
    loaded = Runs(faults=list(map(str, bad)))
    last: dict[str, Row] = {}
    for row in to_rows(table):
        run_id = row["run_id"]
        if not run_id:
            loaded.faults.append(f"{root}: a row of runs has no run id")
            continue
        before = last.get(run_id)
        if before is None or (row["restart_count"] or 0) > (before["restart_count"] or 0):
            last[run_id] = row
        elif row["restart_count"] == before["restart_count"]:
            loaded.faults.append(f"run={run_id}: attempt {row['restart_count']} has two rows; the first counts")
    for one in bad:
        run_id, restart = stem(one.path.name)
        if one.path.suffix != ".parquet":
            loaded.unlisted.append(str(one))
        elif run_id and not (run_id in last and _attempt(restart) <= (last[run_id]["restart_count"] or 0)):
            last.pop(run_id, None)  # how it ended is in what cannot be read
            loaded.unread[run_id] = str(one)
            loaded.began[run_id] = began(run_id) or changed(one.path)
    known: dict[tuple[Any, ...], tuple[dict[str, Any], str]] = {}
    for row in last.values():
        if fault := _clock_fault(row):
            loaded.leave_out(row, f"its clock goes backwards: {fault}")
            continue
        # Most rows repeat the parts of another but for the seed; to parse each is most of the time for 20,000.
        facts = tuple(row[name] for name in PART_COLUMNS)
        try:
            if facts not in known:
                parts = parts_of(row)
                known[facts] = parts, key_of(parts)
        except ValueError as error:
            loaded.leave_out(row, str(error).removeprefix(f"run {row['run_id']}: "))
            continue
        loaded.by_id[row["run_id"]] = Run(row, root, *known[facts])
    return loaded


def _attempt(restart: str) -> float:
    """The number of an attempt as its file is named; that which is none may be the last."""
    return int(restart) if restart.isdecimal() else math.inf


def written(root: Path, run_ids: Iterable[str]) -> dict[str, datetime]:
    """Return when the file of each run was last changed, by id, for those that do not say when they began."""
    found: dict[str, datetime] = {}
    for path in table_files(root, "runs", run_ids) if (run_ids := set(run_ids)) else []:
        run_id = stem(path.name)[0]
        found[run_id] = max(found.get(run_id, NEVER), changed(path))
    return found


def changed(path: Path) -> datetime:
    """Return when a file was last changed; the beginning of time where it is gone."""
    try:
        return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
    except OSError:  # gone meanwhile
        return NEVER


def _clock_fault(row: Row) -> str | None:
    for earlier, later in CLOCKS:
        if row[earlier] and row[later] and row[later] < row[earlier]:
            return f"{later} {row[later]:%FT%TZ} is before {earlier} {row[earlier]:%FT%TZ}"
    for name in ("elapsed_s", "train_s", "tta_s"):
        if row[name] is not None and (math.isfinite(row[name]) and row[name] < 0):
            return f"{name} is {row[name]:g}"
    if row["tta_s"] is not None and row["elapsed_s"] is not None and row["tta_s"] > row["elapsed_s"] * (1 + 1e-9):
        return f"tta_s {row['tta_s']:g} is after the end, elapsed_s {row['elapsed_s']:g}"
    named, started = began(row["run_id"]), _started(row)
    if named and NEVER < started < named - AHEAD:  # a queue makes it begin later than it was named, never earlier
        return f"it began {started:%FT%TZ}, before {named:%FT%TZ}, which its id says"
    return None


@dataclass(frozen=True)
class PairSet:
    """Interleaved pairs of one `bench.pairs`, in the order in which they ran.

    Attributes:
        pairs_id: of the command.
        pairs: ids of the runs of a and of b; a side alone is none.
    """

    pairs_id: str
    pairs: list[tuple[str, str]]


@dataclass
class Pairs:
    """The pairs of a store.

    Attributes:
        sets: the latest last.
        run_ids: of every run that was made for a pair, whole or not.
        unread: lines about files and rows that cannot be read.
    """

    sets: list[PairSet] = field(default_factory=list)
    run_ids: set[str] = field(default_factory=set)
    unread: list[str] = field(default_factory=list)


def load_pairs(root: Path) -> Pairs:
    """Read the pairs of a store."""
    table, bad = read_table(root, "pairs")
    found = Pairs(unread=list(map(str, bad)))
    sides: dict[str, dict[int, dict[str, str]]] = {}
    for row in to_rows(table):
        if row["run_id"]:
            found.run_ids.add(row["run_id"])
        if row["run_id"] and row["pair"] is None and row["side"] is None:
            continue  # made for a pair, and not one of its sides: it failed, or did not count
        if row["pairs_id"] and row["pair"] is not None and row["run_id"] and row["side"] in ("a", "b"):
            sides.setdefault(row["pairs_id"], {}).setdefault(row["pair"], {})[row["side"]] = row["run_id"]
        else:
            found.unread.append(f"{root}: a row of pairs without its pair, side or run")
    found.sets = [
        PairSet(name, [(both["a"], both["b"]) for _, both in sorted(pairs.items()) if len(both) == 2])
        for name, pairs in sorted(sides.items())
    ]
    return found


Kernel = tuple[str, ...]  # op, backend, shape, dtype, layout, l2


def load_kernels(root: Path, run_ids: Iterable[str]) -> tuple[dict[str, dict[Kernel, Row]], list[str]]:
    """Read the kernels that the last attempts of runs timed, by run and kernel, and lines about what is left out.

    The last attempt is that of the row of `runs`; those of others do not count, nor what a file has twice.
    """
    names = ("op", "backend", "shape", "dtype", "layout", "l2")
    columns = ["run_id", *names, "p50", "status"]
    wanted = set(run_ids)
    attempts: dict[str, set[int]] = {}
    for path in table_files(root, "kernels", wanted):
        run_id, restart = stem(path.name)
        if restart.isdecimal():
            attempts.setdefault(run_id, set()).add(int(restart))
    # Rows do not say of which attempt they are: where one may be of an earlier one, files are read by themselves.
    last = _last_attempts(root, wanted)
    mixed = {run_id for run_id, found in attempts.items() if found != {last.get(run_id, 0)}}
    table, bad = read_table(root, "kernels", wanted - mixed, columns=columns)
    rows, faults = to_rows(table), list(map(str, bad))
    for path in table_files(root, "kernels", mixed) if mixed else []:
        run_id, restart = stem(path.name)
        if restart.isdecimal() and int(restart) != last.get(run_id, 0):
            faults.append(f"run={run_id}: kernels of attempt {restart} left out, attempt {last.get(run_id, 0)} counts")
            continue
        try:
            rows += [{name: row[name] for name in columns} for row in to_rows(read_file(path, "kernels"))]
        except ValueError as error:
            faults.append(str(BadFile(path, str(error))))
    found: dict[str, dict[Kernel, Row]] = {}
    twice: dict[str, dict[Kernel, None]] = {}
    for row in rows:
        kernel = tuple(row[name] or "-" for name in names)
        if kernel in found.setdefault(row["run_id"], {}):
            twice.setdefault(row["run_id"], {})[kernel] = None
        found[row["run_id"]][kernel] = row
    for run_id, kernels in twice.items():
        for kernel in kernels:
            del found[run_id][kernel]
        such = " ".join(next(iter(kernels)))
        faults.append(f"run={run_id}: {counted(len(kernels), 'kernel')} left out that it has twice, such as {such}")
    return {run_id: kernels for run_id, kernels in found.items() if kernels}, faults


def _last_attempts(root: Path, run_ids: Iterable[str]) -> dict[str, int]:
    """The last attempt of each run that has a row."""
    table, _ = read_table(root, "runs", run_ids, columns=["run_id", "restart_count"])
    found: dict[str, int] = {}
    for row in to_rows(table):
        found[row["run_id"]] = max(found.get(row["run_id"], 0), row["restart_count"] or 0)
    return found
