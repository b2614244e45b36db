"""Norms of activations and gradients are those that plain autograd finds, and measuring them changes nothing."""

import copy

import pytest
import torch
from small_nets import SIZE, net
from torch import Tensor
from torch.nn import functional as F

from bench.evaluation.flow import gradient_flow, measured_after
from bench.evaluation.lesions import Place, place_of
from resnet import ResNet

IMAGES = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def by_hand(model: ResNet) -> dict[str, tuple[float, float, float]]:
    """The same norms in float64, from a forward pass that overwrites nothing and keeps every BN's output."""
    model = copy.deepcopy(model).double().train()
    outputs: dict[str, Tensor] = {}

    def layer(name: str, x: Tensor) -> Tensor:
        (found,) = [one for one in model.conv_layers() if one.name == name]
        y = found.conv(x)
        mean, variance = y.mean((0, 2, 3), keepdim=True), y.var((0, 2, 3), unbiased=False, keepdim=True)
        scale, shift = (values[:, None, None] for values in (found.bn.weight, found.bn.bias))
        outputs[name] = (y - mean) / (variance + 1e-5).sqrt() * scale + shift
        outputs[name].retain_grad()
        return outputs[name]

    x = layer("conv1", IMAGES.double()).relu()
    for block in model.residual_blocks():
        branch, names = x, [one.name for one in block.branch_layers()]
        for name in names:
            branch = layer(name, branch)
            if name != names[-1]:
                branch = branch.relu()
        if block.residual and block.downsample is not None:
            shortcut = layer(f"{block.name}.downsample.0", x)
            x = (branch + shortcut).relu()
        else:
            x = (branch + x).relu() if block.residual else branch.relu()
    F.cross_entropy(model.fc(x.mean((2, 3))), LABELS).backward()
    found = {}
    for one in model.conv_layers():
        assert outputs[one.name].grad is not None and one.conv.weight.grad is not None
        found[one.name] = (
            float(outputs[one.name].detach().square().mean().sqrt()),
            float(outputs[one.name].grad.norm()),  # type: ignore[union-attr]
            float(one.conv.weight.grad.norm()),
        )
    return found


@pytest.mark.parametrize(("shortcut", "training"), [("none", True), ("C", False)])
def test_norms_are_those_of_plain_autograd(shortcut: str, training: bool) -> None:
    model = net(0, depth=14, shortcut=shortcut).train(training)
    before = copy.deepcopy(model.state_dict())
    state = torch.random.get_rng_state()
    found = {
        one.layer: (one.activation, one.output_gradient, one.weight_gradient)
        for one in gradient_flow(model, IMAGES, LABELS)
    }
    expected = by_hand(model)
    assert list(found) == list(expected) and len(found) == (13 if shortcut == "none" else 19)
    for name, values in expected.items():
        assert found[name] == pytest.approx(values, rel=1e-4), name
        assert min(values) > 0
    # What is left as it was: weights, statistics, mode, generator; no gradient stays, no hook.
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training is training and torch.equal(state, torch.random.get_rng_state())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


def test_when_it_is_measured() -> None:
    assert [epoch for epoch in range(12) if measured_after(epoch, 11)] == [0, 1, 2, 4, 8, 11]
    assert [epoch for epoch in range(2) if measured_after(epoch, 1)] == [0, 1]


def test_where_a_layer_is() -> None:
    assert place_of("conv1") == Place(0, 0)
    assert place_of("layer1.0.conv1") == Place(1, 1) and place_of("layer3.17.downsample.0") == Place(3, 18)
