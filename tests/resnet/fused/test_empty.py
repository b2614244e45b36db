"""A batch of no images is one to the fused kernels too: what torch gives for it, and no kernel is launched."""

import pytest
import torch
from fused_nets import DEVICE, network
from torch import nn

from kernels import runtime
from resnet.model import fuse

NETS = {"two-A": 8, "two-B": 8, "two-none": 9, "cifar8-C": 8, "one-v1-B": 40, "bottleneck-v1.5-A": 41}
MODES = ("training", "evaluation", "evaluation without gradients", "BN frozen in branches", "momentum of None")
DTYPES = {
    "fp32": (torch.float32, torch.float32, None),
    "bf16": (torch.bfloat16, torch.bfloat16, None),
    "fp16 under autocast": (torch.float16, torch.float32, torch.float16),
    "fp32 under autocast": (torch.float32, torch.float32, torch.bfloat16),
}


def passed(word, net, mode, dtypes):
    """What comes of a pass forward and back: the scores, the images' gradient, gradients and buffers by name."""
    parameters, images, autocast = DTYPES[dtypes]
    model = network(net).to(DEVICE, parameters)
    fuse(model, word)
    model.conv1.weight.requires_grad_(False)
    model.train(not mode.startswith("evaluation"))
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            if mode == "BN frozen in branches" and key.endswith("bn2"):
                module.eval()
            if mode == "momentum of None":
                module.momentum = None
    x = torch.zeros(0, 3, NETS[net], NETS[net], device=DEVICE, dtype=images, requires_grad=True)
    with torch.set_grad_enabled("without" not in mode), torch.autocast(DEVICE.type, autocast, enabled=bool(autocast)):
        scores = model(x)
    if scores.requires_grad:
        scores.sum().backward()
    gradients = {f"gradient of {key}": p.grad for key, p in model.named_parameters()}
    return {"scores": scores.detach(), "images": x.grad, **gradients, **dict(model.named_buffers())}


@pytest.mark.parametrize(
    ("net", "mode", "dtypes"),
    [(net, mode, "fp32") for net in NETS for mode in MODES[:3]]
    + [("two-B", mode, "fp32") for mode in MODES[3:]]
    + [("one-v1-B", mode, dtypes) for mode in MODES[:2] for dtypes in DTYPES if dtypes != "fp32"],
)
def test_it_is_as_in_torch(net, mode, dtypes):
    expected = passed("torch", net, mode, dtypes)
    with runtime.record_launches() as launches:
        found = passed("triton", net, mode, dtypes)
    assert not launches and found.keys() == expected.keys() and found["scores"].shape == (0, 10)
    for key, value in expected.items():
        if value is None:
            assert found[key] is None, key
        else:
            assert found[key].dtype == value.dtype and found[key].stride() == value.stride(), key
            assert torch.equal(found[key], value), key
    counted = {int(value) for key, value in found.items() if key.endswith("num_batches_tracked")}
    assert counted == {"evaluation": {0}, "BN frozen": {0, 1}}.get(mode.partition(" with")[0].partition(" in")[0], {1})
    if "without" not in mode:
        assert found["gradient of layer1.0.bn1.weight"].eq(0).all() and found["gradient of conv1.weight"] is None


@pytest.mark.parametrize("word", ["triton", "auto"])
def test_parts_by_themselves(word):
    model = network("two-B").to(DEVICE)
    fuse(model, word)
    with runtime.record_launches() as launches:
        z = model.layer2[0](model.stem(torch.zeros(0, 3, 9, 7, device=DEVICE)))
        z.sum().backward()
    assert not launches and z.shape == (0, 32, 5, 4)
    assert model.layer2[0].downsample[0].weight.grad.eq(0).all() and model.conv1.weight.grad.eq(0).all()
    assert int(model.bn1.num_batches_tracked) == int(model.layer2[0].bn2.num_batches_tracked) == 1
    assert int(model.layer1[0].bn1.num_batches_tracked) == 0 and model.layer1[0].conv1.weight.grad is None


@pytest.mark.parametrize("net", NETS)
def test_every_part_s_output_has_the_shape_that_it_has_in_torch(net):
    shapes = []
    for word in ("torch", "triton"):
        model = network(net).to(DEVICE)
        fuse(model, word)
        made = [model.stem(torch.zeros(0, 3, 41, 38, device=DEVICE))]
        for block in model.residual_blocks():
            made.append(block(made[-1]))
        shapes.append([one.shape for one in made])
    assert shapes[0] == shapes[1] and len(shapes[0]) > 1


def test_nothing_is_measured_for_it_and_no_rank_is_left_waiting(monkeypatch):
    model, images = network("two-A").to(DEVICE), torch.zeros(0, 3, 8, 8, device=DEVICE)
    fuse(model, "auto")
    assert model(images).shape == (0, 10) and not model.fused.chosen
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    with pytest.raises(RuntimeError, match="^kernels=auto: nothing chosen yet; run the whole network once, or choose_"):
        model(images)  # other ranks, whose batches are not empty, would wait for what this one measures
    assert int(model.bn1.num_batches_tracked) == 1


@pytest.mark.interpreted
def test_images_after_it_are_computed_as_before_it():
    results = []
    for word in ("torch", "triton"):
        model = network("two-A").to(DEVICE)
        fuse(model, word)
        model(torch.zeros(0, 3, 8, 8, device=DEVICE)).sum().backward()
        images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3)).to(DEVICE)
        scores = model(images)
        scores.square().sum().backward()
        results.append([scores.detach(), *(p.grad for p in model.parameters()), *model.buffers()])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)
