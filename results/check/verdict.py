"""What a check says: its verdicts, their evidence, and how a whole check ends."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from results.check.confirm import Confirmation
from results.statistics import Interval

__all__ = ["STATUS", "Finding", "Verdict", "exit_status", "worst"]


class Verdict(StrEnum):
    """What is said of one metric of one cell, the worst first."""

    REGRESSION = "regression"
    NOT_COMPARABLE = "not comparable"  # or nothing was measured
    MISSING = "missing"
    INCONCLUSIVE = "inconclusive"
    PASS = "pass"


STATUS = {
    Verdict.PASS: 0,
    Verdict.REGRESSION: 1,
    Verdict.NOT_COMPARABLE: 2,
    Verdict.INCONCLUSIVE: 3,
    Verdict.MISSING: 4,
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One verdict with its evidence; what there is none of is None or empty.

    Attributes:
        cell: in words, see `results.check.runs.Run.label`.
        key: of comparability.
        kernel: of `bench.micro`: op, backend, shape, dtype, layout and state of the L2.
        metric: the column; empty where the verdict is on the cell.
        unit: of the medians.
        against: accepted or pinned; empty where there is nothing to hold it against.
        verdict: of this metric of this cell.
        why: one line.
        improved: whether it is clearly better than the baseline.
        candidate_median, baseline_median: in `unit`; inf where a target was not reached.
        worsening: of the median, a fraction of the baseline's (in `unit` where `absolute`), negative where better.
        higher_is_better: whether the metric's higher values are.
        absolute: whether `worsening`, `floor` and `visible` are in `unit`.
        interval: of the ratio candidate / baseline.
        p: exact, one-sided, of the direction that `worsening` has.
        floor: that the worsening had to be above.
        visible: the least worsening that would have been found with 95%; None where none would.
        visible_faster: likewise of a drop, of a metric that is worse on either side; `visible` is then that of a rise.
        blind: whether on a side that counts nothing would have been found, however large.
        power: the same in words, with what it rests on.
        confirmation: what pairs say.
        pairs_id: which pairs.
        confirm_with: a command whose rows would settle a suspicion.
        compare_with: where no pairs can, a command that shows what else differs between the runs.
        candidates, baseline: ids of the runs.
        beside: of a suspicion, ids of all runs that are to be judged again once pairs have run, failed ones too.
    """

    cell: str
    key: str
    verdict: Verdict
    why: str
    kernel: str = ""
    metric: str = ""
    unit: str = ""
    against: str = ""
    improved: bool = False
    candidate_median: float | None = None
    baseline_median: float | None = None
    worsening: float | None = None
    higher_is_better: bool = False
    absolute: bool = False
    interval: Interval | None = None
    p: float | None = None
    floor: float | None = None
    visible: float | None = None
    visible_faster: float | None = None
    blind: bool = False
    power: str = ""
    confirmation: Confirmation | None = None
    pairs_id: str = ""
    confirm_with: str = ""
    compare_with: str = ""
    candidates: list[str] = field(default_factory=list)
    baseline: list[str] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """Return the worst of some verdicts; nothing at all is nothing measured."""
    found = set(verdicts)
    return next((verdict for verdict in Verdict if verdict in found), Verdict.NOT_COMPARABLE)


def exit_status(findings: Iterable[Finding]) -> int:
    """Return the status that a check ends with: that of its worst verdict."""
    return STATUS[worst(finding.verdict for finding in findings)]
