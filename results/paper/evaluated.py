"""Errors of saved weights, from the table `evaluations`: of runs here, of files that no run saved, of ensembles."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from results.paper.measured import ENSEMBLE, WEIGHTS, Label, Store, Value, finite, when_of
from results.paper.rules import Kind, Standing, also, copy_of, marks_of, net_of, run_of, standing
from results.published.figure import Metric
from results.published.schedules import SCHEDULES
from results.store.schema import Row

__all__ = ["attempt_of", "of_evaluations", "precision_marks", "run_standing", "weights_standing"]

_ORDER: tuple[Kind, ...] = ("paper", "other", "reduced")


def of_evaluations(store: Store) -> tuple[list[tuple[Label, Value]], list[str]]:
    """The errors of weights on all test images, the latest evaluation of each first.

    Returns:
        Label and value each; and lines on evaluations that cannot be shown.
    """
    runs = {row["run_id"]: row for row in store.runs}
    rows = sorted(store.evaluations, key=lambda row: str(row.get("created") or ""), reverse=True)
    found: list[tuple[Label, Value]] = []
    notes: dict[str, None] = {}  # one for all rows of an evaluation
    for row in rows:
        if row.get("dataset") not in SCHEDULES:
            continue
        if lacking := [name for name in ("protocol", "bn") if row.get(name) is None]:
            notes[f"evaluation {row['evaluation_id']}: no {' and no '.join(lacking)} is recorded: not shown"] = None
            continue
        members = _members(row, rows)
        if _one_net_twice(members):
            notes[f"evaluation {row['evaluation_id']}: an ensemble that has one net twice: not shown"] = None
            continue
        one = _ensemble(row, members, runs) if row.get("member") is None else _member(row, runs)
        if one is None:
            continue
        label, value = one
        metrics: tuple[tuple[Metric, str], ...] = (("top-1 error", "top1"), ("top-5 error", "top5"))
        for metric, column in metrics:
            if finite(row.get(column)) and (metric == "top-1 error" or row["dataset"] == "imagenet"):
                found.append((replace(label, metric=metric), replace(value, value=1 - row[column])))
    return found, list(notes)


def _member(row: Row, runs: Mapping[str, Row]) -> tuple[Label, Value] | None:
    """Label and value of one net's row; None where it says nothing, as of a run that failed."""
    net, stands = net_of(row), _standing(row, runs)
    if net is None or stands is None:
        return None
    run_id = run_of(row)
    label = Label(
        net=net, system=net.name, dataset=row["dataset"], metric="top-1 error", protocol=row["protocol"],
        bn=row["bn"], bn_images=_bn_images(row), copy=stands.copy, kind=stands.kind, why=stands.why,
    )  # fmt: skip
    if not run_id:
        weights = (row.get("weights") or ["unknown"])[0][:12]
        marks = (*marks_of(row), *precision_marks(row, {"precision": "fp32"}, "evaluated"))
        value = Value(0.0, weights, None, str(row.get("created")), row.get("git_commit"), marks)
        return replace(label, origin=WEIGHTS, of=_weights_of(row)), value
    run = runs.get(run_id, {})
    label = label if run else replace(label, of=run_id)
    marks = (*marks_of(run), *(f"evaluated by {mark}" for mark in marks_of(row)))
    marks += precision_marks(row, run, "evaluated")
    seed = run.get("seed", row.get("seed"))
    return label, Value(0.0, run_id, seed, when_of(run or row), run.get("git_commit"), marks)


def _weights_of(row: Row) -> str:
    """The one file or attempt that a net's row is of; without either, the row's own command."""
    return (row.get("weights") or [""])[0] or attempt_of(row) or f"{row['evaluation_id']}/{row.get('member')}"


def attempt_of(row: Row) -> str:
    """The attempt and epoch whose weights a row is of; "" where it does not say."""
    return "" if row.get("trained_by") is None or row.get("epoch") is None else f"{row['trained_by']}@{row['epoch']}"


def _bn_images(row: Row) -> int | None:
    """Images that exact statistics were taken over: few make another figure than many."""
    return row.get("bn_images") if row["bn"] == "exact" else None


def precision_marks(row: Row, run: Row, verb: str) -> tuple[str, ...]:
    """What is said of a row in another precision than the run's own rows are.

    Args:
        verb: what was done to the net, such as "evaluated".
    """
    used = row.get("precision")
    return () if used in (None, run.get("precision")) else (f"{verb} in {used}",)


def _standing(row: Row, runs: Mapping[str, Row]) -> Standing | None:
    """Where an error of one net may be shown: where its weights may, and only of all test images."""
    stands, schedule = weights_standing(row, runs), SCHEDULES[row["dataset"]]
    if stands is not None and row.get("images") != schedule.test_images:
        images = "an unknown number" if row.get("images") is None else f"{row['images']:,}"
        return also(stands, "reduced", f"{images} of {schedule.test_images:,} test images")
    return stands


def weights_standing(row: Row, runs: Mapping[str, Row]) -> Standing | None:
    """Judge the weights that a row is of: as the run that saved them, of its last epoch and at its image size.

    Args:
        row: of `evaluations` or `lesions`, of a dataset of the paper's.
        runs: by id, each its last attempt.

    Returns:
        None where they say nothing of the paper, as those of a run that failed.
    """
    schedule, run = SCHEDULES[row["dataset"]], runs.get(run_of(row), {})
    if row.get("trained_by") is None:
        if row.get("num_classes") not in (None, schedule.num_classes):
            return None
        stands = Standing("paper", "", copy_of(row.get("sample"), schedule))
    else:
        trained = run_standing(row, runs)
        if trained is None:
            return None
        stands, at, whole = trained, row.get("epoch"), run.get("epochs_completed")
        if at is None or at != whole:
            stands = also(
                stands, "reduced", f"weights of epoch {'unknown' if at is None else at} of {whole or 'unknown'}"
            )
    # Of older rows the size is not recorded.
    size = row.get("image_size")
    if size not in (None, run.get("image_size") or schedule.image_size):
        stands = also(stands, "other", f"evaluated at image_size={size}" if stands.why else f"image_size={size}")
    return stands


def run_standing(row: Row, runs: Mapping[str, Row]) -> Standing | None:
    """Judge the run that a row is of, whatever the epoch; otherwise as `weights_standing`."""
    copy = copy_of(row.get("sample"), SCHEDULES[row["dataset"]])
    run = runs.get(run_of(row))
    if run is None:
        return Standing("other", "its run is not in this store", copy)
    trained = standing(run)
    if trained is None or run["status"] != "completed" or run.get("dataset") != row["dataset"]:
        return None
    return replace(trained, copy=copy or trained.copy)


def _members(row: Row, rows: Iterable[Row]) -> list[Row]:
    """The rows of an ensemble's members, by the same protocol; none of a row that is of one net."""
    same = ("evaluation_id", "dataset", "protocol", "bn", "split")
    if row.get("member") is not None:
        return []
    return [
        one for one in rows if one.get("member") is not None and all(one.get(name) == row.get(name) for name in same)
    ]


def _one_net_twice(members: Sequence[Row]) -> bool:
    """Whether two members are one net: averaged with itself it is no ensemble, whichever of its copies was read."""
    hashes = [name for one in members for name in one.get("weights") or []]
    attempts = [name for one in members if (name := attempt_of(one))]
    return any(len(set(names)) < len(names) for names in (hashes, attempts))


def _ensemble(row: Row, members: Sequence[Row], runs: Mapping[str, Row]) -> tuple[Label, Value] | None:
    """As of `_member`; an ensemble stands where the least of its members does."""
    found = [_member(one, runs) for one in members]
    known = [one for one in found if one is not None]
    count = row.get("members") or 0
    if count < 2 or len(known) != count:
        return None
    labels = [label for label, _ in known]
    worst = max(labels, key=lambda label: _ORDER.index(label.kind))
    copies = sorted({label.copy for label in labels} - {""})
    system = f"{count} nets: {', '.join(sorted(label.system for label in labels))}"
    label = Label(
        net=None, system=system, dataset=row["dataset"], metric="top-1 error", protocol=f"ensemble, {row['protocol']}",
        bn=row["bn"], bn_images=_bn_images(row), copy=", ".join(copies), origin=ENSEMBLE, kind=worst.kind,
        why=worst.why, of=" ".join(sorted(map(_weights_of, members))),
    )  # fmt: skip
    marks = tuple(sorted({mark for _, value in known for mark in value.marks}))
    ids = " ".join(sorted({value.run_id for _, value in known}))
    return label, Value(0.0, ids, None, str(row.get("created")), row.get("git_commit"), marks)
