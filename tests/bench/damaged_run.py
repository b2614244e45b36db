"""A run's checkpoints, and everything that can become of their files."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.training.checkpoint.contents import Checkpoint

MOST_BYTES = 1 << 24


@dataclass
class Run:
    """A save= path with two checkpoints.

    Attributes:
        path: the file that resume= names.
        files: content by path within its folder, as they were written.
        originals: what may be loaded: each checkpoint with the bytes of its tensors.
        engine: what is loaded into.
    """

    path: Path
    files: dict[str, bytes]
    originals: list[tuple[Checkpoint, list[bytes]]]
    engine: Any

    def restore(self) -> None:
        """Everything as it was written; links as they are made."""
        shutil.rmtree(self.path.parent)
        for name, data in self.files.items():
            file = self.path.parent / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        last = max(name for name in self.files if name.endswith("/weights.safetensors"))
        self.path.unlink()
        os.link(self.path.parent / last, self.path)

    def file(self, index: int) -> Path:
        """One of the files, as long as it is one.

        Raises:
            OSError: an earlier damage has made something else of it, through which none may be done elsewhere.
        """
        file = self.path.parent / sorted(self.files)[index % len(self.files)]
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise OSError(f"{file} is no file of its own any more")
        return file

    def inside(self, index: int) -> Path:
        """The folder of a checkpoint."""
        return self.path.parent / sorted(name for name in self.files if name.endswith("/COMPLETE"))[
            index % 2
        ].removesuffix("/COMPLETE")


# Each damage is a function of a run, with the numbers that hypothesis draws for it.
def cut(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    os.truncate(file, two % (file.stat().st_size + 1))


def flip(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    data = bytearray(file.read_bytes())
    if data:
        data[two % len(data)] ^= three % 255 + 1
    file.write_bytes(data)


def flip_header(run: Run, one: int, two: int, three: int) -> None:
    """In the first bytes, where a safetensors file says what it holds."""
    file = run.file(one)
    data = bytearray(file.read_bytes())
    if data:
        data[two % min(len(data), 4000)] ^= three % 255 + 1
    file.write_bytes(data)


def swap(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    data = bytearray(file.read_bytes())
    size = min(64, len(data) // 2)
    if size:
        low, high = two % (len(data) // 2 - size + 1), len(data) // 2 + three % (len(data) // 2 - size + 1)
        data[low : low + size], data[high : high + size] = data[high : high + size], data[low : low + size]
    file.write_bytes(data)


def extend(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    with file.open("ab") as opened:
        opened.write(bytes(three % 256 for _ in range(two % 5000)))


def make_huge(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    os.truncate(file, 1 << (30 + two % 12))


def delete(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    file.unlink()


def replace(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    data = run.file(two).read_bytes()
    file.unlink()
    file.write_bytes(data)


def link(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    outside = run.path.parent.parent / "outside"
    targets = [outside, "../outside", "/dev/zero", "/", "..", file.name, run.file(three)]
    file.unlink()
    file.symlink_to(targets[two % len(targets)])


def make_pipe(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    file.unlink()
    os.mkfifo(file)


def make_folder(run: Run, one: int, two: int, three: int) -> None:
    file = run.file(one)
    file.unlink()
    file.mkdir()


def exchange_folders(run: Run, one: int, two: int, three: int) -> None:
    first, second = run.inside(0), run.inside(1)
    os.rename(first, first.with_name("aside"))
    if one % 2:
        os.rename(second, first)
        os.rename(first.with_name("aside"), second)


def link_folder(run: Run, one: int, two: int, three: int) -> None:
    found = run.inside(one) if two % 2 else run.inside(one).parent
    os.rename(found, found.with_name("aside"))
    found.symlink_to(found.with_name("aside"))


DAMAGES: list[Callable[[Run, int, int, int], None]] = [
    cut, flip, flip_header, swap, extend, make_huge, delete, replace, link, make_pipe, make_folder, exchange_folders,
    link_folder,
]  # fmt: skip
