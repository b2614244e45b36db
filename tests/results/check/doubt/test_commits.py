"""Several commits in one night: the good runs of one never hide what another did."""

from typing import Any

import pytest
from judging import MAIN, accept, baseline, check
from made_up import NEW, OLD, Memory, spread

from results.check.gather import gather
from results.check.judge import judge
from results.check.output import as_junit, commands
from results.check.verdict import Finding, Verdict, exit_status

LATER = "c" * 40
DIRTY = {"git_commit": NEW, "dirty": True}
UNKNOWN = {"git_commit": None}
ACCEPTED = {"git_commit": OLD}
EARLY = {"hardware": None, "status": "failed", "failure_kind": "data"}  # before it said on what it ran


def main(findings: list[Finding]) -> dict[str, Verdict]:
    """What is said of the main metric, by the commit that a cell's name ends with."""
    return {one.cell.rpartition(" at ")[2]: one.verdict for one in findings if one.metric == MAIN}


@pytest.mark.parametrize(
    ("first", "then", "left"),
    [
        ({"git_commit": NEW}, {"git_commit": LATER}, None),
        ({"git_commit": NEW}, ACCEPTED, None),
        (ACCEPTED, {"git_commit": NEW}, None),
        ({"git_commit": NEW}, DIRTY, 1),
        (DIRTY, {"git_commit": NEW}, 0),
        ({"git_commit": NEW}, UNKNOWN, 1),
        (DIRTY, ACCEPTED, None),
        (ACCEPTED, DIRTY, None),
        (DIRTY, UNKNOWN, None),
        (UNKNOWN, {"git_commit": OLD, "dirty": True}, None),
        (ACCEPTED, UNKNOWN, None),
    ],
)
def test_every_commit_counts_but_those_that_nobody_can_check_out_beside_a_new_one(
    memory: Memory, first: dict[str, Any], then: dict[str, Any], left: int | None
) -> None:
    baseline(memory)
    sides = [[memory.run(rate, **columns) for rate in spread(3)] for columns in (first, then)]
    memory.run(config={"shortcut": "B"}, git_commit="d" * 40)  # another cell, of which nothing is accepted
    evidence = gather(memory.root, now=memory.now)
    wanted = [run_id for index, side in enumerate(sides) if index != left for run_id in side]
    assert [run.run_id for run in evidence.candidates][:-1] == wanted
    said = f"3 runs of changed or unknown commits left out beside those of {NEW[:12]}, such as "
    assert [line for line in evidence.faults if "left out" in line] == ([] if left is None else [said + sides[left][0]])


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("other", [{"git_commit": LATER}, ACCEPTED])
def test_a_slow_commit_shows_beside_a_good_one_whichever_was_measured_last(
    memory: Memory, other: dict[str, Any], slow: int
) -> None:
    """An accepted commit that is measured again as well: the machine may have become slower."""
    baseline(memory)
    ids = []
    for index, columns in enumerate(({"git_commit": NEW}, other)):
        ids.append([memory.run(rate, **columns) for rate in spread(3, 950.0 if index == slow else 1000.0, 0.001)])
    findings = check(memory)
    names = [NEW[:12], other["git_commit"][:12]]
    assert main(findings) == {
        name: Verdict.INCONCLUSIVE if index == slow else Verdict.PASS for index, name in enumerate(names)
    }
    assert exit_status(findings) == 3
    text = as_junit(findings)
    assert all(f" at {name}" in text for name in names) and text.count('name="images_per_s against accepted"') == 2
    for index, named in enumerate(ids):
        assert exit_status(check(memory, named)) == (3 if index == slow else 0)
    named = [run_id for both in ids for run_id in both]
    assert main(check(memory, named)) == main(findings)  # named together they are no one sample either


def test_each_commit_that_is_suspected_has_its_own_commands(memory: Memory) -> None:
    baseline(memory)
    for commit in (NEW, LATER):
        for rate in spread(3, 950.0, 0.001):
            memory.run(rate, git_commit=commit)
    pairs = commands(check(memory), "python")[::2]
    assert len(pairs) == 2 and f"b=commit:{NEW[:12]}" in pairs[0] and f"b=commit:{LATER[:12]}" in pairs[1]


def test_a_name_without_other_commits_has_none(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate, git_commit=NEW)
    assert not [one.cell for one in check(memory) if " at " in one.cell]


@pytest.mark.parametrize(
    ("good", "columns", "status"),
    [
        (3, {"status": "failed"}, 3),
        (3, EARLY, 3),
        (0, {"status": "failed"}, 2),
        (0, EARLY, 2),
        (4, {"status": "failed"}, 0),
        (4, EARLY, 0),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_a_failed_run_is_held_against_the_runs_of_its_commit(
    memory: Memory, good: int, columns: dict[str, Any], status: int, named: bool
) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=LATER) for rate in spread(12)]
    ids += [memory.run(rate, git_commit=NEW) for rate in spread(good)]
    ids.append(memory.run(git_commit=NEW, **columns))
    findings = check(memory, ids if named else [])
    assert exit_status(findings) == status
    said = [one for one in findings if one.verdict is not Verdict.PASS and not one.metric]
    assert [one.candidates for one in said] == ([[ids[-1]]] if status else [])
    if status == 3:
        assert said[0].why.startswith("1 of 4 runs failed, more than one in five: ")


def test_what_cannot_be_used_may_be_of_any_commit_and_cell_of_its_kind(memory: Memory) -> None:
    baseline(memory)
    baseline(memory, config={"lr": 0.2})
    for columns, count in (({"git_commit": NEW}, 4), ({"git_commit": LATER}, 12), ({"config": {"lr": 0.2}}, 9)):
        for rate in spread(count):
            memory.run(rate, **columns)
    bad = [memory.run(elapsed_s=-1.0)]
    assert exit_status(check(memory, hours=40.0)) == 0
    bad.append(memory.run(elapsed_s=-1.0))
    (one,) = [one for one in check(memory, hours=40.0) if one.verdict is not Verdict.PASS]
    assert one.candidates == bad and one.why.startswith("2 of 6 runs failed or cannot be used, more than one in five: ")
    bad.append(memory.run(elapsed_s=-1.0))
    said = [one.why[:9] for one in check(memory, hours=40.0) if one.verdict is not Verdict.PASS]
    assert said == ["3 of 7 ru", "3 of 12 r"]


def test_runs_of_two_commits_that_pass_are_accepted_alike(memory: Memory) -> None:
    held = baseline(memory)
    accept(memory, held, "pin")
    for commit in (NEW, LATER):
        for rate in spread(3):
            memory.run(rate, git_commit=commit)
    findings = check(memory)
    assert exit_status(judge(gather(memory.root, now=memory.now))) == 0
    assert {(one.against, len(one.candidates)) for one in findings} == {("accepted", 3), ("pinned", 3)}
