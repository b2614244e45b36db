"""What is wrong with a run's images is said before anything starts, in one line with what would do instead."""

import errno
import os
import shlex
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from bench.config import data_checks
from bench.config.grammar import WordError
from launch import plan
from launch.plan import Program, make_plan
from resnet.data.datasets.cifar import CLASSES


@pytest.fixture(autouse=True)
def _this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("launch.plan.gpus_here", lambda: 0)
    monkeypatch.setattr(plan, "cores_here", lambda environ: 2)
    data_checks._look.cache_clear()


def folders(root: Path, classes: tuple[str, ...] | list[str] = ("a", "b"), count: int = 6) -> Path:
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(count):
                Image.new("RGB", (8, 8)).save(root / split / name / f"{index}.png")
    return root


def cifar(root: Path, records: int) -> Path:
    root.mkdir(parents=True)
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (root / f"{name}.bin").write_bytes(bytes(records * 3073))
    return root


def empty_class(root: Path) -> None:
    folders(root / "d")
    for path in (root / "d/val/b").iterdir():
        path.unlink()


def class_of_pipes(root: Path) -> None:
    for path in (folders(root / "d") / "train/b").iterdir():
        path.unlink()
        os.mkfifo(path)


def other_classes(root: Path) -> None:
    (folders(root / "d") / "val/b").rename(root / "d/val/B")


def a_file(root: Path) -> None:
    (root / "d").touch()


def truncated(root: Path) -> None:
    with tarfile.open(root / "d.tar.xz", "w:xz") as tar:
        tar.add(folders(root / "x"), "x")
    content = (root / "d.tar.xz").read_bytes()
    (root / "d.tar.xz").write_bytes(content[: len(content) // 2])


FOLDER = "depth=18 dataset=imagefolder data=ROOT/d image_size=64"
CIFAR = "depth=20 dataset=cifar10 data=ROOT/d"
# What is there, the words, and the line that refuses them; ROOT is the folder of the test.
FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a batch larger than the data": (
        lambda root: None,
        "depth=20 dataset=digits batch=2000",
        "batch=2000: a step of 2 ranks and grad_accum=1 takes 4000 of 1437 training images; nearest is batch=718",
    ),
    "a batch larger than a folder": (
        lambda root: folders(root / "d"),
        f"{FOLDER} batch=7",
        "batch=7: a step of 2 ranks and grad_accum=1 takes 14 of 12 training images; nearest is batch=6",
    ),
    "a batch larger than CIFAR-10's files": (
        lambda root: cifar(root / "d", 2),
        f"{CIFAR} batch=6",
        "batch=6: a step of 2 ranks and grad_accum=1 takes 12 of 10 training images; nearest is batch=5",
    ),
    "a batch larger than synthetic images": (
        lambda root: None,
        "depth=20 dataset=cifar10 loader=synthetic batch=50000",
        "batch=50000: a step of 2 ranks and grad_accum=1 takes 100000 of 50000 training images; nearest is batch=25000",
    ),
    "more micro-batches than images": (
        lambda root: folders(root / "d"),
        f"{FOLDER} batch=2 grad_accum=9",
        "grad_accum=9: a step of 2 ranks and grad_accum=9 takes 36 of 12 training images; nearest is batch=1 "
        "grad_accum=6",
    ),
    "more ranks than images": (
        lambda root: folders(root / "d", count=1),
        f"{FOLDER} batch=2 ranks_per_node=8",
        "ranks_per_node=8: a step of 8 ranks and grad_accum=1 takes 16 of 2 training images; nearest is "
        "ranks_per_node=2 batch=1",
    ),
    "more ranks than cores can do": (
        lambda root: None,
        "depth=20 dataset=digits ranks_per_node=10000",
        "ranks_per_node=10000: this machine has 2 cores and no GPU, and more than 4 ranks a core only wait for one "
        "another; nearest is ranks_per_node=8",
    ),
    "one value a channel": (
        lambda root: None,
        "depth=18 family=imagenet dataset=digits batch=1",
        "batch=1: at image_size=32 the last stage of family=imagenet has one value a channel, on which batch "
        "normalization cannot train; nearest is batch=2, or image_size=33",
    ),
    "nothing of the dataset": (
        lambda root: (root / "d").mkdir(),
        CIFAR,
        "data=ROOT/d: no CIFAR-10 in it; expected cifar-10-batches-py/, cifar-10-batches-bin/, or train/CLASS and "
        "test/CLASS",
    ),
    "the dataset is one folder down": (
        lambda root: cifar(root / "d/deep", 2),
        CIFAR,
        "data=ROOT/d: no CIFAR-10 in it; expected cifar-10-batches-py/, cifar-10-batches-bin/, or train/CLASS and "
        "test/CLASS; nearest is data=ROOT/d/deep",
    ),
    "the dataset is one folder up": (
        lambda root: folders(root / "d"),
        FOLDER.replace("/d ", "/d/train "),
        "data=ROOT/d/train: train: no such folder; expected train/CLASS/* and val/CLASS/* (or test/CLASS/*), found "
        "a, b; nearest is data=ROOT/d",
    ),
    "an empty class": (empty_class, FOLDER, "data=ROOT/d: val/b: empty class folder; expected images (*.jpg, *.png, *"),
    "a class of pipes": (class_of_pipes, FOLDER, "data=ROOT/d: train/b: empty class folder; expected images (*.jpg, "),
    "train and test with different classes": (
        other_classes,
        FOLDER,
        "data=ROOT/d: train: has not the classes of ROOT/d/val: 'B' is missing",
    ),
    "other classes than the dataset has": (
        lambda root: folders(root / "d"),
        "depth=18 dataset=imagenet data=ROOT/d batch=1",
        "data=ROOT/d: 2 classes, where dataset=imagenet has 1000; dataset=imagefolder takes any number",
    ),
    "a file for a folder": (a_file, CIFAR, "data=ROOT/d: not a folder or an archive (.tar, .tar.gz, "),
    "a truncated archive": (
        truncated,
        FOLDER.replace("/d ", "/d.tar.xz "),
        "data=ROOT/d.tar.xz: damaged or truncated archive (",
    ),
}


@pytest.mark.parametrize("program", ["local", "slurm"])
@pytest.mark.parametrize("name", FAULTS)
def test_what_can_be_known_is_refused_in_the_plan(tmp_path: Path, program: Program, name: str) -> None:
    make, words, line = FAULTS[name]
    if program == "slurm":
        words += " ranks_per_node=2" if "ranks_per_node" not in words else ""
        if name == "more ranks than cores can do":
            pytest.skip("a node's GPUs bound the ranks there")
    make(tmp_path)
    with pytest.raises(WordError) as raised:
        make_plan(program, shlex.split(words.replace("ROOT", str(tmp_path))))
    assert str(raised.value).startswith(line.replace("ROOT", str(tmp_path)))
    assert "\n" not in str(raised.value) and not (tmp_path / "cache/resnet-bench/archives/d").exists()


NEAREST = {
    "depth=20 dataset=digits batch=718": None,
    "depth=20 dataset=digits ranks_per_node=8": None,
    "depth=18 family=imagenet dataset=digits batch=2": None,
    "depth=18 family=imagenet dataset=digits batch=1 image_size=33": None,
    f"{FOLDER} batch=6": lambda root: folders(root / "d"),
    f"{FOLDER} batch=1 grad_accum=6": lambda root: folders(root / "d"),
    f"{CIFAR} batch=5": lambda root: cifar(root / "d", 2),
}


@pytest.mark.parametrize("words", NEAREST)
def test_the_nearest_choice_is_one(tmp_path: Path, words: str) -> None:
    make = NEAREST[words]
    if make:
        make(tmp_path)
    assert len(make_plan("local", shlex.split(words.replace("ROOT", str(tmp_path)))).cells) == 1


def test_a_printed_script_is_checked_where_its_files_can_be_seen(tmp_path: Path) -> None:
    words = f"depth=20 dataset=cifar10 data={tmp_path} mode=print"
    with pytest.raises(WordError, match=f"^data={tmp_path}: no CIFAR-10 in it"):
        make_plan("slurm", shlex.split(words))
    assert make_plan("slurm", shlex.split(words.replace(str(tmp_path), "/far/away"))).cells


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path / "d")
    scandir = os.scandir

    def refused(path: object = ".") -> object:
        if str(path) == str(tmp_path / "d/train/b"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(WordError, match="^data=.*/d: train/b: cannot be read .Permission denied.$"):
        make_plan("local", f"{FOLDER} batch=2".replace("ROOT", str(tmp_path)).split())


def test_an_archive_of_the_environment_is_unpacked_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "shelf" / "cifar10-jpeg.tar.xz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:xz") as tar:
        tar.add(folders(tmp_path / "x", CLASSES, 2), ".")
    monkeypatch.setenv("RESNET_BENCH_DATA", str(archive.parent))
    found = make_plan("local", "depth=20 dataset=cifar10 batch=4".split())
    assert (found.cells[0].config.data, found.cells[0].config.loader) == (str(archive), "dali")
    assert found.notices == [f"dataset=cifar10: data={archive}, of $RESNET_BENCH_DATA"]
    assert "unpacked cifar10-jpeg.tar.xz: 40 files" in capsys.readouterr().err
    make_plan("local", "depth=20,32 dataset=cifar10 batch=4".split())
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    data_checks._look.cache_clear()
    assert make_plan("slurm", "depth=20 dataset=cifar10 batch=4 mode=print".split()).cells
    assert not (tmp_path / "elsewhere").exists()
