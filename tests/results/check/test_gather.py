"""What a check judges, what it holds that against, and what it leaves out with a line."""

import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from judging import accept, baseline, check, of
from made_up import NEW, START, Memory, Store, spread

from results.check.baselines import append
from results.check.command import _nothing
from results.check.gather import gather
from results.check.judge import judge
from results.check.verdict import Verdict, exit_status


def kernel_rows(run_id: str, p50: float, status: str = "ok") -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id, "op": "bn_act", "backend": backend, "shape": "64x64", "dtype": "bf16", "layout": "NHWC",
            "l2": "cold", "p50": time, "status": status,
        }
        for backend, time in (("triton", p50), ("torch", 100.0 + p50 / 1000))
    ]  # fmt: skip


def test_kernels_are_cells_of_their_own(memory: Memory) -> None:
    def micro(p50: float, **columns: Any) -> str:
        run_id = memory.run(None, benchmark="micro", target_top1=None, **columns)
        memory.write("kernels", kernel_rows(run_id, p50), run_id)
        return run_id

    accept(memory, [micro(time) for time in spread(20, 10.0)])
    ids = [micro(time, git_commit=NEW) for time in spread(3, 11.0)]
    findings = check(memory, ids)
    by_backend = {one.kernel.split()[1]: one for one in findings}
    assert by_backend["torch"].verdict is Verdict.PASS and by_backend["triton"].verdict is Verdict.INCONCLUSIVE
    assert by_backend["triton"].metric == "p50" and by_backend["triton"].worsening == pytest.approx(0.1, abs=0.01)
    short = memory.run(None, benchmark="micro", target_top1=None, git_commit="d" * 40)
    memory.write("kernels", kernel_rows(short, 10.0)[:1], short)
    missing = [one for one in check(memory, ["d" * 12]) if one.verdict is Verdict.MISSING]
    assert [one.kernel.split()[1] for one in missing] == ["torch"]


def test_only_fresh_runs_that_no_baseline_has_are_candidates(memory: Memory) -> None:
    held = baseline(memory)
    memory.run(900.0)  # more than a night before the others
    night = START + timedelta(days=9)
    slow = [
        memory.run(rate, started=night + timedelta(minutes=index), git_commit=NEW)
        for index, rate in enumerate(spread(3, 900.0, 0.001))
    ]
    late = memory.run(started=night + timedelta(hours=1))
    accept(memory, [late])
    now = night + timedelta(hours=2)
    one = of(check(memory, now=now))
    assert one.candidates == slow and one.verdict is Verdict.INCONCLUSIVE and one.baseline == [*held[1:], late]
    assert {one.verdict for one in check(memory, now=now + timedelta(days=2))} == {Verdict.MISSING}
    assert slow == [one for one in of(check(memory, now=now, hours=24.0 * 3)).candidates if one in slow]


def test_last_night_is_not_judged_again_where_nothing_was_measured(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate)
    evidence = gather(memory.root, now=memory.now + timedelta(hours=24))
    assert exit_status(judge(evidence)) == 4
    assert any("no new run of the last 20 hours; the newest began 2026-11-03 23:00" in line for line in evidence.faults)


def test_a_run_from_the_future_is_left_out(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    now = memory.now
    late = memory.run(1000.0, started=now + timedelta(days=2))
    evidence = gather(memory.root, now=now)
    assert of(judge(evidence)).candidates == ids and any(late in line for line in evidence.faults)


@pytest.mark.parametrize("columns", [{"elapsed_s": -1.0}, {"config_json": None}])
def test_a_named_run_that_cannot_be_judged_is_no_pass(memory: Memory, columns: dict[str, Any]) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    bad = memory.run(**columns)
    assert exit_status(check(memory, ids)) == 0
    findings = check(memory, [*ids, bad])
    assert exit_status(findings) == 2 and [one.cell for one in findings if one.verdict is not Verdict.PASS] == [bad]


def test_a_micro_run_without_kernels_is_no_pass(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    ids.append(memory.run(None, benchmark="micro", target_top1=None))
    findings = check(memory, ids)
    assert exit_status(findings) == 2 and "has no kernels that can be read" in findings[-1].why


@pytest.mark.parametrize("table", ["baselines", "pairs"])
def test_no_verdict_is_a_pass_beside_a_file_that_cannot_be_read(store: Store, table: str) -> None:
    baseline(store)
    for rate in spread(3):
        store.run(rate)
    path = store.root / table / "month=2026-11" / "cut.0.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"PAR1")
    findings = check(store)
    assert exit_status(findings) == 3 and "cut.0.parquet" in findings[-1].why


def test_a_run_made_for_a_pair_that_did_not_end_is_no_candidate(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    for number, (pair, side) in enumerate(((1, "a"), (None, None))):
        run_id = memory.run(500.0)
        row = {"pairs_id": "p", "pair": pair, "side": side, "run_id": run_id, "restart": 0}
        memory.write("pairs", [row], f"p-{number}")
    assert of(check(memory)).candidates == ids and exit_status(check(memory)) == 0


def test_a_cell_that_is_not_pinned_while_others_are_is_said(memory: Memory) -> None:
    accept(memory, baseline(memory), "pin")
    baseline(memory, config={"shortcut": "B"})
    for shortcut in "AB":
        for rate in spread(3):
            memory.run(rate, config={"shortcut": shortcut})
    evidence = gather(memory.root, now=memory.now)
    assert exit_status(judge(evidence)) == 0
    assert [line for line in evidence.faults if "resnet20B" in line and "nothing of it is pinned" in line]


def test_the_last_twenty_allocations_of_a_baseline_count_and_all_candidates(memory: Memory) -> None:
    held = baseline(memory, 25)
    accept(memory, held, "pin")
    ids = [memory.run(rate) for rate in spread(23)]
    findings = check(memory, ids)
    for against in ("accepted", "pinned"):
        one = of(findings, against=against)
        assert one.candidates == ids and one.baseline == held[-20:] and one.p is not None


def test_resumed_runs_do_not_hold_up_a_night(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate, restart_count=1)
    evidence = gather(memory.root, now=memory.now)
    findings = judge(evidence)
    assert exit_status(findings) == 0
    one = of(findings, "tta_s")
    assert one.why == "not judged: 3 of 3 runs were resumed, and their clocks have the pause" and one.p is None
    assert [line for line in evidence.faults if "tta_s is not judged, since 3 runs resumed" in line]


def test_a_run_that_never_looked_at_its_accuracy_has_not_missed_its_target(memory: Memory) -> None:
    nothing = {"tta_s": None, "epochs_to_target": None, "final_top1": None}
    baseline(memory)
    for rate in spread(3):
        memory.run(rate, **nothing)
    assert of(check(memory), "epochs_to_target").verdict is Verdict.NOT_COMPARABLE


def test_a_kernel_that_cannot_run_here_is_passed_over(memory: Memory) -> None:
    ids = []
    for time in spread(13, 10.0):
        run_id = memory.run(None, benchmark="micro", target_top1=None)
        ids.append(run_id)
        good, bad = kernel_rows(run_id, time)
        memory.write("kernels", [good, {**bad, "status": "unavailable: no such kernel", "p50": None}], run_id)
    accept(memory, ids[:10])
    findings = check(memory, ids[10:])
    assert [one.kernel.split()[1] for one in findings] == ["triton"] and exit_status(findings) == 0


def test_kernels_whose_times_are_no_numbers_are_said_on_whichever_side(memory: Memory) -> None:
    ids = []
    for index, time in enumerate(spread(13, 10.0)):
        run_id = memory.run(None, benchmark="micro", target_top1=None)
        ids.append(run_id)
        good, bad = kernel_rows(run_id, time)
        memory.write("kernels", [good, {**bad, "p50": math.nan if index % 2 else -1.0}], run_id)
    accept(memory, ids[:10])
    triton, torch = check(memory, ids[10:])
    assert triton.verdict is Verdict.PASS and torch.verdict is Verdict.NOT_COMPARABLE
    assert torch.why == f"nothing measured: p50 is -1, which none can be ({ids[10]})"
    assert exit_status([triton, torch]) == 2


def test_kernels_that_fail_on_both_sides_are_said_and_judged_by_nobody(memory: Memory) -> None:
    ids = []
    for time in spread(13, 10.0):
        ids.append(memory.run(None, benchmark="micro", target_top1=None))
        good, bad = kernel_rows(ids[-1], time)
        memory.write("kernels", [good, {**bad, "status": "failed: wrong", "p50": None}], ids[-1])
    accept(memory, ids[:10])
    evidence = gather(memory.root, ids[10:], now=memory.now)
    (one,) = judge(evidence)
    other = one.kernel.replace("triton", "torch")
    said = f"{one.cell} {other}: the baseline has none, and here failed: wrong ({ids[10]})"
    assert one.verdict is Verdict.PASS and evidence.faults == [said]


def test_a_cell_of_which_nothing_is_pinned_is_said(memory: Memory) -> None:
    baseline(memory)
    accept(memory, [memory.run(rate, config={"lr": 0.2}) for rate in spread(10)], "pin")
    memory.count += 48
    ids = [memory.run(rate) for rate in spread(3)]
    evidence = gather(memory.root, ids, now=memory.now)
    label = of(judge(evidence)).cell
    assert f"{label}: nothing of it is pinned, so it is not held against that" in evidence.faults


def test_where_neither_side_has_a_figure_that_is_said(memory: Memory) -> None:
    ids = []
    for _ in range(13):
        ids.append(memory.run(None, benchmark="micro", target_top1=None))
        memory.write("kernels", [{**row, "status": "unavailable: none"} for row in kernel_rows(ids[-1], 1.0)], ids[-1])
    accept(memory, ids[:10])
    evidence = gather(memory.root, ids[10:], now=memory.now)
    assert not judge(evidence)
    assert _nothing(evidence) == "3 runs, of which neither these nor the baseline have a figure"


def test_a_run_is_not_held_against_itself(memory: Memory) -> None:
    held = baseline(memory)
    evidence = gather(memory.root, held[:3], now=memory.now)
    assert of(judge(evidence)).baseline == held[3:]
    assert sum("is judged itself" in line for line in evidence.faults) == 3


def test_a_named_baseline_takes_the_place_of_what_was_accepted(memory: Memory) -> None:
    baseline(memory, around=500.0)
    named = [memory.run(rate) for rate in spread(9)]
    ids = [memory.run(rate) for rate in spread(3)]
    one = of(check(memory, ids, baseline=named))
    assert one.baseline == named and one.verdict is Verdict.PASS


def test_candidates_of_another_store(store: Store, tmp_path: Any) -> None:
    baseline(store)
    other = Store(tmp_path / "other")
    other.count = 100
    ids = [other.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    other.pairs([0.05] * 8)
    one = of(check(store, [str(other.root)]))
    assert one.candidates == ids and one.verdict is Verdict.REGRESSION  # by the pairs of that store


FAULTS: dict[str, Callable[[Store], object]] = {
    "a clock": lambda store: store.run(run_stop=START),
    "no configuration": lambda store: store.run(config_json=None),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_left_out_is_said_and_the_rest_is_judged(store: Store, fault: str) -> None:
    baseline(store)
    for rate in spread(4):
        store.run(rate)
    FAULTS[fault](store)
    evidence = gather(store.root, now=store.now)
    assert exit_status(judge(evidence)) == 0 and len(evidence.faults) == 1


def test_a_baseline_of_which_nothing_can_be_read_is_no_pass(store: Store) -> None:
    baseline(store)
    for rate in spread(3):
        store.run(rate)
    append(store.root, "accept", {"another": ["nobody"]}, reason="")
    findings = check(store)
    assert exit_status(findings) == 3 and "none of the runs of a baseline can be read" in findings[-1].why
