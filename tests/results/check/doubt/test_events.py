"""Events of baselines that mean nothing, or that change nothing: said, never passed over."""

import fcntl
import os
import re
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from judging import accept, check
from made_up import NEW, recent, spread

from results import baseline
from results.baseline import main
from results.check.baselines import append, events, standing
from results.check.runs import load
from results.check.verdict import exit_status
from results.store.files import table_path, write_once
from results.store.schema import to_table

ROOT = Path(baseline.__file__).parents[1]

# Each test writes a file a run, and reads them for each command.
pytestmark = pytest.mark.slow


def write(root: Path, **columns: Any) -> None:
    """Write an event of any columns."""
    row = {
        "key": "k", "run_ids": [], "reason": "r", "baseline_id": "odd", "accepted_by": "me", "change_marks": [],
        "accepted_at": datetime(2026, 1, 1, tzinfo=UTC), **columns,
    }  # fmt: skip
    write_once(table_path(root, "baselines", "2026-01", "odd", 0), [to_table("baselines", [row])])


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"kind": "acept"}, "its kind is acept, which none is"),
        ({"kind": None}, "its kind is not said, which none is"),
        ({"kind": "revert", "reverts": "nobody"}, "it reverts nobody, which is not there"),
        ({"kind": "revert", "reverts": None}, "it reverts what it does not say, which is not there"),
    ],
)
def test_an_event_from_which_nothing_can_be_told_is_no_pass_until_it_is_reverted(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    columns: dict[str, Any],
    words: str,
) -> None:
    store = recent(tmp_path / "store")
    held = [store.run(rate) for rate in spread(10)]
    accept(store, held)
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    assert exit_status(check(store)) == 0
    write(store.root, run_ids=held, key=load(store.root).by_id[held[0]].key, **columns)
    findings = check(store)
    line = f"{store.root}: baseline odd cannot be read: {words}"
    assert exit_status(findings) == 3 and findings[-1].why == f"cannot be read: {line}"
    history, faults = events(store.root)
    assert faults == [line] and list(standing(history).accepted.values()) == [held]
    root = f"results={store.root}"
    monkeypatch.setenv("COLUMNS", "300")  # no cell is folded
    assert main(["list", root]) == 0
    said = capsys.readouterr()
    listed = " ".join(said.out.split())
    assert f"results.baseline: {line}" in said.err
    assert f"odd {' '.join(filter(None, (columns['kind'], '(cannot be read)')))} " in listed
    assert main(["accept", root, "reason=x", f"run={night[0]}"]) == 2
    assert "accept: not all of the baselines can be read" in capsys.readouterr().err
    assert main(["revert", root, "id=odd", "reason=by hand"]) == 0
    assert exit_status(check(store)) == 0 and events(store.root)[1] == []


def test_a_revert_of_a_revert_that_is_there_is_no_fault(tmp_path: Path) -> None:
    first = append(tmp_path, "accept", {"k": ["1"], "other": ["2"]}, reason="")
    second = append(tmp_path, "revert", {"k": [], "other": []}, reason="", reverts=first)
    append(tmp_path, "revert", {"k": []}, reason="", reverts=second)
    append(tmp_path, "retire", {"other": ["2"]}, reason="")
    append(tmp_path, "pin", {"k": ["1"]}, reason="")
    assert events(tmp_path)[1] == []


def test_an_event_of_several_cells_is_one_fault(tmp_path: Path) -> None:
    append(tmp_path, "revert", {"k": [], "other": []}, reason="", reverts="nobody")
    assert len(events(tmp_path)[0]) == 2 and len(events(tmp_path)[1]) == 1


def test_what_is_reverted_is_not_reverted_twice_and_one_revert_undoes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")  # no cell is folded
    store = recent(tmp_path / "store")
    root = f"results={store.root}"
    held = [store.run(rate) for rate in spread(10)]
    accept(store, held)
    (first,) = {event.baseline_id for event in events(store.root)[0]}
    revert = ["revert", root, "reason=x"]
    assert main([*revert, f"id={first}"]) == 0
    second = events(store.root)[0][-1].baseline_id
    assert not (said := capsys.readouterr()).err and said.out.startswith(second)
    assert main([*revert, f"id={first}"]) == 2
    line = f"id={first}: is reverted already, by {second}; revert that to undo it"
    assert capsys.readouterr().err == f"results.baseline: {line}\n" and len(events(store.root)[0]) == 2
    assert main(["list", root]) == 0 and "accept (reverted)" in " ".join(capsys.readouterr().out.split())
    assert main([*revert, f"id={second}"]) == 0
    assert list(standing(events(store.root)[0]).accepted.values()) == [held] and not capsys.readouterr().err
    assert main(["list", root]) == 0
    listed = " ".join(capsys.readouterr().out.split())
    assert "accept (reverted)" not in listed and "revert (reverted)" in listed


def test_a_revert_that_changes_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = recent(tmp_path / "store")
    ids = [store.run(rate) for rate in spread(10)]
    for _ in range(2):
        accept(store, ids, "pin")
    first = events(store.root)[0][0].baseline_id
    assert main(["revert", f"results={store.root}", "reason=x", f"id={first}"]) == 0
    assert capsys.readouterr().err == "results.baseline: nothing that stands changed by it\n"


def test_of_accepts_at_once_the_later_one_waits_and_says_that_it_is_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = recent(tmp_path / "store")
    accept(store, [store.run(rate) for rate in spread(10)])
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    words = ["accept", f"results={store.root}", "reason=nightly"]
    folder = os.open(store.root, os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)  # as another accept has it
    command = [sys.executable, "-m", "results.baseline", *words]
    late = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        while late.poll() is None and not re.search(rf"-> FLOCK .* {late.pid} ", Path("/proc/locks").read_text()):
            time.sleep(0.02)
        accept(store, night)
    finally:
        os.close(folder)
    line = f"results.baseline: accept: what was measured tonight in {store.root} is accepted already\n"
    assert (late.communicate(timeout=120)[1], late.returncode) == (line, 2) and len(events(store.root)[0]) == 2
    assert main([*words, f"run={','.join(night)}"]) == 2
    assert f"no run of 3 will do; run={night[0]}: is accepted already" in capsys.readouterr().err
