"""What a store has of the paper's networks: errors of the last epoch, grouped by everything they are comparable by."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from results.paper.rules import Kind, last_attempts, marks_of, net_of, standing
from results.published.figure import Metric, Net
from results.statistics import Mean, mean_of
from results.store.files import BadFile, read_rows
from results.store.schema import Row

__all__ = [
    "ENSEMBLE",
    "TRAINED",
    "WEIGHTS",
    "Group",
    "Label",
    "Store",
    "Value",
    "gone_on_from",
    "grouped",
    "of_counts",
    "of_runs",
    "read",
]

TRAINED, WEIGHTS, ENSEMBLE = "trained here", "weights of no run", "ensemble"


@dataclass(frozen=True, kw_only=True)
class Label:
    """What values must share to be of one group.

    Attributes:
        net: None for an ensemble.
        system: its name.
        bn: "running" or "exact"; "" for a count.
        bn_images: that exact statistics were taken over; None where not recorded, and for any others.
        copy: of the images; "" for the lossless one.
        origin: "trained here", "weights of no run" or "ensemble".
        of: whose figure it is, where it is averaged with no other's: hash of the file of weights, members of an
            ensemble, or a run that is not in the store. Nothing says that another file is a repetition of it.
        why: what keeps them apart from the paper's figures.
    """

    net: Net | None
    system: str
    dataset: str
    metric: Metric
    protocol: str
    bn: str
    bn_images: int | None = None
    copy: str = ""
    origin: str = TRAINED
    of: str = ""
    kind: Kind = "paper"
    why: str = ""


@dataclass(frozen=True)
class Value:
    """One run's figure: of its last epoch, a fraction for errors.

    Attributes:
        run_id: of the run, or the first digits of the file's hash where no run saved these weights.
        when: the run began, or its weights were evaluated where it is not known; orders values of one seed.
    """

    value: float
    run_id: str
    seed: int | None
    when: str
    commit: str | None = None
    marks: tuple[str, ...] = ()


@dataclass
class Group:
    """Values that may be averaged, one a seed.

    Attributes:
        repeats: runs of a seed that was there already; the first counts, so that no better one can be chosen.
    """

    label: Label
    values: list[Value]
    repeats: list[str] = field(default_factory=list)

    @property
    def mean(self) -> Mean:
        return mean_of([one.value for one in self.values])

    @property
    def best(self) -> float:
        return min(one.value for one in self.values)

    @property
    def seeds(self) -> list[int]:
        return sorted(one.seed for one in self.values if one.seed is not None)

    @property
    def marks(self) -> list[str]:
        """What is said of any of its runs, and of several commits."""
        found = sorted({mark for one in self.values for mark in one.marks})
        commits = {one.commit for one in self.values}
        return found + ([f"{len(commits)} commits"] if len(commits) > 1 else [])


@dataclass(eq=False)
class Store:
    """Rows as they were read.

    Attributes:
        runs: the last attempt of each run.
        evaluations: of test images.
        bad: files that cannot be read.
    """

    root: Path
    runs: list[Row]
    evaluations: list[Row]
    bad: list[BadFile]


def read(root: Path) -> Store:
    """Read what the paper's tables are filled from."""
    runs, bad = read_rows(root, "runs")
    evaluations, more = read_rows(root, "evaluations")
    runs = [row for row in runs if row.get("run_id")]
    evaluations = [row for row in evaluations if row["split"] == "test"]
    return Store(root, sorted(last_attempts(runs), key=when_of), evaluations, [*bad, *more])


def gone_on_from(runs: Iterable[Row]) -> set[str]:
    """Ids of the runs that a completed one went on from: it is their end."""
    words = [word for row in runs if row["status"] == "completed" for word in (row.get("lineage") or "").split()]
    return {word.partition("@")[0].rpartition(".")[0] for word in words}


def when_of(row: Row) -> str:
    """What orders runs, and evaluations, in time."""
    moment = row.get("created") or row.get("run_start") or row.get("init_start")
    # Ids begin with their time.
    return f"{moment.isoformat() if moment else ''} {row.get('run_id') or ''}"


def finite(value: float | None) -> bool:
    """Whether a figure is there."""
    return value is not None and math.isfinite(value)


def grouped(pairs: Iterable[tuple[Label, Value]]) -> list[Group]:
    """Group values by their label: of one run the first that is given, of one seed the run that began first."""
    groups: dict[Label, Group] = {}
    there: set[tuple[Label, str]] = set()
    for label, value in pairs:
        if (label, value.run_id) not in there:
            there.add((label, value.run_id))
            groups.setdefault(label, Group(label, [])).values.append(value)
    for group in groups.values():
        kept: list[Value] = []
        seeds: set[int] = set()
        for value in sorted(group.values, key=lambda one: one.when):
            if value.seed in seeds:
                group.repeats.append(value.run_id)
                continue
            kept.append(value)
            if value.seed is not None:
                seeds.add(value.seed)
        group.values = kept
    return list(groups.values())


def of_runs(store: Store, *, top5: bool = True) -> tuple[list[tuple[Label, Value]], list[str]]:
    """The last epoch's error of each completed training run on the paper's data.

    Args:
        top5: whether the top-5 error on ImageNet is wanted as well, for which each run's epochs are read.

    Returns:
        Label and value each; and lines on runs that do not count.
    """
    found: list[tuple[Label, Value]] = []
    unfinished: list[str] = []
    gone_on = gone_on_from(store.runs)
    notes: list[str] = []
    for row in store.runs:
        net, stands = net_of(row), standing(row)
        if net is None or stands is None:
            continue
        if row["status"] != "completed":
            if row["run_id"] not in gone_on:
                unfinished.append(row["run_id"])
            continue
        if row.get("eval_protocol") is None or not finite(row.get("final_top1")):
            notes.append(f"run {row['run_id']}: no accuracy of its last epoch, or no protocol, is recorded")
            continue
        errors: list[tuple[Metric, float]] = [("top-1 error", 1 - row["final_top1"])]
        if top5 and row["dataset"] == "imagenet":
            accuracy, bad = _last_top5(store.root, row)
            notes += [f"cannot be read: {file.path}: {file.reason}" for file in bad]
            if accuracy is not None and finite(accuracy):
                errors.append(("top-5 error", 1 - accuracy))
            else:
                notes.append(f"run {row['run_id']}: no top-5 error of its last epoch can be read")
        bn = row.get("bn_span")
        marks = (*marks_of(row), *([f"BN over {bn} images"] if bn else []))
        for metric, error in errors:
            # Training evaluates with the momentum averages of batch normalization.
            label = Label(
                net=net, system=net.name, dataset=row["dataset"], metric=metric, protocol=row["eval_protocol"],
                bn="running", copy=stands.copy, kind=stands.kind, why=stands.why,
            )  # fmt: skip
            found.append(
                (label, Value(error, row["run_id"], row.get("seed"), when_of(row), row.get("git_commit"), marks))
            )
    if unfinished:
        some = ", ".join(unfinished[:3]) + (", ..." if len(unfinished) > 3 else "")
        notes.append(f"{len(unfinished)} failed or killed runs do not count: {some}")
    return found, notes


def _last_top5(root: Path, row: Row) -> tuple[float | None, list[BadFile]]:
    """Top-5 accuracy of the epoch that a run ended with, None where not known; and files that cannot be read."""
    rows, bad = read_rows(root, "epochs", [row["run_id"]])
    epochs = [one for one in rows if one["run_id"] == row["run_id"]]
    last = max(epochs, key=lambda one: (one["epoch"] or 0, one["restart"] or 0), default=None)
    # Only the epoch that the run ended with: the file of a later attempt may be lost.
    if last is None or (row.get("epochs_completed") is not None and last["epoch"] != row["epochs_completed"]):
        return None, bad
    return last.get("top5"), bad


def of_counts(store: Store, sizes: Sequence[tuple[str, int, int]]) -> list[tuple[Label, Value]]:
    """Parameters and multiply-adds that runs of any kind have counted.

    Args:
        sizes: dataset with its image size and classes, at which the published counts are.
    """
    found: list[tuple[Label, Value]] = []
    families = {"imagenet": "imagenet", "cifar": "cifar10"}
    for row in store.runs:
        net = net_of(row)
        dataset = families.get(net.family, "") if net else ""
        if net is None or (dataset, row.get("image_size"), row.get("num_classes")) not in sizes:
            continue
        metrics: tuple[Metric, Metric] = ("parameters", "multiply-adds")
        for metric, column in zip(metrics, ("parameters", "multiply_adds"), strict=True):
            if row.get(column) is not None:
                label = Label(net=net, system=net.name, dataset=dataset, metric=metric, protocol="count", bn="")
                # A count has no seed: those of all runs are shown where they differ.
                found.append((label, Value(row[column], row["run_id"], None, when_of(row), None, marks_of(row))))
    return found
