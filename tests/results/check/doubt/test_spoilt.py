"""What cannot be read or dated: of candidates, of baselines and of pairs; none of it is passed over in silence."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from judging import accept, baseline, check, no_pass, spoil
from made_up import NEW, Memory, Store, recent, spread

from results.baseline import main
from results.check.baselines import append
from results.check.gather import gather, lost_of_those_that_count
from results.check.judge import judge
from results.check.runs import began, kind_of, load, named_as_of_pairs
from results.check.verdict import Verdict, exit_status

# Files are written and spoilt.
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("good", "bad", "status"), [(3, 20, 3), (3, 1, 3), (4, 1, 0), (8, 3, 3)])
def test_candidates_that_cannot_be_read_count_as_failed(store: Store, good: int, bad: int, status: int) -> None:
    baseline(store)
    ids = [store.run(rate, git_commit=NEW) for rate in spread(good + bad)]
    spoil(store, ids[good:])
    (store.root / "runs" / "month=2026-11" / "notes.0.parquet").symlink_to("nowhere")  # of no time, and no such runs
    findings = check(store, hours=72.0)
    assert exit_status(findings) == 3
    (other,) = [one for one in no_pass(findings) if one.cell == "notes"]
    assert other.key == "" and "1 of 1 runs failed or cannot be used, more than one in five" in other.why
    spoilt = [one for one in no_pass(findings) if one.cell != "notes"]
    assert bool(spoilt) == (status == 3)
    for one in spoilt:
        assert one.why.startswith(f"{bad} of {good + bad} runs failed or cannot be used, more than one in five: ")
        assert one.candidates == ids[good:] and ids[good] in one.why and one.key == findings[0].key


def test_spoilt_and_failed_runs_are_counted_together(store: Store) -> None:
    baseline(store)
    ids = [store.run(rate) for rate in spread(9)]
    failed = store.run(status="failed", failure_kind="oom")
    assert exit_status(check(store)) == 0
    spoil(store, ids[:2])
    first, second = no_pass(check(store))
    assert first.candidates == [failed] and second.candidates == ids[:2]
    assert {one.why.partition(":")[0] for one in (first, second)} == {
        "3 of 10 runs failed or cannot be used, more than one in five"
    }
    store.run(config={"dataset": "cifar10"}, run_id=f"{store.now:%Y%m%dT%H%M%S}-resnet20A-cifar10-0000000a")
    assert {one.why.partition(":")[0] for one in no_pass(check(store)) if "in five" in one.why} == {
        "3 of 10 runs failed or cannot be used, more than one in five"
    }


def test_spoilt_runs_of_other_nights_of_a_baseline_and_of_pairs_are_none_of_tonight(store: Store) -> None:
    old = [store.run(rate) for rate in spread(20)]
    held = baseline(store, 25)
    store.pairs([0.01, 0.02], b="c" * 40)
    paired = [path.name.removesuffix(".0.parquet") for path in sorted((store.root / "runs").rglob("*.parquet"))[-4:]]
    for rate in spread(3):
        store.run(rate)
    spoil(store, [*old, held[0], *paired])
    assert exit_status(check(store, hours=20.0)) == 0


def test_rows_that_cannot_be_judged_count_alike(memory: Memory) -> None:
    baseline(memory)
    memory.count -= 47
    memory.run(elapsed_s=-1.0)  # two nights ago
    memory.count += 46
    for rate in spread(3):
        memory.run(rate)
    assert exit_status(check(memory)) == 0
    bad = [memory.run(400.0, elapsed_s=1.0) for _ in range(2)]
    (one,) = no_pass(check(memory))
    assert one.verdict is Verdict.INCONCLUSIVE and one.candidates == bad
    assert "2 of 5 runs failed or cannot be used, more than one in five: tta_s 40" in one.why.replace(
        "its clock goes backwards: ", ""
    )


def test_the_spoilt_files_of_a_folder_of_candidates_count(store: Store, tmp_path: Path) -> None:
    baseline(store)
    other = Store(tmp_path / "other")
    other.count = 500
    ids = [other.run(rate) for rate in spread(5)]
    assert exit_status(check(store, [str(other.root)])) == 0
    spoil(other, ids[:2])
    (one,) = no_pass(check(store, [str(other.root)]))
    assert one.candidates == ids[:2] and "2 of 5 runs" in one.why


def test_a_baseline_that_lost_runs_is_no_pass_and_the_list_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = recent(tmp_path / "store")
    held = [store.run(rate) for rate in spread(10)]
    accept(store, held)
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    other = [store.run(rate, config={"shortcut": "B"}) for rate in spread(10)]
    accept(store, other)
    spoil(store, held[:2])
    (one,) = no_pass(judge(gather(store.root)))
    assert one.verdict is Verdict.INCONCLUSIVE and one.key == load(store.root).by_id[night[0]].key
    assert f"2 of the runs that count in this baseline cannot be read, such as {held[1]}" in one.why
    assert main(["list", f"results={store.root}"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "10 8 (2 cannot be read)" in said and "10 10 " in said
    assert main(["accept", f"results={store.root}", "reason=nightly"]) == 2
    assert "(1 do not pass: " in capsys.readouterr().err


def test_runs_count_back_to_the_twentieth_allocation(memory: Memory) -> None:
    ids = [memory.run(slurm_job_id=str(index // 2)) for index in range(44)]
    runs = load(memory.root).by_id
    assert lost_of_those_that_count(["x", *ids[:4], "y", *ids[4:6], "z", *ids[6:]], runs) == ["z"]
    assert lost_of_those_that_count(["x", *ids[:4], "y"], runs) == ["y", "x"]
    assert lost_of_those_that_count([], runs) == []


def test_a_lost_run_from_before_those_that_count_is_said_and_no_fault(memory: Memory) -> None:
    run_id = memory.run()
    key = load(memory.root).by_id[run_id].key
    append(memory.root, "accept", {key: ["nobody"]}, reason="")
    baseline(memory)
    for rate in spread(3):
        memory.run(rate)
    evidence = gather(memory.root, now=memory.now)
    assert exit_status(judge(evidence)) == 0
    assert [
        line for line in evidence.faults if line == "run=nobody: is in the baseline, and has no row that can be read"
    ]


AT = datetime(2026, 11, 26, 13, 0, 1, tzinfo=UTC)


def test_runs_named_as_of_pairs_are_no_candidates_without_their_rows(memory: Memory) -> None:
    baseline(memory)
    ids = [memory.run(rate) for rate in spread(3)]
    name = "20261103T120000-pairs-0123abcd"
    bare = [memory.run(400.0, run_id=f"{name}-{end}") for end in ("p01a", "p02b")]
    before = memory.now - timedelta(days=9)  # not of tonight: nothing to say of it
    memory.run(400.0, run_id="20261001T120000-pairs-89abcdef-p01a", started=before)
    evidence = gather(memory.root, now=memory.now)
    findings = judge(evidence)
    assert findings[0].candidates == ids and exit_status(findings) == 0
    assert evidence.faults == [f"2 runs left out, such as {bare[0]}: named as of pairs that are not there"]


@pytest.mark.parametrize(
    ("run_id", "kind", "time", "pairs"),
    [
        ("20261126T130001-resnet20A-digits-0011aabb", "resnet20A-digits", AT, False),
        ("resnet20A-digits-0011aabb-job77_3", "resnet20A-digits", None, False),
        ("20261326T130001-x-0011aabb", "x", None, False),
        ("20261126T130001-pairs-0011aabb-p01a", "pairs-0011aabb-p01a", AT, True),
        ("20261126T130001-pairs-0011aabb-b", "pairs-0011aabb-b", AT, True),
        ("20261126T130001-pairs-0011aabb", "pairs", AT, False),
        ("a\nb", "", None, False),
    ],
)  # fmt: skip
def test_what_ids_say(run_id: str, kind: str, time: datetime | None, pairs: bool) -> None:
    assert (kind_of(run_id), began(run_id), named_as_of_pairs(run_id)) == (kind, time, pairs)


def test_nothing_is_accepted_by_itself_beside_pairs_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = recent(tmp_path / "store")
    accept(store, [store.run(rate) for rate in spread(10)])
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    path = store.root / "pairs" / "month=2026-11" / "cut.0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    words = ["accept", f"results={store.root}", "reason=nightly"]
    assert main(words) == 2
    assert "accept: nothing passes beside what cannot be read: " in (err := capsys.readouterr().err)
    assert "cut.0.parquet" in err
    assert main([*words, f"run={night[0]}"]) == 0  # which says what is meant


def test_a_run_that_does_not_say_how_it_ended_counts_as_failed(memory: Memory) -> None:
    baseline(memory)
    for rate in spread(3):
        memory.run(rate)
    odd = memory.run(status=None)
    evidence = gather(memory.root, now=memory.now)
    (one,) = no_pass(judge(evidence))
    what = f"run {odd} without a status (unknown): no message"
    assert one.why == f"1 of 4 runs failed, more than one in five: {what}" and evidence.faults == [what]
    for rate in spread(4):
        memory.run(rate, status="killed", failure_kind="preempted")
    memory.run()
    assert exit_status(check(memory)) == 0


def test_the_newest_run_is_none_that_is_yet_to_come_or_does_not_say(memory: Memory) -> None:
    memory.run(**dict.fromkeys(("init_start", "init_stop", "run_start", "run_stop")))
    late = memory.now + timedelta(days=3)
    for started, words in ((None, ""), (late - timedelta(days=2), "; the newest began 2026-11-02 01:01 UTC")):
        if started:
            memory.run(started=started)
        memory.run(started=late + timedelta(days=1))
        evidence = gather(memory.root, now=late)
        assert [line for line in evidence.faults if line.startswith("no new run of the last 20 hours")] == [
            f"no new run of the last 20 hours{words}"
        ]


def test_what_cannot_be_written_names_its_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    store = recent(tmp_path / "store")
    run_id = store.run()
    monkeypatch.setattr("results.check.baselines.write_once", full)
    assert main(["accept", f"results={store.root}", "reason=x", f"run={run_id}"]) == 2
    line = f"accept: {store.root / 'baselines'}: No space left on device; nothing is said"
    assert capsys.readouterr().err == f"results.baseline: {line}\n"


@pytest.mark.parametrize(("lost", "status", "gone"), [(0, 0, False), (1, 3, False), (10, 2, True)])
def test_a_run_of_kernels_without_its_kernels_is_lost_to_its_baseline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], lost: int, status: int, gone: bool
) -> None:
    store = recent(tmp_path / "store")

    def micro(count: int, **columns: Any) -> list[str]:
        ids = [store.run(None, benchmark="micro", target_top1=None, **columns) for _ in range(count)]
        for run_id, time in zip(ids, spread(count, 10.0), strict=True):
            names = {"op": "bn_act", "backend": "triton", "shape": "8", "dtype": "bf16", "l2": "cold", "status": "ok"}
            store.write("kernels", [{"run_id": run_id, **names, "p50": time}], run_id)
        return ids

    def spoil_kernels(ids: list[str]) -> None:
        for run_id in ids:
            (path,) = (store.root / "kernels").rglob(f"{run_id}.*.parquet")
            path.unlink() if gone else path.write_bytes(b"PAR1")

    held = micro(10)
    for kind in ("accept", "pin"):
        accept(store, held, kind)
    night = micro(3, git_commit=NEW)
    spoil_kernels(held[10 - lost :])
    findings = check(store)
    assert exit_status(findings) == status
    said = [one for one in findings if one.verdict is Verdict.INCONCLUSIVE and not one.metric]
    words = (
        f"the kernels of {lost} of the runs that count in this baseline cannot be read, such as {held[-1]}; restore "
        "them, or revert it and accept the others"
    )
    assert [one.why for one in said] == [words] * bool(lost)
    root = f"results={store.root}"
    assert main(["list", root]) == 0
    assert (f" 10 {10 - lost} ({lost} cannot be read) " in " ".join(capsys.readouterr().out.split())) == bool(lost)
    spoil_kernels(night[:1])
    assert main(["accept", root, f"run={','.join(night)}", "reason=x"]) == 0
    said = capsys.readouterr()
    assert f"left out run={night[0]}: has no kernels that can be read" in said.err and "1 cell, 2 runs" in said.out
    assert main(["accept", root, f"run={night[0]}", "reason=x"]) == 2
    line = f"results.baseline: accept: no run of 1 will do; run={night[0]}: has no kernels that can be read\n"
    assert capsys.readouterr().err == line
