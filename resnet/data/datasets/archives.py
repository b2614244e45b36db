"""Finds datasets in the folder that `RESNET_BENCH_DATA` names, and unpacks archives into the cache, once and whole."""

import hashlib
import os
import sys
import tarfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from resnet.data.cache import cache_root, publish
from resnet.data.dataset_table import DATA_VARIABLE, DATASETS
from resnet.data.errors import DataError
from resnet.data.listing import has_folders

# Endings of what tarfile reads.
ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
# What `bench.peers` times loaders on, and under which names each may lie in the folder.
SAMPLES = {
    "cifar10-jpeg": ("cifar10-jpeg", "cifar10"),
    "imagenette-128": ("imagenette-128",),
    "imagenet-samples-100": ("imagenet-samples-100",),
}
# How what tarfile reads begins; else it is a plain tar file. Were tarfile to find out, an error would be one a method.
_METHODS = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x5d\0\0": "xz"}
_SAY_S = 5.0  # between two lines of progress
_STAMP_BYTES, _READ_BYTES = 1 << 16, 1 << 20

Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    """Show a line of progress."""
    print(line, file=sys.stderr, flush=True)


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a path is that of an archive that is there."""
    return os.fspath(path).lower().endswith(ARCHIVES) and os.path.isfile(path)


def data_folder(path: str | os.PathLike[str], say: Say = say_on_stderr) -> Path:
    """The folder of a dataset: `path` itself, made absolute, or where the archive at `path` is unpacked.

    Raises:
        DataError: see `unpacked`.
    """
    place = Path(path).expanduser().absolute()
    return unpacked(place, say) if is_archive(place) else place


def in_environment(names: Sequence[str]) -> Path | None:
    """The folder or archive in `$RESNET_BENCH_DATA` that the first of some names has, or None.

    Raises:
        DataError: the variable names what is no folder, or may not be looked into.
    """
    if not (named := os.environ.get(DATA_VARIABLE)):
        return None
    root = Path(named)
    try:
        os.scandir(root).close()
    except (OSError, ValueError) as error:  # such as a NUL
        what = "no such folder" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", None) or error
        raise DataError(f"{DATA_VARIABLE}={named}: {what}; name the folder of the datasets, or unset it") from None
    for name in names:
        places = [root / name, *(root / f"{name}{suffix}" for suffix in ARCHIVES)]
        for place in places:
            if place.is_dir() or is_archive(place):
                return place
    return None


def dataset_in_environment(dataset: str) -> Path | None:
    """The folder or archive of a dataset in `$RESNET_BENCH_DATA`, or None; raises as `in_environment` does."""
    return in_environment(DATASETS[dataset].stored_as)


def unpack_archive(name: str, say: Say = say_on_stderr) -> Path:
    """Return the folder of one of the image samples that `RESNET_BENCH_DATA` holds, unpacked where it is an archive.

    Args:
        name: `cifar10-jpeg`, `imagenette-128` or `imagenet-samples-100`.
        say: Shows progress.

    Raises:
        ValueError: The name is not one of the three.
        FileNotFoundError: The variable is unset, or its folder has no such folder or archive; one line says which.
        DataError: See `in_environment` and `unpacked`.
    """
    if name not in SAMPLES:
        raise ValueError(f"archive {name!r} is unknown: expected one of {', '.join(SAMPLES)}")
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        raise FileNotFoundError(f"{name}: {DATA_VARIABLE} is unset; set it to the folder that has {name}.tar.xz")
    own, *others = SAMPLES[name]
    place = in_environment([own]) or next((found for other in others if (found := in_environment([other]))), None)
    folder = data_folder(place, say) if place else None
    if folder is None or (own == "cifar10-jpeg" and not has_folders(folder)):
        raise FileNotFoundError(f"{root}: {DATA_VARIABLE} has neither a folder {name} nor an archive {name}.tar.xz")
    return folder


def unpacked(archive: Path, say: Say = say_on_stderr) -> Path:
    """Unpack an archive into the cache, once, and return the folder of its images.

    Whoever comes second, meanwhile or later, finds what the first has made. An archive that changes is another one: its
    size and its first and last 64 KiB are part of the folder's name. One folder that holds everything is left out.

    Args:
        archive: A tar file, compressed or not.
        say: Shows progress.

    Raises:
        DataError: The archive cannot be read, is truncated, or a name in it leads out of it; nothing is left behind.
    """
    try:
        target = cache_folder(archive)

        def build(made: Path) -> None:
            made.mkdir()
            _extract(archive, made, target, say)
            inside = list(made.iterdir())
            if len(inside) == 1 and inside[0].is_dir() and inside[0].name != "train":
                wrapper = inside[0].rename(made.with_name(made.name + ".wrapper"))
                made.rmdir()
                wrapper.rename(made)

        return publish(target, build, lambda: say(f"waiting for another process that unpacks {archive}"))
    except (tarfile.FilterError, DataError) as error:
        raise DataError(f"{archive}: not unpacked, since {_reason(error)}") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise DataError(f"{archive}: cannot be unpacked ({_reason(error)})") from error
        # Each compression has errors of its own: lzma.LZMAError, zlib.error, an OSError without a number.
        raise DataError(f"{archive}: damaged or truncated archive ({_reason(error)})") from error


def cache_folder(archive: Path) -> Path:
    """Where an archive is unpacked, whether it is yet or not."""
    return cache_root() / "archives" / f"{_stem(archive)}-{_stamp(archive)}"


def _extract(archive: Path, folder: Path, target: Path, say: Say) -> None:
    said, count = time.monotonic(), 0
    with open(archive, "rb") as file:
        start = file.read(8)
    method = next((method for magic, method in _METHODS.items() if start.startswith(magic)), "")
    with tarfile.open(archive, f"r:{method}") as tar:  # type: ignore[call-overload]
        say(f"unpacking {archive} into {target}, once")  # now that it begins as an archive does
        for member in tar:
            tar.extract(member, folder, filter="data")
            count += member.isfile()
            if time.monotonic() - said > _SAY_S:
                said = time.monotonic()
                say(f"unpacking {archive.name}: {count:,} files")
        end = tar.offset
        # gzip's checksum stands at the end of the file, beyond what tarfile reads.
        while tar.fileobj and tar.fileobj.read(_READ_BYTES):
            pass
    # A tar file ends with blocks of zeros. One that was cut between two members has none, which tarfile does not mind;
    # where it is compressed, its compression does.
    if archive.name.lower().endswith(".tar"):
        with open(archive, "rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("no end of archive")
    say(f"unpacked {archive.name}: {count:,} files")


def _stem(archive: Path) -> str:
    name = archive.name
    return name[: -max(len(suffix) for suffix in ARCHIVES if name.lower().endswith(suffix))]


def _stamp(archive: Path) -> str:
    """8 hexadecimal digits of an archive's size, beginning and end: it need not be read to be recognized."""
    with open(archive, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        digest = hashlib.sha256(str(size).encode() + file.read(_STAMP_BYTES))
        file.seek(max(0, size - _STAMP_BYTES))
        digest.update(file.read())
    return digest.hexdigest()[:8]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split()) or type(error).__name__
