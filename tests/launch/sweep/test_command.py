"""The commands after submission: their words, the sweep that is meant, and what is cancelled or submitted again."""

import json
from pathlib import Path

import pytest
from after_submission import SWEEP, Slurm, caller, sweep

from launch.cli import main
from launch.sweep import choose, manifest
from launch.sweep.verbs import VERBS

OTHER = "20261126T010203-sweep-0a1b9999"


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    monkeypatch.delenv("RESNET_BENCH_CLUSTERS", raising=False)
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    return Slurm(tmp_path, monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "rows"


@pytest.fixture
def call(store: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    return caller(store, capsys)


@pytest.mark.parametrize("word", [None, SWEEP, SWEEP[:15], SWEEP[-8:], "20261127"])
def test_a_sweep_is_meant_by_its_id_its_beginning_or_its_end(slurm: Slurm, store: Path, call, word) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17"])
    sweep(store, ["16"], sweep_id=OTHER)
    out, _ = call("status", *([word] if word else []))
    assert out.startswith(f"{SWEEP}: 1 cell: 1 unknown\n")
    assert call("status", OTHER[-8:])[0].startswith(OTHER)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["status", "2026"], "2026: 2 sweeps have it; choose from "),
        (["status", "0a1b2c3e"], "nearest is 0a1b2c3d"),
        (["wait", "nothing like it"], "nothing like it: no such sweep in "),
        (["wait", "nothing like it"], f"; the newest is {SWEEP}"),
        (["status", ""], "launch: '': no such sweep in "),
        (["status", SWEEP, OTHER], f"{OTHER}: {SWEEP} is the sweep already, and the rest is key=value"),
        (["status", "cell=depth=99"], "cell=depth=99: no such cell in "),
        (["status", "rank=1"], "rank=1: status takes results=, cell=, format="),
        (["cancel", "format=csv"], "format=csv: cancel takes results=, cell="),
        (["status", "format=xml"], "format=xml: choose from table, csv, json"),
        (["tail", "rank=-1"], "rank=-1: rank takes a whole number, at least 0"),
        (["tail", "cell=depth=20", "rank=2"], "rank=2: depth=20 has ranks up to 1 (nearest: rank=1)"),
        (["status", "results=/no/such"], "results=/no/such: no such folder"),
        (["status", "nodes=2"], "nodes=2: no such key"),
    ],
)
def test_words_that_cannot_be_are_one_line(slurm: Slurm, store: Path, call, words, said) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17", "18"])
    sweep(store, ["16"], sweep_id=OTHER)
    out, err = call(*words, status=2)
    assert out == "" and err.startswith("launch: ") and err.count("\n") == 1 and said in err, err


@pytest.mark.parametrize("word", ["statsu", "retyr", "cancle", "tial", "wiat"])
def test_a_slip_of_a_verb_is_named(store: Path, call, word: str) -> None:  # type: ignore[no-untyped-def]
    _, err = call(word, status=2)
    (verb,) = [verb for verb in VERBS if verb[0] == word[0]]
    assert err == f"launch: {word}: words are key=value; did you mean {verb}?\n"


@pytest.mark.parametrize("verb", VERBS)
def test_each_command_has_help_and_the_launcher_names_it(call, verb: str) -> None:  # type: ignore[no-untyped-def]
    out, _ = call(verb, "help")
    assert f"python launch/slurm.py {verb} [SWEEP]" in out and "rank" in out
    assert verb in call("help")[0]


def test_a_store_without_sweeps_says_what_to_do(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    store.mkdir()
    for verb in VERBS:
        _, err = call(verb, status=2)
        assert err.startswith(f"launch: no sweep in {store}/jobs: nothing was submitted, or results=PATH says")


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"version": 2}', '{"version": 1}', '{"version": 1, "cells": 3}', "\0", '"text"',
        '{"version": 1, "jobs": ["of", "something else"]}',
    ],
)  # fmt: skip
def test_a_broken_or_foreign_manifest_is_one_line(slurm: Slurm, store: Path, call, text: str) -> None:  # type: ignore[no-untyped-def]
    path = sweep(store, ["17"]).folder / manifest.FILE
    path.write_text(text)
    for verb in VERBS:
        out, err = call(verb, status=2)
        assert out == "" and str(path) in err and err.count("\n") == 1
        assert (
            "version 2 of a manifest, expected 1" in err
            if '"version": 2' in text
            else f"move {path.parent} away" in err
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda whole: whole["cells"][0].update(label=5),
        lambda whole: whole["cells"][0].update(nodes="2"),
        lambda whole: whole["cells"][0]["submissions"][0].update(job_id=17),
        lambda whole: whole.update(cells=[]),
        lambda whole: whole.update(sweep_id="20261127T010203-sweep-11111111"),
        lambda whole: whole.update(results=None),
        lambda whole: whole["cells"][0].update(unknown=1),
    ],
)
def test_a_manifest_with_odd_values_is_one_line(slurm: Slurm, store: Path, call, change) -> None:  # type: ignore[no-untyped-def]
    path = sweep(store, ["17"]).folder / manifest.FILE
    whole = json.loads(path.read_text())
    change(whole)
    path.write_text(json.dumps(whole))
    out, err = call("status", status=2)
    assert out == "" and err.startswith(f"launch: {path}: no manifest of ") and err.count("\n") == 1


def test_a_broken_sweep_does_not_hide_others(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    (sweep(store, ["17"]).folder / manifest.FILE).write_text("{")
    sweep(store, ["16"], sweep_id=OTHER)
    assert call("status", OTHER)[0].startswith(OTHER)


def test_rows_of_site_profiles_are_looked_for_too(
    slurm: Slurm,
    tmp_path: Path,
    call,
    monkeypatch: pytest.MonkeyPatch,  # type: ignore[no-untyped-def]
) -> None:
    (tmp_path / "clusters").mkdir()
    (tmp_path / "clusters" / "here.yaml").write_text(f"results: {tmp_path}/scratch\n")
    (tmp_path / "clusters" / "broken.yaml").write_text("results: [\n")
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path / "clusters"))
    assert choose.stores()[1:] == [f"{tmp_path}/scratch"]
    sweep(tmp_path / "scratch", ["17"])
    assert main("slurm", ["status", SWEEP]) == 0


def test_cells_are_chosen_by_words_of_their_label(slurm: Slurm, store: Path) -> None:
    cells = [
        manifest.SweepCell(label=label, name="n", config_hash=label, seed=0, nodes=1, ranks_per_node=1)
        for label in ("depth=20 nodes=1", "depth=20 nodes=2", "depth=20 nodes=2 seed=1")
    ]
    found = sweep(store, ["17"], cells=tuple(cells))
    chosen = lambda words: [cell.label for cell in choose.cells(found, words)]  # noqa: E731
    assert chosen("nodes=2") == ["depth=20 nodes=2", "depth=20 nodes=2 seed=1"]
    assert chosen("depth=20 nodes=2") == ["depth=20 nodes=2"]  # the one that it names whole
    assert chosen("seed=1 depth=20") == ["depth=20 nodes=2 seed=1"] and len(chosen("")) == 3


def test_cancel_ends_the_living_jobs_of_the_sweep_alone(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17_0", "17_1", "17_2", "18", None, "19"])
    slurm.queue(
        slurm.job("17_0", "RUNNING"),
        slurm.job("17_1", "COMPLETED"),
        slurm.job("17_2", "PENDING", ""),
        slurm.job("18", "RUNNING", script="/home/other.sh"),
        slurm.job("19", "NEW_WORD"),
        slurm.job("17_7", "RUNNING"),
        slurm.job("20", "RUNNING"),
    )
    out, _ = call("cancel")
    assert slurm.calls("scancel") == ["17_0 17_2 19"]
    assert out.splitlines() == [
        "cancelled 17_0 (RUNNING): depth=20",
        "cancelled 17_2 (PENDING): depth=22",
        "cancelled 19 (NEW_WORD): depth=25",
        "3 jobs cancelled; 2 had ended before",
    ]
    call("cancel", "cell=depth=22")
    assert slurm.calls("scancel")[1:] == ["17_2"]


def test_cancel_ends_nothing_that_it_cannot_see(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17_0"])
    slurm.accounting("17_0|RUNNING|0:0|n1|")
    slurm.fails("squeue", "Unable to contact slurm controller")
    _, err = call("cancel", status=1)
    assert slurm.calls("scancel") == [] and "nothing was cancelled" in err and "Unable to contact" in err
    slurm.remove("squeue")


def test_a_refused_cancel_is_said(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17_0"])
    slurm.queue(slurm.job("17_0", "RUNNING"))
    slurm.fails("scancel", "scancel: error: Kill job error on job id 17_0: Access/permission denied")
    out, err = call("cancel", status=1)
    assert out == "0 jobs cancelled; 0 had ended before\n" and "Access/permission denied" in err


def test_tail_asks_which_of_several(slurm: Slurm, store: Path, call) -> None:  # type: ignore[no-untyped-def]
    sweep(store, ["17_0", "17_1", None])
    slurm.queue(slurm.job("17_0", "RUNNING"), slurm.job("17_1", "RUNNING"))
    _, err = call("tail", status=2)
    assert err == "launch: tail: cell= says which of 3 cells; 2 run: choose from 'depth=20', 'depth=21'\n"
    _, err = call("tail", "cell=depth=22", status=2)
    assert err == "launch: depth=22 was not submitted: it has no log\n"
    slurm.queue(slurm.job("17_0", "RUNNING"), slurm.job("17_1", "FAILED"))
    slurm.set("sacct", "")
    # The one that runs; that it has ended by now is seen at the first look.
    slurm.queue(slurm.job("17_0", "COMPLETED"))
    _, err = call("tail", "cell=depth=20")
    assert err.startswith("job 17_0 of depth=20: ")
