"""What was settled or accepted before excuses nothing that comes after it."""

import pytest
from judging import accept, baseline, check, of
from made_up import NEW, Memory, spread

from results.check.gather import gather
from results.check.judge import MOST_CANDIDATES, judge
from results.check.verdict import Verdict, exit_status

CREPT = "c" * 40
CLOSE, WORSE = [0.001, -0.002], [0.05] * 8


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [(CLOSE, [], 3), (CLOSE, CLOSE, 0), (CLOSE, WORSE, 1), (WORSE, [], 1), (WORSE, CLOSE, 1)],
)
def test_pairs_refute_no_suspicion_that_came_after_them(
    memory: Memory, before: list[float], after: list[float], status: int
) -> None:
    held = baseline(memory)
    accept(memory, held, "pin")
    memory.pairs(before)
    memory.count += 40
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 900.0, 0.001)]
    if after:
        memory.pairs(after)
    assert exit_status(check(memory, ids)) == status


def test_commits_in_which_it_crept_in_refute_nothing_and_are_not_proposed(memory: Memory) -> None:
    baseline(memory, 17)
    accept(memory, [memory.run(rate, git_commit=CREPT) for rate in (900.0, 900.5, 901.0)])
    memory.count += 30
    ids = [memory.run(rate, git_commit=NEW) for rate in (899.0, 900.0, 901.5)]
    assert "a=commit:aaaaaaaaaaaa" in of(check(memory, ids)).confirm_with
    memory.pairs(CLOSE, a=CREPT)
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE
    memory.pairs(CLOSE)
    assert of(check(memory, ids)).verdict is Verdict.PASS


def test_a_commit_that_is_as_good_as_the_baseline_stands_for_it_whichever_is_the_last(memory: Memory) -> None:
    baseline(memory, 17)
    accept(memory, [memory.run(rate, git_commit=CREPT) for rate in (991.0, 992.0, 993.0)])
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 900.0, 0.001)]
    assert f"a=commit:{CREPT[:12]}" in of(check(memory, ids)).confirm_with


@pytest.mark.parametrize(("slow", "verdict"), [(20, Verdict.INCONCLUSIVE), (0, Verdict.PASS)])
def test_none_of_many_candidates_is_passed_over(memory: Memory, slow: int, verdict: Verdict) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in (*spread(slow, 850.0), *spread(40 - slow))]
    assert of(check(memory, ids)).verdict is verdict


def test_more_candidates_than_can_be_judged_are_no_pass(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(MOST_CANDIDATES + 1)]
    one = of(check(memory, ids))
    assert one.verdict is Verdict.INCONCLUSIVE
    assert one.why.startswith("runs of 101 allocations, of which no more than 100 can be judged")
    assert of(check(memory, ids[1:])).verdict is Verdict.PASS


@pytest.mark.parametrize(("tta_s", "status"), [(35.0, 3), (16.0, 0)])
def test_resumed_runs_excuse_no_fresh_one_that_is_far_too_slow(memory: Memory, tta_s: float, status: int) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate, git_commit=NEW, restart_count=1)
    for rate in spread(2):
        memory.run(rate, git_commit=NEW, tta_s=tta_s, elapsed_s=50.0)
    assert exit_status(check(memory)) == status


def test_a_new_kernel_that_fails_everywhere_is_said(memory: Memory) -> None:
    names = {"backend": "triton", "shape": "8", "dtype": "bf16", "l2": "cold"}

    def micro(count: int, **columns: object) -> list[str]:
        ids = [memory.run(None, benchmark="micro", target_top1=None, **columns) for _ in range(count)]
        for run_id, time in zip(ids, spread(count, 10.0), strict=True):
            rows = [{"run_id": run_id, **names, "op": "bn_act", "status": "ok", "p50": time}]
            if columns:
                rows.append({"run_id": run_id, **names, "op": "gelu", "status": "failed: no such op", "p50": None})
            memory.write("kernels", rows, run_id)
        return ids

    accept(memory, micro(10))
    ids = micro(3, git_commit=NEW)
    evidence = gather(memory.root, ids, now=memory.now)
    judge(evidence)
    (line,) = [line for line in evidence.faults if "gelu" in line]
    assert "the baseline has none, and here failed: no such op" in line
