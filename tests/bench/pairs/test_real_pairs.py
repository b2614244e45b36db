"""Pairs of true runs, each side from a worktree of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.paths import ROOT
from bench.pairs import checkouts
from results.store.files import read_rows

pytestmark = pytest.mark.ranks


@pytest.mark.skipif(checkouts.this_checkout().commit is None, reason="not a git repository")
def test_a_commit_trains_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    words = ["depth=8", "dataset=digits", "epochs=1", "ranks_per_node=1", "metric=final_top1"]
    command = [
        sys.executable,
        "-m",
        "bench.pairs",
        "a=commit:HEAD",
        "b=commit:HEAD",
        *words,
        f"results={tmp_path}/rows",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # One seed, and one code: the very same accuracy, which settles it.
    assert "no difference is shown: final_top1 of b / a is 1.000" in done.stdout and "differs by nothing" in done.stdout
    pairs, bad = read_rows(tmp_path / "rows", "pairs")
    assert [(row["side"], row["position"]) for row in pairs] == [("a", 1), ("b", 2)] and not bad
    for table in ("runs", "epochs", "steps", "system"):
        assert {row["run_id"] for row in read_rows(tmp_path / "rows", table)[0]} == {row["run_id"] for row in pairs}
    runs = {row["run_id"]: row for row in read_rows(tmp_path / "rows", "runs")[0]}
    a, b = (runs[row["run_id"]] for row in pairs)
    assert a["git_commit"] == b["git_commit"] == checkouts.this_checkout().commit
    assert [(row["dirty"], row["status"]) for row in (a, b)] == [(False, "completed")] * 2
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == ["epochs", "pairs", "runs", "steps", "system"]
