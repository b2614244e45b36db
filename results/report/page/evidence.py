"""What the page is made from: the runs of a store, each read once, the check's verdicts, and what cannot be read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from results.check.baselines import events, faults_of, stands_by_id
from results.check.gather import AHEAD, HOURS, gather
from results.check.judge import judge
from results.check.runs import NEVER, Run, Runs, load, load_pairs, named_as_of_pairs
from results.check.verdict import Finding
from results.history.series import History, histories
from results.identity import canonical, flat_parts
from results.listing.filters import matching
from results.listing.settings import is_synthetic
from results.store.files import journals, read_rows
from results.store.schema import SCHEMAS, Row
from results.words import ConfigError, chosen_ids, counted, printable

__all__ = ["MOST_POINTS", "RECENT", "Evidence", "Group", "gathered", "groups_of", "marks_of", "recent"]

MORE = (
    "sample", "recipe", "experiment", "scale", "extension", "kernels_choices", "epochs", "images_per_epoch",
    "steps_completed", "epochs_completed", "best_top1", "data_wait_frac", "system_id", "nodelist", "cuda_graph",
    "eval_protocol", "batch_per_device", "warmup_steps", "resumed_from", "lineage",
)  # fmt: skip
# Of an id, with what a benchmark adds, such as "-triton-graph".
_CHANCE = re.compile(r"[0-9a-f]{8}(?:-[a-z][a-z-]*)?$")
HISTORY_METRIC = "images_per_s"
MOST_POINTS = 120  # of a cell, the latest, in which changes are looked for: of more it would take too long
OF_A_SYSTEM = 3  # runs, the latest, of which one has its row
RECENT = 5  # runs of a cell, the latest, that a figure of today is the median of
# Of a cell's comparability: what a table over depth and shortcut has on its axes, and what follows from these.
_AXES = (
    "configuration.depth", "configuration.shortcut", "configuration.extension",
    "configuration.activation_checkpointing", "kernels", "version",
)  # fmt: skip


@dataclass
class Evidence:
    """A store as the page shows it.

    Attributes:
        made: when it was read, UTC.
        runs: the last attempt of each run that was asked for, in the order in which they began; not those of pairs.
        findings: of the check.
        check: what the check could not say otherwise, line by line.
        judged: which runs the check judged, in words.
        faults: what cannot be read or used, line by line.
        running: journals of runs that have no rows yet.
        filtered: the words by which runs were chosen; "" for all.
        spoilt: runs of the newest night that cannot be used, by id why.
    """

    root: Path
    made: datetime
    runs: list[Run]
    findings: list[Finding] = field(default_factory=list)
    check: list[str] = field(default_factory=list)
    judged: str = ""
    faults: list[str] = field(default_factory=list)
    running: list[Path] = field(default_factory=list)
    filtered: str = ""
    spoilt: dict[str, str] = field(default_factory=dict)

    @cached_property
    def ids(self) -> dict[str, str]:
        """The end of each run's id that no other run's has: from its chance on, or longer; whole without chance."""
        ids = sorted(run.run_id for run in self.runs)
        found: dict[str, str] = {}
        for one in ids:
            chance = _CHANCE.search(one)
            width = len(chance[0]) if chance else len(one)
            while width < len(one) and sum(other.endswith(one[-width:]) for other in self._alike(one)) > 1:
                width += 1
            found[one] = printable(one[-width:].lstrip("-_."))
        return found

    @cached_property
    def _by_last(self) -> dict[str, list[str]]:
        by_last: dict[str, list[str]] = {}
        for run in self.runs:
            by_last.setdefault(run.run_id[-3:], []).append(run.run_id)
        return by_last

    def _alike(self, run_id: str) -> list[str]:
        """Ids that end alike; of thousands only these are compared."""
        return self._by_last[run_id[-3:]]

    @cached_property
    def by_id(self) -> dict[str, Run]:
        return {run.run_id: run for run in self.runs}

    @cached_property
    def training(self) -> list[Run]:
        """Runs that trained."""
        return [run for run in self.runs if run.parts["benchmark"] == "training"]

    @cached_property
    def systems(self) -> dict[str, Row]:
        """By run the system of its last attempt; of a run without such a row there is none.

        A system's id is the hash of its row: thousands of runs share a few, and of each system a few files are read.
        """
        runs: dict[str, list[str]] = {}
        for run in self.runs:
            if run.row["system_id"] is not None:
                runs.setdefault(run.row["system_id"], []).append(run.run_id)
        few = {run_id for ids in runs.values() for run_id in ids[-OF_A_SYSTEM:]}
        rows, bad = read_rows(self.root, "system", few)
        self.faults += [str(one) for one in bad if str(one) not in self.faults]
        by_id = {row["system_id"]: row for row in rows}
        return {run_id: by_id[system] for system, ids in runs.items() if system in by_id for run_id in ids}

    @cached_property
    def histories(self) -> list[History]:
        """The throughput of each cell over time, with the points at which it changed."""
        known, unread = events(self.root)
        self.faults += [one for one in unread if one not in self.faults]
        stands, odd = stands_by_id(known), faults_of(known)
        marks = [event for event in known if stands(event.baseline_id) and event not in odd]
        dated = [run for run in self.training if run.started > NEVER]
        return histories(dated, HISTORY_METRIC, {}, marks, MOST_POINTS)

    @property
    def changed(self) -> list[History]:
        """Histories with a change."""
        return [one for one in self.histories if len(one.segments) > 1]

    def short(self, run_ids: Iterable[str], most: int = 6) -> str:
        """Runs by their short ids, the latest ones, and how many more there are."""
        every = list(run_ids)
        more = f" and {len(every) - most} more" if len(every) > most else ""
        return " ".join(self.ids.get(run_id, printable(run_id)) for run_id in every[-most:]) + more


@dataclass(frozen=True)
class Group:
    """Cells that differ in depth and shortcut alone.

    Attributes:
        label: what they share, in words.
        cells: runs by depth and shortcut, in the order in which they began.
    """

    label: str
    cells: Mapping[tuple[int, str], Sequence[Run]]

    @property
    def family(self) -> str:
        return str(next(iter(self.cells.values()))[0].row["family"])

    @property
    def runs(self) -> list[Run]:
        return [run for runs in self.cells.values() for run in runs]

    @property
    def latest(self) -> str:
        """Its latest run's id, which no other group has."""
        return max(self.runs, key=lambda run: (run.started, run.run_id)).run_id


def gathered(
    root: Path, filters: Mapping[str, Sequence[Any]], run: Sequence[str], now: datetime | None = None
) -> Evidence:
    """Read a store; one that is empty or missing is no error.

    Args:
        filters: by column the values and ranges that a run may have.
        run: ids, or starts or ends of ids; none for all.
        now: the time; None for that of the clock.

    Raises:
        ConfigError: a word means no run.
    """
    now = now or datetime.now(UTC)
    loaded = load(root, more=MORE + tuple(name for name in filters if name not in MORE))
    paired = load_pairs(root)
    runs = sorted(loaded.by_id.values(), key=lambda one: (one.started, one.run_id))
    chosen = chosen_ids(run, [one.run_id for one in runs]) if run else None
    for column, wanted in filters.items():
        values = pa.chunked_array([[one.row[column] for one in runs]], SCHEMAS["runs"].field(column).type)
        runs = [one for one, suits in zip(runs, matching(values, wanted).to_pylist(), strict=True) if suits]
    if chosen is not None:
        runs = [one for one in runs if one.run_id in chosen]
    if (filters or run) and not runs:
        words = [*(f"{name}={','.join(map(str, wanted))}" for name, wanted in filters.items())]
        raise ConfigError(f"no runs with {' '.join([*words, *(f'run={one}' for one in run)])} in {root}")
    late = [one for one in runs if one.started > now + AHEAD]
    runs = [one for one in runs if one.started <= now + AHEAD]
    of_pairs = paired.run_ids | set(filter(named_as_of_pairs, loaded.by_id))
    words = [
        f"{name}={','.join(map(str, wanted))}" for name, wanted in {**filters, **({"run": run} if run else {})}.items()
    ]
    found = Evidence(
        root=root, made=now, runs=[one for one in runs if one.run_id not in of_pairs],
        faults=[*loaded.faults, *paired.unread, *_of_the_future(late, now)], running=_journals(root),
        filtered=" ".join(words),
    )  # fmt: skip
    _judge(found, loaded, now)
    return found


def _of_the_future(late: Sequence[Run], now: datetime) -> list[str]:
    """What to say of runs that begin after the page is made: whose clock is wrong cannot be known."""
    if not late:
        return []
    ids = ", ".join(run.run_id for run in late[:3]) + (", ..." if len(late) > 3 else "")
    return [f"{counted(len(late), 'run')} said to begin after {now:%Y-%m-%d %H:%M} UTC, when this was made: {ids}"]


def _journals(root: Path) -> list[Path]:
    try:
        return journals(root)
    except OSError:  # said by whatever else reads it
        return []


def _judge(found: Evidence, loaded: Runs, now: datetime) -> None:
    """Judge the newest night of the store, which may be long ago: a page of an old store is a page of that night."""
    newest = max((run.started for run in found.runs if NEVER < run.started), default=None)
    if newest is None:
        return
    of = "of those chosen" if found.filtered else "in the store"
    found.judged = f"runs that began in the {HOURS:g} hours up to {newest:%Y-%m-%d %H:%M} UTC, the newest {of}"
    try:
        evidence = gather(found.root, now=newest, loaded=loaded)
        own = found.by_id
        found.spoilt = dict(evidence.spoilt)
        if found.filtered:
            evidence.candidates = [run for run in evidence.candidates if run.run_id in own]
            evidence.whole = False
        found.findings = judge(evidence)
        found.check = list(dict.fromkeys(evidence.faults))
    except ConfigError as error:
        found.check = [str(error)]


def groups_of(runs: Iterable[Run]) -> list[Group]:
    """Group runs whose settings differ in depth and shortcut alone, the group of the newest run first."""
    found: dict[str, list[Run]] = {}
    shared: dict[str, dict[str, str]] = {}
    keys: dict[str, str] = {}
    for run in runs:
        if run.row["depth"] is None or run.row["shortcut"] is None:
            continue
        if run.key not in keys:
            parts = _surroundings(run)
            keys[run.key] = canonical(parts)
            shared.setdefault(keys[run.key], parts)
        found.setdefault(keys[run.key], []).append(run)
    labels = {key: _label(own[-1]) for key, own in found.items()}
    groups = []
    for key, own in sorted(found.items(), key=lambda item: item[1][-1].started, reverse=True):
        alike = [other for other, label in labels.items() if label == labels[key]]
        names = dict.fromkeys(name for other in alike for name in shared[other])
        telling = [name for name in names if len({shared[other].get(name) for other in alike}) > 1]
        said = {name: shared[key][name] for name in telling if shared[key].get(name) not in (None, "null")}
        words = [f"{name.removeprefix('configuration.')}={value}" for name, value in said.items()]
        cells: dict[tuple[int, str], list[Run]] = {}
        for run in own:
            cells.setdefault((run.row["depth"], run.row["shortcut"]), []).append(run)
        groups.append(Group(printable(", ".join([labels[key], *words])), cells))
    return groups


def _surroundings(run: Run) -> dict[str, str]:
    flat = flat_parts(run.parts)
    # A recipe may say of deep nets what it does not say of others, such as their warm-up.
    return {
        name: value if isinstance(value, str) else canonical(value)
        for name, value in flat.items()
        if name not in _AXES and not (name.startswith("configuration.recipe.") and not name.endswith(".name"))
    }


def _label(run: Run) -> str:
    row = run.row
    images = "SYNTHETIC images" if is_synthetic(row) else row["sample"] or row["dataset"]
    words = [
        images, f"recipe {row['recipe']}" if row["recipe"] else None, row["loader"], f"kernels {row['kernels']}",
        row["engine"], row["precision"], f"{row['world_size']} ranks", run.parts["processors"],
    ]  # fmt: skip
    return ", ".join(str(word) for word in words if word)


def marks_of(run: Run) -> list[str]:
    """Return what must be seen beside any figure of a run."""
    row = run.row
    return [
        word
        for word, holds in (
            ("SYNTHETIC images", is_synthetic(row)),
            ("REDUCED (scale=small)", row["scale"] == "small"),
            ("SHARED NODE", row["node_shared"]),
            ("MIXED", row["mixed"]),
            ("resumed: its clock includes the interruption", row["resumed_from"] or row["restart_count"]),
            ("recovered from its journal", row["recovered"]),
            ("changed code", row["dirty"]),
        )
        if holds
    ]


def recent(runs: Sequence[Run]) -> list[Run]:
    """Return the completed runs of a cell that its figures of today are made of."""
    return [run for run in runs if run.completed][-RECENT:]
