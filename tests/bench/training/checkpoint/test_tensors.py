"""Weights and momentum come back as they were written, from this form and older ones, or not at all."""

import dataclasses
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from saved_run import SAVED, STATE, at, content, load, momenta, save, save_old, torch_save, trained, world

import resnet
from bench.measure.failure import Diverged
from bench.training.checkpoint import folder, tensors
from bench.training.checkpoint.contents import CheckpointError, locate, read, read_at
from bench.training.engine import loss_scaler


def test_everything_comes_back_parameter_by_parameter(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "w.safetensors"
    engine = save(path)
    found, other = load(path)
    assert found == SAVED and content(other) == content(engine)
    assert all(value.abs().sum() > 0 for value in momenta(other))


def test_what_save_names_is_a_plain_weights_file(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    engine = save(path)
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    resnet.load_weights(model, path)
    assert all(torch.equal(model.state_dict()[name], value) for name, value in engine.model.state_dict().items())
    inside = locate(str(path))
    assert inside != path and inside.samefile(path)  # stored once
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask()


def umask() -> int:
    now = os.umask(0)
    os.umask(now)
    return now


def test_where_files_cannot_be_linked_they_are_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "w.safetensors"
    engine = save(path)
    assert not locate(str(path)).samefile(path) and locate(str(path)).read_bytes() == path.read_bytes()
    assert content(load(path)[1]) == content(engine)


def names(path: Path) -> list[str]:
    return sorted(entry.name[:13] for entry in folder.home_of(path).iterdir())


def test_the_last_two_are_kept_and_no_other(tmp_path: Path) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    for epoch, kept in ((1, [1]), (2, [1, 2]), (3, [2, 3]), (4, [3, 4])):
        save(path, at(epoch), engine)
        assert names(path) == [f"{each:04d}-{22 * each:08d}" for each in kept]
        assert read(str(path)).state.epoch == epoch
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.checkpoints", "w.safetensors"]


def test_a_resumed_run_keeps_a_whole_checkpoint_beside_its_own(tmp_path: Path) -> None:
    """It went on from the older of two, as the later one is damaged: the damaged one is what goes."""
    path, engine = tmp_path / "w.safetensors", trained()
    save(path, at(1), engine)
    save(path, at(2), engine)
    (locate(str(path)).parent / "momentum.safetensors").write_bytes(b"damaged")
    save(path, at(2, run_id="resumed"), engine)
    assert names(path) == ["0001-00000022", "0002-00000044"]
    assert read(str(path)).run_id == "resumed"


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    save(path, at(1), engine)
    home = folder.home_of(path)
    left = home / f".{folder.new_name(2, 44, 'r.0')}.0123abcd.tmp"
    left.mkdir()
    (left / "weights.safetensors").touch()
    for own in ("notes", "0002-best", ".tmp"):
        (home / own).mkdir()
    save(path, at(2), engine)
    assert not left.exists() and {"notes", "0002-best", ".tmp"} <= {entry.name for entry in home.iterdir()}


def test_only_rank_0_writes(tmp_path: Path) -> None:
    tensors.save(str(tmp_path / "w.safetensors"), trained(), world(1), SAVED)
    assert not list(tmp_path.iterdir())


def synced(monkeypatch: pytest.MonkeyPatch, fails_at: int) -> list[int]:
    """From now on the call of fsync with that number fails; the list grows with the calls."""
    calls: list[int] = []
    real = os.fsync

    def full(fd: int) -> None:
        calls.append(fd)
        if len(calls) == fails_at:
            raise OSError(28, "No space left on device")
        real(fd)

    monkeypatch.setattr(os, "fsync", full)
    return calls


# Three files with the folder, the manifest and the marker likewise, then two folders, and one once the pointer is set.
FSYNCS = 2 * 5 + 2 + 1


@pytest.mark.parametrize("fails_at", range(1, FSYNCS + 1))
def test_a_full_disk_leaves_a_whole_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    save(path, at(1), engine)
    with monkeypatch.context() as patch:
        synced(patch, fails_at)
        with pytest.raises((OSError, resnet.WeightsError), match="No space left"):
            save(path, at(2), engine)
    found, other = load(path)
    assert found.state.epoch == (2 if fails_at == FSYNCS else 1) and content(other) == content(engine)
    assert not [entry for entry in tmp_path.rglob(".*")]
    with monkeypatch.context() as patch:
        calls = synced(patch, 0)
        save(path, at(3), engine)
        assert len(calls) == FSYNCS and read(str(path)).state.epoch == 3


@pytest.mark.parametrize("what", ["weights", "momentum"])
def test_what_is_not_finite_is_never_written(tmp_path: Path, what: str) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    save(path, at(1), engine)
    value = engine.model.fc.weight if what == "weights" else momenta(engine)[-2]
    value.data[0, 0] = float("nan")
    with pytest.raises(Diverged, match=rf"^{what} fc.weight is not finite: no checkpoint is written"):
        save(path, at(2), engine)
    assert read(str(path)).state.epoch == 1


@pytest.mark.parametrize("version", [1, 2])
def test_older_checkpoints_are_resumed_and_then_replaced(tmp_path: Path, version: int) -> None:
    path = tmp_path / "w.safetensors"
    engine = save_old(path, version)
    found, other = load(path)
    assert found.version == version and found.state == STATE and found.chain == () and found.facts == {}
    assert content(other) == content(engine)
    save(path, at(2), engine)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["w.checkpoints", "w.safetensors"]
    assert load(path)[0].state.epoch == 2


MISFITS = {
    "missing": "fc.bias is missing",
    "unknown": "fc.scale is of no parameter",
    "shape": r"fc.bias is F32 \[7\], expected floating point \[10\]",
    "dtype": r"fc.bias is I64 \[10\], expected floating point \[10\]",
    "nan": "fc.bias has values that are not finite",
    "infinite": "fc.bias has values that are not finite",
    "empty": "is missing",
}


@pytest.mark.parametrize("damage", MISFITS)
def test_momentum_that_does_not_fit_is_refused_and_nothing_of_it_taken(tmp_path: Path, damage: str) -> None:
    """In an older checkpoint, which has no checksums that would say so first."""
    path = tmp_path / "w.safetensors"
    save_old(path, 2)
    file = tmp_path / read(str(path)).momentum
    stored = load_file(file)
    if damage == "missing":
        del stored["fc.bias"]
    elif damage == "empty":
        stored = {}
    else:
        values = {"shape": torch.ones(7), "dtype": torch.ones(10, dtype=torch.int64), "unknown": torch.ones(1),
                  "nan": torch.full([10], torch.nan), "infinite": torch.full([10], torch.inf)}  # fmt: skip
        stored["fc.scale" if damage == "unknown" else "fc.bias"] = values[damage]
    torch_save(stored, file)
    other = trained()
    before = [value.clone() for value in momenta(other)]
    with pytest.raises(CheckpointError, match=rf"^resume=.*momentum .*{MISFITS[damage]}$"):
        load(path, other)
    assert all(torch.equal(value, was) for value, was in zip(momenta(other), before, strict=True))


@pytest.mark.parametrize("damage", MISFITS)
def test_the_engine_is_given_no_momentum_but_its_own(tmp_path: Path, damage: str) -> None:
    """Also where whoever calls has checked nothing."""
    path = tmp_path / "w.safetensors"
    save_old(path, 2)
    saved = read(str(path))
    stored = load_file(tmp_path / saved.momentum)
    changes = {"shape": torch.ones(7), "dtype": torch.ones(10, dtype=torch.int64), "nan": torch.full([10], torch.nan),
               "infinite": torch.full([10], torch.inf)}  # fmt: skip
    if damage in changes:
        stored["fc.bias"] = changes[damage]
    elif damage == "unknown":
        stored["fc.scale"] = torch.ones(1)
    else:
        stored = {} if damage == "empty" else {name: value for name, value in stored.items() if name != "fc.bias"}
    torch_save(stored, tmp_path / saved.momentum)
    with pytest.raises(CheckpointError, match=r"does not fit the network: [a-z0-9.]+ (is|has)"):
        tensors.load_momentum(str(path), str(path), saved, trained())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path, engine = tmp_path / "w.safetensors", trained()
    engine.model.fc.bias.data[3] = float("inf")
    save_old(path, 2, engine=engine)
    with pytest.raises(CheckpointError, match="fc.bias has values that are not finite"):
        load(path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path)
    other: Any = SimpleNamespace(model=resnet.build(family="cifar", depth=14, shortcut="A", num_classes=10))
    with pytest.raises(CheckpointError, match=r"weights of depth=8, the model has depth=14$"):
        load(path, other)


def test_the_scale_of_fp16_s_loss_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    scaler, other = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (1024.0, 8.0))
    scaler.load_state_dict(scaler.state_dict() | {"_growth_tracker": 77})
    engine = trained()
    engine.scaler = scaler
    save(path, engine=engine)
    resumed = trained()
    resumed.scaler = other
    found, _ = load(path, resumed)
    assert found.loss_scaler == {"scale": 1024.0, "growth_tracker": 77}
    assert (other.state_dict()["scale"], other.state_dict()["_growth_tracker"]) == (1024.0, 77)
    assert other.scale(torch.ones(1)).item() == 1024.0
    off: Any = SimpleNamespace(scaler=torch.amp.GradScaler("cpu", enabled=False))
    assert loss_scaler(off) is None and loss_scaler(trained()) is None


def test_every_rank_reads_the_checkpoint_that_rank_0_found(tmp_path: Path) -> None:
    """The last one may change while ranks look for it."""
    path, engine = tmp_path / "w.safetensors", trained()
    save(path, at(1), engine)
    sent: list[torch.Tensor] = []

    def first(rows: torch.Tensor) -> list[torch.Tensor]:
        sent.append(rows)
        return [rows]

    tensors.agreed(str(path), SimpleNamespace(rank=0, gather=first))  # type: ignore[arg-type]
    found = locate(str(path))
    save(path, at(2), engine)
    other: Any = SimpleNamespace(rank=1, gather=lambda rows: [sent[0], rows])
    assert tensors.agreed(str(path), other) == str(found) != str(locate(str(path)))
    assert read(str(found)).state.epoch == 1


def test_a_rank_waits_for_what_a_shared_file_system_shows_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save(path)
    sent: list[torch.Tensor] = []
    tensors.agreed(str(path), SimpleNamespace(rank=0, gather=lambda rows: [sent.append(rows) or rows]))  # type: ignore
    found = locate(str(path)).parent
    os.rename(found, found.with_name("late"))
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            os.rename(found.with_name("late"), found)

    monkeypatch.setattr(tensors.time, "sleep", wait)
    other: Any = SimpleNamespace(rank=1, gather=lambda rows: [sent[0], rows])
    assert Path(tensors.agreed(str(path), other)).parent == found and len(waits) == 3
    monkeypatch.setattr(tensors, "LATE_S", 0.0)
    shutil.rmtree(found)
    with pytest.raises(CheckpointError, match="No such file or directory; keep the folder"):
        read_at(str(path), Path(tensors.agreed(str(path), other)))


def test_a_momentum_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "w.safetensors"
    save(path)

    def refuse(*arguments: object, **keywords: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(tensors.safetensors.torch, "load_file", refuse)
    with pytest.raises(CheckpointError, match="its momentum .* cannot be read: .*Input/output error"):
        load(path)


def test_a_checkpoint_is_what_its_writer_said(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save(path, dataclasses.replace(SAVED, restart=2, dataset_hash=None))
    assert (read(str(path)).restart, read(str(path)).dataset_hash) == (2, None)
