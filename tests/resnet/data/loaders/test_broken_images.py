"""Files that are no whole image are named by both readers; unusual ones are read alike."""

import dataclasses
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from readers import READERS, loader, read, stacked

from resnet.data import DataError, open_dataset


def truncated(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    return "damaged or truncated image"


def text(path):
    path.write_text("this is a text file\n" * 10)
    return "not an image that can be read"


def empty(path):
    path.write_bytes(b"")
    return "empty file"


def missing(path):
    path.unlink()
    return "cannot be read"


def damaged_png(path):
    """Whole to the last chunk, but wrong in the middle: only the decoder notices."""
    Image.effect_noise((60, 60), 90).convert("RGB").save(path, format="png")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    return "damaged or truncated image"


def scan(content, share):
    """A place in the last scan's data of a JPEG."""
    start = content.rindex(b"\xff\xda") + 14
    return start + int((len(content) - 2 - start) * share)


def odd_marker(path):
    """libjpeg paints what follows grey, and fails only where it reads on to the end: DALI need not for a window."""
    content = path.read_bytes()
    at = scan(content, 0.7)
    path.write_bytes(content[:at] + b"\xff\x5a" + content[at + 2 :])
    return "damaged or truncated image"


def png_with_the_start_of_a_jpeg(path):
    content = path.read_bytes()
    Image.effect_noise((60, 60), 90).convert("RGB").save(path, format="png")
    path.write_bytes(content[:60] + path.read_bytes()[60:])
    return "not an image that can be read"


def cut_closed(content):
    return content[: scan(content, 0.5)] + b"\xff\xd9"


def end_in_the_middle(content):
    return content[: scan(content, 0.5)] + b"\xff\xd9" + content[scan(content, 0.5) :]


def flipped(content):
    changed = bytearray(content)
    at = next(i for i in range(scan(content, 0.5), len(content)) if 0xFF not in content[i - 1 : i + 2])
    changed[at] ^= 0x04
    assert changed[at] != 0xFF
    return bytes(changed)


@pytest.fixture
def breakable(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for i in range(20):
            image = Image.effect_noise((50, 44), 40 + i).convert("RGB")
            image.save(tmp_path / split / "a" / f"{i:02d}.jpg")
    return tmp_path


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    "damage", [truncated, text, empty, missing, damaged_png, odd_marker, png_with_the_start_of_a_jpeg]
)
@pytest.mark.parametrize("dataset", ["imagefolder", "cifar10"])
def test_a_broken_file_is_named_and_the_loader_still_closes(kind, damage, dataset, breakable):
    splits = open_dataset("imagefolder", breakable, image_size=32)
    split = dataclasses.replace(splits.test, dataset=dataset)
    culprit = breakable / "val" / "a" / "13.jpg"
    words = damage(culprit)
    made = loader(kind, split, batch=2)
    started = time.perf_counter()
    with pytest.raises(DataError) as caught:
        for _ in made.epoch(0):
            pass
    assert str(caught.value).startswith(f"{culprit}: ") and words in str(caught.value)
    assert "\n" not in str(caught.value)
    made.close()
    made.close()
    assert time.perf_counter() - started < 20
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("dali")]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("change", [cut_closed, end_in_the_middle, flipped])
@pytest.mark.parametrize("dataset", ["imagefolder", "cifar10"])
def test_what_libjpeg_mends_is_read_by_both(kind, change, dataset, breakable):
    """Only decoding finds these, so neither loader refuses one: `bench.check_data` does, what it can notice."""
    splits = open_dataset("imagefolder", breakable, image_size=32)
    culprit = breakable / "val" / "a" / "13.jpg"
    culprit.write_bytes(change(culprit.read_bytes()))
    images, _ = stacked(read(kind, dataclasses.replace(splits.test, dataset=dataset), batch=5))
    assert len(images) == 20


@pytest.mark.parametrize("kind", READERS)
def test_unusual_images_are_read_alike(kind, breakable):
    folder = breakable / "val" / "a"
    colours = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image = Image.fromarray(colours).resize((50, 44), Image.Resampling.BICUBIC)
    grey = image.convert("L")
    for name, mode, form in (("20", "L", "jpeg"), ("21", "CMYK", "jpeg"), ("22", "RGBA", "png"), ("23", "P", "png")):
        image.convert(mode).save(folder / f"{name}.jpg", form, **({"quality": 95} if form == "jpeg" else {}))
    wide = np.asarray(grey).astype(np.uint16) * 256 + 77
    Image.fromarray(wide).save(folder / "24.png")
    split = open_dataset("imagefolder", breakable, image_size=32).test
    assert len(split) == 25
    images, _ = stacked(read(kind, split, batch=5))
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]]).view(2, 3, 1, 1)
    shown = (images * std + mean) * 255
    assert (shown[20] - shown[20].mean(0)).abs().max() < 0.01
    assert (shown[24] - shown[24].mean(0)).abs().max() < 0.01
    # All come from one picture.
    assert (shown[20] - shown[24]).abs().mean() < 4
    assert (shown[21] - shown[22]).abs().mean() < 6
    assert (shown[22] - shown[23]).abs().mean() < 25
