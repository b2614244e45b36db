"""Damaged images of every format: the loaders refuse or read one alike, and the checker names what can be known.

A few in every run of the tests, 200 at random under `make soak`; what no decoder notices is as docs/training.md says.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from any_input import limited
from damaged_images import ENDS, FIRST_SCAN_ENDS, FORMATS, SIZE, damaged, flips
from readers import READERS, loader

from bench.config.paths import ROOT
from resnet.data import DataError, Split

FEW, MANY = 40, 200
FLIPS = 400  # of each format
TOLERANCE = 1.5  # grey levels, as of whole photographs (tests/resnet/data/loaders/test_loaders.py)
# What is named whenever it happens; of flips it is not known beforehand.
NAMED = ("cut", "cut_and_closed", "swapped")
CHECKED = re.compile(r"(?P<path>[^:]+): (?P<reason>.+)")


def read(kind: str, path: Path, dataset: str) -> torch.Tensor | str:
    """An image as a loader gives it, or the line in which it is refused."""
    split = Split(name="val", dataset=dataset, labels=np.zeros(1, np.int64), classes=["a"], paths=[str(path)])
    with limited():
        made = loader(kind, split, batch=1, threads=0 if kind == "torch" else 1)
        try:
            return next(iter(made.epoch(0))).images.clone()
        except DataError as error:
            return str(error)
        finally:
            made.close()


def compare(path: Path, dataset: str) -> None:
    dali, peer = (read(kind, path, dataset) for kind in READERS)
    for one in (dali, peer):
        if isinstance(one, str):
            assert one.startswith(f"{path}: ") and one.isprintable(), one
    assert isinstance(dali, str) == isinstance(peer, str), (path.name, dali, peer)
    if not (isinstance(dali, str) or isinstance(peer, str)):
        assert float((dali - peer).abs().max()) * 255 * 0.229 <= TOLERANCE, path.name


def checked(folder: Path) -> dict[str, str]:
    """Reasons by name of the files of a folder that `bench.check_data` names."""
    words = [sys.executable, "-m", "bench.check_data", f"data={folder}", "workers=2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    lines = [CHECKED.fullmatch(line) for line in done.stdout.splitlines()]
    assert all(lines) and done.returncode == bool(lines), done.stdout + done.stderr
    *progress, last = done.stderr.splitlines()
    assert all(re.fullmatch(r"[\d,]+ of [\d,]+ files, [\d,]+ damaged, [\d,]+ s left", line) for line in progress), (
        done.stderr
    )
    count = len(list(folder.iterdir()))
    damaged = f"{len(lines):,} damaged" if lines else "all whole"
    assert last == f"{folder}: {count:,} image{'s' * (count != 1)} decoded, {damaged}"
    return {Path(line["path"]).name: line["reason"] for line in lines if line}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def try_all(folder: Path, files: dict[str, bytes], datasets: tuple[str, ...]) -> dict[str, str]:
    written(folder, files)
    named = checked(folder)
    for name, content in files.items():
        # Of pixels as they are, any bytes behind a header are a picture.
        bare = content.startswith((b"BM", b"P6")) and len(content) > 3 * SIZE[0] * SIZE[1]
        assert name in named or name.split("-")[1] not in NAMED or bare, name
    for number, name in enumerate(files):
        for dataset in datasets if len(datasets) == 1 else datasets[number % 2 :][:1]:
            compare(folder / name, dataset)
    return named


@pytest.mark.slow
def test_whole_images_are_read_alike_and_not_named(tmp_path: Path) -> None:
    folder = written(tmp_path / "whole", FORMATS)
    assert checked(folder) == {}
    for name in FORMATS:
        for dataset in ("imagefolder", "cifar10"):
            compare(folder / name, dataset)


@pytest.mark.slow
def test_damaged_images_are_refused_by_both_loaders_or_by_none(tmp_path: Path) -> None:
    try_all(tmp_path / "few", damaged(FEW, seed=0), ("imagefolder", "cifar10"))


@pytest.mark.slow
def test_a_progressive_jpeg_cut_behind_a_scan_is_whole(tmp_path: Path) -> None:
    """Of less detail: nothing in it says that there was more."""
    content = FORMATS["progressive.jpg"][:FIRST_SCAN_ENDS] + ENDS[".jpg"]
    folder = written(tmp_path / "one", {"cut.jpg": content})
    assert checked(folder) == {}
    compare(folder / "cut.jpg", "imagefolder")


@pytest.mark.slow
def test_flipped_bits_are_noticed_as_often_as_the_documentation_says(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    said = {name: int(share) for name, share in re.findall(r"`(\w+\.\w+)` (\d+)%", text)}
    assert said.keys() == FORMATS.keys()
    named = checked(written(tmp_path / "flips", {k: v for name in FORMATS for k, v in flips(name, FLIPS).items()}))
    for name, share in said.items():
        found = 100 * sum(one.endswith(f"-{name}") for one in named) / FLIPS
        # Another build of a library may notice a few more or less.
        assert abs(found - share) <= 3, (name, found)


@pytest.mark.soak
@pytest.mark.parametrize("dataset", ["imagefolder", "cifar10"])
def test_many_damaged_images(tmp_path: Path, dataset: str) -> None:
    seed = time.time_ns()
    files = damaged(MANY, seed)
    print(f"{MANY} images, seed {seed}")
    named = try_all(tmp_path / "many", files, (dataset,))
    print(f"{len(named)} of them named by bench.check_data")
