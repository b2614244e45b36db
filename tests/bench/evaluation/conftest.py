"""A folder of small photographs, and weights files of small nets."""

import sys
from pathlib import Path

import pytest

import resnet

sys.path.insert(0, str(Path(__file__).resolve().parent))

from small_nets import SIZES, net, picture


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes; training and test images as PNG, which every decoder reads alike."""
    root = tmp_path_factory.mktemp("photographs")
    for split, count in (("train", 8), ("val", 3)):
        for label in range(3):
            place = root / split / f"class{label}"
            place.mkdir(parents=True)
            for index in range(count):
                size = SIZES[(3 * index + label) % len(SIZES)]
                picture(100 * label + 10 * index + (split == "val"), size).save(place / f"{index}.png")
    return root


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two nets for three classes."""
    root = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        resnet.save_weights(net(seed), root / f"{seed}.safetensors")
    return [root / f"{seed}.safetensors" for seed in (0, 1)]
