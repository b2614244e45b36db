"""Unpacks the image archives that tests and benchmarks share into the cache."""

import os
import tarfile
from pathlib import Path

from resnet.data.cache import cache_root, publish
from resnet.data.dataset_table import DATA_VARIABLE

_ARCHIVES = {
    "cifar10-jpeg": "cifar10-jpeg.tar.xz",
    "imagenette-128": "imagenette-128.tar.xz",
    "imagenet-samples-100": "imagenet-samples-100.tar",
}


def unpack_archive(name: str) -> Path:
    """Unpack an archive of the folder named by `RESNET_BENCH_DATA`, once, and return the folder of its images.

    Args:
        name: `cifar10-jpeg`, `imagenette-128` or `imagenet-samples-100`.

    Returns:
        The unpacked folder in the cache; a second call, or a second process, finds it there.

    Raises:
        ValueError: The name is not one of the three.
        FileNotFoundError: The variable is unset or the archive is not in its folder; one line says which.
    """
    if name not in _ARCHIVES:
        raise ValueError(f"archive {name!r} is unknown: expected one of {', '.join(_ARCHIVES)}")
    target = cache_root() / name
    if target.is_dir():
        return target
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise FileNotFoundError(f"{_ARCHIVES[name]}: {DATA_VARIABLE} is unset; set it to the folder that holds it")
    archive = Path(folder) / _ARCHIVES[name]
    if not archive.is_file():
        raise FileNotFoundError(f"{archive}: no such archive in {DATA_VARIABLE}")

    def build(made: Path) -> None:
        made.mkdir()
        with tarfile.open(archive) as tar:
            tar.extractall(made, filter="data")
        # An archive may hold its images below one folder of its own: the cache holds them at the top.
        inside = list(made.iterdir())
        if len(inside) == 1 and inside[0].is_dir():
            wrapper = inside[0].rename(made.with_name(made.name + ".wrapper"))
            made.rmdir()
            wrapper.rename(made)

    return publish(target, build)
