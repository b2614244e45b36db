"""What a checkpoint says of itself is checked field by field, and what is damaged is named in one line."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from saved_run import SAVED, at, load, save, save_old, torch_save, trained

import resnet
from bench.training.checkpoint import contents, folder
from bench.training.checkpoint.contents import KEY, CheckpointError, locate, read


def damaged_line(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as raised:
        read(str(path))
    line = str(raised.value)
    assert line.startswith(f"resume={path}: ") and "\n" not in line and line.isprintable()
    return line


def rewrite(path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    """Change what the last checkpoint of a path says, and make its sums right again."""
    inside = locate(str(path)).parent
    values = json.loads((inside / "state.json").read_text())
    changed = change(values)
    seal(inside, json.dumps(values if changed is None else changed))
    return inside


def seal(inside: Path, state: str | None = None) -> None:
    """Make the sizes and sums of a checkpoint's folder those of its files."""
    if state is not None:
        (inside / "state.json").write_text(state)
    files = {}
    for part in contents.PARTS:
        size, digest = folder.measure(inside / part)
        files[part] = {"bytes": size, "sha256": digest}
    manifest = json.dumps({"version": 1, "files": files})
    (inside / "manifest.json").write_text(manifest)
    (inside / "COMPLETE").write_text(hashlib.sha256(manifest.encode()).hexdigest() + "\n")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A save= path with two checkpoints, not to be changed."""
    path = tmp_path_factory.mktemp("whole") / "w.safetensors"
    engine = save(path, at(1))
    save(path, at(2), engine)
    return path


@pytest.fixture
def path(whole: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(whole.parent, tmp_path / "run")
    return tmp_path / "run" / whole.name


def test_what_was_written_is_read(path: Path) -> None:
    assert read(str(path)) == at(2)
    inside = locate(str(path))
    assert read(str(inside)) == at(2) and inside.parent.parent == path.with_name("w.checkpoints")
    (older,) = folder.others(inside.parent.parent, inside.parent.name)
    assert read(str(inside.parent.parent / older / "weights.safetensors")) == at(1)


def test_a_link_that_was_typed_is_followed(path: Path, tmp_path: Path) -> None:
    (tmp_path / "best.safetensors").symlink_to(path)
    assert read(str(tmp_path / "best.safetensors")) == at(2)


def test_what_is_no_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    assert damaged_line(path).endswith("w.safetensors: no such checkpoint")
    path.write_text("no tensors")
    assert "w.safetensors: not a readable safetensors file" in damaged_line(path)
    path.unlink()
    resnet.save_weights(trained().model, path)
    assert "weights without a training state; a run's save=PATH writes one" in damaged_line(path)
    path.unlink()
    path.mkdir()
    assert "not a regular file" in damaged_line(path)
    path.rmdir()
    path.symlink_to("/")  # which has no name
    assert "not a regular file" in damaged_line(path)
    path.unlink()
    os.mkfifo(path)  # whose reader would wait for a writer
    assert "not a regular file" in damaged_line(path)


FILES = ("weights.safetensors", "momentum.safetensors", "state.json", "manifest.json", "COMPLETE")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage", ["gone", "cut", "longer", "swapped", "empty", "link", "link to itself", "pipe", "folder"]
)
def test_every_file_of_a_checkpoint_is_checked(path: Path, name: str, damage: str) -> None:
    inside = locate(str(path)).parent
    file = inside / name
    data = file.read_bytes()
    older = folder.others(inside.parent, inside.name)[0]
    file.unlink()
    if damage == "cut":
        file.write_bytes(data[:-1])
    elif damage == "longer":
        file.write_bytes(data + b" ")
    elif damage == "swapped":
        file.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "empty":
        file.touch()
    elif damage == "link":
        (path.parent / "same").write_bytes(data)
        file.symlink_to(path.parent / "same")
    elif damage == "link to itself":
        file.symlink_to(file)
    elif damage == "pipe":
        os.mkfifo(file)
    elif damage == "folder":
        file.mkdir()
    if (name, damage) == ("COMPLETE", "cut"):  # its last byte ends a line, no more
        assert read(str(path)) == at(2)
        return
    line = damaged_line(path)
    assert name in line and line.endswith(f"; resume={inside.parent / older}/weights.safetensors may do")
    assert read(line.rpartition("resume=")[2].removesuffix(" may do")) == at(1)


def test_a_checkpoint_that_was_moved_or_mixed_up_is_named(path: Path, tmp_path: Path) -> None:
    inside = locate(str(path)).parent
    (older,) = folder.others(inside.parent, inside.name)
    os.rename(inside, inside.with_name("gone"))
    assert "keep the folder beside its weights file" in damaged_line(path)
    os.rename(inside.with_name(older), inside)  # the older one under the name of the later
    assert f"{inside}/state.json: is of 0001-00000022-r.1-*, in the folder of another" in damaged_line(path)
    assert f"{inside}/weights.safetensors: training.checkpoint={older}: weights of another" in damaged_line(
        inside / "weights.safetensors"
    )
    shutil.move(inside.with_name("gone"), tmp_path / "elsewhere")
    shutil.rmtree(inside)
    inside.symlink_to(tmp_path / "elsewhere")
    assert f"{inside}: not a folder but a link" in damaged_line(path)
    with pytest.raises(CheckpointError, match="not a folder but a link"):
        load(path)
    shutil.move(inside.parent, tmp_path / "home")
    inside.parent.symlink_to(tmp_path / "home")
    assert f"{inside.parent}: not a folder but a link" in damaged_line(path)


def test_weights_that_were_copied_alone_say_so(path: Path, tmp_path: Path) -> None:
    shutil.copy(path, tmp_path / "alone.safetensors")
    assert "w.checkpoints: No such file or directory; keep the folder" in damaged_line(tmp_path / "alone.safetensors")


@pytest.mark.parametrize(
    ("pointer", "field"),
    [
        ({"version": 3, "home": "w.checkpoints", "checkpoint": "../../etc"}, "checkpoint=../../etc"),
        ({"version": 3, "home": "w.checkpoints", "checkpoint": "/etc"}, "checkpoint=/etc"),
        ({"version": 3, "home": "w.checkpoints", "checkpoint": 5}, "checkpoint=5"),
        ({"version": 3, "home": "w.checkpoints"}, "checkpoint=None"),
        ({"version": 3, "home": "../w.checkpoints", "checkpoint": "0001-00000022-r.1-0123"}, "home=../w.checkpoints"),
        ({"version": 3, "home": "..", "checkpoint": "0001-00000022-r.1-0123"}, "home=.."),
        ({"version": 3, "home": ["w"], "checkpoint": "0001-00000022-r.1-0123"}, "home=['w']"),
        ({"version": "3"}, "version=3: expected a whole number"),
        ({"version": True}, "version=True: expected a whole number"),
        ({"version": None}, "version=None"),
        ({"version": 0}, "version=0: expected a whole number"),
        ({"version": 5}, "version=5: a later version wrote it; this reader knows 1 to 4"),
        ([1], ": list, expected a JSON object"),
        (None, ": NoneType, expected a JSON object"),
    ],
)
def test_a_pointer_that_leads_elsewhere_is_refused(tmp_path: Path, pointer: object, field: str) -> None:
    path = tmp_path / "w.safetensors"
    resnet.save_weights(trained().model, path, {KEY: json.dumps(pointer)})
    assert f"{path}: {KEY}" in damaged_line(path) and field in damaged_line(path)


@pytest.mark.parametrize(
    "text", ["{", "", '{"version": 3, "version": 3}', '{"version": NaN}', "[" * 100_000, "9" * 5000]
)
def test_a_pointer_that_is_no_json_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "w.safetensors"
    resnet.save_weights(trained().model, path, {KEY: text})
    assert f"{path}: {KEY}: not JSON" in damaged_line(path)


# What state.json may not hold: the change, and how the line names it.
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"version": 2}, "version=2: expected 3"),
    ({"run_id": "../x"}, "run_id=../x: expected"),
    ({"run_id": "a\nb"}, "run_id=a b: expected"),
    ({"run_id": "\U00018d09\x1b[31m"}, r"run_id=\U00018d09\x1b[31m: expected"),
    ({"run_id": 5}, "run_id=5: expected"),
    ({"restart": -1}, "restart=-1: expected"),
    ({"restart": True}, "restart=True: expected"),
    ({"restart": 2**60}, "restart=1152921504606846976: expected"),
    ({"net": "depth=8"}, "net=depth=8: expected words"),
    ({"net": {"depth": 8}}, "net={'depth': 8}: expected words"),
    ({"x": 1}, ": x is no field of version 4"),
    ({"saved_at": "1"}, "saved_at=1: expected seconds"),
    ({"saved_at": -1.0}, "saved_at=-1.0: expected seconds"),
    ({"saved_at": 1e30}, "saved_at=1e+30: expected seconds"),
    ({"chain": None}, "chain=None: expected attempts"),
    ({"chain": [{"run_id": "../x", "restart": 0, "epoch": 1}]}, "chain=["),
    ({"chain": [{"run_id": "x", "restart": 0}]}, "chain=["),
    ({"facts": []}, "facts=[]: expected"),
    ({"facts": {"kernels": []}}, "facts={'kernels': []}: expected"),
    ({"facts": {"kernels": [1]}}, "facts={'kernels': [1]}: expected"),
    ({"facts": {"kern\nels": ["x"]}}, "facts={"),
    ({"dataset_hash": 7}, "dataset_hash=7: expected"),
    ({"dataset_hash": "a b"}, "dataset_hash=a b: expected"),
    ({"steps_per_epoch": 0}, "steps_per_epoch=0: expected"),
    ({"steps_per_epoch": 22.0}, "steps_per_epoch=22.0: expected"),
    ({"steps_per_epoch": 23}, "state.step=44: 2 epochs of 23 steps are others"),
    ({"steps_per_epoch": 14}, "state.step=44: 2 epochs of 14 steps are others"),
    ({"loss_scaler": 1}, "loss_scaler=1: expected"),
    ({"loss_scaler": {"scale": 0.0, "growth_tracker": 1}}, "loss_scaler={"),
    ({"loss_scaler": {"scale": 2.0, "growth_tracker": -1}}, "loss_scaler={"),
    ({"state": []}, "state=[]: expected an object"),
]
WRONG_STATE: list[tuple[dict[str, Any], str]] = [
    ({"epoch": -5}, "epoch=-5: expected"),
    ({"epoch": 10**17}, "epoch=100000000000000000: expected"),
    ({"step": "3"}, "step='3': expected"),
    ({"step": True}, "step=True: expected"),
    ({"step": 999_999}, "step=999999: 2 epochs of 22 steps are others"),
    ({"step": 1, "epoch": 2}, "step=1: fewer than epoch=2"),
    ({"x": 1}, "'x': there is no such value"),
    ({"top1": ["0.5"]}, "top1=['0.5']: expected fractions"),
    ({"top1": [7.0, 0.5]}, "top1=[7.0, 0.5]: expected fractions"),
    ({"top1": {}}, "top1={}: expected fractions"),
    ({"top1": [0.5]}, "top1: has 1 values after epoch=2"),
    ({"elapsed_s": -1.0}, "elapsed_s=-1.0: expected seconds"),
    ({"elapsed_s": True}, "elapsed_s=True: expected seconds"),
    ({"elapsed_s": 1e300}, "elapsed_s=1e+300: expected seconds"),
    ({"downtime_s": None}, "downtime_s=None: expected seconds"),
    ({"downtime_s": 9.0}, "downtime_s=9.0: more than elapsed_s=6.0"),
    ({"cold": 1}, "cold=1: expected true or false"),
    ({"cold_wrong": 3}, "cold_wrong=3: more than cold_images=0"),
    ({"cold_images": -1}, "cold_images=-1: expected"),
    ({"tta_s": "x"}, "tta_s='x': expected seconds"),
    ({"tta_s": 1.0}, "tta_s=1.0, epochs_to_target=None: expected both or neither"),
    ({"epochs_to_target": 1}, "tta_s=None, epochs_to_target=1: expected both or neither"),
    ({"tta_s": 1.0, "epochs_to_target": 0}, "epochs_to_target=0: expected one of 2 epochs"),
    ({"tta_s": 1.0, "epochs_to_target": 3}, "epochs_to_target=3: expected one of 2 epochs"),
    ({"tta_s": 1.0, "epochs_to_target": "1"}, "epochs_to_target='1': expected one of 2 epochs"),
    ({"tta_s": 7.0, "epochs_to_target": 1}, "tta_s=7.0: more than elapsed_s=6.0"),
]


@pytest.mark.parametrize(("change", "said"), [*WRONG, *(({"state": change}, said) for change, said in WRONG_STATE)])
def test_a_field_that_cannot_be_is_named(path: Path, change: dict[str, Any], said: str) -> None:
    def put(values: dict[str, Any]) -> None:
        for name, value in change.items():
            values[name] = values[name] | value if name == "state" and isinstance(value, dict) else value

    inside = rewrite(path, put)
    line = damaged_line(path)
    assert f"{inside}/state.json" in line and said in line, line


@pytest.mark.parametrize("name", sorted(json.loads(SAVED.to_json()).keys() - {"version"}))
def test_a_field_that_is_missing_is_named(path: Path, name: str) -> None:
    inside = rewrite(path, lambda values: {key: value for key, value in values.items() if key != name})
    assert f"{inside}/state.json: {name} is missing" in damaged_line(path)


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "7", "", '{"a": 1, "a": 1}', "[" * 100_000, '{"restart": NaN}', '{"restart": ' + "9" * 5000 + "}"],
)
def test_a_state_that_is_no_json_object_is_named(path: Path, text: str) -> None:
    inside = locate(str(path)).parent
    seal(inside, text)
    assert f"{inside}/state.json: " in damaged_line(path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "version=2: this reader knows 1"),
        ({"version": True}, "version=True: this reader knows 1"),
        ({"files": []}, "files=[]: expected an object"),
        ({"files": {}}, "files lacks momentum.safetensors"),
        ({"+loader-0.json": {"bytes": 1, "sha256": "0" * 64}}, "files has loader-0.json, which a later version wrote"),
        ({"+../../x": {"bytes": 1, "sha256": "0" * 64}}, "files has ../../x, which a later version wrote"),
        ({"+state.json": {"bytes": -1, "sha256": "0" * 64}}, "files.state.json.bytes=-1: expected"),
        ({"+state.json": {"bytes": 10**30, "sha256": "0" * 64}}, "bytes=10000"),
        ({"+state.json": {"bytes": 1.0, "sha256": "0" * 64}}, "files.state.json.bytes=1.0: expected"),
        ({"+state.json": None}, "files.state.json.bytes=None: expected"),
        ({"+state.json": {"bytes": 1, "sha256": "x"}}, "files.state.json.sha256=x: expected"),
    ],
)
def test_a_manifest_that_cannot_be_is_named(path: Path, change: dict[str, Any], said: str) -> None:
    """With a marker that fits it."""
    inside = locate(str(path)).parent
    manifest = json.loads((inside / "manifest.json").read_text())
    for name, value in change.items():
        if name.startswith("+"):
            manifest["files"][name[1:]] = value
        else:
            manifest[name] = value
    text = json.dumps(manifest)
    (inside / "manifest.json").write_text(text)
    (inside / "COMPLETE").write_text(hashlib.sha256(text.encode()).hexdigest())
    line = damaged_line(path)
    assert str(inside) in line and said in line, line


def test_tensors_of_another_run_are_refused(path: Path, tmp_path: Path) -> None:
    """Files that are whole, with sums that are right, of another network."""
    model = resnet.build(family="cifar", depth=14, shortcut="A", num_classes=10)
    inside = locate(str(path)).parent
    pointer = {KEY: json.dumps({"version": 3, "home": "w.checkpoints", "checkpoint": inside.name})}
    (inside / "weights.safetensors").unlink()
    resnet.save_weights(model, inside / "weights.safetensors", pointer)
    seal(inside)
    assert "weights.safetensors: weights of depth=14, its state has depth=8" in damaged_line(path)


def test_a_momentum_of_other_parameters_is_refused_without_torch(path: Path) -> None:
    inside = locate(str(path)).parent
    torch_save({name: value for name, value in trained().model.named_parameters() if name != "fc.bias"},
               inside / "momentum.safetensors")  # fmt: skip
    seal(inside)
    assert "momentum.safetensors: its momentum does not fit the weights: fc.bias is missing" in damaged_line(path)


OLD: list[tuple[int, dict[str, Any], str]] = [
    (2, {"momentum": ""}, "momentum=: expected the name of a file"),
    (2, {"momentum": "../x"}, "momentum=../x: expected the name of a file"),
    (2, {"momentum": "/etc/passwd"}, "momentum=/etc/passwd: expected the name of a file"),
    (2, {"momentum": ".."}, "momentum=..: expected the name of a file"),
    (2, {"momentum": 5}, "momentum=5: expected the name of a file"),
    (2, {"momentum": "w.other"}, "its momentum w.other is missing"),
    (2, {"momentum": "w.safetensors"}, "its momentum does not fit the weights"),
    (2, {"saved_at": -1.0}, "saved_at=-1.0: expected seconds"),
    (2, {"net": "depth=8"}, "net=depth=8: expected words"),
    (2, {"chain": []}, "chain is no field of version 2"),
    (2, {"state": {"epoch": 1}}, "state.step: is missing"),
    (1, {"state": "../x"}, "state=../x: expected the name of a file"),
    (1, {"state": ""}, "state=: expected the name of a file"),
    (1, {"net": None}, "net=None: expected words"),
    (1, {"net": "depth"}, "net=depth: expected words"),
    (1, {"epoch": -5}, "state.epoch=-5: expected"),
    (1, {"step": "3"}, "state.step='3': expected"),
    (1, {"elapsed_s": "nan"}, "state.elapsed_s='nan': expected seconds"),
    (1, {"x": 1}, "state.'x': there is no such value"),
]


@pytest.mark.parametrize(("version", "change", "said"), OLD)
def test_older_forms_are_checked_as_well(tmp_path: Path, version: int, change: dict[str, Any], said: str) -> None:
    path = tmp_path / "w.safetensors"
    save_old(path, version, **change)
    assert said in damaged_line(path), damaged_line(path)


def test_a_linked_momentum_of_an_older_form_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_old(path, 2)
    file = tmp_path / "w.r.0001.momentum.safetensors"
    os.rename(file, tmp_path / "elsewhere")
    file.symlink_to(tmp_path / "elsewhere")
    assert "not a regular file but a link" in damaged_line(path)


def test_all_of_it_is_loaded(path: Path) -> None:
    assert load(path)[0] == at(2)
