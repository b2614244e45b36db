"""What a baseline that words name has lost: without some of the runs that count in it, it is another one."""

from datetime import timedelta
from pathlib import Path

import pytest
from judging import check, no_pass, spoil
from made_up import NEW, OLD, Store, spread

from results.check.verdict import Verdict, exit_status

# Files are written and spoilt.
pytestmark = pytest.mark.slow


def measure(store: Store, count: int = 8) -> tuple[list[str], list[str], list[str]]:
    """Return fast runs of a commit, slow ones of the same, and those of a new one, as slow, two days later."""
    fast = [store.run(rate) for rate in spread(12, 1000.0)]
    slow = [store.run(rate) for rate in spread(count, 900.0)]
    store.count += 48
    return fast, slow, [store.run(rate, git_commit=NEW) for rate in spread(3, 900.0)]


@pytest.mark.parametrize("word", ["commit", "day", "folder", "job"])
def test_a_named_baseline_that_lost_runs_is_no_pass(store: Store, tmp_path: Path, word: str) -> None:
    where = Store(tmp_path / "other") if word == "folder" else store
    columns = {"slurm_job_id": "77"} if word == "job" else {}
    fast = [where.run(rate, **columns, array_task=index) for index, rate in enumerate(spread(12))]
    for index, rate in enumerate(spread(8, 900.0)):
        where.run(rate, **columns, array_task=20 + index)
    store.count += 70
    night = [store.run(rate, git_commit=NEW) for rate in (900.0, 901.0, 902.0)]
    words = [{"commit": OLD, "day": "20261101", "folder": str(where.root), "job": "77"}[word]]
    assert exit_status(check(store, night, baseline=words)) in (1, 3)
    spoil(where, fast)
    said = no_pass(check(store, night, baseline=words))
    assert [one.verdict for one in said] == [Verdict.INCONCLUSIVE] and said[0].key
    whole = f"12 of the runs that count in this baseline cannot be read, such as {fast[-1]}"
    assert said[0].why == f"{whole}; restore them, or name others by baseline="


def test_what_such_a_baseline_would_not_count_says_nothing(store: Store) -> None:
    fast, slow, night = measure(store, count=20)
    spoil(store, fast)  # twenty later ones count
    assert exit_status(check(store, night, baseline=[OLD])) == 0
    assert exit_status(check(store, night, baseline=slow)) == 0


def test_runs_that_are_named_one_by_one_are_those_that_are_meant(store: Store) -> None:
    fast, slow, night = measure(store)
    spoil(store, fast)
    assert exit_status(check(store, night, baseline=slow)) == 0


@pytest.mark.parametrize("other", ["kind", "night", "candidate", "pair"])
def test_what_is_not_of_it_is_not_lost_to_it(store: Store, other: str) -> None:
    if other == "pair":
        store.pairs([0.01], b="c" * 40)
        store.count += 3
    held = [store.run(rate, git_commit=OLD) for rate in spread(10)]
    began = {"kind": timedelta(0), "night": timedelta(days=3), "candidate": timedelta(days=5)}
    ids = []
    if other == "pair":
        ids = [path.name.removesuffix(".0.parquet") for path in sorted(store.root.rglob("runs/*/*.parquet"))[:2]]
    elif other == "candidate":
        store.count += 48
        ids = [store.run(git_commit=NEW)]
        store.count -= 48
    else:
        started = store.start + timedelta(hours=5) + began[other]
        kind = "resnet56A" if other == "kind" else "resnet20A"
        ids = [store.run(run_id=f"{started:%Y%m%dT%H%M%S}-{kind}-digits-00000fff", started=started)]
    store.count += 48 + 60
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    spoil(store, ids)
    assert held and exit_status(check(store, night, baseline=[OLD])) == 0
