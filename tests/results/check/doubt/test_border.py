"""Runs of one commit on both sides of the hour at which a night begins: it cuts none of them off."""

from typing import Any

import pytest
from judging import MAIN, accept, baseline, check, no_pass
from made_up import NEW, Memory

from results.check.gather import gather
from results.check.judge import judge
from results.check.verdict import Verdict, exit_status

SLOW, GOOD = (780.0, 781.0, 782.0, 783.0, 784.0), (1000.0, 1001.0, 1002.0)


def measure(memory: Memory, rates: tuple[float | None, ...], **columns: Any) -> list[str]:
    return [memory.run(rate, **{"git_commit": NEW, **columns}) for rate in rates]


@pytest.mark.parametrize("first", ["slow", "good"])
@pytest.mark.parametrize("enough", [True, False])
def test_neither_side_of_the_border_hides_the_other(memory: Memory, first: str, enough: bool) -> None:
    baseline(memory)
    sides = (SLOW, GOOD) if first == "slow" else (GOOD, SLOW)
    before = measure(memory, sides[0])
    memory.count += 18
    few = GOOD[:2] if first == "slow" else (600.0, 601.0)
    tonight = measure(memory, sides[1] if enough else few)
    evidence = gather(memory.root, now=memory.now)
    findings = judge(evidence)
    assert exit_status(findings) == 3 and evidence.before == set(before)
    assert {run.run_id for run in evidence.candidates} == {*before, *tonight}
    (line,) = evidence.faults
    assert line.startswith(f"{len(before)} runs from before the last 20 hours counted in, such as {before[0]}: ")
    by_cell = {one.cell: one for one in findings if one.metric == MAIN}
    whole = next(one for name, one in by_cell.items() if name.endswith(f" with {len(before)} runs of before"))
    assert set(whole.candidates) == {*before, *tonight} and whole.verdict is not Verdict.PASS
    alone = [one for one in by_cell.values() if one is not whole]
    assert [set(one.candidates) for one in alone] == ([set(tonight)] if enough else [])
    assert all((one.verdict is Verdict.PASS) == (first == "slow") for one in alone)


def test_good_runs_on_both_sides_pass_together_where_either_is_too_few(memory: Memory) -> None:
    baseline(memory)
    measure(memory, GOOD[:2])
    memory.count += 18
    measure(memory, GOOD[1:])
    findings = check(memory)
    assert exit_status(findings) == 0 and {len(one.candidates) for one in findings} == {4}


def test_runs_that_failed_before_the_border_count(memory: Memory) -> None:
    baseline(memory)
    measure(memory, (None,) * 2, status="failed", failure_kind="oom")
    memory.count += 18
    measure(memory, GOOD)
    assert {one.why.partition(":")[0] for one in no_pass(check(memory))} == {
        "2 of 5 runs failed, more than one in five"
    }


@pytest.mark.parametrize("other", ["commit", "cell", "dirty", "unknown", "accepted", "older", "yesterday", "alone"])
def test_what_is_not_of_the_night_stays_outside(memory: Memory, other: str) -> None:
    baseline(memory)
    columns: dict[str, Any] = {
        "commit": {"git_commit": "c" * 40}, "cell": {"config": {"depth": 56}, "depth": 56}, "dirty": {"dirty": True},
        "unknown": {"git_commit": None},
    }.get(other, {})  # fmt: skip
    before = measure(memory, SLOW, **columns)
    if other == "accepted":
        accept(memory, before)
    memory.count += {"older": 42, "yesterday": 22}.get(other, 18)
    if other == "alone":
        measure(memory, GOOD, git_commit="c" * 40)
    elif other in ("dirty", "unknown"):
        measure(memory, GOOD, **columns)  # another checkout each time
    else:
        measure(memory, GOOD)
    evidence = gather(memory.root, now=memory.now)
    assert not evidence.before and not {run.run_id for run in evidence.candidates} & set(before)


def test_the_hours_that_are_given_are_those_before_as_well(memory: Memory) -> None:
    baseline(memory)
    before = measure(memory, SLOW)
    measure(memory, GOOD)
    for hours, count in ((3.5, 1), (2.5, 0), (6.0, 2), (9.0, 0)):
        evidence = gather(memory.root, now=memory.now, hours=hours)
        assert len(evidence.before) == count and evidence.before <= {*before, *(r.run_id for r in evidence.candidates)}
