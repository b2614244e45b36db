"""Runs that died and left nothing but a journal: they count as what cannot be read, until they are recovered."""

import json
import os
from datetime import timedelta
from pathlib import Path

import pytest
from judging import baseline, check, no_pass
from made_up import CONFIG, NEW, Store, spread

from results.check.gather import gather
from results.check.verdict import exit_status
from results.recover import dead_journals, sweep
from results.store.files import BadFile, journals
from results.store.journal import Journal, Owner
from results.store.schema import clean_row

# Files are written.
pytestmark = pytest.mark.slow


@pytest.fixture
def night(store: Store) -> Store:
    baseline(store)
    for rate in spread(3):
        store.run(rate, git_commit=NEW)
    return store


def leave(store: Store, run_id: str = "", restart: int = 0) -> str:
    """Leave the journal of an attempt of this process, and return its run's id."""
    run_id = run_id or f"{store.now:%Y%m%dT%H%M%S}-resnet20A-digits-{len(journals(store.root)):08x}"
    known = {"run_id": run_id, "restart_count": restart, "status": "running", "benchmark": "training"}
    row = clean_row("runs", {**known, "config_json": json.dumps(CONFIG)})
    Journal(store.root / "journal" / f"{run_id}.{restart}.jsonl", row, "2026-11").close()
    return run_id


def bury(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the writers of all journals dead."""
    monkeypatch.setattr(Owner, "lives", lambda self: False)


def test_a_journal_of_the_dead_counts_as_a_run_that_cannot_be_read(
    night: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [leave(night) for _ in range(2)]
    assert exit_status(check(night)) == 0 and not dead_journals(night.root)  # this process lives
    bury(night, monkeypatch)
    evidence = gather(night.root, now=night.now)
    assert list(evidence.spoilt) == ids and len(evidence.faults) == 2
    (one,) = no_pass(check(night))
    path = night.root / "journal" / f"{ids[0]}.0.jsonl"
    assert one.why.startswith(f"2 of 5 runs failed or cannot be used, more than one in five: {path}: ended without its")
    assert one.why.endswith(f": python -m results.recover results={night.root}") and one.candidates == ids
    assert one.why == no_pass(check(night, [NEW]))[0].why
    assert exit_status(check(night, now=night.now + timedelta(days=2))) == 4  # none of that night, and nothing else
    assert not gather(night.root, now=night.now + timedelta(days=2)).spoilt


def test_a_journal_of_a_run_of_pairs_is_none_of_the_night(night: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(night, monkeypatch)
    leave(night, f"{night.now:%Y%m%dT%H%M%S}-pairs-0123abcd-p01a")
    assert exit_status(check(night)) == 0


def test_what_is_recovered_counts_as_failed(night: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [night.run(git_commit=NEW, status="killed", failure_kind="unknown", recovered=True) for _ in range(2)]
    words = {"2 of 5 runs failed, more than one in five"}
    assert {one.why.partition(":")[0] for one in no_pass(check(night))} == words and len(ids) == 2


@pytest.mark.parametrize(
    ("kind", "recovered", "status"),
    [("unknown", True, 3), (None, True, 3), ("preempted", True, 0), ("oom", True, 3), ("unknown", False, 0),
     (None, None, 0), ("oom", False, 3)],
)  # fmt: skip
def test_which_killed_runs_count_as_failed(night: Store, kind: str | None, recovered: bool | None, status: int) -> None:
    night.run(git_commit=NEW, status="killed", failure_kind=kind, recovered=recovered)
    assert exit_status(check(night)) == status


def test_a_journal_beside_its_row_is_none_and_one_of_a_later_attempt_is(
    night: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = night.run(git_commit=NEW)
    bury(night, monkeypatch)
    leave(night, run_id)
    assert exit_status(check(night)) == 0
    leave(night, run_id, 1)
    (one,) = no_pass(check(night))
    assert one.candidates == [run_id] and one.why.startswith("1 of 4 runs failed or cannot be used")


def test_a_folder_of_journals_that_cannot_be_listed_is_no_pass(night: Store) -> None:
    (night.root / "journal").write_text("")
    (one,) = no_pass(check(night))
    assert one.why.endswith(f"{night.root}/journal: Not a directory") and exit_status(check(night)) == 3
    with pytest.raises(NotADirectoryError):
        sweep(night.root)


def test_a_pipe_among_journals_is_not_waited_for(night: Store) -> None:
    (night.root / "journal").mkdir()
    path = night.root / "journal" / f"{night.now:%Y%m%dT%H%M%S}-resnet20A-digits-aaaaaaaa.0.jsonl"
    os.mkfifo(path)
    assert [str(one) for one in dead_journals(night.root)] == [f"{path}: {path.name}: not a file"]
    assert [str(one) for one in sweep(night.root).bad] == [f"{path}: {path.name}: not a file"]
    assert exit_status(check(night)) == 3


def test_a_journal_that_cannot_be_read_counts_too(night: Store) -> None:
    run_id = leave(night)
    (path,) = journals(night.root)
    path.write_text('{"x":1}\n')
    assert [one.candidates for one in no_pass(check(night))] == [[run_id]]


@pytest.mark.parametrize(("age", "dead"), [(60.0, 0), (3600.0, 1)])
def test_from_another_host_the_age_of_a_journal_decides_as_for_recover(
    night: Store, monkeypatch: pytest.MonkeyPatch, age: float, dead: int
) -> None:
    leave(night)
    monkeypatch.setattr(Owner, "lives", lambda self: None)
    (path,) = journals(night.root)
    then = path.stat().st_mtime - age
    os.utime(path, (then, then))
    assert len(dead_journals(night.root)) == dead == len(gather(night.root, now=night.now).spoilt)
    assert len(sweep(night.root).rows) == dead


def test_a_run_that_is_recovered_while_a_check_reads_counts_once_by_its_row(
    night: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = leave(night)
    bury(night, monkeypatch)

    def recovered_after(root: Path) -> list[BadFile]:
        found = dead_journals(root)
        assert [row["run_id"] for row in sweep(root).rows] == [run_id]
        return found

    monkeypatch.setattr("results.check.gather.dead_journals", recovered_after)
    evidence = gather(night.root, now=night.now)
    assert evidence.runs[run_id].row["recovered"] and not evidence.spoilt and not evidence.faults
