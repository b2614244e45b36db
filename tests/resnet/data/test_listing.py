"""Which files of a folder are images, which are left out and said to be, and which folders can be a dataset's."""

import errno
import itertools
import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from resnet.data import DataError, file_list, open_dataset, probe
from resnet.data.listing import ENDINGS, images_below, shown_left_out


def folders(root: Path, classes: tuple[str, ...] = ("a", "b"), splits: tuple[str, ...] = ("train", "val")) -> Path:
    for split in splits:
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                (root / split / name / f"{index}.jpg").write_bytes(b"x")
    return root


# What lies in a class folder: whether its file is an image of the class, and by which ending it is left out.
FILES = {
    **{f"x{ending}": (True, None) for ending in ENDINGS},
    "x.JPEG": (True, None),
    "x.WebP": (True, None),
    "deep/x.png": (True, None),
    "deep/deeper/x.gif": (True, None),
    ".x.jpg": (False, None),
    "._x.jpg": (False, None),
    ".thumbnails/x.jpg": (False, None),
    "deep/.x.bmp": (False, None),
    "x.txt": (False, ".txt"),
    "X.XML": (False, ".xml"),
    "jpg": (False, "no ending"),
    "deep/x.heic": (False, ".heic"),
    "x.jpg.part": (False, ".part"),
}


@pytest.mark.parametrize("name", FILES)
def test_what_the_decoder_reads_is_read_and_the_rest_is_counted_by_ending(tmp_path: Path, name: str) -> None:
    file = folders(tmp_path) / "train" / "a" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"x")
    taken, ending = FILES[name]
    splits = open_dataset("imagefolder", tmp_path, image_size=32)
    assert (str(file) in splits.train.paths) == taken and len(splits.train) == 6 + taken
    assert splits.train.labels.tolist() == [0] * (3 + taken) + [1] * 3
    assert splits.left_out == ({ending: 1} if ending else {})
    assert (str(file) in file_list(tmp_path).paths) == taken


# How each is made, and how it is counted.
SPECIAL = {
    "pipe": (os.mkfifo, {"pipe (FIFO)": 1}),
    "socket": (lambda path: bound(path), {"socket": 1}),
    "device": (lambda path: path.symlink_to("/dev/zero"), {"device": 1}),
    "link to a pipe": (
        lambda path: (os.mkfifo(path.with_suffix(".pipe")), path.symlink_to(f"{path.stem}.pipe")),
        {"pipe (FIFO)": 2},
    ),
}


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        os.chdir(path.parent)  # its path may not be long
        listener.bind(path.name)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize("place", ["train/a/x.jpg", "val/b/deep/x.png", "train/x.gif"])
def test_what_is_no_file_is_left_out_and_never_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make, left_out = SPECIAL[name]
    path = folders(tmp_path) / place
    path.parent.mkdir(exist_ok=True)
    make(path)
    open_any = os.open

    def open_files(file: str, *more: int, **keys: int) -> int:
        assert str(file) != str(path)
        return open_any(file, *more, **keys)

    monkeypatch.setattr(os, "open", open_files)
    splits = open_dataset("imagefolder", tmp_path, image_size=32)
    assert (len(splits.train), len(splits.test)) == (6, 6) and splits.left_out == left_out
    assert probe("imagefolder", tmp_path, 100).train_images == 6


def test_a_link_to_nowhere_is_a_file_whose_reader_says_so(tmp_path: Path) -> None:
    (folders(tmp_path) / "train/a/x.jpg").symlink_to("nowhere")
    assert f"{tmp_path}/train/a/x.jpg" in images_below(f"{tmp_path}/train")
    with pytest.raises(DataError, match=f"^{tmp_path}/train/a/x.jpg: cannot be read .No such file"):
        open_dataset("imagefolder", tmp_path, image_size=32)


def test_a_class_of_pipes_alone_is_empty(tmp_path: Path) -> None:
    for file in (folders(tmp_path) / "train" / "b").iterdir():
        file.unlink()
        os.mkfifo(file)
    for look in (
        lambda: probe("imagefolder", tmp_path, 1),
        lambda: open_dataset("imagefolder", tmp_path, image_size=32),
    ):
        with pytest.raises(DataError, match=f"^{tmp_path}/train/b: empty class folder; "):
            look()


def test_what_lies_beside_the_class_folders_is_counted_too(tmp_path: Path) -> None:
    for name in ("train/README", "train/stray.jpg", "val/list.txt", "train/.DS_Store"):
        (folders(tmp_path) if not (tmp_path / "train").exists() else tmp_path).joinpath(name).write_bytes(b"x")
    splits = open_dataset("imagefolder", tmp_path, image_size=32)
    assert len(splits.train) == 6 and splits.left_out == {"no ending": 1, ".jpg": 1, ".txt": 1}


def test_links_are_followed_once_for_each_place(tmp_path: Path) -> None:
    folder = folders(tmp_path) / "train" / "a"
    (folder / "itself").symlink_to(folder)
    (folder / "up").symlink_to(tmp_path / "train")
    (folder / "circle").symlink_to("circle")
    (folder / "nowhere.png").symlink_to(tmp_path / "gone.png")
    found, left_out = list(itertools.islice(images_below(str(folder)), 100)), Counter[str]()
    assert len(found) == len(set(map(os.path.realpath, found))) == 7  # its own, the other class's through up, nowhere
    list(images_below(str(folder), left_out))
    assert left_out == {"no ending": 1}


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({".txt": 1}, "1 file left out (1 .txt)"),
        ({".a": 2, ".b": 1200}, "1,202 files left out (1,200 .b, 2 .a)"),
        ({f".{i}": i for i in range(1, 10)}, "45 files left out (9 .9, 8 .8, 7 .7, 6 .6, 5 .5, 4 .4, 6 others)"),
    ],
)
def test_what_is_left_out_is_one_line(counts: dict[str, int], line: str) -> None:
    assert shown_left_out(counts) == line


def cifar(root: Path, suffix: str) -> Path:
    root.mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (root / f"{name}{suffix}").write_bytes(bytes(4 * 3073))
    return root


def without(path: Path) -> Path:
    path.unlink()
    return path.parent


# A folder, and what is wrong with it as `dataset`; probe and open_dataset say the same.
FAULTS = {
    "nothing": ("imagefolder", lambda root: root / "none", "none: no such folder; expected a folder with train/CLASS"),
    "a file": ("imagefolder", lambda root: folders(root) / "train/a/0.jpg", "0.jpg: a file; expected a folder with"),
    "no train": ("imagefolder", lambda root: folders(root, splits=("training", "val")), "train: no such folder; .*"),
    "no val": ("imagefolder", lambda root: folders(root, splits=("train",)), "val: no such folder, nor is there a te"),
    "an empty class": (
        "imagefolder",
        lambda root: (folders(root), *((root / split / "c").mkdir() for split in ("train", "val")))[0],
        "train/c: empty class folder; expected images",
    ),
    "an empty class of the test": (
        "imagefolder",
        lambda root: ([path.unlink() for path in (folders(root) / "val" / "b").iterdir()], root)[1],
        "val/b: empty class folder",
    ),
    "a class of dot files": (
        "imagefolder",
        lambda root: ([path.rename(path.with_name(".x")) for path in (folders(root) / "val/b").iterdir()], root)[1],
        "val/b: empty class folder",
    ),
    "another class in train": (
        "imagefolder",
        lambda root: ((folders(root) / "train" / "c").mkdir(), root)[1],
        "val: has not the classes of .*train: 'c' is missing",
    ),
    "another class in val": (
        "imagefolder",
        lambda root: ((folders(root) / "val" / "C").mkdir(), root)[1],
        "train: has not the classes of .*val: 'C' is missing",
    ),
    "train is a file": (
        "imagefolder",
        lambda root: (folders(root, splits=("val",)), (root / "train").touch())[0],
        "train: a file, not a folder",
    ),
    "no classes": (
        "imagefolder",
        lambda root: (folders(root / "x"), (root / "train").mkdir(), (root / "val").mkdir(), root)[-1],
        "train: no class folders; expected CLASS",
    ),
    "no CIFAR-10": ("cifar10", lambda root: root, ": no CIFAR-10 in it; expected cifar-10-batches-py/"),
    "part of the pickles": (
        "cifar10",
        lambda root: without(cifar(root / "c", "") / "data_batch_4"),
        "data_batch_4: no such file; expected CIFAR-10's six files",
    ),
    "part of the binaries": (
        "cifar10",
        lambda root: without(cifar(root / "c", ".bin") / "test_batch.bin"),
        "test_batch.bin: no such file",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_the_dataset_is_said_alike_before_a_run_and_in_it(tmp_path: Path, name: str) -> None:
    dataset, make, message = FAULTS[name]
    root = make(tmp_path)
    for look in (lambda: probe(dataset, root, 1), lambda: open_dataset(dataset, root, image_size=32)):
        with pytest.raises(DataError, match=f"^{tmp_path}.*{message}") as caught:
            look()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("forbidden", ["train", "val/b", "train/a/deep"])
def test_a_folder_that_may_not_be_read_is_named(
    tmp_path: Path, forbidden: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders(tmp_path) / "train/a/deep").mkdir()
    scandir = os.scandir

    def refused(path: str) -> object:
        if str(path) == str(tmp_path / forbidden):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=f"^{tmp_path / forbidden}: cannot be read .Permission denied.$"):
        open_dataset("imagefolder", tmp_path, image_size=32)
    with pytest.raises(DataError, match=f"^{tmp_path / forbidden}: cannot be read .Permission denied.$"):
        probe("imagefolder", tmp_path, 100)


def test_a_probe_counts_no_further_than_it_was_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders(tmp_path)
    found = probe("imagefolder", tmp_path, 100)
    assert (found.classes, found.train_images) == (2, 6)
    assert probe("imagefolder", tmp_path, 2).train_images <= 4
    assert probe("cifar10", cifar(tmp_path / "binary", ".bin"), 1).train_images == 20
    assert probe("cifar10", cifar(tmp_path / "python", ""), 1).train_images >= 20
