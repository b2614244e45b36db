"""A new run takes the place of nothing that lies at its save= path, whoever starts it."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import saved_run

import resnet
from bench.training.checkpoint.folder import CheckpointError
from bench.training.checkpoint.occupied import refuse_if_occupied
from bench.training.checkpoint.of_run import claim


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.safetensors"


def two(path: Path) -> None:
    """The checkpoints of epochs 1 and 2 of run `r`."""
    engine = saved_run.untrained()
    for epoch in (1, 2):
        saved_run.save(path, saved_run.at(epoch), engine)


def without_pointer(path: Path) -> None:
    """Its last checkpoint was whole, and the process killed before the weights file led to it."""
    two(path)
    path.unlink()


def plain(path: Path) -> None:
    resnet.save_weights(saved_run.untrained().model, path)


def link(path: Path) -> None:
    path.symlink_to("/nowhere")


BY_RUN = "run r has saved its weights there (epoch 2), and those of another would replace them; resume="
NO_RUN = "a file is there that no run has saved, and weights would replace it; "


@pytest.mark.parametrize(
    ("lay", "said"),
    [
        (two, BY_RUN),
        (without_pointer, BY_RUN),
        (lambda path: saved_run.save_old(path, 1), BY_RUN.replace("epoch 2", "epoch 1")),
        (lambda path: saved_run.save_old(path, 2), BY_RUN.replace("epoch 2", "epoch 1")),
        (plain, NO_RUN),
        (link, NO_RUN),
        (lambda path: path.write_bytes(b""), NO_RUN),
        (lambda path: path.write_text("a note"), NO_RUN),
    ],
)
def test_what_lies_there_is_named_with_what_would_do(path: Path, lay: Callable[[Path], object], said: str) -> None:
    lay(path)
    before = {each: each.lstat().st_mtime_ns for each in path.parent.rglob("*")}
    for check in (
        lambda: refuse_if_occupied(str(path), None),
        lambda: claim(dataclasses.replace(saved_run.CONFIG, save=str(path)), "other", 0),
    ):
        with pytest.raises(CheckpointError) as raised:
            check()
        text = str(raised.value)
        assert text.startswith(f"save={path}: {said}") and "\n" not in text
        assert text.endswith(f" save={path.with_name('w-2.safetensors')} is free")
        if said != NO_RUN:  # what it says would do does
            resumed = text.split("resume=")[1].split(" goes on")[0]
            saved_run.load(resumed)
            refuse_if_occupied(str(path), resumed)
    homes = {path.with_name("w.checkpoints"), path.parent}  # a claim comes and goes in it
    now = {each: each.lstat().st_mtime_ns for each in path.parent.rglob("*")}
    assert {each: now.get(each) for each in before if each not in homes} == {
        each: time for each, time in before.items() if each not in homes
    }
    refuse_if_occupied(str(path.with_name("w-2.safetensors")), None)


def test_a_run_that_was_complete_is_not_offered_to_be_resumed(path: Path) -> None:
    saved_run.save(path, saved_run.at(saved_run.CONFIG.epochs), saved_run.untrained())
    with pytest.raises(CheckpointError, match=r"run r has saved its weights there .epoch 15.") as raised:
        refuse_if_occupied(str(path), None)
    assert "resume=" not in str(raised.value) and str(raised.value).endswith(f"save={path.with_stem('w-2')} is free")
    net = saved_run.SAVED.net | {"steps": "44"}
    for epoch, complete in ((1, False), (2, True)):
        saved_run.save(path, dataclasses.replace(saved_run.at(epoch), net=net), saved_run.untrained())
        with pytest.raises(CheckpointError) as raised:
            refuse_if_occupied(str(path), None)
        assert ("resume=" not in str(raised.value)) == complete


def test_a_free_path_is_taken(path: Path) -> None:
    refuse_if_occupied(str(path), None)
    two(path.with_name("other.safetensors"))
    refuse_if_occupied(str(path), None)
    path.with_name("w.checkpoints").mkdir()  # of a run that was killed before its first epoch was over
    refuse_if_occupied(str(path), None)


def test_a_free_name_has_neither_a_file_nor_checkpoints(path: Path) -> None:
    two(path)
    path.with_name("w-2.safetensors").write_text("")
    path.with_name("w-3.checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"save=\S+/w-4.safetensors is free"):
        refuse_if_occupied(str(path), None)


def test_what_is_gone_on_from_may_be_replaced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two(path)
    (older,) = path.parent.glob("w.checkpoints/0001-*/weights.safetensors")
    other = path.with_name("link.safetensors")
    other.symlink_to(path.name)
    monkeypatch.chdir(path.parent)
    for resume in (str(path), str(older), str(other), path.name):
        refuse_if_occupied(str(path), resume)
    elsewhere = path.parent / "elsewhere"
    shutil.copytree(path.parent, elsewhere, symlinks=True)
    two(elsewhere / "v.safetensors")
    for resume in (elsewhere / path.name, elsewhere / "v.safetensors"):
        with pytest.raises(CheckpointError, match="run r has saved its weights there"):
            refuse_if_occupied(str(path), str(resume))


def test_weights_that_were_renamed_are_gone_on_from_where_they_are(path: Path) -> None:
    two(path)
    renamed = path.with_name("best.safetensors")
    os.rename(path, renamed)
    saved_run.load(renamed)
    refuse_if_occupied(str(renamed), str(renamed))


def test_a_run_that_is_started_again_writes_over_its_own(path: Path) -> None:
    config = dataclasses.replace(saved_run.CONFIG, save=str(path))
    for lay in (two, without_pointer):
        lay(path)
        writer = claim(config, "r", 2)
        assert writer is not None
        with pytest.raises(CheckpointError, match="run r.2 writes there"):
            claim(config, "other", 0)
        writer.release()
        with pytest.raises(CheckpointError, match="run r has saved its weights there"):
            claim(config, "other", 0)
        with pytest.raises(CheckpointError, match="run r has saved its weights there"):
            claim(config, "r2", 0)  # the refused claim before has let the path go
        shutil.rmtree(path.with_name("w.checkpoints"))
        path.unlink(missing_ok=True)
