"""Decodes whole images strictly and says which are damaged, for a process that does nothing else."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnet.data.datasets.cifar import read_binary, read_pickle
from resnet.data.errors import DataError
from resnet.data.images import jpeg
from resnet.data.images.encoded import PNG, load_image, open_image, read_file, wrong_chunk
from resnet.data.listing import IMAGES, CifarFiles, cifar_files, class_folders, empty_class, has_folders, images_below

# One run of the pipeline: so many images, and so many pixels of them.
_BATCH, _PIXELS = 16, 32_000_000

Damage = tuple[str, str]


@dataclass(frozen=True)
class ToCheck:
    """What there is to check of a dataset's folder.

    Attributes:
        folders: what is wrong with its class folders, such as one without an image; a line each.
        files: images that are still to be decoded, sorted.
        originals: CIFAR-10's original files that are damaged, a line each; None where it is another folder.
    """

    folders: list[str]
    files: list[str]
    originals: list[str] | None = None


def files_to_check(root: Path, left_out: Counter[str]) -> ToCheck:
    """Find the images of a dataset's folder, or of any folder; CIFAR-10's original files are read here.

    Args:
        root: the folder.
        left_out: counts the other files, by ending.

    Raises:
        DataError: a folder cannot be read, or there is nothing to check.
    """
    faults: list[str] = []
    places = [root]
    if has_folders(root):
        places = [root / name for name in ("train", "val", "test") if (root / name).is_dir()]
        try:
            folders = class_folders(root)
            for split in (folders.train, folders.test):
                classes = (split / name for name in folders.classes)
                faults += [str(empty_class(path)) for path in classes if next(images_below(str(path)), None) is None]
        except DataError as error:
            faults.append(str(error))
    elif files := _originals(root):
        read = read_pickle if files.python else read_binary
        damaged = []
        for path in (*files.train, files.test):
            try:
                read(path)
            except DataError as error:
                damaged.append(str(error))
        return ToCheck([], [], damaged)
    images = sorted(path for place in places for path in images_below(str(place), left_out))
    if not images and not faults:
        raise DataError(f"{root}: no images; expected {IMAGES} in it or below it")
    return ToCheck(faults, images)


def _originals(root: Path) -> CifarFiles | None:
    try:
        return cifar_files(root)
    except DataError:
        return None


class StrictDecoder:
    """Decodes with Pillow, which refuses what it cannot, and JPEGs with DALI's libjpeg too, which says what it mends.

    libjpeg says so on stderr alone: that of this process is caught for good.
    """

    def __init__(self) -> None:
        self._printed = os.memfd_create("stderr")
        os.dup2(self._printed, 2)
        self._read = 0
        self._pipeline: Any = None

    def damaged(self, paths: Iterable[str]) -> list[Damage]:
        """Decode files; the path of each damaged one, with what is wrong in one line."""
        found: list[Damage] = []
        waiting: list[tuple[str, bytes]] = []
        pixels = 0
        for path in paths:
            try:
                content = read_file(path)
                image = open_image(path, content)
                load_image(path, image)
                _check_form(path, content)
            except DataError as error:
                found.append((path, str(error).removeprefix(f"{path}: ")))
                continue
            if content.startswith(jpeg.MAGIC):
                waiting.append((path, content))
                pixels += image.width * image.height
                if len(waiting) == _BATCH or pixels > _PIXELS:
                    found += self._mended(waiting)
                    waiting, pixels = [], 0
        return found + list(self._mended(waiting))

    def _mended(self, files: Sequence[tuple[str, bytes]]) -> Iterator[Damage]:
        """Those of some JPEGs that libjpeg mends, or that DALI refuses though it is to decode them in training."""
        if not files or self._decodes([content for _, content in files]) == (True, []):
            return
        for path, content in files:
            whole, messages = self._decodes([content])
            if messages:
                yield path, f"pixels made up ({messages[0]})"
            elif not whole and jpeg.frame(content):
                yield path, "damaged image (DALI cannot decode it)"

    def _decodes(self, contents: list[bytes]) -> tuple[bool, list[str]]:
        """Whether DALI decodes images, and what libjpeg says of them."""
        if self._pipeline is None:
            self._pipeline = _pipeline()
        self._pipeline.feed_input("source", [np.frombuffer(content, np.uint8) for content in contents])
        try:
            self._pipeline.run()
            whole = True
        except RuntimeError:
            whole, self._pipeline = False, None
        size = os.fstat(self._printed).st_size
        printed = os.pread(self._printed, size - self._read, self._read)
        self._read = size
        return whole, jpeg.mended_images(printed)


def _check_form(path: str, content: bytes) -> None:
    """See what Pillow does not look at: the checksums of a PNG's pixels, and how long a WebP says that it is.

    Raises:
        DataError: one is wrong.
    """
    if content.startswith(b"RIFF"):  # of any bytes behind a header its decoder makes a picture
        said = 8 + int.from_bytes(content[4:8], "little")
        if len(content) not in (said, said + said % 2):
            raise DataError(f"{path}: damaged image ({len(content):,} bytes, where its header says {said:,})")
    if content.startswith(PNG) and (chunk := wrong_chunk(content)):
        raise DataError(f"{path}: damaged image (the checksum of {chunk} is wrong)")


def _pipeline() -> Any:
    # Only here: its import takes a second, and what reads a file's name needs none of it.
    import nvidia.dali as dali
    from nvidia.dali import fn, types

    pipeline = dali.Pipeline(batch_size=_BATCH, num_threads=1, device_id=None, prefetch_queue_depth=1)
    with pipeline:
        source = fn.external_source(name="source", dtype=types.DALIDataType.UINT8, ndim=1)
        pipeline.set_outputs(fn.decoders.image(source, output_type=types.DALIImageType.RGB, adjust_orientation=False))
    pipeline.build()
    return pipeline


_decoder: StrictDecoder | None = None  # of this process


def damaged_files(paths: Sequence[str]) -> list[Damage]:
    """Decode files in a process of its own; see `StrictDecoder.damaged`."""
    global _decoder
    if _decoder is None:
        _decoder = StrictDecoder()
    return _decoder.damaged(paths)
