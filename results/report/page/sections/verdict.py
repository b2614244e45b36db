"""The verdict first: what the check says of the newest runs, how sure it is, and what would settle the rest."""

import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from results.check.output import commands, level_text, moved_text, number
from results.check.verdict import Finding, Verdict, worst
from results.command_line import launch_command
from results.report.page.blocks import Column, Commands, Section, Table, Words
from results.report.page.evidence import Evidence
from results.words import counted, printable

__all__ = ["METRIC_WORDS", "WORDS", "not_measured", "once", "section", "sure", "suspected"]

MOST_ROWS = 60
# How many cells a verdict is of, in words.
WORDS = {
    Verdict.REGRESSION: "worse than what was accepted, confirmed",
    Verdict.NOT_COMPARABLE: "failed, or without a baseline that is comparable",
    Verdict.MISSING: "accepted and not measured",
    Verdict.INCONCLUSIVE: "inconclusive",
    Verdict.PASS: "passing",
}
METRIC_WORDS = {
    "images_per_s": "images/s", "step_ms_p50": "median step", "tta_s": "time to target",
    "epochs_to_target": "epochs to target", "final_top1": "final top-1", "peak_mem_bytes": "peak memory",
    "p50": "kernel time",
}  # fmt: skip
MOST_SAID = 4  # cells that the first sentences name
_BEFORE = re.compile(r" with [\d,]+ runs? of before$")  # a night's runs together with those of nights before


def section(found: Evidence) -> Section:
    """Say what the check found."""
    made = Section("verdict", "Verdict")
    if not found.findings:
        made.status = "nothing judged"
        why = found.check[0] if found.check else "no run has ended here yet" if found.running else "there are no runs"
        made.blocks.append(Words(f"Nothing was judged: {why}.", "lead"))
        return made
    counts = Counter(_by_cell(found.findings).values())
    ending = worst(one.verdict for one in found.findings)
    shown = once(found.findings)
    worse = [one for one in shown if one.verdict is Verdict.REGRESSION or suspected(one)]
    failed = [one for one in shown if one.verdict is Verdict.NOT_COMPARABLE and _of_failed(one, found)]
    missing = [one for one in shown if one.verdict is Verdict.MISSING]
    regressed = {(one.key or one.cell, one.kernel) for one in worse if one.verdict is Verdict.REGRESSION}
    suspects = len({(one.key or one.cell, one.kernel) for one in worse if suspected(one)} - regressed)
    told = [(counts[Verdict.REGRESSION], "regression"), (suspects, "suspected"), (len(failed), "failed"),
            (len(missing), "missing")]  # fmt: skip
    made.status = ", ".join(f"{count} {word}" for count, word in told if count) or f"{counts[ending]} {ending}"
    made.blocks += [Words(line, "lead") for line in _said(worse, found)]
    made.blocks += [Words(line, "lead") for line in _lacking("Failed", failed) + _lacking("Not measured", missing)]
    if found.spoilt:
        ids = ", ".join(list(found.spoilt)[:MOST_SAID]) + (", ..." if len(found.spoilt) > MOST_SAID else "")
        lost = counted(len(found.spoilt), "run")
        made.blocks.append(
            Words(f"{lost} of that night cannot be used, and cells may be missing for it: {ids}.", "lead")
        )
    each = "; ".join(f"{counted(counts[one], 'cell')} {WORDS[one]}" for one in Verdict if counts[one])
    made.blocks.append(Words(f"{each}.", "plain" if worse or failed or missing else "lead"))
    made.blocks.append(
        Words(f"Judged: {found.judged}. A cell is one configuration; runs of other seeds repeat it. Accepted: what "
              "results.baseline was told to hold later runs against.", "note")
    )  # fmt: skip
    bad = [one for one in shown if one.verdict is not Verdict.PASS or one.improved or one.blind]
    bad.sort(key=lambda one: (list(Verdict).index(one.verdict), one.cell, one.metric))
    measured = [one for one in bad if one.metric]
    if measured:
        made.blocks.append(_table(measured, found))
    if without := [one for one in bad if not one.metric]:
        made.blocks.append(_without(without, found))
    if lines := commands(shown, "python"):
        made.blocks.append(Commands("What would settle it, or shows what else differs:", lines))
    if fill := not_measured(found):
        lines = [f"{command}  # {label}" for label, command in fill[:MOST_ROWS]]
        made.blocks.append(Commands("What would fill the cells that were not measured, each with its seeds:", lines))
    passed = [one for one in shown if one not in bad]
    if passed:
        made.blocks.append(_passing(passed, found))
    if found.filtered:
        made.blocks.append(Words("Of chosen runs alone: cells that are missing were not looked for.", "note"))
    if found.check:
        made.blocks.append(Words("The check also says: " + "; ".join(map(printable, found.check[:8])) + ".", "note"))
    again = f"python -m results.check results={shlex.quote(str(found.root))}"
    made.blocks.append(Words(f"The same in a terminal, for the runs of the last hours: {again}", "note"))
    return made


def _by_cell(findings: Iterable[Finding]) -> dict[tuple[str, str], Verdict]:
    cells: dict[tuple[str, str], list[Verdict]] = {}
    for one in findings:
        cells.setdefault((one.key or one.cell, one.kernel), []).append(one.verdict)
    return {cell: worst(verdicts) for cell, verdicts in cells.items()}


def once(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings without those that say of a cell and metric again what another does.

    A night's runs are judged by themselves and together with those before: the first stands for both where they agree.
    Runs of one cell that failed are one line, as is a cell that is missing because they did.
    """
    kept: dict[tuple[object, ...], Finding] = {}
    more: Counter[tuple[object, ...]] = Counter()
    for one in findings:
        cell = _BEFORE.sub("", one.cell)
        # Without a metric the reason tells what failed from what has no baseline.
        why = "" if one.metric else one.why.partition(":")[0]
        key = (one.verdict, cell, one.key, one.kernel, one.metric, one.against, why)
        if key not in kept:
            kept[key] = replace(one, cell=cell)
            continue
        first = kept[key]
        if not one.metric:
            more[key] += 1
            runs = list(dict.fromkeys((*first.candidates, *one.candidates)))
            kept[key] = replace(first, candidates=runs)
    failed = {one.key for one in kept.values() if one.verdict is Verdict.NOT_COMPARABLE and one.candidates}
    return [
        replace(one, why=f"{one.why} (and {counted(more[key], 'run')} more)") if more[key] else one
        for key, one in kept.items()
        if not (one.verdict is Verdict.MISSING and one.key in failed)
    ]


def suspected(one: Finding) -> bool:
    """Whether a finding is a suspicion that pairs are to confirm."""
    return bool(one.confirm_with) and one.verdict is not Verdict.PASS


def _of_failed(one: Finding, found: Evidence) -> bool:
    runs = [found.by_id[run_id] for run_id in one.candidates if run_id in found.by_id]
    return bool(runs) and not any(run.completed for run in runs) and any(run.failed for run in runs)


def not_measured(found: Evidence) -> list[tuple[str, str]]:
    """Return the accepted cells of which the newest night has nothing, and the command for each."""
    lacking = []
    for one in once(found.findings):
        run = next((found.by_id[run_id] for run_id in reversed(one.baseline) if run_id in found.by_id), None)
        if one.verdict is Verdict.MISSING and run is not None:
            seeds = sorted({found.by_id[each].row["seed"] for each in one.baseline if each in found.by_id} - {None})
            command = launch_command(run.parts["configuration"], seeds)
            lacking.append((f"{one.cell} (accepted, and not in the newest night)", command))
    return lacking


def _lacking(what: str, findings: Sequence[Finding]) -> list[str]:
    """A sentence for the cells that have no figure."""
    if not findings:
        return []
    cells = list(dict.fromkeys(f"{one.cell} {one.kernel}".strip() for one in findings))
    more = f" and {len(cells) - MOST_SAID} more" if len(cells) > MOST_SAID else ""
    why = "" if what == "Not measured" else f" ({printable(findings[0].why)[:160]})"
    return [f"{what}: {', '.join(cells[:MOST_SAID])}{more}{why}."]


def _since(cell: Finding, found: Evidence) -> str:
    """When the last change of a cell's throughput was seen that still holds, where one was; "" else."""
    if cell.metric != "images_per_s":
        return ""
    for one in found.changed:
        last = one.segments[-1]
        worse = last.change is not None and last.change < 0
        if worse and any(point.run.run_id in cell.candidates for point in last.points):
            return f", seen since {last.points[0].when:%Y-%m-%d}"
    return ""


def _said(worse: Sequence[Finding], found: Evidence) -> list[str]:
    """A sentence for each cell that is worse: which, by how much, since when, how sure; of its metrics the first."""
    cells: dict[tuple[str, str], Finding] = {}
    for one in sorted(worse, key=lambda one: one.verdict is not Verdict.REGRESSION):
        cells.setdefault((one.cell, one.kernel), one)
    lines = []
    for one in list(cells.values())[:MOST_SAID]:
        kind = "Regression" if one.verdict is Verdict.REGRESSION else "Suspected, not confirmed"
        name = f"{one.cell} {one.kernel}".strip()
        lines.append(
            f"{kind}: {name}, {METRIC_WORDS.get(one.metric, one.metric)} {moved_text(one) or '-'}{_since(one, found)} "
            f"({_statistics(one)})."
        )
    if len(cells) > MOST_SAID:
        lines.append(f"And {counted(len(cells) - MOST_SAID, 'more cell')}, below.")
    return lines


def _table(bad: Sequence[Finding], found: Evidence) -> Table:
    rows = [
        (
            "pass, better" if one.improved else str(one.verdict),
            f"{one.cell} {one.kernel}".strip(),
            METRIC_WORDS.get(one.metric, one.metric) or "-",
            _medians(one),
            moved_text(one) or "-",
            sure(one),
            found.short(one.candidates) if one.candidates else f"baseline {found.short(one.baseline, 2)}",
        )
        for one in bad[:MOST_ROWS]
    ]
    heads = ("verdict", "cell", "metric", "now, before", "change", "how sure", "runs")
    columns = [
        Column(head, right=head == "change", code=head == "runs", wide=head in ("cell", "how sure")) for head in heads
    ]
    note = f"{len(bad) - MOST_ROWS} more: python -m results.check" if len(bad) > MOST_ROWS else ""
    marked = frozenset(place for place, one in enumerate(bad[:MOST_ROWS]) if one.verdict is Verdict.REGRESSION)
    return Table("Not a plain pass, the worst first", columns, rows, marked, note)


def _without(bad: Sequence[Finding], found: Evidence) -> Table:
    """Cells that have no figure of the newest runs, or none that may be compared."""
    alike: dict[tuple[str, str], list[Finding]] = {}  # of one reason, such as that there is no baseline yet
    for one in bad:
        alike.setdefault((str(one.verdict), sure(one)), []).append(one)
    rows = [
        (
            verdict, "; ".join(f"{one.cell} {one.kernel}".strip() for one in own), why,
            found.short(run_id for one in own for run_id in one.candidates) or
            f"baseline {found.short(own[0].baseline, 2)}",
        )
        for (verdict, why), own in list(alike.items())[:MOST_ROWS]
    ]  # fmt: skip
    heads = ("verdict", "cell", "why", "runs")
    columns = [Column(head, code=head == "runs", wide=head in ("cell", "why")) for head in heads]
    note = f"{len(alike) - MOST_ROWS} more: python -m results.check" if len(alike) > MOST_ROWS else ""
    return Table("Cells without a figure to judge", columns, rows, note=note)


def _medians(one: Finding) -> str:
    if one.candidate_median is None:
        return "-"
    unit = "GiB" if one.unit == "bytes" else one.unit
    values = [one.candidate_median, *([one.baseline_median] if one.baseline_median is not None else [])]
    texts = [f"{value / 2**30:.3f}" if one.unit == "bytes" else number(value, one.metric) for value in values]
    return f"{' against '.join(texts)} {unit}".strip()


def _statistics(one: Finding) -> str:
    words = []
    if one.interval and one.interval.low is not None and one.interval.high is not None and one.interval.level:
        words.append(
            f"{level_text(one.interval.level)} interval {one.interval.low - 1:+.1%} to {one.interval.high - 1:+.1%}"
        )
    if one.p is not None:
        words.append(f"exact one-sided p {one.p:.2g}")
        words.append(f"{len(one.candidates)} against {counted(len(one.baseline), 'run')}")
    if one.confirmation is not None:
        pairs = counted(one.confirmation.pairs, "interleaved pair")
        words.append(f"{pairs}: {one.confirmation.outcome}, median change {one.confirmation.median:+.1%} worse")
    return ", ".join(words)


def sure(one: Finding) -> str:
    """Return how sure a verdict is: the interval, the exact test, the pairs, and why it is not surer."""
    why = "a suspicion until interleaved pairs confirm it: the command below"
    why = why if one.confirm_with else printable(one.why)
    return "; ".join(filter(None, (_statistics(one), why))) or "-"


def _passing(passed: Sequence[Finding], found: Evidence) -> Table:
    cells: dict[tuple[str, str], list[Finding]] = {}
    for one in passed:
        cells.setdefault((f"{one.cell} {one.kernel}".strip(), one.key), []).append(one)
    rows = [
        (
            cell,
            ", ".join(dict.fromkeys(METRIC_WORDS.get(one.metric, one.metric) for one in own)),
            own[0].power.removeprefix("could have seen ").partition(" (")[0] or "-",
            found.short(own[0].candidates, 3),
        )
        for (cell, _), own in list(cells.items())[:MOST_ROWS]
    ]
    heads = ("cell", "metrics that pass", "would have seen", "runs")
    columns = [Column(head, code=head == "runs", wide=head in ("cell", heads[1])) for head in heads]
    more = len(cells) - MOST_ROWS
    note = (
        "A cell may pass in some metrics and not in others. Would have seen: the least change of the first of its "
        "metrics that these runs would have shown."
    )
    note += f" {more} more cells: python -m results.check details=true" if more > 0 else ""
    return Table("What passes, by metric", columns, rows, note=note, first=5)
