"""The table of datasets: whatever is in it can be named on a command line, opened, augmented and made up."""

import ast
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.roofline import step as roofline
from resnet.architecture import FAMILIES
from resnet.data import open_dataset, synthetic_splits
from resnet.data.dataset_table import DATASETS, Dataset, dataset_of_family
from resnet.data.datasets.open import _IN_FOLDERS, _PACKAGED
from resnet.data.images import augment

PACKAGES = ("launch", "bench", "resnet", "kernels", "results")
ROOT = Path(__file__).resolve().parents[3]
OPENERS = ROOT / "resnet" / "data" / "datasets" / "open.py"
DEPTHS = {"cifar": 20, "imagenet": 18}

each = pytest.mark.parametrize("dataset", DATASETS.values(), ids=list(DATASETS))


@each
def test_a_configuration_takes_its_family_size_and_classes(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)  # whose images would have their own classes
    keys = RunKeys(depth=DEPTHS[dataset.family], dataset=dataset.name, loader="synthetic")
    if dataset.counted:
        keys.num_classes = 7
    found, _ = resolve(keys, Host(ranks_per_node=1))
    classes = 7 if dataset.counted else dataset.num_classes
    assert (found.family, found.image_size, found.num_classes) == (dataset.family, dataset.image_size, classes)


@each
def test_a_roofline_takes_its_family_size_and_classes(dataset: Dataset) -> None:
    step = roofline.resolve(roofline.Keys(depth=DEPTHS[dataset.family], dataset=dataset.name))
    found = (step.architecture.family, step.image_size, step.architecture.num_classes)
    assert found == (dataset.family, dataset.image_size, dataset.num_classes)


def test_a_folder_of_any_images_has_the_usual_classes_of_the_family_that_was_asked_for() -> None:
    step = roofline.resolve(roofline.Keys(depth=20, dataset="imagefolder", family="cifar"))
    assert (step.architecture.num_classes, step.image_size) == (10, 224)


@each
def test_it_has_one_opener(dataset: Dataset, tmp_path: Path) -> None:
    """What is opened from a folder says what it misses there; what comes with a package needs none."""
    assert (dataset.name in _PACKAGED) == (dataset.comes_with is not None)
    assert (dataset.name in _IN_FOLDERS) == (dataset.comes_with is None)
    if dataset.comes_with is None:
        with pytest.raises(ValueError, match=str(tmp_path)):
            open_dataset(dataset.name, tmp_path, image_size=dataset.image_size)


def test_the_table_tells_what_the_digits_are() -> None:
    known, found = DATASETS["digits"], open_dataset("digits", None, image_size=32)
    sizes = (len(found.train), len(found.test), len(found.classes))
    assert sizes == (known.train_images, known.test_images, known.num_classes)
    assert found.train.paths is not None
    pixels = np.stack([np.asarray(Image.open(path)) for path in found.train.paths]) / 255
    assert pixels.shape[1:] == (known.image_size, known.image_size)
    assert known.mean == pytest.approx([pixels.mean()] * 3, abs=1e-4)
    assert known.std == pytest.approx([pixels.std()] * 3, abs=1e-4)


@each
def test_synthetic_images_have_its_sizes(dataset: Dataset) -> None:
    found = synthetic_splits(dataset.name)
    sizes = (len(found.train), len(found.test), len(found.classes))
    assert sizes == (dataset.train_images, dataset.test_images, dataset.num_classes)
    assert len(synthetic_splits(dataset.name, num_classes=7).classes) == 7


@each
@pytest.mark.parametrize("policy", augment.POLICIES)
def test_every_policy_suits_it_or_says_why_not(dataset: Dataset, policy: str) -> None:
    if policy == "shift" and not dataset.small:
        with pytest.raises(ValueError, match=f"for digits and .* only; .* with {dataset.name}$"):
            augment.resolve(policy, dataset.name, image_size=dataset.image_size, train=True)
        return
    train, test = (
        augment.resolve(policy, dataset.name, image_size=dataset.image_size, train=train) for train in (True, False)
    )
    assert train.geometry == test.geometry == ("shift" if dataset.small else "window")
    assert (train.mean, train.std) == (dataset.mean, dataset.std)
    assert train.flips == (dataset.mirrored and policy in ("paper", "fast")) and not test.flips


@each
def test_test_images_are_seen_as_the_row_says(dataset: Dataset) -> None:
    seen = {"shift": "whole image", "window": "1-crop"}
    resolved = augment.resolve("fast", dataset.name, image_size=dataset.image_size, train=False)
    assert dataset.eval_protocol == seen[resolved.geometry]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_paper_has_a_dataset_of_each_family(family: str) -> None:
    dataset = dataset_of_family(family)
    assert dataset.family == ("cifar" if family == "one-layer" else family)
    assert not dataset.counted and dataset is DATASETS[dataset.name]


def test_no_module_lists_datasets_of_its_own() -> None:
    """A literal with two of the names in it is a second table."""
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Dict | ast.Tuple | ast.List | ast.Set):
                items = node.keys if isinstance(node, ast.Dict) else node.elts
                names = {item.value for item in items if isinstance(item, ast.Constant)} & set(DATASETS)
                assert len(names) < 2 or path == OPENERS, f"{path}:{node.lineno} lists {sorted(names)}"
