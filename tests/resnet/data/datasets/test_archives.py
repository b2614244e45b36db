"""Archives become folders of the cache once, whole or not at all, and serve whoever looks into RESNET_BENCH_DATA."""

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from resnet.data import DataError, dataset_in_environment, open_dataset, unpack_archive
from resnet.data.datasets.archives import data_folder, unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "resnet-bench" / "archives"


def write(path: Path, names: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = {".xz": "w:xz", ".gz": "w:gz", ".bz2": "w:bz2"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as tar:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


IMAGES = {f"{split}/{name}/{i}.jpg": os.urandom(700) for split in ("train", "test") for name in "ab" for i in range(3)}


def left(cache: Path) -> list[str]:
    return [path.name for path in cache.iterdir() if path.suffix != ".lock"] if cache.exists() else []


@pytest.mark.parametrize("suffix", [".tar", ".tar.xz", ".tar.gz", ".tar.bz2"])
@pytest.mark.parametrize("wrapper", ["", "wrapped/"])
def test_an_archive_is_a_dataset_unpacked_once(tmp_path: Path, cache: Path, suffix: str, wrapper: str) -> None:
    archive = write(tmp_path / f"birds{suffix}", {f"{wrapper}{name}": content for name, content in IMAGES.items()})
    said: list[str] = []
    folder = data_folder(archive, said.append)
    assert folder.parent == cache and folder.name.startswith("birds-") and left(cache) == [folder.name]
    for name, content in IMAGES.items():
        assert (folder / name).read_bytes() == content
    assert said == [f"unpacking {archive} into {folder}, once", f"unpacked {archive.name}: 12 files"]
    assert data_folder(archive, said.append) == folder and len(said) == 2
    splits = open_dataset("imagefolder", archive, image_size=32)
    assert len(splits.train) == len(splits.test) == 6 and splits.prepare_s == 0
    assert data_folder(tmp_path) == tmp_path


def test_what_an_archive_is_compressed_with_its_first_bytes_say(tmp_path: Path) -> None:
    archive = renamed(write(tmp_path / "birds.tar.xz", IMAGES))
    assert len(list(data_folder(archive, lambda line: None).rglob("*.*"))) == len(IMAGES)


def test_unpacking_is_preparation(tmp_path: Path) -> None:
    assert open_dataset("imagefolder", write(tmp_path / "b.tar", IMAGES), image_size=32).prepare_s > 0


def test_another_archive_of_the_same_name_is_another_folder(tmp_path: Path) -> None:
    archive = write(tmp_path / "b.tar", IMAGES)
    first = open_dataset("imagefolder", archive, image_size=32).hash
    write(archive, {name: content[::-1] for name, content in IMAGES.items()})
    assert open_dataset("imagefolder", archive, image_size=32).hash != first


def whole(tmp_path: Path, suffix: str = ".tar.xz") -> tuple[Path, bytes]:
    archive = write(tmp_path / f"b{suffix}", IMAGES)
    return archive, archive.read_bytes()


def cut(tmp_path: Path, suffix: str, share: float) -> Path:
    archive, content = whole(tmp_path, suffix)
    archive.write_bytes(content[: int(len(content) * share)])
    return archive


def between_members(tmp_path: Path) -> Path:
    archive, content = whole(tmp_path, ".tar")
    archive.write_bytes(content[: 5 * (512 + 1024)])  # a member is a header and 700 bytes in two blocks
    return archive


def flipped(tmp_path: Path, suffix: str) -> Path:
    archive, content = whole(tmp_path, suffix)
    changed = bytearray(content)
    changed[len(content) // 2] ^= 0xFF
    archive.write_bytes(changed)
    return archive


def text(tmp_path: Path) -> Path:
    (tmp_path / "b.tar.gz").write_text("no archive\n" * 100)
    return tmp_path / "b.tar.gz"


def renamed(archive: Path) -> Path:
    return archive.rename(archive.with_name("b.tar.gz"))


def nothing(tmp_path: Path) -> Path:
    (tmp_path / "b.tar").touch()
    return tmp_path / "b.tar"


DAMAGED = "damaged or truncated archive"
FAULTS = {
    **{
        f"cut{suffix} at {share}": (lambda path, suffix=suffix, share=share: cut(path, suffix, share), DAMAGED)
        for suffix in (".tar", ".tar.xz", ".tar.gz", ".tar.bz2")
        for share in (0.01, 0.3, 0.52)
    },
    "cut between members": (between_members, DAMAGED),
    "changed .xz": (lambda path: flipped(path, ".tar.xz"), DAMAGED),
    "changed .gz": (lambda path: flipped(path, ".tar.gz"), DAMAGED),
    "text": (text, DAMAGED),
    "nothing": (nothing, DAMAGED),
    "cut in the first header": (lambda path: cut(path, ".tar", 0.005), f"{DAMAGED} .truncated header.$"),
    "another compression than its name says": (lambda path: renamed(cut(path, ".tar.xz", 0.5)), DAMAGED),
    "a path that leaves": (lambda path: write(path / "b.tar", {**IMAGES, "../evil": b"x"}), "not unpacked, since"),
    "a deep path that leaves": (lambda path: write(path / "b.tar", {"train/../../evil": b"x"}), "not unpacked, since"),
    "a link that leaves": (lambda path: write(path / "b.tar", IMAGES, {"train/l": "../../evil"}), "not unpacked, sin"),
    "an absolute link": (lambda path: write(path / "b.tar", IMAGES, {"train/l": "/etc/passwd"}), "not unpacked, since"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_bad_archive_is_refused_in_one_line_and_leaves_nothing(tmp_path: Path, cache: Path, name: str) -> None:
    make, message = FAULTS[name]
    archive = make(tmp_path)
    for _ in range(2):  # the second time, too: nothing stays that looks whole
        with pytest.raises(DataError, match=f"^{archive}: {message}") as caught:
            unpacked(archive, lambda line: None)
        # One reason, not one of each method that was tried.
        assert "\n" not in str(caught.value) and "Error" not in str(caught.value)
    assert left(cache) == [] and not list(tmp_path.rglob("evil"))


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    words = (
        f"b.tar: not unpacked, since {tmp_path}/cache/.*: {tmp_path}/cache cannot be written to, .*: XDG_CACHE_HOME="
    )
    with pytest.raises(DataError, match=words):
        unpacked(write(tmp_path / "b.tar", IMAGES), lambda line: None)


SLOW = """
import sys, time
from pathlib import Path
import resnet.data.datasets.archives as archives
extract = archives._extract
def slow(*words):
    print("begun", flush=True)
    extract(*words)
    time.sleep(float(sys.argv[2]))
archives._extract = slow
print(archives.unpacked(Path(sys.argv[1])), flush=True)
"""


def unpacking(archive: Path, sleep_s: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", SLOW, str(archive), str(sleep_s)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_unpack_once(tmp_path: Path, cache: Path) -> None:
    archive = write(tmp_path / "b.tar", IMAGES)
    first = unpacking(archive, 1.5)
    assert first.stdout and first.stdout.readline() == "begun\n"
    second = unpacking(archive, 0)
    (out, err), (first_out, _) = second.communicate(timeout=60), first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert out == first_out and "begun" not in out
    assert err == f"waiting for another process that unpacks {archive}\n"
    assert left(cache) == [Path(out.strip()).name]


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, cache: Path) -> None:
    archive = write(tmp_path / "b.tar", IMAGES)
    killed = unpacking(archive, 60)
    assert killed.stdout and killed.stdout.readline() == "begun\n"
    deadline = time.monotonic() + 30
    while not left(cache) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    (half,) = left(cache)
    assert half.startswith(".b-")
    folder = unpacked(archive, lambda line: None)
    assert left(cache) == [folder.name] and len(list(folder.rglob("*.jpg"))) == len(IMAGES)


# What lies in the folder; what serves a dataset, and a sample of bench.peers.
SHELVES = {
    "archive": (["cifar10-jpeg.tar.xz"], "cifar10-jpeg.tar.xz", "cifar10-jpeg.tar.xz"),
    "folder": (["cifar10/"], "cifar10", "cifar10"),
    "both": (["cifar10/", "cifar10-jpeg.tar"], "cifar10", "cifar10-jpeg.tar"),
    "unpacked beside": (["cifar10-jpeg/", "cifar10-jpeg.tar.gz"], "cifar10-jpeg", "cifar10-jpeg"),
    "other": (["imagenette-128.tar.xz"], None, None),
}


@pytest.mark.parametrize("name", SHELVES)
def test_training_and_peers_read_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    things, dataset, sample = SHELVES[name]
    for thing in things:
        if thing.endswith("/"):
            for file, content in IMAGES.items():
                (tmp_path / "shelf" / thing / file).parent.mkdir(parents=True, exist_ok=True)
                (tmp_path / "shelf" / thing / file).write_bytes(content)
        else:
            write(tmp_path / "shelf" / thing, IMAGES)
    monkeypatch.setenv("RESNET_BENCH_DATA", str(tmp_path / "shelf"))
    assert dataset_in_environment("cifar10") == (tmp_path / "shelf" / dataset if dataset else None)
    if sample:
        assert unpack_archive("cifar10-jpeg", lambda line: None) == data_folder(tmp_path / "shelf" / sample)
    else:
        with pytest.raises(FileNotFoundError, match="RESNET_BENCH_DATA has neither a folder cifar10-jpeg nor an arch"):
            unpack_archive("cifar10-jpeg")
        assert dataset_in_environment("imagefolder") == tmp_path / "shelf" / "imagenette-128.tar.xz"


def test_without_the_variable_a_sample_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    with pytest.raises(FileNotFoundError, match="imagenette-128: RESNET_BENCH_DATA is unset"):
        unpack_archive("imagenette-128")
    with pytest.raises(ValueError, match="expected one of cifar10-jpeg"):
        unpack_archive("imagenet")
