"""`kernels=auto` on a network: what is measured decides each layer, is recorded, and computes the same."""

import re

import pytest
import torch
from fused_nets import DEVICE, batch, distance, network
from torch.nn import functional

from kernels import runtime
from kernels.choose.cache import ChoiceCache
from resnet.fused.network import choose_kernels
from resnet.fused.sites import conv_sites
from resnet.model import build, fuse

NAME = "cifar8-A"


def chosen(prefer, cache):
    """A network whose layers were chosen by a timer for which candidates with `prefer` in their names are fast."""
    model = network(NAME).to(DEVICE)
    fuse(model, "auto")
    images, labels = batch(NAME, 0)
    timed = []

    def timer(candidate):
        timed.append(candidate.name)
        return 1.0 if prefer(candidate.name) else 5.0

    table = choose_kernels(model, tuple(images.shape), torch.float16, DEVICE, timer=timer, cache=cache)
    return model, table, timed


def step(model):
    images, labels = batch(NAME, 0)
    with runtime.record_launches() as launches:
        with torch.autocast(DEVICE.type, torch.float16):
            logits = model(images)
        functional.cross_entropy(logits.float(), labels).backward()
    return {launch.kernel for launch in launches}, {key: p.grad for key, p in model.named_parameters()}


@pytest.mark.interpreted
def test_the_faster_wins_layer_by_layer_and_computes_the_same(tmp_path):
    model, table, timed = chosen(lambda name: " torch" in name, ChoiceCache(tmp_path / "a"))
    assert timed and set(table) == {site for _, site in conv_sites(model, batch(NAME, 0)[0].shape, torch.float16)}
    launched, plain = step(model)
    assert not launched & {"conv1x1", "conv3x3", "conv_dgrad"} and "bn_act_backward_reduce" in launched
    other, other_table, _ = chosen(lambda name: " torch" not in name, ChoiceCache(tmp_path / "b"))
    launched, fused = step(other)
    assert {"conv3x3", "conv_dgrad"} <= launched
    assert all(distance(fused[key], gradient) < 0.02 for key, gradient in plain.items())
    assert table.hash() != other_table.hash() and model.fused.describe().hash() != other.fused.describe().hash()
    assert model.fused.describe().layers["conv1"]["forward"] == "torch"
    measured = other.fused.describe().layers["layer1.0.conv2"]
    assert measured["dgrad"] == "triton" and re.fullmatch(r"\d+x\d+x\d+/w\d/s\d", measured["config"]["dgrad"])
    again, again_table, timed = chosen(lambda name: True, ChoiceCache(tmp_path / "b"))
    assert not timed and again_table.hash() == other_table.hash(), "the cache was not read"
    assert again.fused.describe() == other.fused.describe()


def test_without_a_gpu_nothing_is_timed():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU to time on")
    model = build(family="cifar", depth=8, shortcut="A", num_classes=10, kernels="auto")
    with pytest.raises(ValueError, match="nothing is timed on cpu; expected a CUDA device"):
        model.half()(batch(NAME, 0)[0].half())


def test_a_block_alone_waits_for_its_network():
    model = network(NAME).to(DEVICE)
    fuse(model, "auto")
    with pytest.raises(RuntimeError, match="^kernels=auto: nothing chosen yet"):
        model.layer1[0](torch.randn(2, 16, 4, 4, device=DEVICE))
