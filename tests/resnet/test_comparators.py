"""Comparators run forwards, and name what is wrong; their sizes are asserted with the counts."""

import pytest
import torch
from torch import nn

from resnet import comparators


@pytest.mark.parametrize(("name", "size"), [("alexnet", 227), ("vgg16", 224), ("vgg19", 224), ("googlenet", 224)])
def test_output_shape(name, size):
    with torch.device("meta"):
        model = comparators.build(name, 7).eval()
        assert model(torch.empty(2, 3, size, size)).shape == (2, 7)


@pytest.mark.slow
def test_googlenet_learns_through_its_heads_in_training_only():
    torch.manual_seed(0)
    model = comparators.build("googlenet", 5, auxiliary_heads=True)
    x = torch.randn(1, 3, 224, 224)
    outputs = model(x)
    assert [tuple(out.shape) for out in outputs] == [(1, 5)] * 3
    sum(out.sum() for out in outputs).backward()
    assert all(p.grad is not None for p in model.parameters())
    with torch.no_grad():
        assert model.eval()(x).isfinite().all()
        assert model(torch.randn(1, 3, 64, 64)).shape == (1, 5)


@pytest.mark.slow
def test_alexnet_runs():
    torch.manual_seed(0)
    model = comparators.build("alexnet", 5).eval()
    with torch.no_grad():
        out = model(torch.randn(1, 3, 227, 227))
    assert out.shape == (1, 5) and out.isfinite().all() and out.std() > 0


def test_alexnets_columns():
    with torch.device("meta"):
        groups = [m.groups for m in comparators.build("alexnet").modules() if isinstance(m, nn.Conv2d)]
    assert groups == [1, 2, 1, 2, 2]


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg_depth(depth):
    with torch.device("meta"):
        model = comparators.vgg(depth)
    assert sum(isinstance(m, nn.Conv2d | nn.Linear) for m in model.modules()) == depth


def test_wrong_words():
    with pytest.raises(ValueError, match="^peer=vgg13: expected one of .*; nearest is vgg1"):
        comparators.build("vgg13")
    with pytest.raises(ValueError, match="^num_classes=0: "):
        comparators.build("vgg16", 0)
    with pytest.raises(ValueError, match="^auxiliary_heads=True: alexnet has none"):
        comparators.build("alexnet", auxiliary_heads=True)
