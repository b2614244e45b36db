"""What the fused kernels do not take is refused in one line, before a pass changes anything."""

import contextlib
import re

import pytest
import torch
from fused_nets import DEVICE, network
from torch import nn

from kernels import runtime
from resnet.model import fuse
from results.words import ConfigError

BF16, FP16, FP32, FP64 = torch.bfloat16, torch.float16, torch.float32, torch.float64


def bns(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def each(modules, dtype):
    for module in modules:
        module.to(dtype)


def running(model, dtype):
    """The statistics of one BN alone, to another dtype."""
    bn = model.layer2[0].downsample[1]
    bn.running_mean = bn.running_mean.to(dtype)


# What becomes of a network in fp32, the dtype of images, autocast's (None: off), and the line.
DTYPES = {
    "double": (lambda m: m.double(), FP64, None, "images in float64, in which Triton's kernels do not compute; "
               "nearest is float32, by images.float() and model.float(); kernels=torch computes in any dtype"),
    "images in fp64": (lambda m: m, FP64, None, "images in float64, in which .*"),
    "fp64 under autocast": (lambda m: m.double(), FP32, BF16, "conv1.weight in float64, where autocast computes in "
                            "bfloat16 and parameters may be in that or float32; nearest is model.float()"),
    "a block in fp64": (lambda m: m.layer2.double(), FP32, None, "layer2.0.conv1.weight in float64, .*; "
                        "nearest is model.float()"),
    "bf16, images in fp32": (lambda m: m.bfloat16(), FP32, None, "conv1.weight in bfloat16, where images are in "
                             "float32 and parameters may be in float32; nearest is images.bfloat16()"),
    "fp16, BN in fp32, images in fp32": (lambda m: (m.half(), each(bns(m), FP32)), FP32, None,
                                         "conv1.weight in float16, .*; nearest is images.half()"),
    "fp16, images in bf16": (lambda m: m.half(), BF16, None, "conv1.weight in float16, where images are in bfloat16 "
                             "and parameters may be in that or float32; nearest is images.half()"),
    "the stem in bf16, images in fp32": (lambda m: each([m.conv1, m.bn1], BF16), FP32, None,
                                         "conv1.weight in bfloat16, .*; nearest is model.float()"),
    "the stem in bf16, images too": (lambda m: each([m.conv1, m.bn1], BF16), BF16, None, "fc.weight in float32, where "
                                     "its input comes in bfloat16; nearest is model.fc.bfloat16(), or torch.autocast"),
    "fp32, images in bf16": (lambda m: m, BF16, None, "fc.weight in float32, .*"),
    "BN in bf16": (lambda m: each(bns(m), BF16), FP32, None, "bn1.weight in bfloat16, where images are in float32 "
                   "and parameters may be in float32; nearest is model.float()"),
    "bf16, BN in fp16": (lambda m: (m.bfloat16(), each(bns(m), FP16)), BF16, None, "bn1.weight in float16, where "
                         "images are in bfloat16 and .*; nearest is model.bfloat16()"),
    "one running mean in fp64": (lambda m: (m.half(), running(m, FP64)), FP16, None,
                                 "layer2.0.downsample.1.running_mean in float64, .*; nearest is model.half()"),
    "fp16 under autocast to bf16": (lambda m: m.half(), FP32, BF16, "conv1.weight in float16, where autocast computes "
                                    "in bfloat16 and parameters may be in that or float32; nearest is model.float()"),
    "the classifier in bf16": (lambda m: m.fc.bfloat16(), FP32, None, "fc.weight in bfloat16, where its input comes in "
                               "float32; nearest is model.fc.float(), or torch.autocast"),
    "the classifier's bias in fp16": (lambda m: setattr(m.fc, "bias", nn.Parameter(m.fc.bias.half())), FP32, None,
                                      "fc.bias in float16, .*"),
    "the classifier in fp64 under autocast": (lambda m: m.fc.double(), FP32, FP16, "fc.weight in float64, where its "
                                              "input comes in float16; nearest is model.fc.float()"),
}  # fmt: skip


@contextlib.contextmanager
def nothing_changes(model):
    """No parameter, statistic or count, and nothing is launched."""
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with runtime.record_launches() as launches:
        yield
    assert not launches
    for key, value in model.state_dict().items():
        assert value.dtype == before[key].dtype and torch.equal(value, before[key]), key


@pytest.mark.parametrize("size", [2, 0])
@pytest.mark.parametrize("word", ["triton", "auto"])
@pytest.mark.parametrize("name", DTYPES)
def test_a_dtype_is_refused_before_anything_changes(name, word, size):
    convert, dtype, autocast, line = DTYPES[name]
    model = network("two-B").to(DEVICE)
    convert(model)
    fuse(model, word)
    images = torch.zeros(size, 3, 8, 8, dtype=dtype, device=DEVICE).contiguous(memory_format=torch.channels_last)
    expected = re.escape(line).replace(r"\.\*", "[^\n]*")
    with nothing_changes(model), torch.autocast(DEVICE.type, autocast, enabled=autocast is not None):
        with pytest.raises(ConfigError, match=f"^kernels={word}: {expected}$"):
            model(images)


def test_parts_by_themselves_are_refused_likewise():
    model = network("two-B").to(DEVICE)
    fuse(model, "triton")
    model.double()
    images, x = torch.zeros(2, 3, 8, 8, device=DEVICE), torch.zeros(2, 16, 8, 8, device=DEVICE)
    with nothing_changes(model):
        with pytest.raises(
            ConfigError, match=r"^kernels=triton: conv1\.weight in float64, .*; nearest is model\.float"
        ):
            model.stem(images)
        with pytest.raises(ConfigError, match=r"^kernels=triton: layer2\.0\.conv1\.weight in float64, .*"):
            model.layer2[0](x)
        with pytest.raises(ConfigError, match=r"^kernels=triton: images in float64, in which"):
            model.layer2[0](x.double())


def test_features_that_a_hook_casts_reach_a_classifier_of_another_dtype():
    model = network("two-A").to(DEVICE).bfloat16()
    model.fc.float()
    fuse(model, "triton")
    images = torch.zeros(0, 3, 8, 8, dtype=BF16, device=DEVICE)
    with pytest.raises(ConfigError, match=r"^kernels=triton: fc\.weight in float32"):
        model(images)
    for place in (model.layer2, model.layer2[-1]):
        handle = place.register_forward_hook(lambda module, inputs, output: output.float())
        assert model(images).dtype == FP32
        handle.remove()
    model.fc.register_forward_pre_hook(lambda module, inputs: inputs[0].float())
    assert model(images).dtype == FP32


SHAPES = {
    "no batch": (torch.zeros(3, 8, 8), r"expected \[N, C, H, W\], got shape \(3, 8, 8\); nearest is images\[None\]"),
    "no rows": (torch.zeros(2, 3, 0, 8), r"shape \(2, 3, 0, 8\) is empty; nearest is \(2, 3, 1, 8\)"),
    "no rows and no images": (torch.zeros(0, 3, 8, 0), r"shape \(0, 3, 8, 0\) is empty; nearest is \(0, 3, 8, 1\)"),
    "no channels": (torch.zeros(2, 0, 8, 8), r"0 channels in shape \(2, 0, 8, 8\); nearest is \(2, 3, 8, 8\)"),
    "grey": (torch.zeros(2, 1, 8, 8), r"1 channels in shape \(2, 1, 8, 8\); nearest is \(2, 3, 8, 8\)"),
    "bytes": (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), r"dtype uint8 is not floating; nearest is images\.float\(\)"),
}


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_what_are_no_images_is_refused_before_anything_changes(name, autocast):
    images, line = SHAPES[name]
    model = network("two-A").to(DEVICE)
    fuse(model, "triton")
    with nothing_changes(model), torch.autocast(DEVICE.type, BF16, enabled=autocast):
        with pytest.raises(ValueError, match=f"^images: {line}$"):
            model(images.to(DEVICE))
