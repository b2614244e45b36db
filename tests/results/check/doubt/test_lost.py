"""Runs that cannot be read, or that do not say when they were: they count, are named, and alarm in one night."""

import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from judging import accept, baseline, check, no_pass, spoil
from made_up import NEW, Store, spread

from results.check.gather import gather
from results.check.judge import judge
from results.check.output import as_json, as_junit, as_rows
from results.check.runs import load, written
from results.check.verdict import Verdict, exit_status
from results.selection import select

# Files are written and spoilt.
pytestmark = pytest.mark.slow

UNDATED = dict.fromkeys(("init_start", "init_stop", "run_start", "run_stop"))


def put(store: Store, run_id: str, when: datetime) -> None:
    """Set when the files of a run were last changed."""
    for path in (store.root / "runs").rglob(f"{run_id}.*.parquet"):
        os.utime(path, (when.timestamp(), when.timestamp()))


def night(store: Store, good: int, bad: int = 0) -> list[str]:
    """Measure a new commit; the files of the last of these runs are cut. Return their ids."""
    ids = [store.run(rate, git_commit=NEW) for rate in spread(good + bad)]
    spoil(store, ids[good:])
    return ids


@pytest.mark.parametrize(("good", "bad", "status"), [(3, 1, 3), (4, 1, 0), (7, 2, 3)])
@pytest.mark.parametrize("word", ["day", "commit", "ids", "none"])
def test_what_cannot_be_read_counts_however_the_night_is_named(
    store: Store, word: str, good: int, bad: int, status: int
) -> None:
    baseline(store)
    spoil(store, [store.run()])  # two nights before
    store.count = 4 * 24  # midnight
    ids = night(store, good, bad)
    words = {"day": [ids[0][:8]], "commit": [NEW], "none": [], "ids": ids[:good]}[word]
    findings = check(store, words)
    said = [one for one in no_pass(findings) if "failed or cannot be used" in one.why]
    wanted = 0 if word == "ids" else status  # runs that are named one by one are those that are meant
    assert [one.candidates for one in said] == ([ids[good:]] if wanted else [])


def test_runs_of_a_job_have_beside_them_what_cannot_be_read(store: Store) -> None:
    baseline(store)
    for rate in spread(3):
        store.run(rate, slurm_job_id="77", array_task=store.count)
    assert exit_status(check(store, ["77"])) == 0
    bad = store.run(run_id="resnet20A-digits-0011aabb-job77_9", slurm_job_id="77")
    spoil(store, [bad])
    put(store, bad, store.now)
    (one,) = no_pass(check(store, ["77"]))
    assert one.candidates == [bad] and "1 of 4 runs failed or cannot be used" in one.why
    (one,) = no_pass(check(store, ["20261103"]))  # its id does not say of which day it is, its file does
    assert bad in one.candidates
    put(store, bad, store.now - timedelta(days=3))
    assert exit_status(check(store, ["77"])) == 0


def test_what_a_baseline_or_pairs_have_does_not_count_beside_a_named_night(store: Store) -> None:
    held = baseline(store)
    store.count -= 48
    night(store, 3)
    spoil(store, held[:1])
    store.pairs([0.01], b="c" * 40)
    spoil(store, [path.name.removesuffix(".0.parquet") for path in sorted(store.root.rglob("runs/*/*.parquet"))[-1:]])
    assert not [one for one in check(store, [NEW]) if "cannot be used" in one.why]


def test_a_day_that_is_named_is_not_the_one_before(store: Store) -> None:
    baseline(store)
    store.count = 4 * 24 - 2
    late = store.run(git_commit=NEW)  # at 23:00
    spoil(store, [late])
    store.count += 1
    ids = night(store, 3)
    assert exit_status(check(store, [ids[0][:8]])) == 0
    assert [one.candidates for one in no_pass(check(store, [NEW]))] == [[late]]


def test_a_run_that_is_named_and_cannot_be_read_is_named(store: Store) -> None:
    """An earlier attempt of it can be."""
    baseline(store)
    ids = night(store, 4)
    store.run(1000.0, run_id=ids[0], restart_count=1, git_commit=NEW)
    later = next(store.root.rglob(f"{ids[0]}.1.parquet"))
    later.write_bytes(later.read_bytes()[:500])
    for words in (ids, [*ids[:4], ids[0][:8]]):
        (one,) = no_pass(check(store, words))
        assert (one.verdict, one.cell) == (Verdict.NOT_COMPARABLE, ids[0]) and str(later) in one.why


@pytest.mark.parametrize(
    ("attempts", "cut", "left"),
    [
        ((0, 1), 1, None), ((0, 1), 0, 1), ((0, 1, 2), 1, 2), ((0, 2, 10), 10, None), ((0,), 0, None),
        ((None, 1), 1, None),
    ],
)  # fmt: skip
def test_an_attempt_that_cannot_be_read_is_not_replaced_by_an_earlier_one(
    store: Store, attempts: tuple[int | None, ...], cut: int, left: int | None
) -> None:
    started = store.start + timedelta(hours=1)
    for attempt in attempts:
        store.run(1000.0, run_id="R", restart_count=attempt, started=started)
    (path,) = store.root.rglob(f"R.{cut}.parquet")
    path.write_bytes(b"PAR1")
    found = load(store.root)
    assert [run.row["restart_count"] for run in found.by_id.values()] == ([] if left is None else [left])
    assert list(found.unread) == (["R"] if left is None else []) and len(found.faults) == 1


def test_a_file_of_no_number_may_be_the_last_attempt(store: Store) -> None:
    run_id = store.run()
    (store.root / "runs" / "month=2026-11" / f"{run_id}.late.parquet").write_bytes(b"PAR1")
    assert list(load(store.root).unread) == [run_id]


def test_a_copy_of_an_attempt_takes_nothing_from_it(store: Store) -> None:
    run_id = store.run()
    (path,) = store.root.rglob(f"{run_id}.0.parquet")
    later = store.root / "runs" / "month=2026-12"
    later.mkdir()
    (later / path.name).write_bytes(path.read_bytes())
    found = load(store.root)
    assert list(found.by_id) == [run_id] and not found.unread and len(found.faults) == 1


def test_a_later_attempt_that_cannot_be_read_counts_as_a_run_that_failed(store: Store) -> None:
    baseline(store)
    ids = night(store, 4)
    store.run(1000.0, run_id=ids[0], restart_count=1, git_commit=NEW)
    later = next(store.root.rglob(f"{ids[0]}.1.parquet"))
    later.write_bytes(later.read_bytes()[:500])
    (one,) = no_pass(check(store))
    assert one.candidates == ids[:1] and one.why.startswith("1 of 4 runs failed or cannot be used")


def test_a_run_whose_commit_an_earlier_attempt_says_is_of_that_commit_whenever_it_was(store: Store) -> None:
    baseline(store)
    run_id = store.run(git_commit=NEW)
    store.run(1000.0, run_id=run_id, restart_count=1, git_commit=NEW)
    next(store.root.rglob(f"{run_id}.1.parquet")).write_bytes(b"PAR1")
    store.count += 48
    night(store, 3)
    assert [one.candidates for one in no_pass(check(store, [NEW]))] == [[run_id]]


def test_a_baseline_whose_last_attempts_cannot_be_read_is_no_pass(store: Store) -> None:
    held = baseline(store)
    night(store, 3)
    store.run(1000.0, run_id=held[3], restart_count=1)
    later = next(store.root.rglob(f"{held[3]}.1.parquet"))
    later.write_bytes(b"PAR1")
    assert ["1 of the runs that count" in one.why for one in no_pass(check(store))] == [True]


def test_a_month_that_cannot_be_listed_is_no_pass(store: Store, tmp_path: Path) -> None:
    baseline(store)
    night(store, 3)
    (store.root / "runs" / "month=2026-12").write_text("no folder")
    findings = check(store)
    assert exit_status(findings) == 3 and "cannot be read: " in findings[-1].why and "month=2026-12" in findings[-1].why
    other = Store(tmp_path / "other")
    other.count = 500
    baseline(other)
    said = check(other, [str(store.root)])
    assert (exit_status(said), said[-1].why) == (3, findings[-1].why)


def test_a_row_that_began_before_its_id_says_is_left_out_with_a_line(store: Store) -> None:
    baseline(store)
    ids = night(store, 3)
    now = store.now
    name = f"{now:%Y%m%dT%H%M%S}-resnet20A-digits-0011aa"
    ids.append(store.run(run_id=f"{name}00", started=now - timedelta(minutes=59), git_commit=NEW))
    ids.append(store.run(run_id="20261101T120000-resnet20A-digits-0011aacc", git_commit=NEW))  # it waited in a queue
    assert set(ids) <= set(load(store.root).by_id) and exit_status(check(store, now=now + timedelta(hours=2))) == 0
    bad = [store.run(300.0, run_id=f"{name}0{n}", started=now - timedelta(days=40), git_commit=NEW) for n in (1, 2)]
    (one,) = no_pass(check(store))
    assert one.candidates == bad and f", before {now:%Y-%m-%dT%H:%M:%SZ}, which its id says" in one.why
    assert one.why.startswith("2 of 7 runs failed or cannot be used, more than one in five: its clock goes backwards: ")
    assert not set(bad) & set(load(store.root).by_id)
    assert not [one for one in no_pass(check(store, now=now + timedelta(days=2))) if bad[0] in one.candidates]
    said = no_pass(check(store, [*ids, bad[0]]))
    assert [(one.verdict, one.cell) for one in said] == [(Verdict.NOT_COMPARABLE, bad[0])]


WHY = "nothing measured: its row does not say when it began"


@pytest.mark.parametrize("words", [[], [NEW], ["20261103"]])
def test_an_undated_run_is_named_in_its_night_and_in_no_other(store: Store, words: list[str]) -> None:
    baseline(store)
    night(store, 3)
    stem = f"{store.now:%Y%m%dT%H%M%S}-resnet20A-digits-0000abcd"
    bad = [store.run(300.0, run_id=name, git_commit=NEW, **UNDATED) for name in (stem, "bare")]
    old = store.run(300.0, run_id="old", git_commit="c" * 40, **UNDATED)
    put(store, "bare", store.now)
    put(store, old, store.now - timedelta(days=9))
    findings = check(store, words)
    assert exit_status(findings) == 2 and not set(bad) & set(findings[0].candidates)
    key = findings[0].key
    assert {one.cell: (one.key, one.why) for one in no_pass(findings)} == {name: (key, WHY) for name in bad}
    late = gather(store.root, now=store.now + timedelta(days=2))
    assert not [one for one in judge(late) if one.cell in (*bad, old)] and len(late.faults) == 1
    accept(store, bad)
    assert not [one for one in no_pass(check(store, words)) if one.cell in bad]


def test_an_undated_run_that_is_named_itself_is_judged(store: Store) -> None:
    baseline(store)
    ids = [*night(store, 2), store.run(run_id="bare", git_commit=NEW, **UNDATED)]
    for words in (ids, ["bare", ids[0][:8]]):
        findings = check(store, words)
        assert exit_status(findings) == 0 and set(findings[0].candidates) == set(ids)


def test_beside_runs_that_are_named_themselves_nothing_else_is_meant(store: Store) -> None:
    baseline(store)
    ids = night(store, 3)
    bare = [store.run(run_id=name, git_commit=NEW, **columns) for name, columns in (("a", {}), ("b", UNDATED))]
    spoil(store, bare[:1])
    for run_id in bare:
        put(store, run_id, store.now)
    assert exit_status(check(store, ids)) == 0 and exit_status(check(store, [NEW])) == 2


def test_a_run_that_is_yet_to_come_is_said_in_every_output_in_the_night_that_wrote_it(store: Store) -> None:
    baseline(store)
    night(store, 3)
    now = store.now
    bad = store.run(300.0, started=now + timedelta(days=9), git_commit=NEW)
    put(store, bad, now)
    findings = check(store, now=now)
    (one,) = no_pass(findings)
    why = f"nothing measured: it began {now + timedelta(days=9, seconds=2):%F %H:%M} UTC, which is yet to come"
    assert (one.verdict, one.cell, one.why) == (Verdict.NOT_COMPARABLE, bad, why) and exit_status(findings) == 2
    for text in (as_json(findings, []), as_junit(findings), str(as_rows(findings))):
        assert why in text and bad in text
    evidence = gather(store.root, now=now + timedelta(days=2))
    assert not [one for one in judge(evidence) if one.cell == bad]
    assert [line for line in evidence.faults if line.startswith(f"run={bad}: left out, it began ")]


def test_when_files_were_written(store: Store, tmp_path: Path) -> None:
    ids = [store.run(), store.run(restart_count=3)]
    store.run(run_id=ids[0], restart_count=1)
    (first,), (second,) = ([*store.root.rglob(f"{ids[0]}.{restart}.parquet")] for restart in (0, 1))
    for old, new in ((first, second), (second, first)):
        os.utime(old, (1e9, 1e9))
        os.utime(new, (store.now.timestamp(), store.now.timestamp()))
        assert written(store.root, ids[:1]) == {ids[0]: store.now}
    assert written(store.root, []) == {} == written(tmp_path / "nowhere", ids)


def test_how_words_mean_runs(store: Store) -> None:
    ids = [store.run(git_commit=NEW, slurm_job_id="7"), store.run(git_commit=NEW), store.run()]
    for words, exact, starts, rows_say in (
        ([ids[0]], ids[:1], (), False),
        ([ids[1][-8:]], ids[1:2], (), False),
        (["20261101"], [], ("20261101",), False),
        ([NEW[:9]], [], (), True),
        (["7"], [], (), True),
        ([str(store.root)], [], (), False),
        ([ids[2], "20261101", NEW], ids[2:], ("20261101",), True),
        ([NEW, "20261101"], [], ("20261101",), True),
    ):
        (one,) = select("candidate", words, store.root)
        assert (sorted(one.exact), one.starts, one.rows_say) == (exact, starts, rows_say)
