"""Configurations that have a completed result: which are left out, and for which images that counts."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from slurm_stub import Slurm

from launch.cli import main
from launch.plan import make_plan
from resnet.data import open_dataset
from resnet.data.datasets.cifar import CLASSES
from results.store.writer import RunWriter

pytestmark = pytest.mark.usefixtures("checkout")


def cell(line: str):  # type: ignore[no-untyped-def]
    (found,) = make_plan("slurm", [*line.split(), "mode=print"]).cells
    return found


def test_what_has_a_completed_result_is_not_submitted_again(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"depth=18 loader=synthetic cluster=small results={slurm.results}"
    done = cell(line).config
    for run_id, status, kind in (("good", "completed", None), ("bad", "failed", "oom")):
        config_hash = done.config_hash() if status == "completed" else cell(f"{line} seed=1").config.config_hash()
        row = {"run_id": run_id, "config_hash": config_hash, "config_json": done.to_json()}
        RunWriter(slurm.results, row).finish(status, failure_kind=kind)
    assert main("slurm", f"{line} seed=0,1".split()) == 0
    out, err = capsys.readouterr()
    assert out.count("1 configuration in 1 job") == 1
    assert "resnet18B-imagenet-synthetic nodes=1 seed=0 has a completed result in" in err and "rerun=true" in err
    assert main("slurm", f"{line} seed=0,1 rerun=true".split()) == 0
    assert "2 configurations in 1 array" in capsys.readouterr().out


def test_a_result_does_not_stand_for_weights(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    line = f"depth=18 loader=synthetic cluster=small results={slurm.results}"
    done = cell(line).config
    row = {"run_id": "good", "config_hash": done.config_hash(), "config_json": done.to_json()}
    RunWriter(slurm.results, row).finish("completed")
    assert main("slurm", f"{line} save={slurm.folder}/a.safetensors".split()) == 0
    assert "1 configuration in 1 job" in capsys.readouterr().out


def images(root: Path, pixel: int, form: str = "png", classes: Sequence[str] = CLASSES) -> Path:
    for split in ("train", "test"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(2):
                Image.new("RGB", (4, 4), (pixel, index, 0)).save(root / split / name / f"{index}.{form}")
    return root


def binaries(root: Path) -> Path:
    root.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (root / f"{name}.bin").write_bytes(bytes(3073 * 8))
    return root


# What a completed run has read, what the next would read, and whether these are the same images.
DATA = {
    "the same folder": (lambda root: images(root, 1), None, True),
    "a copy elsewhere": (lambda root: images(root, 1), lambda root: images(root, 1), True),
    "another folder": (lambda root: images(root, 1), lambda root: images(root, 2), False),
    "a JPEG copy": (binaries, lambda root: images(root, 1, "jpg"), False),
    "one image more": (
        lambda root: images(root, 1),
        lambda root: (shutil.copy(images(root, 1) / "train/cat/0.png", root / "train/cat/9.png"), root)[1],
        False,
    ),
}


@pytest.mark.parametrize("dataset", ["cifar10", "imagefolder"])
@pytest.mark.parametrize("name", DATA)
def test_a_result_counts_for_its_own_images_alone(
    slurm: Slurm, capsys: pytest.CaptureFixture[str], name: str, dataset: str
) -> None:
    first, second, same = DATA[name]
    if dataset == "imagefolder" and first is binaries:
        pytest.skip("CIFAR-10's own files are no image folder")
    done = first(slurm.folder / "first")
    line = f"depth=20 family=cifar dataset={dataset} image_size=32 batch=1 cluster=small results={slurm.results}"
    config = cell(f"{line} data={done}").config
    splits = open_dataset(dataset, done, image_size=32)
    row = {"run_id": "good", "config_hash": config.config_hash(), "config_json": config.to_json()}
    RunWriter(slurm.results, row | {"dataset_hash": splits.hash}).finish("completed")
    following = second(slurm.folder / "second") if second else done
    assert main("slurm", f"{line} data={following}".split()) == 0
    out, err = capsys.readouterr()
    assert out.count("1 configuration in 1 job") == (0 if same else 1) and ("has a completed result" in err) == same
