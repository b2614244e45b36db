"""What a person sees of the store."""

import io
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from results.listing import terminal
from results.report import command
from results.store.files import read_rows
from results.store.writer import RunWriter

START = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
BASE = {
    "family": "cifar",
    "depth": 20,
    "shortcut": "A",
    "dataset": "digits",
    "loader": "dali",
    "kernels": "torch",
    "engine": "deepspeed",
    "precision": "bf16",
    "world_size": 2,
    "target_top1": 0.97,
    "dirty": False,
}
DONE = {"images_per_s": 1234.5, "data_wait_frac": 0.0123, "final_top1": 0.9722, "epochs_to_target": 9, "tta_s": 19.84}


def add(root, run_id, finish=None, status="completed", **row):
    number = len(list(root.rglob("*.parquet")))
    writer = RunWriter(root, {"run_id": run_id, **BASE, "run_start": START + timedelta(minutes=number), **row})
    writer.finish(status, **(DONE if finish is None else finish))


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    root = tmp_path_factory.mktemp("written")
    add(root, "20261122-200000-aaaaaaaa")
    add(
        root,
        "20261122-200100-bbbbbbbb",
        family="imagenet",
        depth=152,
        shortcut="B",
        dataset="imagefolder",
        loader="synthetic",
        synthetic=True,
        world_size=16,
        target_top1=None,
        finish={
            "images_per_s": 12345.6,
            "data_wait_frac": 0.0001,
            "null_reasons": {"final_top1": "synthetic images", "tta_s": "synthetic images"},
        },
    )
    add(
        root,
        "20261122-200200-cccccccc",
        status="failed",
        restart_count=1,
        finish={"failure_kind": "data", "failure_message": "truncated [bold]x[/bold].jpg\nand more"},
    )
    return root


@pytest.fixture
def store(written, tmp_path):
    """Three runs, in a store of one's own."""
    return shutil.copytree(written, tmp_path, dirs_exist_ok=True)


@pytest.fixture
def run(capsys, monkeypatch):
    def call(*words, columns="120"):
        monkeypatch.setenv("COLUMNS", columns)
        status = command.main(list(words))
        out, err = capsys.readouterr()
        return status, out, err

    return call


def line_of(out, text):
    return next(line for line in out.splitlines() if text in line)


def test_the_table(store, run):
    status, out, err = run(f"results={store}")
    assert (status, err) == (0, "")
    done = line_of(out, "aaaaaaaa")
    setting = "digits dali torch deepspeed bf16"
    for shown in ("cifar", " 20 ", " A ", setting, "1,234", "0.012", "0.9722", " 9 ", "19.8", "completed"):
        assert shown in done
    assert "SYNTHETIC" in line_of(out, "bbbbbbbb") and "12,346" in line_of(out, "bbbbbbbb")
    assert "<.001" in line_of(out, "bbbbbbbb")
    assert "cccccccc.1 failed (data): truncated [bold]x[/bold].jpg and more" in out.splitlines()
    assert "\x1b" not in out


def test_synthetic_images_are_said_first(add, report):
    add("20261122-aaaaaaaa", seed=0), add("20261122-bbbbbbbb", seed=1, loader="synthetic", synthetic=True)
    add("20261122-cccccccc", seed=2, benchmark="step", loader="synthetic", synthetic=True)  # which has no others
    _, out, _ = report()
    assert out.splitlines()[0].startswith("SYNTHETIC images in 1 of 3 runs: ")
    _, out, _ = report("columns=run_id,images_per_s")
    assert out.startswith("SYNTHETIC images in 1 of 3 runs: ")
    _, out, _ = report("repeats=summary", "loader=synthetic", "benchmark=training")
    assert out.startswith("SYNTHETIC images in 1 of 1 configurations: ")
    _, out, _ = report("seed=0,2")
    assert "SYNTHETIC images" not in out


def test_missing_figures_have_their_reason_below(store, run):
    _, out, _ = run(f"results={store}")
    numbers = dict(re.findall(r"^\[(\d)\] (.*)$", out, flags=re.MULTILINE))
    assert set(numbers.values()) == {
        "synthetic images",
        "failed (data) before it was measured",
        "failed before a whole epoch after the warm-up",
        "failed after epoch 0 of an unknown number",
        "failed after epoch 0, before top-1 0.97 was reached",
    }
    synthetic = next(number for number, reason in numbers.items() if reason == "synthetic images")
    assert line_of(out, "bbbbbbbb").count(f"-[{synthetic}]") == 2
    assert " - " in line_of(out, "bbbbbbbb")  # epochs_to_target has no reason
    assert "0.0000" not in out


@pytest.mark.parametrize("columns", ["100", "120", "200"])
def test_no_line_is_wider_than_asked_for_and_nothing_is_cut(store, run, columns):
    _, out, _ = run(f"results={store}", columns=columns)
    assert max(map(len, out.splitlines())) <= int(columns)
    assert "…" not in out
    for word in ("imagefolder", "SYNTHETIC", "deepspeed", "completed", "cccccccc.1", "12,346"):
        assert word in out


@pytest.mark.parametrize("columns", ["", "0", "wide"])
def test_piped_without_a_width_it_is_120_columns(store, run, columns):
    assert run(f"results={store}", columns=columns)[1] == run(f"results={store}", columns="120")[1]


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], "acb"),
        (["depth=20"], "ac"),
        (["depth=20,152"], "acb"),
        (["status=completed"], "ab"),
        (["dirty=true"], ""),
        (["shortcut=A", "status=failed"], "c"),
        (["run=aaaaaaaa"], "a"),
        (["run=20261122-2001"], "b"),
        (["synthetic=true"], "b"),
        (["target_top1=0.97"], "ac"),
        (["sort=-images_per_s"], "bac"),
        (["sort=images_per_s"], "abc"),
        (["sort=-depth,-run_start"], "bca"),
        (["dataset=digits,null"], "ac"),
        (["images_per_s=1234.5"], "a"),
        (["synthetic=true", "dirty=false"], "b"),
    ],
)
def test_filters_and_order(store, run, words, shown):
    status, out, err = run(f"results={store}", *words)
    assert "".join(re.findall(r"^([abc])\1{7}(?:\.1)? +(?:cifar|imagenet)", out, flags=re.MULTILINE)) == shown
    assert (status, bool(err)) == ((0, False) if shown else (2, True))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dept=20"], "did you mean depth=20?"),
        (["foo=1"], "foo=1: no such key (--help lists every key)"),
        (["sort=foo"], "sort=foo: no such column of runs (--help lists every column)"),
        (["depth=deep"], "whole number"),
        (["status=complete"], "completed"),
        (["dirty=maybe"], "true or false"),
        (["dirty=true"], "no run with dirty=true; the nearest there is dirty=false"),
        (["depth="], "whole number"),
        (["dataset="], "a text"),
        (["results=~nobody.here/x"], "twice"),
        (["dataset=digit"], "dataset=digits"),
        (["depth=21"], "depth=20"),
        (["sort=image_per_s"], "images_per_s"),
        (["depth=20", "depth=20"], "twice"),
        (["depth"], "depth=VALUE"),
        (["mfu=high"], "number"),
        (["depth=20", "status=killed"], "no run with status=killed"),
    ],
)
def test_bad_words_are_one_line_and_status_2(store, run, words, said):
    status, out, err = run(f"results={store}", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert said in err and err.startswith("results.report: ")


def test_nothing_there_is_one_line_and_status_2(tmp_path, run):
    for words, said in (((f"results={tmp_path}",), "no runs in"), ((f"results={tmp_path}/none",), "no such folder")):
        status, out, err = run(*words)
        assert (status, out, err.count("\n")) == (2, "", 1) and said in err


def test_bad_files_are_listed(store, run):
    path = next((store / "runs").rglob("*aaaaaaaa*"))
    path.write_bytes(path.read_bytes()[:99])
    status, out, _ = run(f"results={store}")
    assert status == 0 and "cannot be read: " in out and str(path) in out
    assert not re.search(r"^aaaaaaaa", out, flags=re.MULTILINE)
    for other in (store / "runs").rglob("*.parquet"):
        other.write_text("")
    status, out, err = run(f"results={store}")
    assert (status, out, err.count("\n")) == (2, "", 1) and "3 files cannot be read" in err


def test_journals_that_cannot_be_listed_are_said(store, run):
    (store / "journal").rmdir()
    (store / "journal").write_text("")
    status, out, _ = run(f"results={store}")
    assert status == 0 and f"cannot be read: {store}/journal: Not a directory" in out


def test_open_journals_are_mentioned(store, run):
    RunWriter(store, {"run_id": "open"})
    assert "1 without rows yet" in run(f"results={store}")[1]


def test_summary(store, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest-xdist sets it
    rows, _ = read_rows(store, "runs")
    stream = io.StringIO()
    terminal.show(terminal.summary(rows[:1]), terminal.failures(rows[:1]), stream=stream)
    shown = stream.getvalue()
    for word in ("cifar 20 A", "digits dali", "1,234", "0.012", "0.9722", "19.8", "0.970", "completed"):
        assert word in line_of(shown, "aaaaaaaa")
    assert "\x1b" not in shown and shown.endswith("\n")
    assert not any(line != line.rstrip() for line in shown.splitlines())


def test_a_terminal_gets_colour(store, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    terminal.show(terminal.summary(read_rows(store, "runs")[0]), stream=stream)
    assert "\x1b[" in stream.getvalue()


def test_short_ids_tell_runs_apart():
    assert terminal.short_ids([{"run_id": "x-12345678"}, {"run_id": "y-12345678"}]) == {
        "x-12345678": "x-12345678",
        "y-12345678": "y-12345678",
    }
    assert terminal.short_ids([{"run_id": "2026-abcdefgh"}]) == {"2026-abcdefgh": "abcdefgh"}


@pytest.mark.slow
def test_as_a_command_with_a_reader_that_stops_early(store):
    root = Path(terminal.__file__).resolve().parents[2]
    shell = f"'{sys.executable}' -m results.report results='{store}' | head -1"
    command = ["bash", "-o", "pipefail", "-c", shell]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_run_that_went_on_from_others_names_them(add, report):
    add("20261101T000000-first-aaaaaaaa")
    chain = {"resumed_from": "20261101T000000-first-aaaaaaaa.0", "resumed_epoch": 3}
    mixed = '{"kernels": ["torch", "triton"]}'
    add("20261102T000000-again-bbbbbbbb", restart_count=1, lineage="zero.0@1 20261101T000000-first-aaaaaaaa.0@3",
        mixed=mixed, **chain)  # fmt: skip
    status, out, _ = report()
    assert status == 0
    assert "bbbbbbbb.1 went on from zero.0 (to epoch 1), 20261101T000000-first-aaaaaaaa.0 (to epoch 3)" in out
    assert out.count("went on from") == 1 and "mixed" in out
    for form in ("json", "csv"):
        out = report(f"format={form}")[1]
        assert "resumed_from" in out and "zero.0@1 20261101T000000-first-aaaaaaaa.0@3" in out
    assert "resumed_from" not in report("run=aaaaaaaa", "format=csv")[1]
