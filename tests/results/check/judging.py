"""Judges made-up stores."""

from typing import Any

from made_up import Store, spread

from results.check.baselines import append
from results.check.gather import gather
from results.check.judge import judge
from results.check.runs import load
from results.check.verdict import Finding, Verdict

MAIN = "images_per_s"


def accept(store: Store, ids: list[str], kind: str = "accept") -> None:
    """Accept or pin runs."""
    runs = load(store.root).by_id
    keys: dict[str, list[str]] = {}
    for run_id in ids:
        keys.setdefault(runs[run_id].key, []).append(run_id)
    append(store.root, kind, keys, reason="test")


def baseline(store: Store, count: int = 20, around: float = 1000.0, **columns: Any) -> list[str]:
    """Write and accept runs that hardly differ; what is written next is of two days later."""
    ids = [store.run(rate, **columns) for rate in spread(count, around)]
    accept(store, ids)
    store.count += 48
    return ids


def check(store: Store, ids: list[str] = [], **options: Any) -> list[Finding]:  # noqa: B006
    """Judge runs, those of the last night where none are named."""
    return judge(gather(store.root, ids, **{"now": store.now, **options}))


def of(findings: list[Finding], metric: str = MAIN, against: str = "accepted") -> Finding:
    """The one finding on a metric."""
    (one,) = [found for found in findings if found.metric == metric and found.against == against]
    return one


def no_pass(findings: list[Finding]) -> list[Finding]:
    """Those that are no pass."""
    return [one for one in findings if one.verdict is not Verdict.PASS]


def spoil(store: Store, run_ids: list[str]) -> None:
    """Cut the files of runs."""
    for run_id in run_ids:
        (path,) = (store.root / "runs").rglob(f"{run_id}.*.parquet")
        path.write_bytes(path.read_bytes()[:500])
