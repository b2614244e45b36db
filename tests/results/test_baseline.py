"""The command of baselines, on made-up runs."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "check"))
from made_up import NEW, Store, recent, spread  # noqa: E402

from results.baseline import main  # noqa: E402
from results.check.baselines import events, standing  # noqa: E402
from results.check.command import main as check  # noqa: E402

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
