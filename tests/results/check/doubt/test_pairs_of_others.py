"""Pairs that say nothing of a suspicion: of something else, of checkouts that nobody knows, or of several commits."""

from typing import Any

import pytest
from judging import baseline, check, of
from made_up import NEW, OLD, Memory, spread

from results.check.verdict import Verdict


@pytest.mark.parametrize(
    "other",
    [
        {"a": "c" * 40},
        {"b": "c" * 40},
        {"config": {"lr": 0.2}},
        {"hardware": "other"},
        {"a": NEW, "b": NEW},
        {"dirty": True},
    ],
)
def test_pairs_of_something_else_settle_nothing(memory: Memory, other: dict[str, Any]) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.05] * 8, **other)
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("columns", [{"dirty": True}, {"git_commit": None}])
@pytest.mark.parametrize("side", ["a", "b"])
def test_pairs_of_a_checkout_that_is_not_known_settle_nothing(
    memory: Memory, side: str, columns: dict[str, Any]
) -> None:
    """Though the runs that are suspected, or their baseline, are of the same one as far as is known."""
    baseline(memory, **({"git_commit": OLD} | columns if side == "a" else {}))
    mine = {"git_commit": NEW} | (columns if side == "b" else {})
    ids = [memory.run(rate, **mine) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.05] * 8)
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE
    of_side = {row["run_id"] for row in memory.rows["pairs"] if row["side"] == side}
    for row in memory.rows["runs"]:
        row.update(columns if row["run_id"] in of_side else {})
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE


def test_a_set_of_which_one_pair_is_of_another_commit_settles_nothing(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate, git_commit=NEW) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.05] * 8)
    assert of(check(memory, ids)).verdict is Verdict.REGRESSION
    last = memory.rows["pairs"][-1]["run_id"]
    next(row for row in memory.rows["runs"] if row["run_id"] == last)["git_commit"] = "c" * 40
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE


def test_pairs_of_one_commit_with_itself_settle_nothing(memory: Memory) -> None:
    """Where what is suspected is of the very commit that was accepted."""
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3, 950.0, 0.001)]
    memory.pairs([0.05] * 8, a=OLD, b=OLD)
    assert of(check(memory, ids)).verdict is Verdict.INCONCLUSIVE
