"""Means and deviations over the repeats of one configuration: runs that differ in their seed alone."""

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from results.identity import PARTS_VERSION, key_of, named_as_of_pairs, parts_of
from results.statistics import Mean, RunSummary, mean_of, summary_of_runs
from results.store.schema import Row

# Columns of `runs` that a summary is made of.
NEEDED = (
    "run_id", "restart_count", "status", "failure_kind", "run_start", "target_top1", "synthetic", "epochs_to_target",
    "tta_s", "images_per_s", "final_top1", "seed", "git_commit", "dirty", "config_json", "comparability_key",
    "comparability_parts", "benchmark", "engine", "sample", "dataset_hash", "hardware", "threads_per_rank",
    "loader_threads", "choices_hash", "mixed", "node_shared",
)  # fmt: skip
_OF_PARTS = NEEDED[NEEDED.index("config_json") :]
DOUBLE = "runs have two rows of one attempt and are in no mean"
_CURRENT = f'"version":{PARTS_VERSION}}}'


@dataclass(frozen=True)
class Repeats:
    """Runs of one configuration and what is said of them together.

    Attributes:
        rows: the last attempt of each run, in the order of the report, with the columns `NEEDED` at least.
        places: of these among the rows that were grouped.
        restarted: whether these are runs that were resumed, which are summarised apart.
        paired: whether these are runs of interleaved pairs, which share an allocation, likewise.
        completed: how many ended as planned; images/s and top-1 are averaged over these.
        images_per_s, final_top1: over the completed runs that have them; None where none has.
        time: of time to accuracy, by MLPerf's rule.
        epochs: to the target, over the same runs.
        not_converged: runs that had a target, and ended or ran out of time without reaching it.
        left_out: runs with a target of which nothing is known: killed, or failed before their clock started.
    """

    rows: list[Row]
    places: list[int]
    restarted: bool
    paired: bool
    completed: int
    images_per_s: Mean | None
    final_top1: Mean | None
    time: RunSummary
    epochs: Mean | None
    not_converged: int
    left_out: int


def grouped(rows: Sequence[Row], paired: Container[str] = ()) -> tuple[list[Repeats], list[str]]:
    """Group attempts by configuration, in the order in which these are first met.

    A run counts once, by its last attempt; one that was resumed is summarised apart from those that were not, and so is
    one of interleaved pairs. A run without a configuration is alone.

    Args:
        paired: runs that were made for pairs; those whose ids say so are as well.

    Returns:
        The groups, and notes on what was left out or could not be grouped.
    """
    last: dict[str, int] = {}
    double: set[str] = set()
    nameless = 0
    for place, row in enumerate(rows):
        run_id, count = row.get("run_id"), row.get("restart_count") or 0
        if run_id is None:
            nameless += 1
            continue
        known = last.get(run_id)
        if known is None or count > (rows[known].get("restart_count") or 0):
            last[run_id] = place
            double.discard(run_id)
        elif count == (rows[known].get("restart_count") or 0):
            double.add(run_id)
    groups: dict[Any, list[int]] = {}
    alone = 0
    for run_id, place in sorted(last.items(), key=lambda item: item[1]):
        if run_id in double:
            continue
        row = rows[place]
        key = _key(*(row.get(column) for column in _OF_PARTS))
        alone += key is None
        of_pairs = run_id in paired or named_as_of_pairs(run_id)
        groups.setdefault((key or run_id, bool(row.get("restart_count")), of_pairs), []).append(place)
    notes = []
    if nameless:
        notes.append(f"{nameless} rows without a run id are in no mean")
    if double:
        notes.append(f"{len(double)} {DOUBLE}: {', '.join(sorted(double)[:3])}")
    if alone:
        notes.append(f"{alone} runs have no configuration to be grouped by (config_json); each is by itself")
    return [_summarised([rows[place] for place in own], own, of_pairs) for (*_, of_pairs), own in groups.items()], notes


@lru_cache(maxsize=65536)
def _key(*values: Any) -> str | None:
    """The comparability key of a row; the stored one only where its parts are of this version."""
    row = dict(zip(_OF_PARTS, values, strict=True))
    if row["comparability_key"] and (row["comparability_parts"] or "").endswith(_CURRENT):
        return str(row["comparability_key"])
    try:
        return key_of(parts_of(row))
    except ValueError:
        return None


def outcome(row: Row) -> str:
    """Return what a run says of time to accuracy: "converged", "not converged", "left out", or "" without a target.

    One that reached its target has converged, whatever came after. One that completed, failed or met its time limit
    without reaching it has not. One that was killed for another reason, or failed before its clock started, was not
    given the chance, and is left out.
    """
    if row.get("target_top1") is None or row.get("synthetic"):
        return ""
    seconds = row.get("tta_s")
    if seconds is not None and math.isfinite(seconds):
        return "converged"
    if row.get("epochs_to_target") is not None:  # reached, at a time that is not known
        return "left out"
    if row.get("status") == "completed" or row.get("failure_kind") in ("diverged", "timeout"):
        return "not converged"
    return "not converged" if row.get("status") == "failed" and row.get("run_start") is not None else "left out"


def _summarised(rows: list[Row], places: list[int], paired: bool) -> Repeats:
    outcomes = [outcome(row) for row in rows]
    converged = [row for row, said in zip(rows, outcomes, strict=True) if said == "converged"]
    time = summary_of_runs([row["tta_s"] for row in converged], outcomes.count("not converged"))
    if not any(outcomes):
        time = RunSummary(None, (), 0, "no target")
    completed = [row for row in rows if row.get("status") == "completed"]
    return Repeats(
        rows=rows,
        places=places,
        restarted=bool(rows[0].get("restart_count")),
        paired=paired,
        completed=len(completed),
        images_per_s=_mean([row.get("images_per_s") for row in completed]),
        final_top1=_mean([row.get("final_top1") for row in completed]),
        time=time,
        epochs=_mean([converged[index].get("epochs_to_target") for index in time.averaged]),
        not_converged=outcomes.count("not converged"),
        left_out=outcomes.count("left out"),
    )


def _mean(values: Sequence[float | None]) -> Mean | None:
    known = [value for value in values if value is not None and math.isfinite(value)]
    return mean_of(known) if known else None


def record(one: Repeats) -> Row:
    """Return the figures of a summary by name, exact, for other programs; their settings are not in it."""

    def parts(name: str, mean: Mean | None) -> Row:
        of = (mean.mean, mean.deviation, mean.count) if mean else (None, None, 0)
        return dict(zip((f"{name}_mean", f"{name}_sd", f"{name}_n"), of, strict=True))

    reasons = {}
    if one.time.why:
        reasons["tta_s_mean"] = one.time.why
    for name, mean in (("images_per_s", one.images_per_s), ("final_top1", one.final_top1)):
        if mean is None:
            reasons[f"{name}_mean"] = f"none of {one.completed} completed runs has it"
    return {
        "runs": len(one.rows),
        "completed": one.completed,
        "restarted": one.restarted,
        "of_pairs": one.paired,
        **parts("images_per_s", one.images_per_s),
        **parts("final_top1", one.final_top1),
        **parts("epochs_to_target", one.epochs),
        **parts("tta_s", one.time.time),
        "tta_s_dropped": one.time.dropped,
        "not_converged": one.not_converged,
        "left_out": one.left_out,
        "run_ids": [row["run_id"] for row in one.rows],
        "null_reasons": reasons,
    }
