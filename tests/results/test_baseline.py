"""The command of baselines, on made-up runs."""

import sys
from datetime import timedelta
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "check"))
from made_up import NEW, Store, recent, spread  # noqa: E402

from results.baseline import main  # noqa: E402
from results.check.baselines import events, standing  # noqa: E402
from results.check.command import main as check  # noqa: E402
from results.words import NAMES_ONE  # noqa: E402

# Each test writes a file a run, and reads them for each command.
pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return recent(tmp_path / "store")


def accepted(store: Store) -> list[str]:
    return [run_id for ids in standing(events(store.root)[0]).accepted.values() for run_id in ids]


def test_accepting_a_night_that_passes(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    root = f"results={store.root}"
    first = [store.run(rate) for rate in spread(10)]
    assert main(["accept", root, "reason=first", f"run={','.join(first)}"]) == 0
    assert accepted(store) == first and ": accept, 1 cell, 10 runs" in capsys.readouterr().out
    night = [store.run(rate, git_commit=NEW) for rate in spread(3)]
    slow = [store.run(rate, git_commit=NEW, config={"shortcut": "B"}) for rate in spread(3)]
    assert check([root]) == 2
    assert main(["accept", root, "reason=nightly pass"]) == 0
    said = capsys.readouterr()
    assert accepted(store) == [*first, *night] and "not accepted: resnet20B" in said.err
    assert main(["accept", root, "reason=again"]) == 2
    assert "no cell of" in capsys.readouterr().err
    assert main(["accept", root, "reason=new cell", f"run={','.join(slow)}", "mark=driver 580"]) == 0
    assert accepted(store) == [*first, *night, *slow]
    assert main(["accept", root, "reason=twice", f"run={slow[0]}"]) == 2
    assert accepted(store) == [*first, *night, *slow]


def test_baselines_that_cannot_be_read_are_not_taken_for_none(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    (store.root / "baselines").write_text("")
    assert main(["list", f"results={store.root}"]) == 1
    said = capsys.readouterr()
    assert not said.out and said.err.startswith(f"results.baseline: {store.root}/baselines: Not a directory")


@pytest.mark.parametrize("word", ["reason=\udcff bad", "mark=\ud800"])
def test_what_is_no_text_is_refused(store: Store, capsys: pytest.CaptureFixture[str], word: str) -> None:
    run_id = store.run()
    words = [
        "accept",
        f"results={store.root}",
        f"run={run_id}",
        *(["reason=x"] if word.startswith("mark") else []),
        word,
    ]
    assert main(words) == 2 and "in UTF-8" in capsys.readouterr().err and not (store.root / "baselines").exists()


def test_pin_list_revert_and_retire(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    root = f"results={store.root}"
    assert main(["list", root]) == 0 and "no baselines in" in capsys.readouterr().out
    assert main(["pin", root, "reason=x"]) == 2 and "nothing is accepted" in capsys.readouterr().err
    ids = [store.run(rate) for rate in spread(22)]
    assert main(["accept", root, "reason=first", f"run={','.join(ids)}"]) == 0
    assert main(["pin", root, "reason=release 1"]) == 0
    (pinned,) = standing(events(store.root)[0]).pinned.values()
    assert pinned == ids[-20:]
    assert main(["pin", root, "reason=release 2", f"run={ids[0]}"]) == 0
    capsys.readouterr()
    assert main(["list", root]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "resnet20A digits" in said and "release 1" in said and "release 2" in said and ids[-1][:20] in said
    second = events(store.root)[0][-1].baseline_id
    assert main(["revert", root, f"id={second[-8:]}", "reason=wrong run"]) == 0
    (pinned,) = standing(events(store.root)[0]).pinned.values()
    assert pinned == ids[-20:]
    assert main(["retire", root, f"run={ids[0]}", "reason=measured no more"]) == 0
    assert accepted(store) == [] and standing(events(store.root)[0]).pinned == {}
    assert main(["retire", root, f"run={ids[0]}", "reason=twice"]) == 2
    assert "has no baseline" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "nothing: say one of accept, pin, list, revert, retire"),
        (["acept", "reason=x"], "nearest is accept"),
        (["reason=x"], "nothing: say one of"),
        (["accept", "pin", "reason=x"], "pin: accept is said already"),
        (["list", "reson=x"], "did you mean reason=x"),
        (["accept"], "reason is missing"),
        (["accept", "reason=' '"], "needs a reason"),
        (["accept", "reason=x", "run=nobody"], "run=nobody: no such run"),
        (["accept", "reason=x", "id=1"], "id=1: accept takes run=, reason=, mark=, results="),
        (["revert", "reason=x"], "id is missing"),
        (["revert", "reason=x", "id=9"], "id=9: no such baseline: there are none"),
        (["retire", "reason=x"], "run is missing"),
        (["list", "run=2026"], "run=2026: list takes results="),
    ],
)
def test_words_that_cannot_be_used(
    store: Store, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    store.run()
    assert main([f"results={store.root}", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("results.baseline: ") and line in error
    assert not (store.root / "baselines").exists()


def test_what_no_baseline_can_have(store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = f"results={store.root}"
    failed = store.run(status="failed", failure_kind="oom")
    store.pairs([0.1])
    paired = next(path for path in (store.root / "runs").rglob("*.parquet") if "00000003" in path.name)
    other = Store(tmp_path / "other")
    other.run()
    for run, line in (
        (failed, "failed (oom); a baseline is of completed runs"),
        (paired.name.removesuffix(".0.parquet"), "is one of interleaved pairs"),
        (str(other.root), "is another store"),
    ):
        assert main(["accept", root, "reason=x", f"run={run}"]) == 2
        assert line in capsys.readouterr().err
    assert not (store.root / "baselines").exists()


def test_of_several_runs_those_that_will_not_do_are_left_out(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    good, failed = store.run(), store.run(status="failed", failure_kind="oom")
    backwards = store.run(elapsed_s=-1.0)
    assert main(["accept", f"results={store.root}", "reason=x", f"run={good},{failed},{backwards}"]) == 0
    err = capsys.readouterr().err
    assert accepted(store) == [good] and f"left out run={failed}: failed (oom)" in err
    assert f"left out run={backwards}: its clock goes backwards" in err


def test_nothing_is_said_of_what_stands_beside_a_file_that_cannot_be_read(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"results={store.root}"
    ids = [store.run(rate) for rate in spread(5)]
    assert main(["accept", root, "reason=x", f"run={ids[0]}"]) == 0
    (store.root / "baselines" / "month=2026-01").mkdir()
    (store.root / "baselines" / "month=2026-01" / "cut.0.parquet").write_bytes(b"PAR1")
    capsys.readouterr()
    for words in (["accept", f"run={ids[1]}"], ["pin"], ["retire", f"run={ids[0]}"]):
        assert main([*words, root, "reason=x"]) == 2
        assert "not all of the baselines can be read" in capsys.readouterr().err
    assert main(["list", root]) == 0 and "cut.0.parquet" in capsys.readouterr().err
    assert check([root]) == 3 and "cannot be read" in " ".join(capsys.readouterr().out.split())


def test_of_a_night_no_failed_run_is_accepted_and_a_cell_says_first_what_failed_first(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root, other = f"results={store.root}", {"shortcut": "B"}
    first = [store.run(rate, config=config) for config in ({}, other) for rate in spread(10)]
    assert main(["accept", root, "reason=first", f"run={','.join(first)}"]) == 0
    night = [store.run(rate, git_commit=NEW) for rate in spread(5)]
    store.run(None, git_commit=NEW, status="failed", failure_kind="oom")
    for rate in spread(3, 900.0, 0.001):
        store.run(rate, git_commit=NEW, config=other)
    capsys.readouterr()
    assert main(["accept", root, "reason=nightly pass"]) == 0
    err = capsys.readouterr().err
    assert set(accepted(store)) == {*first, *night}
    assert (
        err.count("not accepted") == 1 and "not accepted: resnet20B" in err and ": images_per_s inconclusive: " in err
    )


def test_runs_are_accepted_in_the_order_in_which_they_began(store: Store) -> None:
    started = store.now
    late = store.run(run_id="a", started=started + timedelta(minutes=1))
    early = store.run(run_id="b", started=started)
    assert main(["accept", f"results={store.root}", "reason=x", f"run={late},{early}"]) == 0
    assert accepted(store) == [early, late]


def test_a_pin_without_runs_is_of_those_that_are_still_there(store: Store) -> None:
    root = f"results={store.root}"
    ids = [store.run(rate) for rate in spread(4)]
    assert main(["accept", root, "reason=first", f"run={','.join(ids)}"]) == 0
    next(store.root.glob(f"runs/*/{ids[-1]}.0.parquet")).unlink()
    assert main(["pin", root, "reason=release"]) == 0
    assert list(standing(events(store.root)[0]).pinned.values()) == [ids[:3]]


def test_a_cell_that_is_only_pinned_can_be_retired(store: Store) -> None:
    root, run_id = f"results={store.root}", store.run()
    assert main(["pin", root, "reason=x", f"run={run_id}"]) == 0
    assert main(["retire", root, "reason=x", f"run={run_id}"]) == 0
    assert standing(events(store.root)[0]).pinned == {}


def test_what_is_listed_of_many_runs_and_of_rows_without_a_time(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"results={store.root}"
    ids = [store.run(rate) for rate in spread(22)]
    assert main(["accept", root, "reason=first", f"run={','.join(ids)}"]) == 0
    store.write("baselines", [{"key": "k", "run_ids": ["lost"], "reason": "old"}], "old")
    capsys.readouterr()
    assert main(["list", root]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert " 22 20 2026" in said.replace(ids[-1][:4], "2026"), "accepted, and the last of them, which count"
    assert "no run of it in the store (k) 1 0 (1 cannot be read) lost -" in said
    assert "k accept - " in said and "1970" not in said


def test_a_revert_is_of_the_one_baseline_whose_id_starts_or_ends_so(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"results={store.root}"
    for run_id in (store.run(), store.run()):
        assert main(["accept", root, "reason=x", f"run={run_id}"]) == 0
    ids = [event.baseline_id for event in events(store.root)[0]]
    assert main(["revert", root, "reason=x", "id=2"]) == 2 and "id=2: 2 have it" in capsys.readouterr().err
    assert main(["revert", root, "reason=x", f"id={ids[1][:-1]}"]) == 0
    assert len(accepted(store)) == 1


def test_a_cell_of_which_nothing_was_judged_is_not_accepted(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    """Of kernels that can run on neither side there is no finding, and so nothing that passes."""

    def micro(**columns: str) -> str:
        run_id = store.run(None, benchmark="micro", target_top1=None, **columns)
        kernel = {"run_id": run_id, "op": "bn_act", "backend": "triton", "shape": "8", "status": "cannot run here"}
        store.write("kernels", [kernel], run_id)
        return run_id

    first = [micro() for _ in range(3)]
    root = f"results={store.root}"
    assert main(["accept", root, "reason=first", f"run={','.join(first)}"]) == 0
    for _ in range(3):
        micro(git_commit=NEW)
    capsys.readouterr()
    assert main(["accept", root, "reason=nightly pass"]) == 2
    assert "no cell of" in capsys.readouterr().err and accepted(store) == first


@pytest.mark.parametrize(
    ("benchmark", "few", "enough", "level"), [("training", 6, 7, 0.01), ("step", 6, 7, 0.01), ("micro", 3, 4, 0.05)]
)
def test_what_stands_says_when_it_is_too_few_for_a_night_of_three(
    store: Store, capsys: pytest.CaptureFixture[str], benchmark: str, few: int, enough: int, level: float
) -> None:
    def one(rate: float) -> str:
        run_id = store.run(rate, benchmark=benchmark)
        if benchmark == "micro":
            store.write("kernels", [{"run_id": run_id, "op": "bn", "p50": rate, "status": "ok"}], run_id)
        return run_id

    root, ids = f"results={store.root}", [one(rate) for rate in spread(enough)]
    why = f"3 against {few} cannot reach p < {level:g}; {enough} are needed: resnet20A"
    assert main(["accept", root, "reason=x", f"run={','.join(ids[:few])}"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert ": accept, 1 cell, " in first
    assert second.startswith(f"too few for a check of 3 runs: {why}") and second.endswith("; accept more runs")
    assert main(["pin", root, "reason=x"]) == 0
    said = capsys.readouterr().out.splitlines()[1:]
    assert (
        len(said) == 1
        and why in said[0]
        and said[0].endswith("; a pin stays as it is until you pin again, with more runs")
    )
    assert main(["accept", root, "reason=x", f"run={ids[few]}"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1, "all that was accepted counts, not what was added"
    assert main(["pin", root, "reason=x"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert main(["pin", root, "reason=x", f"run={','.join(ids[:few])}"]) == 0
    assert why in capsys.readouterr().out, "a pin is its own runs, however many are accepted"


def test_runs_of_one_allocation_are_one_of_those_that_are_needed(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [store.run(rate, slurm_job_id="7") for rate in spread(8)]
    other = store.run(config={"lr": 0.2})
    assert main(["accept", f"results={store.root}", "reason=x", f"run={','.join(ids)},{other}"]) == 0
    (said,) = capsys.readouterr().out.splitlines()[1:]
    assert "3 against 1 cannot reach" in said and "(and 1 other cell)" in said


@pytest.mark.parametrize("columns", ["30", "60", "80", "120", "200"])
def test_no_id_is_broken_over_lines(
    store: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    root, ids = f"results={store.root}", [store.run(rate) for rate in spread(3)]
    assert main(["accept", root, "reason=a rather long reason of many words", f"run={','.join(ids)}"]) == 0
    said = events(store.root)[0][0].baseline_id
    assert main(["revert", root, f"id={said.rpartition('-')[2]}", "reason=oops"]) == 0
    assert main(["accept", root, "reason=again", f"run={','.join(ids)}"]) == 0
    monkeypatch.setenv("COLUMNS", columns)
    capsys.readouterr()
    assert main(["list", root]) == 0
    words = capsys.readouterr().out.split()
    for event in events(store.root)[0]:
        assert event.baseline_id in words
    assert ids[-1] in words and f"{said.rpartition('-')[2]})" in words


def test_an_id_that_is_none_is_answered_by_one_that_is_like_it(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    root = f"results={store.root}"
    assert main(["accept", root, "reason=x", f"run={store.run()}"]) == 0
    end = events(store.root)[0][0].baseline_id[-8:]
    capsys.readouterr()
    for word, near in ((end[:4], f"; nearest is id={end}"), ("zzzzzzzz", "")):
        assert main(["revert", root, "reason=x", f"id={word}"]) == 2
        line = f"results.baseline: id={word}: no such baseline; {NAMES_ONE}"
        assert capsys.readouterr().err == f"{line}{near}\n"
