"""Checks measured runs against those that were accepted, and says what it could have seen.

    python -m results.check [candidate=RUNS] [baseline=RUNS] [against=pinned] [format=json|junit|parquet] [to=FILE]
    python -m results.check results=results/v1

A cell is the runs that may be compared: one configuration, its seed aside, on one class of system. Runs of at least 3
allocations, of each commit by themselves, are held against the last 20 that were accepted (python -m results.baseline).
What looks worse is suspected until interleaved pairs (python -m bench.pairs) confirm it. Exit status, of the worst
cell: 1 a regression; 2 not comparable, or nothing measured; 4 a cell of the baseline is missing; 3 inconclusive; 0 all
pass.
"""

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from rich.text import Text

from results.check import output
from results.check.cells import Evidence
from results.check.gather import HOURS, KINDS, gather
from results.check.judge import judge
from results.check.verdict import Finding, exit_status
from results.durable import replace_file
from results.listing.terminal import show
from results.selection import SELECTS
from results.words import ConfigError, counted, printable, root_from

MOST_HOURS = 24 * 366 * 10
FORMATS = ("table", "json", "junit", "parquet")


@dataclass(frozen=True)
class Task:
    """What the command is to judge and how it says so."""

    evidence: Evidence
    format: str
    to: Path | None
    details: bool


def _report(task: Task) -> int:
    findings = judge(task.evidence)
    task.evidence.faults = list(dict.fromkeys(task.evidence.faults))  # each kernel of a run says the same of it
    try:
        _say(task, findings)
    except OSError as error:
        if not task.to:
            raise
        raise ConfigError(f"to={task.to}: {error.strerror or error}") from None
    return exit_status(findings)


def _say(task: Task, findings: list[Finding]) -> None:
    for fault in task.evidence.faults:
        print(f"results.check: {printable(fault)}", file=sys.stderr)
    if not findings:
        print(f"results.check: nothing measured: {_nothing(task.evidence)}", file=sys.stderr)
    if task.to:
        task.to.parent.mkdir(parents=True, exist_ok=True)
    if task.format == "parquet":
        assert task.to
        replace_file(task.to, lambda file: pq.write_table(output.as_arrow(findings), file, compression="zstd"))
    elif task.format != "table":
        text = output.as_junit(findings) if task.format == "junit" else output.as_json(findings, task.evidence.faults)
        if task.to:
            replace_file(task.to, lambda file: file.write(f"{text}\n".encode()))
        else:
            print(text)
    commands = "\n".join(output.commands(findings, _interpreter()))
    if task.format == "table":
        parts = [output.as_table(findings, task.details)] if findings else []
        show(*parts, Text(f"{commands}\n") if commands else None, Text(output.summary(findings)))
    else:
        # Beside a file for machines, where a CI's log shows it.
        print(*filter(None, (commands, f"results.check: {output.summary(findings)}")), sep="\n", file=sys.stderr)


def _nothing(evidence: Evidence) -> str:
    if not evidence.runs:
        return f"no runs in {evidence.root}"
    if evidence.candidates:
        return f"{counted(len(evidence.candidates), 'run')}, of which neither these nor the baseline have a figure"
    return f"no fresh runs in {evidence.root} that no baseline has; candidate= names runs"


def _interpreter() -> str:
    """This Python as a shell here takes it, so that a command can be copied."""
    try:
        here = os.path.relpath(sys.executable)
    except FileNotFoundError:  # this folder has been removed
        here = ".."
    return shlex.quote(sys.executable if here.startswith("..") else here)


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`; exit status as in the module's docstring."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import new_file

    fresh = f"those of the last {HOURS:g} hours that no baseline has"

    @dataclass(kw_only=True)
    class Keys:
        candidate: str | None = key("runs to judge", fresh, text=SELECTS)
        baseline: str | None = key("runs to hold them against", "what was accepted and pinned", text=SELECTS)
        against: str | None = key("what to hold them against", "both", choices=KINDS)
        hours: float | None = key(
            "how long ago candidates may have begun, without candidate=", f"{HOURS:g}", unit="h",
            above=0, most=MOST_HOURS, one=True,
        )  # fmt: skip
        results: str | None = key("the store", "results/v1 of the checkout", path=True, one=True)
        format: str = key("how it is said", "table", default="table", choices=FORMATS, one=True)
        to: str | None = key("file to write instead of stdout", "stdout", path=True, one=True)
        details: bool = key("a line for every metric that passes, too", "false", default=False, one=True)

    def read(typed: list[str]) -> Task:
        given = values(typed, Keys)
        for name, other in (("against", "baseline"), ("hours", "candidate")):
            if name in given and other in given:
                raise WordError(f"{name}={given[name][0]}: has no meaning beside {other}=; leave one of them out")
        form = given.get("format", ["table"])[0]
        to = new_file("to", given["to"][0]) if "to" in given else None
        if form == "parquet" and to is None:
            raise WordError("format=parquet: add to=FILE")
        if form == "table" and to is not None:
            raise WordError(f"to={to}: a table goes to stdout; nearest is format=json")
        evidence = gather(
            root_from(given), given.get("candidate", []), given.get("baseline", []),
            given.get("against", list(KINDS)), given.get("hours", [HOURS])[0],
        )  # fmt: skip
        return Task(evidence, form, to, given.get("details", [False])[0])

    try:  # with 2 for whatever fails: 1 is a regression
        return command.run("results.check", __doc__, Keys, read, _report, words, goes_on=True, failed=2)
    except Exception:
        traceback.print_exc()
        return 2
