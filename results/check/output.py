"""Findings as people and machines read them: a table, JSON, Parquet and JUnit."""

import json
import math
import os
import shlex
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from rich import box
from rich.table import Table
from rich.text import Text

from results.check.verdict import Finding, Verdict, exit_status, worst
from results.words import counted, printable

__all__ = ["as_arrow", "as_json", "as_junit", "as_rows", "as_table", "level_text", "moved_text", "summary"]

STYLES = {
    Verdict.PASS: "green", Verdict.REGRESSION: "bold red", Verdict.NOT_COMPARABLE: "magenta",
    Verdict.INCONCLUSIVE: "yellow", Verdict.MISSING: "magenta",
}  # fmt: skip
TEXT, REAL, INT, FLAG, TEXTS = pa.string(), pa.float64(), pa.int64(), pa.bool_(), pa.list_(pa.string())
SCHEMA = pa.schema(
    [
        ("cell", TEXT), ("comparability_key", TEXT), ("kernel", TEXT), ("metric", TEXT), ("unit", TEXT),
        ("against", TEXT), ("verdict", TEXT), ("improved", FLAG), ("why", TEXT), ("confirm_with", TEXT),
        ("compare_with", TEXT),
        ("candidate_median", REAL), ("baseline_median", REAL), ("worsening", REAL), ("absolute", FLAG),
        ("ratio", REAL), ("ratio_low", REAL), ("ratio_high", REAL), ("ratio_level", REAL), ("p", REAL),
        ("floor", REAL), ("visible", REAL), ("visible_faster", REAL), ("power", TEXT), ("pairs", INT),
        ("pairs_median", REAL), ("pairs_outcome", TEXT), ("pairs_id", TEXT), ("candidates", TEXTS), ("baseline", TEXTS),
    ]
)  # fmt: skip


def as_rows(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as rows of `SCHEMA`; inf, a target that was not reached, stays inf."""
    rows = []
    for one in findings:
        interval, pairs = one.interval, one.confirmation
        rows.append(
            {
                "cell": one.cell, "comparability_key": one.key, "kernel": one.kernel or None,
                "metric": one.metric or None, "unit": one.unit or None, "against": one.against or None,
                "verdict": str(one.verdict), "improved": one.improved, "why": one.why or None,
                "confirm_with": one.confirm_with or None, "compare_with": one.compare_with or None,
                "candidate_median": one.candidate_median, "baseline_median": one.baseline_median,
                "worsening": one.worsening, "absolute": one.absolute,
                "ratio": interval.ratio if interval else None, "ratio_low": interval.low if interval else None,
                "ratio_high": interval.high if interval else None, "ratio_level": interval.level if interval else None,
                "p": one.p, "floor": one.floor, "visible": one.visible,
                "visible_faster": one.visible_faster, "power": one.power or None,
                "pairs": pairs.pairs if pairs else None, "pairs_median": pairs.median if pairs else None,
                "pairs_outcome": pairs.outcome if pairs else None, "pairs_id": one.pairs_id or None,
                "candidates": one.candidates, "baseline": one.baseline,
            }
        )  # fmt: skip
    return rows


def as_arrow(findings: Sequence[Finding]) -> pa.Table:
    """Return findings as a table of `SCHEMA`; bytes of a path that are no UTF-8 are written out."""
    rows = [
        {name: _utf8(value) if isinstance(value, str) else value for name, value in row.items()}
        for row in as_rows(findings)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _utf8(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def as_json(findings: Sequence[Finding], faults: Sequence[str]) -> str:
    """Return one JSON object: verdict, exit status, findings and what was left out; "inf" where a target was missed."""
    rows = [{name: _json_value(value) for name, value in row.items()} for row in as_rows(findings)]
    whole = {
        "verdict": str(worst(one.verdict for one in findings)),
        "exit_status": exit_status(findings),
        "findings": rows,
        "left_out": list(faults),
    }
    return json.dumps(whole, indent=1, allow_nan=False)


def _json_value(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def as_junit(findings: Sequence[Finding]) -> str:
    """Return JUnit's XML: a test case a finding, a failure for a regression, an error for what is no pass either."""
    cases = ElementTree.Element("testsuite", name="results.check")
    failures = errors = 0
    for one in findings:
        name = " ".join(
            filter(None, (one.kernel, one.metric or "cell", f"against {one.against}" if one.against else ""))
        )
        case = ElementTree.SubElement(cases, "testcase", classname=printable(one.cell), name=printable(name))
        if one.verdict is Verdict.REGRESSION:
            failures += 1
            ElementTree.SubElement(case, "failure", type="regression", message=printable(figures(one)))
        elif one.verdict is not Verdict.PASS:
            errors += 1
            text = f"{one.verdict}: {figures(one)}"
            ElementTree.SubElement(case, "error", type=str(one.verdict), message=printable(text))
        else:
            ElementTree.SubElement(case, "system-out").text = printable(figures(one))
    if not findings:  # an empty suite is green everywhere
        errors = 1
        case = ElementTree.SubElement(cases, "testcase", classname="results.check", name="anything")
        ElementTree.SubElement(case, "error", type="not comparable", message="nothing measured")
    cases.attrib |= {"tests": str(max(1, len(findings))), "failures": str(failures), "errors": str(errors)}
    ElementTree.indent(cases)
    return ElementTree.tostring(cases, encoding="unicode", xml_declaration=True)


def figures(one: Finding) -> str:
    """Return the evidence of a finding in one line."""
    words = []
    if one.candidate_median is not None:
        words.append(_with_unit(one.candidate_median, one))
        if one.baseline_median is not None:
            words.append(f"against {number(one.baseline_median, one.metric)}")
            words.append(f"({_change(one)})")
    line = " ".join(words)
    return "; ".join(filter(None, (line, one.why, one.power)))


def _with_unit(value: float, one: Finding) -> str:
    return number(value, one.metric) + (f" {one.unit}" if math.isfinite(value) else "")


def _change(one: Finding) -> str:
    words = []
    if moved := moved_text(one):
        words.append(moved)
    if one.interval and one.interval.low is not None and one.interval.high is not None and one.interval.level:
        words.append(f"ratio {one.interval.low:.3f}-{one.interval.high:.3f} with {level_text(one.interval.level)}")
    if one.p is not None:
        words.append(f"p {one.p:.2g}")
    words.append(f"{len(one.candidates)} against {counted(len(one.baseline), 'run')}")
    return ", ".join(words)


def moved_text(one: Finding) -> str:
    """Return how far the median moved, upwards with a plus; "" where that is no number."""
    if one.worsening is None or not math.isfinite(one.worsening):
        return ""
    moved = -one.worsening if one.higher_is_better else one.worsening
    return f"{moved:+.4f}" if one.absolute else f"{moved:+.1%}"


def level_text(level: float) -> str:
    """Return the level of an interval in percent, rounded down: it is never said to be surer than it is."""
    return f"{math.floor(1e3 * level + 1e-9) / 10:g}%"


def number(value: float, metric: str) -> str:
    """Return a median as it is read."""
    if math.isinf(value):
        return "target not reached"
    if metric == "peak_mem_bytes":
        return f"{value:,.0f}"
    return f"{value:.4f}" if metric == "final_top1" else f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def as_table(findings: Sequence[Finding], details: bool) -> Table:
    """Return findings for a terminal: what is no pass in full, and a line a passing cell.

    Args:
        details: whether every finding has its line.
    """
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    for head in ("verdict", "cell", "metric", "evidence"):
        table.add_column(head, no_wrap=head == "verdict", overflow="fold")
    by_cell: dict[tuple[str, str, str], list[Finding]] = {}
    for one in findings:
        by_cell.setdefault((one.key, one.cell, one.kernel), []).append(one)
    for cell in sorted(by_cell.values(), key=lambda cell: list(Verdict).index(worst(one.verdict for one in cell))):
        cell, both = _once(sorted(cell, key=lambda one: list(Verdict).index(one.verdict)))
        # A pass with a reservation is not to be passed over.
        shown = [one for one in cell if details or one.verdict is not Verdict.PASS or one.why or one.blind]
        passed = [one for one in cell if one not in shown]
        # A cell that passes still has its power stated: its first metric's.
        if passed and not shown:
            shown = passed[:1]
            passed = passed[1:]
        against = {id(one): "accepted and pinned" if id(one) in both else one.against for one in cell}
        alike: dict[Any, list[Finding]] = {}
        for one in shown:
            # What was not tested for one reason, whatever the metric.
            shared = not details and one.verdict is not Verdict.PASS and one.p is None
            alike.setdefault((one.verdict, one.why, against[id(one)]) if shared else id(one), []).append(one)
        for same in alike.values():
            one = same[0]
            verdict = "pass, better" if one.improved else str(one.verdict)
            metric = ", ".join(each.metric for each in same)
            metric += f"\nagainst {against[id(one)]}" if "pinned" in against[id(one)] else ""
            evidence = figures(one) if len(same) == 1 else one.why
            # Texts, since a row may hold what a terminal obeys, or rich.
            cell_text, evidence_text = (Text(printable(words)) for words in (f"{one.cell} {one.kernel}", evidence))
            table.add_row(Text(verdict, style=STYLES[one.verdict]), cell_text, metric, evidence_text)
        if passed:
            words = [
                f"{one.metric} ({against[id(one)]})" if "pinned" in against[id(one)] else one.metric for one in passed
            ]
            table.add_row(Text("pass", style="green"), "", Text(", ".join(words), style="dim"), "")
    return table


def _once(cell: Sequence[Finding]) -> tuple[list[Finding], set[int]]:
    """Leave out what is pinned where the same runs are accepted; return which findings then stand for both, by `id`."""
    kept: list[Finding] = []
    both: set[int] = set()
    for one in cell:
        twin = next((other for other in kept if _is_twin(one, other)), None)
        if twin is None:
            kept.append(one)
        else:
            both.add(id(twin))
    return kept, both


def _is_twin(one: Finding, other: Finding) -> bool:
    return {one.against, other.against} == {"accepted", "pinned"} and replace(one, against=other.against) == other


def commands(findings: Sequence[Finding], python: str) -> list[str]:
    """Return the commands that would settle what is suspected: pairs of each cell and commit, and then the check again.

    Last come those that show what else differs, where the commit is the same on both sides.

    Of the metrics of a cell the first has its pairs, against each commit that one is suspected against: the last that
    was accepted may not be the one that was pinned.

    Args:
        python: what runs them, as a shell takes it.
    """
    cells: dict[tuple[str, str, str], dict[tuple[str, ...], list[str]]] = {}
    last: dict[tuple[str, str, str], list[str]] = {}
    for one in findings:
        if not one.confirm_with:
            continue
        cell = (one.key, one.cell, one.kernel)
        _, *words = shlex.split(one.confirm_with)
        sides = tuple(word for word in words if word.startswith(("a=", "b=")))
        cells.setdefault(cell, {}).setdefault(sides, words)
        where = words[-1]  # results=ROOT
        again = ["-m", "results.check", f"candidate={','.join(one.beside or one.candidates)}", where]
        last.setdefault(cell, again)
    lines = []
    for cell, pairs in cells.items():
        lines += [f"{python} {_typed(words)}" for words in (*pairs.values(), last[cell])]
    others = dict.fromkeys(one.compare_with for one in findings if one.compare_with)
    return lines + [f"{python} {_typed(shlex.split(words)[1:])}" for words in others]


def _typed(words: Sequence[str]) -> str:
    """Words as bash takes them, those with bytes that are no UTF-8 as $'...'."""
    return " ".join(shlex.quote(word) if _utf8(word) == word else _in_bytes(word) for word in words)


def _in_bytes(word: str) -> str:
    plain = bytes(range(32, 127)).translate(None, b"'\\")
    return "$'" + "".join(chr(one) if one in plain else rf"\x{one:02x}" for one in os.fsencode(word)) + "'"


def summary(findings: Sequence[Finding]) -> str:
    """Return the last line: how many cells, and the worst of each verdict."""
    by_cell: dict[tuple[str, str], list[Verdict]] = {}
    for one in findings:
        by_cell.setdefault((one.key, one.kernel), []).append(one.verdict)
    counts = [worst(verdicts) for verdicts in by_cell.values()]
    said = ", ".join(f"{counts.count(verdict)} {verdict}" for verdict in Verdict if verdict in counts)
    return f"{counted(len(counts), 'cell')}: {said or 'nothing measured'}; exit status {exit_status(findings)}"
