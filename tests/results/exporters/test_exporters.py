"""What goes to a tracker, and what its command refuses, whatever libraries are there."""

import importlib.util
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.exporters import command
from results.exporters.parts import gone, part_of
from results.exporters.runs import exported
from results.store.files import read_rows
from results.words import RECORD_ROOT, ConfigError

RUN = "20261128T045758-resnet20A-cifar10-2ec02a48"


def rows(*run_ids: str) -> list[dict[str, Any]]:
    return read_rows(RECORD_ROOT, "runs", run_ids)[0]


def test_a_run_is_its_settings_its_figures_and_its_epochs() -> None:
    (run,) = exported(RECORD_ROOT, rows(RUN))
    (row,) = rows(RUN)
    assert run.settings["depth"] == 20 and run.settings["shortcut"] == "A" and run.settings["status"] == "completed"
    assert run.figures["final_top1"] == row["final_top1"] and "final_top1" not in run.settings
    assert run.settings["run_start"] == row["run_start"].astimezone(UTC).isoformat(timespec="microseconds")
    assert set(run.settings) | set(run.figures) == {name for name, value in row.items() if value is not None}
    assert run.epochs[-1].epoch == 165 and [one.epoch for one in run.epochs] == sorted(
        {one.epoch for one in run.epochs}
    )
    assert run.epochs[-1].values["top1"] == row["final_top1"]
    # The clock never paused: it began long before this attempt, which two others were before.
    left_s = (row["run_stop"] - run.epochs[-1].at).total_seconds()
    assert left_s == pytest.approx(row["elapsed_s"] - run.epochs[-1].values["elapsed_s"], abs=1e-5)
    (whole,) = exported(RECORD_ROOT, rows("20261126T092646-resnet20A-digits-2a8fc747"))
    (row,) = rows(whole.run_id)
    for epoch in whole.epochs:
        began = epoch.at - timedelta(seconds=epoch.values["elapsed_s"]) - whole.started
        assert began.total_seconds() == pytest.approx(row["prepare_s"], abs=0.05)
    assert set(run.epochs[0].values) & {"run_id", "restart", "epoch"} == set()


def test_of_several_attempts_the_last_counts_and_of_an_epoch_the_later_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (row,) = rows(RUN)
    monkeypatch.setattr("results.exporters.runs.read_rows", lambda *_: (
        [{"run_id": RUN, "restart": restart, "epoch": 1, "elapsed_s": 1.0, "top1": top1, **dict.fromkeys((
            "loss", "top5", "lr", "images", "eval_s", "checkpoint_s", "train_top1"))}
         for restart, top1 in ((1, 0.2), (0, 0.1))], []))  # fmt: skip
    attempts = [{**row, "restart_count": 1, "status": "completed"}, {**row, "restart_count": 0, "status": "killed"}]
    (run,) = exported(tmp_path, attempts)
    assert run.status == "completed" and run.epochs[0].values == {"elapsed_s": 1.0, "top1": 0.2}


def test_a_run_begins_when_its_id_says_where_its_row_does_not() -> None:
    (row,) = rows(RUN)
    (run,) = exported(RECORD_ROOT, [{**row, "run_start": None, "init_start": None}])
    assert run.started == datetime(2026, 11, 28, 4, 57, 58, tzinfo=UTC)
    with pytest.raises(ConfigError, match="run=x: neither its row nor its id says when it began"):
        exported(RECORD_ROOT, [{**row, "run_start": None, "init_start": None, "run_id": "x"}])


def test_epochs_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "epochs" / "month=2026-11" / f"{RUN}.2.parquet"
    bad.parent.mkdir(parents=True)
    bad.write_text("no Parquet")
    with pytest.raises(ConfigError, match=rf"{RUN}.2.parquet: cannot be read: .*; leave its run out with run="):
        exported(tmp_path, rows(RUN))


def test_a_part_is_gone_at_the_end_and_those_of_the_dead_with_it(tmp_path: Path) -> None:
    host = socket.gethostname()
    kept = [f".a.{host}.1", ".a.elsewhere.999999999", f".b.{host}.999999999"]  # of a process that lives, and of others
    for name in (*kept, f".a.{host}.999999999"):
        (tmp_path / name).mkdir()
    with pytest.raises(KeyError), part_of(tmp_path, "a") as part:
        (part / "file").write_text("x")
        raise KeyError
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
    # Of another host's processes nobody can say that they are gone.
    assert gone(host, "999999999") and not gone(host, "1") and not gone("elsewhere", "999999999")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "library is missing: add library= with one of wandb, trackio, mlflow, tensorboard"),
        (["library=wandbb"], "library=wandbb: "),
        (["library=tensorboard"], "to is missing: tensorboard reads a folder; nearest is to=build/tensorboard"),
        (["library=mlflow", "project=a/b"], "project=a/b: letters, digits, '.', '_' and '-'; nearest is project=a-b"),
        (["library=mlflow", "project=.."], "project=..: letters, digits, '.', '_' and '-'; nearest is project=resnet"),
        (["library=mlflow", "run=nosuch"], "no run with run=nosuch"),
        (["library=mlflow", "depth=21"], "no run with depth=21; the nearest there is depth=20"),
        (["library=mlflow", "results=/nowhere"], "results=/nowhere: no such folder"),
    ],
)
def test_bad_words_are_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = words if any(word.startswith("results=") for word in words) else [*words, f"results={RECORD_ROOT}"]
    assert command.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"results.exporters: {said}") and err.count("\n") == 1


@pytest.mark.parametrize("library", command.LIBRARIES)
def test_a_library_that_is_not_there_is_named_with_what_installs_it(
    library: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec(library) is not None:
        pytest.skip(f"{library} is here")
    words = [f"library={library}", f"results={RECORD_ROOT}", f"to={tmp_path}/to", f"run={RUN}"]
    assert command.main(words) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == (
        f"results.exporters: library={library}: there is no {library} here: pip install 'resnet-bench[{library}]'\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_ours_is_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def has(self, run_id: str) -> bool:
            raise ZeroDivisionError

    monkeypatch.setattr(command, "_tracker", lambda task: Broken())
    with pytest.raises(ZeroDivisionError):
        command.main(["library=mlflow", f"results={RECORD_ROOT}", f"run={RUN}"])
