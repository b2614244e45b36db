"""Which networks exist, and what a wrong word is answered with."""

import dataclasses

import pytest
import torch

import resnet
from resnet.architecture import Architecture, check_bn_values, check_choice
from results.words import ConfigError

GOOD = {"family": "imagenet", "depth": 50, "shortcut": "B", "stride": "v1", "num_classes": 1000}


@pytest.mark.parametrize(
    ("change", "culprit", "valid"),
    [
        ({"family": "imagnet"}, "family=imagnet", "nearest is imagenet"),
        ({"family": "CIFAR"}, "family=CIFAR", "nearest is cifar"),
        ({"depth": 21}, "depth=21", "nearest is 18"),
        ({"depth": 20}, "depth=20", "exists with family=cifar"),
        ({"depth": 1000}, "depth=1000", "nearest is 152"),
        ({"depth": "50"}, "depth=50", "18, 34, 50, 101, 152"),
        ({"family": "cifar", "depth": 21}, "depth=21", "nearest is 20"),
        ({"family": "cifar", "depth": 2}, "depth=2", "nearest is 8"),
        ({"family": "cifar", "depth": 18}, "depth=18", "exists with family=imagenet"),
        ({"family": "one-layer", "depth": 21}, "depth=21", "nearest is 20"),
        ({"family": "one-layer", "depth": 20, "shortcut": "none"}, "shortcut=none", "nearest is family=cifar, or shor"),
        ({"family": "one-layer", "depth": 20, "stride": "v1.5"}, "stride=v1.5", "50, 101, 152"),
        ({"family": "onelayer"}, "family=onelayer", "nearest is one-layer"),
        ({"family": "cifar", "depth": 20.0}, "depth=20.0", "6n + 2"),
        ({"shortcut": "D"}, "shortcut=D", "nearest is C"),
        ({"shortcut": "a"}, "shortcut=a", "nearest is A"),
        ({"shortcut": "non"}, "shortcut=non", "nearest is none"),
        ({"shortcut": ""}, "shortcut=", "none, A, B, C"),
        ({"stride": "v2"}, "stride=v2", "nearest is v1"),
        ({"stride": "1.5"}, "stride=1.5", "nearest is v1.5"),
        ({"depth": 34, "stride": "v1.5"}, "stride=v1.5", "nearest is v1"),
        ({"family": "cifar", "depth": 20, "stride": "v1.5"}, "stride=v1.5", "50, 101, 152"),
        ({"num_classes": 0}, "num_classes=0", "nearest is 1"),
        ({"num_classes": True}, "num_classes=True", "whole number"),
    ],
)
def test_a_wrong_word_is_named_with_the_nearest_valid_one(change, culprit, valid):
    with pytest.raises(ValueError) as caught:
        Architecture(**(GOOD | change))
    message = str(caught.value)
    assert message.startswith(f"{culprit}:")
    assert valid in message
    assert "\n" not in message


def test_check_choice_accepts_a_choice():
    check_choice("key", "b", ("a", "b"))


def test_architecture_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Architecture(**GOOD).depth = 18


@pytest.mark.parametrize("depth", [8, 14, 20, 26, 110, 1202])
def test_cifar_blocks(depth):
    blocks = Architecture(family="cifar", depth=depth, shortcut="A", num_classes=10).blocks
    assert len(blocks) == 3
    assert 2 * sum(blocks) + 2 == depth


@pytest.mark.parametrize(("depth", "layers_per_block"), [(18, 2), (34, 2), (50, 3), (101, 3), (152, 3)])
def test_imagenet_blocks(depth, layers_per_block):
    architecture = Architecture(family="imagenet", depth=depth, shortcut="B", num_classes=10)
    assert layers_per_block * sum(architecture.blocks) + 2 == depth
    assert architecture.bottleneck == (layers_per_block == 3)


@pytest.mark.parametrize(
    ("family", "depth", "shortcut", "extension"),
    [
        ("imagenet", 18, "A", False), ("imagenet", 18, "B", True), ("imagenet", 34, "C", False),
        ("imagenet", 34, "none", False), ("imagenet", 50, "B", False), ("imagenet", 50, "A", True),
        ("imagenet", 152, "C", True), ("imagenet", 50, "none", True), ("cifar", 110, "A", False),
        ("one-layer", 20, "A", True), ("one-layer", 110, "B", True),
        ("cifar", 1202, "A", False), ("cifar", 1202, "none", True), ("cifar", 20, "B", True), ("cifar", 8, "A", True),
    ],
)  # fmt: skip
def test_extension_is_what_the_paper_does_not_have(family: str, depth: int, shortcut: str, extension: bool) -> None:
    net = Architecture(family=family, depth=depth, shortcut=shortcut, num_classes=10)
    assert net.extension is extension


@pytest.mark.parametrize("family", ["imagenet", "cifar", "one-layer"])
@pytest.mark.parametrize("image_size", [8, 32, 33, 64, 65])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_net_that_batch_normalization_cannot_train_is_refused_and_no_other(
    family: str, image_size: int, batch: int
) -> None:
    net = Architecture(
        family=family, depth={"imagenet": 18, "cifar": 8, "one-layer": 8}[family], shortcut="A", num_classes=2
    )
    model = resnet.build(**dataclasses.asdict(net)).train()
    sides: list[int] = []
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda module, inputs: sides.append(inputs[0].shape[-1]))
    images = torch.randn(batch, 3, image_size, image_size)
    if batch * net.last_side(image_size) ** 2 > 1:
        check_bn_values(net, image_size, batch)
        model(images)
        assert min(sides) == net.last_side(image_size)
        return
    with pytest.raises(ConfigError, match=f"batch=1: at image_size={image_size} .*nearest is batch=2, or ") as refused:
        check_bn_values(net, image_size, batch)
    check_bn_values(net, int(str(refused.value).rpartition("=")[2]), batch)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        model(images)
