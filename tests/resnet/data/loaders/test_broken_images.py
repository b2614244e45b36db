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


@pytest.fixture
def breakable(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        for i in range(20):
            image = Image.effect_noise((50, 44), 40 + i).convert("RGB")
            image.save(tmp_path / split / "a" / f"{i:02d}.jpg")
    return tmp_path


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("damage", [truncated, text, empty, missing, damaged_png])
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
