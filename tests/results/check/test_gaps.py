"""What is said of runs and cells that could not be judged."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judging import accept, baseline, check
from made_up import NEW, OLD, Memory, spread

from results.check.confirm import confirm
from results.check.gaps import begun_pairs
from results.check.gather import gather
from results.check.judge import judge
from results.check.verdict import Verdict, exit_status
from results.store.journal import Owner


def micro(memory: Memory, *backends: str, **columns: Any) -> str:
    """A run of kernels, one for each backend."""
    run_id = memory.run(None, benchmark="micro", target_top1=None, **columns)
    names = {"op": "bn_act", "shape": "64x64", "dtype": "bf16", "layout": "NHWC", "l2": "cold"}
    rows = [{"run_id": run_id, **names, "backend": one, "p50": 10.0, "status": "ok"} for one in backends]
    memory.write("kernels", rows, run_id)
    return run_id


def test_a_single_run_without_a_baseline_is_said(memory: Memory) -> None:
    baseline(memory, 1, config={"shortcut": "B"})
    run_id = memory.run()
    (one,) = check(memory, [run_id])
    assert one.verdict is Verdict.NOT_COMPARABLE and one.candidates == [run_id] and "shortcut A against B" in one.why


def test_kernels_without_a_baseline_are_said_once(memory: Memory) -> None:
    baseline(memory)
    ids = [micro(memory, "triton", "torch") for _ in range(3)]
    (one,) = check(memory, ids)
    assert one.verdict is Verdict.NOT_COMPARABLE and one.candidates == ids and one.kernel.startswith("bn_act ")


def test_the_nearest_baseline_is_of_the_same_configuration_before_all_else(memory: Memory) -> None:
    baseline(memory, hardware="8xH100;torch2.11,deepspeed0.18,dali2.0;python3.12", dataset_hash="d9")
    baseline(memory, config={"lr": 0.2, "shortcut": "B"})
    ids = [memory.run(rate) for rate in spread(3)]
    (one,) = check(memory, ids)
    assert one.why == "data hash d1 against d9 (data.hash)"


def test_the_nearest_of_other_configurations_differs_in_the_fewest_parts(memory: Memory) -> None:
    baseline(memory, config={"batch": 64, "lr": 0.2})
    baseline(memory, config={"lr": 0.3})
    baseline(memory, config={"batch": 128, "lr": 0.4})
    (one,) = check(memory, [memory.run(rate) for rate in spread(3)])
    assert one.why.startswith("lr 0.1 against 0.3; the nearest baseline is resnet20A digits")


def test_a_run_that_failed_without_words_is_said(memory: Memory) -> None:
    baseline(memory)
    bad = memory.run(status="failed")
    evidence = gather(memory.root, [bad], now=memory.now)
    (one,) = judge(evidence)
    assert one.verdict is Verdict.NOT_COMPARABLE and one.candidates == [bad] and one.cell.startswith("resnet20A")
    assert one.why == f"nothing measured: run {bad} failed (unknown): no message"
    assert evidence.faults == [f"run {bad} failed (unknown): no message"]


@pytest.mark.parametrize(("failed", "status"), [(1, 0), (2, 3)])
def test_one_in_five_may_fail_and_no_more(memory: Memory, failed: int, status: int) -> None:
    baseline(memory)
    for rate in spread(5 - failed):
        memory.run(rate)
    bad = [memory.run(status="failed", failure_kind="oom", failure_message="much") for _ in range(failed)]
    findings = check(memory)
    assert exit_status(findings) == status
    said = [one for one in findings if one.verdict is Verdict.INCONCLUSIVE and not one.metric]
    assert [one.candidates for one in said] == ([[run_id] for run_id in bad] if status else [])
    for one, run_id in zip(said, bad, strict=False):
        assert one.why == f"2 of 5 runs failed, more than one in five: run {run_id} failed (oom): much"


def test_failures_of_another_configuration_or_machine_do_not_count_here(memory: Memory) -> None:
    baseline(memory)
    other = {"hardware": "8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11"}
    baseline(memory, **other)
    ids = [memory.run(rate) for rate in spread(4)] + [memory.run(rate, **other) for rate in spread(4)]
    ids += [memory.run(status="failed"), memory.run(status="failed", **other)]
    assert exit_status(check(memory, ids)) == 0
    baseline(memory, config={"lr": 0.2})
    ids += [memory.run(rate, config={"lr": 0.2}) for rate in spread(4)]
    ids += [memory.run(status="failed", config={"lr": 0.2})]
    assert exit_status(check(memory, ids)) == 0


def test_runs_that_were_stopped_beside_too_many_that_failed_are_not_named_as_failed(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)] + [memory.run(status="failed"), memory.run(status="killed")]
    said = [one for one in check(memory, ids) if not one.metric]
    assert [one.candidates for one in said] == [[ids[3]]] and "1 of 4 runs failed" in said[0].why


def test_what_is_missing_has_the_last_twenty_of_its_baseline(memory: Memory) -> None:
    held = baseline(memory, 25)
    accept(memory, held[3:], "pin")
    (one,) = check(memory)
    assert one.verdict is Verdict.MISSING and one.baseline == held[-20:] and not one.candidates
    assert one.why == f"no run of it among the candidates; the baseline has 20, the last is {held[-1]}"


def test_a_kernel_is_named_where_it_is_missing(memory: Memory) -> None:
    ids = [micro(memory, "triton", "torch") for _ in range(5)]
    accept(memory, ids)
    memory.count += 48
    findings = check(memory)
    assert {one.kernel for one in findings} == {f"bn_act {name} 64x64 bf16 NHWC cold" for name in ("triton", "torch")}
    assert {one.verdict for one in findings} == {Verdict.MISSING}
    for _ in range(3):
        micro(memory, "triton", git_commit=NEW)
    assert [one.kernel.split()[1] for one in check(memory) if one.verdict is Verdict.MISSING] == ["torch"]


def test_whether_pairs_still_run_is_asked_where_those_pairs_are(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [memory.pairs([0.01]) for _ in range(2)]
    evidence = gather(memory.root, now=memory.now)
    for one in evidence.pair_sets[0].pairs[0]:
        evidence.runs[one] = replace(evidence.runs[one], root=Path("/elsewhere"))
    asked: list[Path] = []
    monkeypatch.setattr(Owner, "of", lambda folder: asked.append(folder))
    for name in names:
        begun_pairs(name, "", confirm([0.01]), evidence, {})
    assert asked == [Path("/elsewhere/jobs", names[0]), memory.root / "jobs" / names[1]]


def test_a_run_of_kernels_that_failed_is_not_said_to_lack_them(memory: Memory) -> None:
    accept(memory, [micro(memory, "triton") for _ in range(10)])
    ids = [micro(memory, "triton") for _ in range(4)]
    ids.append(memory.run(None, benchmark="micro", target_top1=None, status="failed", failure_kind="oom"))
    assert [one.verdict for one in check(memory, ids)] == [Verdict.PASS]


def test_accepted_runs_of_no_known_commit_are_none_to_run_pairs_against(memory: Memory) -> None:
    accept(memory, [memory.run(rate, git_commit=None if index < 3 else OLD) for index, rate in enumerate(spread(20))])
    memory.count += 48
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    one = next(one for one in check(memory, ids) if one.metric == "images_per_s")
    assert f" a=commit:{OLD[:12]} b=commit:{NEW[:12]} " in one.confirm_with


def test_runs_named_one_by_one_beside_a_commit_are_not_all_that_was_to_be_measured(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3)]
    for words, whole in (([NEW[:12]], True), ([ids[0], NEW[:12]], False), ([NEW[:12], ids[0]], False)):
        assert gather(memory.root, words, now=memory.now).whole is whole, words
