"""What passes have in common is kept for as long as it is right."""

import copy

import pytest
import torch
from fused_nets import network
from torch import nn

from kernels import runtime
from kernels.choose.choice import TORCH, Choice
from kernels.prepared import Prepared
from resnet.fused.autograd_node import without_autocast
from resnet.fused.checks import check_modules
from resnet.fused.plans import Plans
from resnet.layers import ConvBn
from resnet.model import build, fuse

NAMES = ["cifar20-A", "bottleneck-v1.5-B", "basic-C"]


@pytest.mark.parametrize("name", NAMES)
def test_a_structure_is_that_of_the_modules(name):
    model, plans = network(name), Plans()
    found = plans.structure(model)
    assert found.layers == model.conv_layers() and plans.structure(model) is found
    assert {block.name: layers for block, layers in found.blocks.items()} == {
        block.name: block.conv_layers() for block in model.residual_blocks()
    }
    names = {name for name, _ in found.inside}
    assert {layer.name for layer in found.layers} <= names and "fc" not in names and "bn1" in names
    block = model.layer2[0]
    assert plans.structure(block).layers == block.conv_layers() and list(plans.structure(block).blocks) == [block]
    assert plans.structure(model).layers == found.layers


def test_another_module_is_another_structure():
    model, plans = network("cifar20-A"), Plans()
    before = plans.structure(model)
    block = model.layer1[0]
    block.conv1 = nn.Conv2d(16, 16, 3, padding=1, bias=False)
    after = plans.structure(model)
    assert after is not before and after.layers[1].conv is block.conv1 and after.blocks[block][0].conv is block.conv1
    block.bn1, block.bn2 = block.bn2, block.bn1  # the same modules elsewhere
    assert plans.structure(model).layers[1].bn is block.bn1
    check_modules(plans.structure(model).inside)
    block.bn1 = nn.Identity()
    with pytest.raises(RuntimeError, match=r"^layer1\.0\.bn1: Identity in place of a BatchNorm2d is not fused"):
        check_modules(plans.structure(model).inside)


@pytest.mark.parametrize("kind", ["forward", "forward_pre", "full_backward", "full_backward_pre"])
def test_a_hook_that_came_later_is_refused(kind):
    model, plans = network("bottleneck-v1.5-B"), Plans()
    check_modules(plans.structure(model).inside)
    handle = getattr(model.layer2[0].downsample[1], f"register_{kind}_hook")(lambda *_: None)
    with pytest.raises(RuntimeError, match=r"^layer2\.0\.downsample\.1: a hook on it would never fire"):
        check_modules(plans.structure(model).inside)
    handle.remove()
    check_modules(plans.structure(model).inside)


def test_what_became_of_a_module_is_refused():
    model, plans = network("cifar20-A"), Plans()
    check_modules(plans.structure(model).inside)
    model.layer1[0].conv1.dilation = (2, 2)
    with pytest.raises(RuntimeError, match=r"^layer1\.0\.conv1: Conv2d\(.*dilation=\(2, 2\).* is not fused"):
        check_modules(plans.structure(model).inside)


def replaced(bn):
    bn.running_var = torch.ones(8)


@pytest.mark.parametrize(
    ("change", "attribute", "value"),
    [
        (lambda conv, bn: setattr(bn, "momentum", 0.3), "momentum", 0.3),
        (lambda conv, bn: setattr(bn, "eps", 0.1), "eps", 0.1),
        (lambda conv, bn: setattr(conv, "stride", (2, 2)), "stride", 2),
        (lambda conv, bn: setattr(conv, "padding", (0, 0)), "padding", 0),
        (lambda conv, bn: setattr(bn, "track_running_stats", False), "running", None),
        (lambda conv, bn: bn.eval(), "frozen", True),
        (lambda conv, bn: replaced(bn), "var", None),
    ],
)
def test_a_layer_is_as_its_modules_are_now(change, attribute, value):
    part, plans = ConvBn("conv", nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)), Plans()
    before = plans.layer(part, TORCH)
    assert plans.layer(part, TORCH) is before
    assert (before.name, before.kernel, before.stride, before.padding, before.frozen) == ("conv", 3, 1, 1, False)
    assert before.running is not None and before.running.mean is part.bn.running_mean
    change(part.conv, part.bn)
    after = plans.layer(part, TORCH)
    assert after is not before
    if attribute == "var":
        assert after.running is not None and after.running.var is part.bn.running_var
    elif attribute == "momentum":
        assert after.running is not None and after.running.momentum == value
    else:
        assert getattr(after, attribute) == value
    if after.frozen:
        assert after.stats is not None and plans.layer(part, TORCH) is not after  # it follows running statistics


def test_a_layer_has_the_choice_that_it_is_asked_with():
    part, plans = ConvBn("conv", nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)), Plans()
    ours = Choice(forward="triton")
    assert [plans.layer(part, choice).choice for choice in (TORCH, ours, TORCH)] == [TORCH, ours, TORCH]


def test_a_momentum_of_none_follows_the_batches():
    part, plans = ConvBn("conv", nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, momentum=None)), Plans()
    found = []
    for _ in range(3):
        part.bn.num_batches_tracked += 1
        found.append(plans.layer(part, TORCH).running.momentum)
    assert found == [1, 1 / 2, 1 / 3]


def test_a_copy_of_a_network_plans_its_own_modules():
    model = network("cifar20-A")
    fuse(model, "triton")
    structure = model.fused.plans.structure(model)
    layer = model.fused.plans.layer(structure.layers[0], TORCH)
    other = copy.deepcopy(model)
    copied = other.fused.plans.structure(other)
    assert copied.layers[0].conv is other.conv1 and copied.layers[0].conv is not model.conv1
    again = other.fused.plans.layer(copied.layers[0], TORCH)
    assert again.running.mean is other.bn1.running_mean and layer.running.mean is model.bn1.running_mean


@pytest.mark.parametrize(("shortcut", "stride"), [("A", "v1"), ("B", "v1.5")])
def test_a_second_step_prepares_nothing(monkeypatch, shortcut, stride):
    made, init = [], Prepared.__init__

    def count(self, name, *rest, **keywords):
        made.append(name)
        init(self, name, *rest, **keywords)

    monkeypatch.setattr(Prepared, "__init__", count)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda *_: False)  # which knows no meta device
    with torch.device("meta"):
        model = build(
            family="imagenet", depth=50, shortcut=shortcut, stride=stride, num_classes=10, kernels="triton"
        )  # fmt: skip
    model.fc.bfloat16()
    images = torch.empty(8, 3, 224, 224, dtype=torch.bfloat16, device="meta")
    steps = []
    with runtime.capture_launches("sm_90") as launches:
        for _ in range(3):
            made.clear()
            before = len(launches)
            model(images).sum().backward()
            steps.append((len(launches) - before, len(made)))
    (launched, prepared), *others = steps
    # Blocks that are alike share what is prepared.
    assert launched > 170 and 0 < prepared < launched / 2
    assert others == [(launched, 0)] * 2, set(made)


@pytest.mark.parametrize("enabled", [False, True])
def test_autocast_is_off_within_and_as_it_was_after(enabled):
    def fail():
        assert not torch.is_autocast_enabled("cpu")
        raise KeyError

    with torch.autocast("cpu", enabled=enabled):
        assert without_autocast("cpu", lambda x: (x, torch.is_autocast_enabled("cpu")), 3) == (3, False)
        assert torch.is_autocast_enabled("cpu") is enabled
        with pytest.raises(KeyError):
            without_autocast("cpu", fail)
        assert torch.is_autocast_enabled("cpu") is enabled
