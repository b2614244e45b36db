"""Which runs may stand beside the paper's figures, and why the others may not."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from results.identity import benchmark_of
from results.published.figure import Net
from results.published.schedules import SCHEDULES, Schedule
from results.store.schema import Row
from results.words import parse_json

__all__ = ["Kind", "Standing", "also", "copy_of", "last_attempts", "marks_of", "net_of", "run_of", "standing"]

Kind = Literal["paper", "reduced", "other"]


@dataclass(frozen=True)
class Standing:
    """Where a run that trained a net of the paper's on its data may be shown.

    Attributes:
        kind: "paper" beside the paper's figures; "reduced" apart, since it did less; "other" apart, since it did
            something else.
        why: what keeps it apart; empty where nothing does.
        copy: which copy of the images it read; "" for the lossless one.
    """

    kind: Kind
    why: str
    copy: str


def also(stands: Standing, kind: Kind, why: str) -> Standing:
    """The same with one more reason to stand apart; of this kind where there was none before."""
    return replace(
        stands, kind=kind if stands.kind == "paper" else stands.kind, why=", ".join(filter(None, (stands.why, why)))
    )


def last_attempts(rows: Iterable[Row]) -> list[Row]:
    """Return each run's last attempt, in the order in which runs are first met; a run counts once, by how it ended."""
    last: dict[str, Row] = {}
    for row in rows:
        known = last.get(row["run_id"])
        if known is None or (row.get("restart_count") or 0) > (known.get("restart_count") or 0):
            last[row["run_id"]] = row
    return list(last.values())


def net_of(row: Row) -> Net | None:
    """The network of a row of `runs` or `evaluations`; None where it does not say."""
    if row.get("family") is None or row.get("depth") is None or row.get("shortcut") is None:
        return None
    stride = row.get("stride") or "v1"
    # Only bottlenecks have a 1x1 convolution that the stride could have been in.
    if row["family"] != "imagenet" or row["depth"] < 50:
        stride = "v1"
    return Net(row["family"], row["depth"], row["shortcut"], stride)


def run_of(row: Row) -> str:
    """The run that trained what a row of `evaluations` or `lesions` is of; "" where none is named."""
    return (row.get("trained_by") or "").rpartition(".")[0]


def copy_of(sample: str | None, schedule: Schedule) -> str:
    """What is said of the images that were read; "" for the lossless copy that the paper read."""
    if sample is None:
        return "copy of the images not recorded"
    return "" if sample == schedule.sample else sample


def standing(row: Row) -> Standing | None:
    """Judge a run by its last attempt.

    Returns:
        None where it says nothing of the paper: a benchmark of another kind, made-up images or other data.
    """
    schedule = SCHEDULES.get(row.get("dataset") or "")
    if schedule is None or benchmark_of(row) != "training" or row.get("synthetic") or row.get("loader") == "synthetic":
        return None
    copy = copy_of(row.get("sample"), schedule)
    differs, length = _differences(row, schedule), _length(row, schedule)
    # Runs of different length, or with other numbers, share no line: everything that differs is said of each.
    if row.get("scale") == "small":
        return Standing("reduced", ", ".join(["scale=small", *_recipe(row), *differs, *length]), copy)
    if recipe := _recipe(row):
        return Standing("other", ", ".join([*recipe, *differs, *length]), copy)
    if differs:
        beside = [f"{word}, the paper {value:g}" for word, value in differs.items()]
        return Standing("other", ", ".join([*beside, *length]), copy)
    more = (_steps(row) or 0) > schedule.steps
    return Standing("other" if more else "reduced" if length else "paper", ", ".join(length), copy)


def _recipe(row: Row) -> list[str]:
    """Another recipe than the paper's; empty where it is that."""
    return [] if row.get("recipe") == "paper" else [f"recipe={row.get('recipe') or 'not recorded'}"]


def _differences(row: Row, schedule: Schedule) -> dict[str, float]:
    """What differs from the numbers of the paper's recipe, but for its length: "lr=0.2" and the paper's value."""
    wanted = {
        "global_batch": schedule.global_batch, "lr": schedule.lr, "weight_decay": schedule.weight_decay,
        "image_size": schedule.image_size, "num_classes": schedule.num_classes,
    }  # fmt: skip
    return {
        f"{name}={'not recorded' if row.get(name) is None else format(row[name], 'g')}": value
        for name, value in wanted.items()
        if row.get(name) != value
    }


def _length(row: Row, schedule: Schedule) -> list[str]:
    """What a run did less or more than the paper: steps, and training images; empty where neither."""
    steps, images = _steps(row), row.get("images_per_epoch")
    if steps is None:
        return ["its number of steps is not recorded"]
    said = [f"{steps:,} of {schedule.steps:,} steps"] if steps < schedule.steps else []
    said += [f"{steps:,} steps, the paper {schedule.steps:,}"] if steps > schedule.steps else []
    # Images that fill no batch are left out of an epoch.
    if images <= schedule.train_images - row["global_batch"]:
        said.append(f"{images:,} of {schedule.train_images:,} training images")
    return said


def _steps(row: Row) -> int | None:
    """Optimizer steps that a completed run took: as counted, else as planned; None where neither is known."""
    images, batch, epochs = row.get("images_per_epoch"), row.get("global_batch"), row.get("epochs")
    if not images or not batch:
        return None
    if row.get("steps_completed") is not None:
        return int(row["steps_completed"])
    if epochs is None:
        return None
    planned = epochs * (images // batch)
    return min(planned, row["steps_cap"]) if row.get("steps_cap") else planned


def marks_of(row: Row) -> tuple[str, ...]:
    """What a reader must know of a row's code: changes that no commit has, an unknown commit, attempts that differ."""
    marks = []
    if row.get("git_commit") is None:
        marks.append("commit unknown")
    if row.get("dirty"):
        marks.append("dirty code")
    if row.get("mixed"):
        marks.append(f"mixed: {', '.join(_names(row['mixed']))}")
    return tuple(marks)


def _names(mixed: str) -> list[str]:
    """Columns in which a run's attempts were computed differently."""
    try:
        found: Any = parse_json(mixed)
    except ValueError:
        return ["unreadable"]
    return sorted(found) if isinstance(found, dict) else ["unreadable"]
