import dataclasses
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from resnet.data import DataError, file_list, open_dataset
from resnet.data.cache import publish
from resnet.data.datasets import folders
from resnet.data.datasets.cifar import CLASSES, read_binary, read_pickle


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def write_folders(root, classes=("a", "b"), splits=("train", "val"), count=3, form="png"):
    for split in splits:
        for label, name in enumerate(classes):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (12, 10), (label * 50, i, 0)).save(folder / f"{i}.{form}")
    return root


def test_digits_are_split_written_once_and_named(tmp_path):
    first = open_dataset("digits", None, image_size=32, num_classes=10)
    again = open_dataset("digits", None, image_size=32)
    assert (len(first.train), len(first.test), first.classes) == (1437, 360, [str(i) for i in range(10)])
    assert first.prepare_s > 0 and again.prepare_s == 0
    assert first.hash == again.hash == first.train.hash
    counts = np.bincount(first.test.labels)
    assert counts.min() >= 35 and counts.max() <= 37
    assert first.train.paths[0].startswith(str(tmp_path / "cache" / "resnet-bench" / "digits-32" / "train" / "0"))
    with Image.open(first.train.paths[0]) as image:
        assert image.size == (32, 32) and image.format == "PNG"
    names = [{os.path.basename(p) for p in split.paths} for split in (first.train, first.test)]
    assert not names[0] & names[1]


@pytest.mark.slow
def test_digits_written_by_two_processes_at_once_are_whole(tmp_path):
    code = (
        "from resnet.data import open_dataset; s = open_dataset('digits', None, image_size=32);"
        "print(len(s.train), len(s.test), s.hash)"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    outputs = {process.communicate(timeout=60)[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(outputs) == 1 and outputs.pop().startswith("1437 360 ")
    left = [name for name in os.listdir(tmp_path / "cache" / "resnet-bench") if name.startswith(".")]
    assert left == []


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A cache in which digits were written; nothing else writes to it."""
    root = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root))
        open_dataset("digits", None, image_size=32)
    return root


def test_damaged_digits_are_named(tmp_path, digits):
    shutil.copytree(digits, tmp_path / "cache", copy_function=os.link)
    splits = open_dataset("digits", None, image_size=32)
    os.remove(splits.train.paths[5])
    with pytest.raises(DataError, match="digits-32: 1436 and 360 images"):
        open_dataset("digits", None, image_size=32)


def test_folders_are_read_in_sorted_order(tmp_path):
    root = write_folders(tmp_path / "d", classes=("b", "a", "C"))
    (root / "train" / "a" / "z.JPEG").write_bytes(b"")
    (root / "train" / "a" / "notes.txt").write_text("ignored")
    (root / "train" / "README").write_text("ignored")
    splits = open_dataset("imagefolder", root, image_size=64)
    assert splits.classes == ["C", "a", "b"] and splits.name == "imagefolder"
    assert splits.train.labels.tolist() == [0] * 3 + [1] * 4 + [2] * 3
    assert [os.path.basename(p) for p in splits.train.paths[3:7]] == ["0.png", "1.png", "2.png", "z.JPEG"]
    assert splits.test.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3


def test_the_hash_follows_names_and_content_but_not_the_place(tmp_path):
    first = open_dataset("imagefolder", write_folders(tmp_path / "one"), image_size=64).hash
    second = write_folders(tmp_path / "two")
    assert open_dataset("imagefolder", second, image_size=64).hash == first
    path = second / "val" / "a" / "1.png"
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    changed = open_dataset("imagefolder", second, image_size=64).hash
    assert changed != first
    path.rename(second / "val" / "a" / "9.png")
    assert open_dataset("imagefolder", second, image_size=64).hash not in (first, changed)


@pytest.mark.parametrize("large", [False, True])
def test_the_hash_is_of_names_and_sizes_and_of_small_folders_contents(tmp_path, large, monkeypatch):
    monkeypatch.setattr(folders, "_HASH_CONTENT_FILES", 0 if large else 2_000)
    root = write_folders(tmp_path / "d")
    hashes = [open_dataset("imagefolder", root, image_size=64).hash]

    def differs():
        hashes.append(open_dataset("imagefolder", root, image_size=64).hash)
        return hashes[-1] not in hashes[:-1]

    last = root / "val" / "b" / "2.png"
    last.rename(root / "val" / "b" / "9.png")  # still the last
    assert differs()
    for split in ("train", "val"):
        (root / split / "b").rename(root / split / "c")
    assert differs()
    (root / "val" / "c" / "9.png").write_bytes(bytes(50))
    assert differs()
    (root / "val" / "c" / "9.png").write_bytes(bytes([1] * 50))
    assert differs() != large
    (root / "val" / "c" / "9.png").unlink()
    assert differs()


def break_nothing(root):
    return root / "absent", "absent: no such folder"


def remove_val(root):
    (root / "val").rename(root / "other")
    return root, "val: no such folder"


def empty_class(root):
    (root / "train" / "c").mkdir()
    (root / "val" / "c").mkdir()
    return root, "train/c: empty class folder"


def extra_class(root):
    (root / "train" / "c").mkdir()
    (root / "train" / "c" / "0.jpg").write_bytes(b"x")
    return root, "val: has not the classes of .*train: 'c' is missing"


def missing_class(root):
    (root / "val" / "d").mkdir()
    (root / "val" / "d" / "0.jpg").write_bytes(b"x")
    return root, "train: has not the classes of .*val: 'd' is missing"


def flat(root):
    for i in range(2):
        (root / "flat" / "train").mkdir(parents=True, exist_ok=True)
        (root / "flat" / "val").mkdir(parents=True, exist_ok=True)
        (root / "flat" / "train" / f"{i}.jpg").write_bytes(b"x")
    return root / "flat", "flat/train: no class folders .it holds images"


def dangling(root):
    (root / "val" / "a" / "5.png").symlink_to(root / "nowhere.png")
    return root, "val/a/5.png: cannot be read"


@pytest.mark.parametrize("damage", [break_nothing, remove_val, empty_class, extra_class, missing_class, flat, dangling])
def test_broken_folders_are_named_in_one_line(tmp_path, damage):
    path, words = damage(write_folders(tmp_path / "d"))
    with pytest.raises(DataError, match=words) as caught:
        open_dataset("imagefolder", path, image_size=64)
    assert "\n" not in str(caught.value)


def test_class_count_path_and_name_are_checked(tmp_path):
    root = write_folders(tmp_path / "d")
    with pytest.raises(DataError, match="2 classes; expected num_classes=1000; dataset=imagefolder"):
        open_dataset("imagenet", root, image_size=224, num_classes=1000)
    with pytest.raises(DataError, match="dataset=imagenet needs data=PATH"):
        open_dataset("imagenet", None, image_size=224)
    with pytest.raises(ValueError, match="dataset=cifar: expected one of digits, cifar10"):
        open_dataset("cifar", root, image_size=32)
    with pytest.raises(ValueError, match="image_size=4"):
        open_dataset("digits", None, image_size=4)


def cifar_records(n, seed):
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 10, n)
    return labels, generator.integers(0, 256, (n, 3072), dtype=np.uint8)


def write_cifar(root, form):
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    root.mkdir(parents=True)
    for seed, name in enumerate(names):
        labels, data = cifar_records(7, seed)
        if form == "python":
            # As python 2 wrote them: protocol 2 and byte-string keys.
            content = {b"batch_label": b"x", b"labels": labels.tolist(), b"data": data, b"filenames": [b"f.png"] * 7}
            (root / name).write_bytes(pickle.dumps(content, protocol=2))
        else:
            records = np.concatenate([labels[:, None].astype(np.uint8), data], axis=1)
            (root / f"{name}.bin").write_bytes(records.tobytes())
    return root


@pytest.mark.parametrize(("form", "folder"), [("python", "cifar-10-batches-py"), ("binary", "cifar-10-batches-bin")])
@pytest.mark.parametrize("inside", [False, True])
def test_original_cifar_files_give_images_and_labels(tmp_path, form, folder, inside):
    folder = write_cifar(tmp_path / folder, form)
    splits = open_dataset("cifar10", folder if inside else tmp_path, image_size=32, num_classes=10)
    assert splits.name == "cifar10" and splits.classes == CLASSES and splits.train.paths is None
    assert splits.train.images.shape == (35, 32, 32, 3) and splits.test.images.shape == (7, 32, 32, 3)
    labels, data = cifar_records(7, 2)
    assert splits.train.labels[14:21].tolist() == labels.tolist()
    # Planes of 32 rows, red first.
    assert splits.train.images[14, 5, 9].tolist() == [data[0, c * 1024 + 5 * 32 + 9] for c in range(3)]


def test_both_original_forms_have_one_hash(tmp_path):
    one = open_dataset("cifar10", write_cifar(tmp_path / "p", "python"), image_size=32)
    two = open_dataset("cifar10", write_cifar(tmp_path / "b", "binary"), image_size=32)
    assert one.hash == two.hash


def test_cifar_in_folders_is_named_for_its_compression(tmp_path):
    root = write_folders(tmp_path / "d", classes=CLASSES, splits=("train", "test"), form="jpg")
    assert open_dataset("cifar10", root, image_size=32).name == "cifar10-jpeg"
    with pytest.raises(DataError, match="no CIFAR-10 in it"):
        open_dataset("cifar10", tmp_path, image_size=32)


class Runs:
    def __reduce__(self):
        return os.system, ("echo run > executed",)


class Imports:
    def __reduce__(self):
        return eval, ("1",)


@pytest.mark.parametrize(("payload", "refused"), [(Runs(), "posix.system"), (Imports(), "__builtin__.eval")])
def test_a_pickle_that_names_anything_else_is_refused_unexecuted(tmp_path, monkeypatch, payload, refused):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": payload, b"labels": [1]}, protocol=2))
    with pytest.raises(DataError, match=f"data_batch_1: not a CIFAR-10 python file: global {refused} refused"):
        read_pickle(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        pickle.dumps([1, 2]),
        pickle.dumps({b"labels": [1]}),
        pickle.dumps({b"data": np.zeros((2, 3072)), b"labels": [1, 2]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 11]}),
        pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1, 2]})[:-100],
    ],
)
def test_a_damaged_pickle_is_named(tmp_path, content):
    path = tmp_path / "data_batch_3"
    path.write_bytes(content)
    with pytest.raises(DataError, match="data_batch_3: ") as caught:
        read_pickle(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_binary_file_is_named(tmp_path):
    path = tmp_path / "data_batch_1.bin"
    path.write_bytes(b"\0" * 3072)
    with pytest.raises(DataError, match="3072 bytes; expected a multiple of 3073"):
        read_binary(path)
    path.write_bytes(b"\x0b" + b"\0" * 3072)
    with pytest.raises(DataError, match="labels outside 0 to 9"):
        read_binary(path)


def test_a_flat_folder_is_a_list_of_files(tmp_path):
    for name in ("b.JPEG", "a.jpg", "c.txt"):
        (tmp_path / name).write_bytes(b"x")
    split = file_list(tmp_path)
    assert [os.path.basename(p) for p in split.paths] == ["a.jpg", "b.JPEG"] and len(split) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: no images"):
        file_list(tmp_path / "empty")


def test_a_split_holds_one_kind_of_images(digits, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(digits))
    split = open_dataset("digits", None, image_size=32).test
    with pytest.raises(ValueError, match="both paths and images"):
        dataclasses.replace(split, images=np.zeros((360, 32, 32, 3), np.uint8))
    with pytest.raises(ValueError, match="359 images but 360 labels"):
        dataclasses.replace(split, paths=split.paths[1:])


def test_publish_leaves_nothing_behind_when_building_fails(tmp_path):
    def fail(path):
        path.mkdir()
        (path / "half").write_text("x")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish(tmp_path / "deep" / "target", fail)
    assert not (tmp_path / "deep" / "target").exists()
    assert [name for name in os.listdir(tmp_path / "deep") if not name.endswith(".lock")] == []
    assert publish(tmp_path / "deep" / "target", lambda path: path.mkdir()).is_dir()
