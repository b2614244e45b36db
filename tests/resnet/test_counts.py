"""Parameters and multiply-adds of every network, against integers computed independently."""

import csv
from pathlib import Path

import pytest
import torch
from torch import nn

import resnet
from resnet import comparators

with Path(__file__).with_name("counts.csv").open() as file:
    ROWS = list(csv.DictReader(file))


def test_table_is_whole():
    assert len(ROWS) == 60


def _case(row):
    """A row as a test of its own; a hundred layers take their time."""
    marks = pytest.mark.slow if int(row["depth"] or 0) > 100 else ()
    return pytest.param(row, id="-".join(list(row.values())[:4]).rstrip("-"), marks=marks)


@pytest.mark.parametrize("row", [_case(row) for row in ROWS])
def test_counts(row):
    num_classes = int(row["num_classes"])
    with torch.device("meta"):
        if row["depth"]:
            words = {"shortcut": row["shortcut"], "stride": row["stride"] or "v1", "num_classes": num_classes}
            model = resnet.build(family=row["family"], depth=int(row["depth"]), **words)
        else:
            model = comparators.build(row["family"], num_classes)
    counts = resnet.count(model, int(row["image_size"]))
    assert counts == resnet.Counts(parameters=int(row["parameters"]), multiply_adds=int(row["multiply_adds"]))


def test_googlenet_with_its_auxiliary_heads():
    with torch.device("meta"):
        model = comparators.build("googlenet", auxiliary_heads=True)
    # The heads are used in training only, so multiply-adds are those of the net without them.
    assert resnet.count(model, 224) == resnet.Counts(parameters=13378280, multiply_adds=1582671872)


def test_a_multiply_add_counts_once():
    assert resnet.count(nn.Conv2d(3, 8, 3, padding=1), 4) == resnet.Counts(parameters=224, multiply_adds=3 * 8 * 9 * 16)
    assert resnet.count(nn.Conv2d(4, 8, 1, groups=2), 2, in_channels=4).multiply_adds == 2 * 8 * 4
    linear = nn.Sequential(nn.Flatten(), nn.Linear(12, 5))
    assert resnet.count(linear, 2) == resnet.Counts(parameters=65, multiply_adds=60)


def test_counting_changes_nothing():
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10, kernels="compile")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.layer1.eval()
    resnet.count(model, 32)
    assert model.training and not model.layer1.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_image_size_must_be_positive():
    with pytest.raises(ValueError, match="^image_size=0: .*nearest is 1$"):
        resnet.count(nn.Conv2d(3, 8, 3), 0)
