"""A plan refuses what cannot be resumed from, and a save= path that a live run writes to, before anything starts."""

import dataclasses
import os
import shlex
import shutil
from pathlib import Path

import pytest
import saved_run

import resnet
from bench.training.checkpoint.writer import Writer
from launch.plan import Plan, Program, make_plan
from results.words import ConfigError


@pytest.fixture(autouse=True)
def _this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("launch.plan.gpus_here", lambda: 0)


def plan(line: str, program: Program = "local") -> Plan:
    return make_plan(program, shlex.split(line))


PLANNED = "depth=8 dataset=digits kernels=torch"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A save= path with a checkpoint of `PLANNED`."""
    path = tmp_path_factory.mktemp("checkpoint") / "w.safetensors"
    facts = {"kernels": ["torch"], "precision": ["bf16"]}
    saved_run.save(path, dataclasses.replace(saved_run.SAVED, facts=facts), saved_run.untrained())
    return path


def test_a_checkpoint_that_fits_is_planned(checkpoint: Path) -> None:
    assert plan(f"{PLANNED} resume={checkpoint}").notices == []
    said = plan(f"{PLANNED} resume={checkpoint} precision=fp32").notices
    assert said == [f"resume={checkpoint}: the checkpoint has precision=bf16 (here fp32); the row will say mixed"]


@pytest.mark.parametrize("program", ["local", "slurm"])
@pytest.mark.parametrize(
    ("words", "damage", "message"),
    [
        ("batch=16", "", "the checkpoint has batch=32 (here 16)"),  # incompatible
        ("seed=0,1", "", "the checkpoint has seed=0 (here 1)"),  # one cell of a sweep
        ("", "cut", "not a readable safetensors file"),
        ("", "momentum", "momentum.safetensors: its SHA-256 is not sha256 in manifest.json"),
        ("", "foreign", "weights without a training state"),
        ("", "finished", "that run was complete at epoch 15, step 330"),
    ],
)
def test_what_cannot_be_resumed_from_is_refused_before_anything_starts(
    checkpoint: Path, tmp_path: Path, program: Program, words: str, damage: str, message: str
) -> None:
    shutil.copytree(checkpoint.parent, tmp_path / "run")
    path = tmp_path / "run" / checkpoint.name
    if damage == "cut":
        os.truncate(path, 5000)
    elif damage == "momentum":
        (file,) = path.parent.glob("w.checkpoints/*/momentum.safetensors")
        file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    elif damage == "foreign":
        resnet.save_weights(saved_run.untrained().model, path)
    elif damage == "finished":
        saved_run.save(path, saved_run.at(15), saved_run.untrained())
    ranks = "ranks_per_node=2" if program == "slurm" else ""
    with pytest.raises(ConfigError) as raised:
        plan(f"{PLANNED} {ranks} resume={path} results={tmp_path}/rows {words}", program)
    assert str(raised.value).startswith(f"resume={path}: ") and message in str(raised.value)
    assert not (tmp_path / "rows").exists()


def test_a_printed_script_resumes_from_what_is_there_alone(checkpoint: Path, tmp_path: Path) -> None:
    words = f"{PLANNED} mode=print ranks_per_node=2"
    assert plan(f"{words} resume=/not/here/w.safetensors", "slurm").cells
    with pytest.raises(ConfigError, match="has batch=32"):
        plan(f"{words} batch=16 resume={checkpoint}", "slurm")


def test_where_a_live_run_saves_none_is_started(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    held = Writer(str(path), "first.0")
    with pytest.raises(ConfigError, match=f"^save={path}: run first.0 writes there "):
        plan(f"{PLANNED} save={path}")
    assert plan(f"{PLANNED} ranks_per_node=2 save={path}", "slurm").cells  # which may wait in the queue for its end
    held.release()
    assert plan(f"{PLANNED} save={path}").cells


def test_a_new_run_is_not_planned_over_the_weights_of_another(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"^save={checkpoint}: run r has saved its weights there .epoch 1., "):
        plan(f"{PLANNED} save={checkpoint} results={tmp_path}/rows")
    assert not (tmp_path / "rows").exists()
    assert plan(f"{PLANNED} save={checkpoint} resume={checkpoint}").cells
    assert plan(f"{PLANNED} save={tmp_path}/w.safetensors resume={checkpoint}").cells


def test_a_complete_checkpoint_is_refused_with_the_other_one_that_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    engine = saved_run.untrained()
    for epoch in (14, 15):
        saved_run.save(path, saved_run.at(epoch), engine)
    with pytest.raises(ConfigError) as raised:
        plan(f"{PLANNED} resume={path}")
    (other,) = path.parent.glob("w.checkpoints/0014-*/weights.safetensors")
    complete = f"resume={path}: that run was complete at epoch 15, step 330"
    assert str(raised.value) == f"{complete}; resume={other} may do"
    assert plan(f"{PLANNED} resume={other}").cells
    shutil.rmtree(other.parent)
    with pytest.raises(ConfigError, match=f"^{complete}$"):
        plan(f"{PLANNED} resume={path}")


@pytest.mark.parametrize(
    ("before", "words", "said"),
    [
        ("", "steps=5", "the checkpoint has no steps= (here 5)"),
        ("", "target=0.5", "the checkpoint has target=0.97 (here 0.5)"),
        ("5", "", "the checkpoint has steps=5 (here none)"),
        ("5", "steps=6", "the checkpoint has steps=5 (here 6)"),
    ],
)
def test_what_a_checkpoint_has_otherwise_is_said_in_words_that_can_be_typed(
    tmp_path: Path, before: str, words: str, said: str
) -> None:
    path = tmp_path / "w.safetensors"
    net = saved_run.SAVED.net | ({"steps": before} if before else {})
    saved_run.save(path, dataclasses.replace(saved_run.SAVED, net=net), saved_run.untrained())
    with pytest.raises(ConfigError) as raised:
        plan(f"{PLANNED} resume={path} {words}")
    assert str(raised.value) == f"resume={path}: {said}"
