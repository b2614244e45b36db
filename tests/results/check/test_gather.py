"""What a check judges, what it holds that against, and what it leaves out with a line."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from judging import accept, baseline, check, of
from made_up import NEW, START, Memory, Store, spread

from results.check.baselines import append
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
    baseline(memory)
    memory.run(900.0)  # more than a night before the others
    ids = [memory.run(rate, started=START + timedelta(days=9, hours=index)) for index, rate in enumerate(spread(3))]
    assert of(check(memory)).candidates == ids
    assert len(of(check(memory, hours=24 * 30)).candidates) == 4


def test_a_run_is_not_held_against_itself(memory: Memory) -> None:
    held = baseline(memory)
    evidence = gather(memory.root, held[:3])
    assert of(judge(evidence)).baseline == held[3:]
    assert sum("not held against itself" in line for line in evidence.faults) == 3


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
    ids = [other.run(rate) for rate in spread(3)]
    one = of(check(store, [str(other.root)]))
    assert one.candidates == ids and one.verdict is Verdict.PASS


FAULTS: dict[str, Callable[[Store], object]] = {
    "a clock": lambda store: store.run(run_stop=START),
    "no configuration": lambda store: store.run(config_json=None),
    "a lost row": lambda store: append(store.root, "accept", {"k": ["nobody"]}, reason="lost"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_left_out_is_said_and_the_rest_is_judged(store: Store, fault: str) -> None:
    baseline(store)
    for rate in spread(3):
        store.run(rate)
    FAULTS[fault](store)
    evidence = gather(store.root)
    assert exit_status(judge(evidence)) == 0 and len(evidence.faults) == 1
