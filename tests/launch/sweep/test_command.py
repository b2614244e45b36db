"""The commands after submission: their words, the sweep that is meant, and what is cancelled or submitted again."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import saved_run
from after_submission import SWEEP, Slurm, begin, sweep
from submitit.core.utils import DelayedSubmission

from bench.config.grammar import WordError
from bench.training.checkpoint import compatibility
from bench.training.state import RunState
from launch import cluster as clusters
from launch.cli import main
from launch.job import Job
from launch.plan import make_plan
from launch.sweep import choose, manifest
from launch.sweep.verbs import VERBS
from results.store.files import journals
from results.store.writer import RunWriter

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
    def one(*words: str, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        got = main("slurm", [*words, *([] if any("results=" in word for word in words) else [f"results={store}"])])
        out, err = capsys.readouterr()
        assert got == status, (out, err)
        return out, err

    return one


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


@pytest.fixture
def submitted(slurm: Slurm, store: Path) -> manifest.Manifest:
    """A sweep whose cells have what they run, and the copy of its code."""
    found = sweep(store, ["17_0", "17_1", "17_2", "17_3", "17_4", None])
    found.code.mkdir()
    plan = make_plan("slurm", ["depth=20", "dataset=digits", "seed=0,1,2,3,4,5", f"results={store}"])
    for place, cell in enumerate(plan.cells):
        found.logs(place).mkdir(parents=True)
        DelayedSubmission(Job(config=cell.config, run_id=f"run{place}")).dump(found.logs(place) / "job.pkl")
    begin(store, "run0", steps=40).finish("completed")
    begin(store, "run1", steps=5).finish("failed", failure_kind="oom", failure_message="x")
    begin(store, "run2", steps=5)  # dead
    slurm.queue(slurm.job("17_3", "RUNNING"), slurm.job("17_2", "NODE_FAIL"))
    slurm.accounting("17_4|CANCELLED by 0|0:0|None assigned|")
    return found


def test_retry_submits_again_what_failed_was_killed_or_cancelled(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    out, err = call("retry")
    assert out.splitlines()[0].startswith("job 901_[0-2]  3 configurations  nodes=2")
    assert err.splitlines()[:3] == [
        "launch: 1 cell completed",
        "launch: 1 cell waiting or running",
        "launch: 1 cell never submitted: the same command does it (python launch/slurm.py depth=20,21 dataset=digits)",
    ]
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 2, 2, 1, 2, 0]
    again = [cell.submissions[-1] for cell in now.cells if len(cell.submissions) == 2]
    assert [one.job_id for one in again] == ["901_0", "901_1", "901_2"]
    assert len({one.run_id for one in again} | {f"run{at}" for at in range(5)}) == 8
    for one, seed in zip(again, (1, 2, 4), strict=True):
        job = pickle.loads((Path(one.log) / "job.pkl").read_bytes()).function
        assert (job.run_id, job.config.seed, job.config.results) == (one.run_id, seed, str(store))
    script = (now.folder / now.arrays[-1].script).read_text()
    assert str(submitted.code) in script and "#SBATCH --array=0-2" in script
    assert not [path for path in journals(store) if "run2" in path.name]
    slurm.queue(*(slurm.job(one.job_id, "PENDING", "") for one in again), slurm.job("17_3", "RUNNING"))
    _, err = call("retry")
    assert "launch: 4 cells waiting or running\n" in err and "launch: nothing to submit again\n" in err
    assert len(slurm.calls("sbatch")) == 2  # a test and the array
    slurm.set("plain", "")
    assert "4 pending" not in call("status")[0] and "3 pending" in call("status")[0]


def test_retry_of_one_cell_leaves_the_others(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    out, _ = call("retry", "cell=depth=21")
    assert out.startswith("job 901  run ")
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 2, 1, 1, 1, 0]


def saving(found: manifest.Manifest, place: int, path: Path) -> manifest.Manifest:
    """The sweep whose cell at some place saves its weights."""
    cells = tuple(replace(cell, save=str(path)) if at == place else cell for at, cell in enumerate(found.cells))
    file = found.logs(place) / "job.pkl"
    job = pickle.loads(file.read_bytes()).function
    DelayedSubmission(replace(job, config=replace(job.config, save=str(path)))).dump(file)
    changed = replace(found, cells=cells)
    changed.write()
    return changed


def test_retry_leaves_a_cell_alone_that_would_take_the_place_of_another_run(  # type: ignore[no-untyped-def]
    slurm: Slurm, store: Path, call, submitted
) -> None:
    path = store / "a.safetensors"
    path.write_bytes(b"of somebody else")
    label = saving(submitted, 1, path).cells[1].label
    out, err = call("retry", status=1)
    assert f"launch: {label} is not submitted: save={path}: a file is there that no run has saved" in err
    assert "2 configurations in 1 array" in out
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 1, 2, 1, 2, 0]
    assert path.read_bytes() == b"of somebody else"


def test_retry_goes_on_from_what_the_cell_has_saved(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    label = saving(submitted, 1, path).cells[1].label
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    state = RunState(epoch=3, step=66, elapsed_s=9.0, top1=[0.1, 0.2, 0.3])
    net = compatibility.net_of(job.config)
    saved = replace(saved_run.SAVED, run_id="run1", restart=0, chain=(), net=net, state=state)
    saved_run.save(path, saved, saved_run.untrained(depth=20))
    out, err = call("retry")
    assert f"launch: {label} goes on from epoch 3, which run run1 has saved\n" in err and "3 configurations" in out
    now = manifest.read(submitted.folder / manifest.FILE)
    again = pickle.loads((Path(now.cells[1].submissions[-1].log) / "job.pkl").read_bytes()).function
    assert (again.config.resume, again.config.save) == (str(path), str(path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"run_id": "somebody-else"}, "run somebody-else has saved its weights there (epoch 3)"),
        ({"net": {"batch": "16"}}, "the checkpoint has batch=16 (here 32)"),
        ({"state": {"epoch": 15, "step": 330, "top1": [0.1] * 15}}, "that run was complete at epoch 15, step 330"),
    ],
)
def test_retry_goes_on_from_nothing_else(slurm: Slurm, store: Path, call, submitted, change, said: str) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    label = saving(submitted, 1, path).cells[1].label
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    state = RunState(**{"epoch": 3, "step": 66, "elapsed_s": 9.0, "top1": [0.1, 0.2, 0.3]} | change.get("state", {}))
    net = compatibility.net_of(job.config) | change.get("net", {})
    saved = replace(saved_run.SAVED, run_id=change.get("run_id", "run1"), restart=0, chain=(), net=net, state=state)
    saved_run.save(path, saved, saved_run.untrained(depth=20))
    out, err = call("retry", status=1)
    assert f"launch: {label} is not submitted: " in err and said in err and "2 configurations in 1 array" in out


def test_retry_waits_for_a_job_that_is_to_write_to_the_same_path(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    path = store / "a.safetensors"
    found = saving(submitted, 1, path)
    cells = tuple(replace(cell, submissions=(), config_hash="another") for cell in found.cells)
    other = replace(found, sweep_id=OTHER, arrays=(), cells=cells)
    other.folder.mkdir(parents=True)
    array = manifest.Array(script="array-0.sh", cells=(1,), run_ids=("else",))
    other.begun(array).taken(array, "77").write()
    slurm.set("plain", f"77|RUNNING|{other.folder / 'array-0.sh'}\n")
    out, err = call("retry", submitted.sweep_id, status=1)
    assert f"save={path}: job 77 (RUNNING) of sweep {OTHER} is to write there" in err and "2 configurations" in out


@pytest.mark.parametrize("how", ["queued", "done"])
def test_retry_submits_nothing_that_another_sweep_has(slurm: Slurm, store: Path, call, submitted, how: str) -> None:  # type: ignore[no-untyped-def]
    """Another sweep of the same configurations: its job waits, or its run has completed."""
    cells = tuple(replace(cell, submissions=()) for cell in submitted.cells)
    other = replace(submitted, sweep_id=OTHER, arrays=(), cells=cells)
    job = pickle.loads((submitted.logs(1) / "job.pkl").read_bytes()).function
    if how == "queued":
        other.folder.mkdir(parents=True)
        array = manifest.Array(script="array-0.sh", cells=(1,), run_ids=("else",))
        other.begun(array).taken(array, "77").write()
        queued = [slurm.job("17_3", "RUNNING"), slurm.job("17_2", "NODE_FAIL")]
        slurm.queue(*queued, slurm.job("77", "PENDING", script=str(other.folder / "array-0.sh")))
        slurm.set("plain", f"77|PENDING|{other.folder / 'array-0.sh'}\n")
    else:
        hashed = job.config.config_hash()
        RunWriter(store, {"run_id": "else", "restart_count": 0, "config_hash": hashed}).finish("completed")
    out, err = call("retry", submitted.sweep_id)
    said = {"queued": f"job 77 (PENDING) of sweep {OTHER} has it, and it is not", "done": "has a completed result"}[how]
    assert said in err and "2 configurations in 1 array" in out and "rerun=true" not in err
    now = manifest.read(submitted.folder / manifest.FILE)
    assert [len(cell.submissions) for cell in now.cells] == [1, 1, 2, 1, 2, 0]


def test_retry_looks_at_the_images_first(slurm: Slurm, store: Path, call, submitted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def none(config) -> None:  # type: ignore[no-untyped-def]
        if config.seed == 1:
            raise WordError("data=/gone: no such folder")

    monkeypatch.setattr("launch.sweep.done.check_data", none)
    out, err = call("retry", status=1)
    label = submitted.cells[1].label
    assert f"launch: {label} is not submitted: data=/gone: no such folder\n" in err and "2 configurations" in out


def test_retry_begins_nothing_that_may_live(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    slurm.fails("squeue", "Unable to contact slurm controller")
    _, err = call("retry", status=1)
    assert "Unable to contact" in err and "nothing was submitted" in err and slurm.calls("sbatch") == []


def test_retry_says_what_slurm_refuses(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    slurm.fails("sbatch", "sbatch: error: invalid partition specified: gpu")
    _, err = call("retry", status=1)
    assert err.splitlines()[-1].endswith("invalid partition specified: gpu; nothing was submitted")
    assert manifest.read(submitted.folder / manifest.FILE) == submitted


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda sweep: sweep.code.rmdir(), "is gone, the code that"),
        (lambda sweep: (sweep.logs(1) / "job.pkl").write_bytes(b"no pickle"), "what depth=21 ran cannot be read"),
        (lambda sweep: (sweep.logs(1) / "job.pkl").unlink(), "what depth=21 ran cannot be read"),
    ],
)
def test_retry_needs_what_ran(slurm: Slurm, store: Path, call, submitted, damage, said: str) -> None:  # type: ignore[no-untyped-def]
    damage(submitted)
    _, err = call("retry", status=2)
    assert said in err.splitlines()[-1] and slurm.calls("sbatch") == []


def test_retry_of_a_store_that_was_moved_is_refused(slurm: Slurm, store: Path, call, submitted) -> None:  # type: ignore[no-untyped-def]
    moved = store.rename(store.parent / "elsewhere")
    _, err = call("retry", f"results={moved}", status=2)
    assert "and lies in" in err and slurm.calls("sbatch") == []


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


def test_a_profile_that_is_gone_is_named(slurm: Slurm, store: Path, call, submitted, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(clusters, "profiles", dict)
    _, err = call("retry", status=2)
    assert "cluster=default: no such profile" in err
