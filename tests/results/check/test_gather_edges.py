"""The edges of what a check collects: hours, clocks, order, other stores, and what cannot be used."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from judging import accept, baseline, check, of
from made_up import NEW, OLD, START, Memory, Store, spread

from results.check.gather import AHEAD, HOURS, gather
from results.check.judge import judge
from results.check.runs import load
from results.check.verdict import Verdict, exit_status

TRAINS = timedelta(seconds=2)  # after the start of a made-up run its training begins


@pytest.mark.parametrize(
    ("ago", "counts"),
    [
        (timedelta(hours=HOURS), False),
        (timedelta(hours=HOURS) - timedelta(seconds=1), True),
        (-AHEAD, True),
        (-AHEAD - timedelta(seconds=1), False),
    ],
)
def test_a_night_ends_to_the_second(memory: Memory, ago: timedelta, counts: bool) -> None:
    run_id = memory.run()
    evidence = gather(memory.root, now=load(memory.root).by_id[run_id].started + ago)
    assert [run.run_id for run in evidence.candidates] == ([run_id] if counts else [])
    assert not counts == bool(evidence.faults)


@pytest.mark.parametrize(
    ("ago", "measured"),
    [
        (timedelta(hours=HOURS), False),
        (timedelta(hours=HOURS) - timedelta(seconds=1), True),
        (-AHEAD, True),
        (-AHEAD - timedelta(seconds=1), False),
    ],
)
def test_what_was_accepted_was_measured_tonight_to_the_second(memory: Memory, ago: timedelta, measured: bool) -> None:
    run_id = memory.run()
    accept(memory, [run_id])
    run = load(memory.root).by_id[run_id]
    evidence = gather(memory.root, now=run.started + ago)
    assert evidence.measured == ({run.key} if measured else set())
    assert bool(evidence.faults) == (not measured)
    assert [one.verdict for one in judge(evidence)] == ([] if measured else [Verdict.MISSING])


def test_an_empty_store_has_no_newest_run(memory: Memory) -> None:
    evidence = gather(memory.root, now=memory.now)
    assert (evidence.candidates, evidence.faults, judge(evidence)) == ([], [], [])


def test_twenty_hours_of_the_clock_are_the_default(tmp_path: Path) -> None:
    from made_up import recent

    store = recent(tmp_path / "store")
    run_id = store.run()
    assert HOURS == 20 and [run.run_id for run in gather(store.root).candidates] == [run_id]


def test_runs_are_in_the_order_in_which_they_began_whatever_they_are_called(memory: Memory) -> None:
    names = ["9", "5", "7", "1"]
    for index, name in enumerate(names):
        memory.run(run_id=name, started=START + timedelta(minutes=index))
    late = [memory.run(started=START + timedelta(hours=2 - index)) for index in range(2)]
    same = ["b", "a"]
    for name in same:
        memory.run(run_id=name, started=START + timedelta(hours=3))
    wanted = [*names, *reversed(late), *sorted(same)]
    now = START + timedelta(hours=4)
    for named in ([], [*same, *late, *names]):
        assert [run.run_id for run in gather(memory.root, named, now=now).candidates] == wanted
    candidate = memory.run(started=now)
    (held,) = gather(memory.root, [candidate], [*same, *late, *names], now=now).baselines["accepted"].values()
    assert [run.run_id for run in held] == wanted


def test_runs_of_pairs_that_are_named_are_left_out_with_a_line(memory: Memory) -> None:
    baseline(memory)
    memory.pairs([0.05] * 2)
    first = memory.rows["pairs"][0]["run_id"]
    evidence = gather(memory.root, [OLD, NEW], now=memory.now)
    assert len(evidence.candidates) == 20
    line = "4 runs of pairs left out, such as"
    assert [found for found in evidence.faults if found.startswith(line)] == [f"{line} {first}: they confirm, no more"]
    assert not gather(memory.root, [evidence.candidates[0].run_id], now=memory.now).faults[1:]


def test_runs_of_pairs_are_no_named_baseline(memory: Memory) -> None:
    held = [memory.run(rate) for rate in spread(9)]
    ids = [memory.run(rate) for rate in spread(3)]
    memory.pairs([0.05] * 2)
    paired = [row["run_id"] for row in memory.rows["pairs"]]
    evidence = gather(memory.root, ids, [*held, *paired], now=memory.now)
    assert of(judge(evidence)).baseline == held
    assert len(evidence.faults) == 4 and all("one of a pair, so not in this baseline" in one for one in evidence.faults)


def test_a_run_that_failed_is_in_no_baseline(memory: Memory) -> None:
    held = [memory.run(rate) for rate in spread(9)]
    bad = memory.run(status="failed")
    accept(memory, [*held, bad])
    evidence = gather(memory.root, [memory.run(rate) for rate in spread(3)], now=memory.now)
    assert of(judge(evidence)).baseline == held
    assert evidence.faults == [f"run={bad}: failed (unknown), so not in this baseline"]


def test_a_named_baseline_that_cannot_be_used_is_no_candidate(memory: Memory) -> None:
    held = [memory.run(rate) for rate in spread(9)]
    bad = memory.run(elapsed_s=-1.0)
    ids = [memory.run(rate) for rate in spread(3)]
    evidence = gather(memory.root, ids, [*held, bad], now=memory.now)
    findings = judge(evidence)
    assert not evidence.unusable and exit_status(findings) == 3  # it is lost to the baseline, as one that was accepted
    assert f"1 of the runs that count in this baseline cannot be read, such as {bad}" in findings[-1].why
    assert len(evidence.faults) == 1 and bad in evidence.faults[0]


def test_runs_of_one_key_that_were_accepted_in_turn_add_up(memory: Memory) -> None:
    held = [memory.run(rate) for rate in spread(20)]
    accept(memory, held[:10])
    accept(memory, held[10:])
    ids = [memory.run(rate) for rate in spread(3)]
    assert of(check(memory, ids)).baseline == held


def test_what_was_accepted_under_another_key_is_of_the_key_that_it_has_today(memory: Memory) -> None:
    from results.check.baselines import append

    held = [memory.run(rate) for rate in spread(20)]
    append(memory.root, "accept", {"old": held[:10]}, reason="")
    accept(memory, held[10:])
    ids = [memory.run(rate) for rate in spread(3)]
    assert of(check(memory, ids)).baseline == held


def test_another_store_has_faults_and_runs_of_its_own(store: Store, tmp_path: Path) -> None:
    accept(store, [store.run(rate) for rate in spread(7)])
    other = Store(tmp_path / "other")
    other.count = 100
    ids = [other.run(rate) for rate in spread(3)]
    bad = other.run(elapsed_s=-1.0)
    twice = store.run(run_id="twice", images_per_s=5.0)
    other.run(run_id="twice", images_per_s=7.0)
    evidence = gather(store.root, [str(other.root)], now=other.now)
    assert [run.run_id for run in evidence.candidates] == [twice, *ids]
    assert evidence.runs["twice"].row["images_per_s"] == 5.0 and evidence.whole
    assert len(evidence.faults) == 2 and any(bad in line for line in evidence.faults)
    assert f"run=twice: is in {other.root} too; that of {store.root} counts" in evidence.faults
    assert set(evidence.unusable) == {bad}
    assert not gather(store.root, [str(other.root), twice], now=other.now).whole
    path = other.root / "pairs" / "month=2026-11" / "cut.0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    assert any("cut.0.parquet" in line for line in gather(store.root, [str(other.root)], now=other.now).unread)


def test_pairs_of_kernels_confirm_what_they_timed(memory: Memory) -> None:
    def kernel(run_id: str, p50: float, status: str | None = "ok") -> None:
        names = {"op": "bn_act", "backend": "triton", "shape": "8", "dtype": "bf16", "layout": "NHWC", "l2": None}
        memory.write("kernels", [{"run_id": run_id, **names, "p50": p50, "status": status}], run_id)

    columns: dict[str, Any] = {"benchmark": "micro", "target_top1": None}
    held = [memory.run(None, **columns) for _ in range(20)]
    for run_id, time in zip(held, spread(20, 10.0), strict=True):
        kernel(run_id, time, None)  # as rows from before there was a status
    accept(memory, held)
    ids = [memory.run(None, git_commit=NEW, **columns) for _ in range(3)]
    for run_id, time in zip(ids, spread(3, 11.0), strict=True):
        kernel(run_id, time)
    name = memory.pairs([0.0] * 8, **columns)
    for row in memory.rows["pairs"]:
        kernel(row["run_id"], 11.0 if row["side"] == "b" else 10.0)
    (one,) = check(memory, ids)
    assert (one.verdict, one.pairs_id, one.kernel) == (Verdict.REGRESSION, name, "bn_act triton 8 bf16 NHWC -")
