"""Networks whose parameters are in bf16 or fp16, all or in part, train over the fused kernels as over torch."""

import contextlib
import copy
import statistics
from dataclasses import dataclass

import pytest
import torch
from fused_nets import DEVICE, batch, distance, network
from interpreter_bf16 import exact_bf16
from torch import nn
from torch.nn import functional

from kernels import runtime
from resnet.model import fuse

BF16, FP16 = torch.bfloat16, torch.float16


@pytest.fixture(autouse=True, scope="module")
def bf16():
    """bf16 in the interpreter rounds and multiplies as on a GPU."""
    with exact_bf16():
        yield


def bns(model):
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def each(modules, dtype):
    for module in modules:
        module.to(dtype)


def keep_bn(model, dtype):
    """The usual practice: half precision, BN in fp32."""
    model.to(dtype)
    each(bns(model), torch.float32)


@dataclass(frozen=True)
class Case:
    """A network in some dtypes.

    Attributes:
        net: see `fused_nets.network`.
        convert: the network, in fp32, to what the case is of.
        images: their dtype.
        autocast: its dtype, None where it is off.
        frozen: which BNs are, by the end of their names; None for none.
        size: of the batch.
    """

    net: str
    convert: object
    images: torch.dtype
    autocast: torch.dtype | None = None
    frozen: str | None = None
    size: int = 2


CASES = {
    "bf16, option A": Case("two-A", lambda m: m.bfloat16(), BF16),
    "fp16, option B": Case("two-B", lambda m: m.half(), FP16),
    "bf16, option C": Case("two-C", lambda m: m.bfloat16(), BF16),
    "fp16, plain": Case("two-none", lambda m: m.half(), FP16),
    "bf16, bottlenecks": Case("one-v1.5-B", lambda m: m.bfloat16(), BF16),
    "fp16, bottlenecks": Case("one-v1-A", lambda m: m.half(), FP16),
    "bf16, BN in fp32": Case("two-B", lambda m: keep_bn(m, BF16), BF16),
    "fp16, BN in fp32": Case("two-A", lambda m: keep_bn(m, FP16), FP16),
    "bf16, the projections' BN in fp32": Case(
        "two-B",
        lambda m: (m.bfloat16(), each([b.downsample[1] for b in m.residual_blocks() if b.downsample], torch.float32)),
        BF16,
    ),
    "bf16 under autocast, images in fp32": Case("two-B", lambda m: m.bfloat16(), torch.float32, BF16),
    "fp16, BN in fp32, under autocast": Case("two-A", lambda m: keep_bn(m, FP16), torch.float32, FP16),
    "the stem in bf16 under autocast": Case("two-A", lambda m: each([m.conv1, m.bn1], BF16), torch.float32, BF16),
    "a stage in fp16 under autocast": Case("two-B", lambda m: m.layer2.half(), torch.float32, FP16),
    "the classifier in bf16 under autocast": Case("two-A", lambda m: m.fc.bfloat16(), torch.float32, BF16),
    "bf16, frozen BN": Case("two-B", lambda m: m.bfloat16(), BF16, frozen=""),
    "fp16, BN frozen in branches": Case("two-B", lambda m: m.half(), FP16, frozen="bn2"),
    "bf16, a batch of 1": Case("two-A", lambda m: m.bfloat16(), BF16, size=1),
}


def made(case, word, *, wide=False):
    """The network of a case, or its values in fp64.

    Its ReLUs are on or off by channels, far from zero: where rounding decided the sign of an input, gradients would
    differ by far more than by rounding, and of so few pixels by anything.
    """
    model = network(case.net).to(DEVICE)
    for module in bns(model):
        with torch.no_grad():
            module.bias.add_(torch.where(torch.arange(len(module.bias)) % 4 == 0, -4.0, 4.0).to(DEVICE))
        module.running_mean.uniform_(-0.2, 0.2)  # away from their first values
        module.running_var.uniform_(0.5, 1.5)
    case.convert(model)
    if wide:
        model.double()
    fuse(model, word)
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and case.frozen is not None and key.endswith(case.frozen):
            module.eval()
    return model


def autocast(dtype):
    return contextlib.nullcontext() if dtype is None else torch.autocast(DEVICE.type, dtype)


def step(case, word, *, wide=False):
    """By kind and name: scores and those of an evaluation after it, gradients, running statistics."""
    model = made(case, word, wide=wide)
    images, labels = batch(case.net, 0, case.size)
    images = images.to(case.images)
    with autocast(None if wide else case.autocast):
        scores = model(images.double() if wide else images)
    functional.cross_entropy(scores.double(), labels).backward()
    model.eval()
    with torch.no_grad(), autocast(None if wide else case.autocast):
        after = model(images.double() if wide else images)
    return {
        "scores": {"train": scores.detach(), "eval": after},
        "gradients": {key: p.grad for key, p in model.named_parameters()},
        "running": {key: b for key, b in model.named_buffers() if b.is_floating_point()},
    }, model


def errors(found, exact):
    """Distance of each tensor from fp64's, relative to its norm or, where that is larger, to the norm that is usual."""
    usual = statistics.median(float(true.norm()) for true in exact.values())
    return {
        key: float((found[key].double() - true).norm()) / max(float(true.norm()), usual) for key, true in exact.items()
    }


@pytest.mark.interpreted
@pytest.mark.parametrize("name", CASES)
def test_a_step_is_as_close_to_fp64_as_torch_s(name):
    """By the rule of `check_five_steps` after one step, and each tensor in the dtype that it has in torch."""
    case = CASES[name]
    exact, _ = step(case, "torch", wide=True)
    reference, plain = step(case, "torch")
    found, model = step(case, "triton")
    rounding = torch.finfo(case.autocast or case.images).eps
    for kind, tensors in reference.items():
        assert tensors.keys() == found[kind].keys() == exact[kind].keys()
        torchs, ours = errors(tensors, exact[kind]), errors(found[kind], exact[kind])
        typical = max(torchs.values())
        assert typical < 0.15, f"{kind}: the reference itself is nowhere near, so nothing is shown"
        for key, value in tensors.items():
            assert found[kind][key].dtype == value.dtype, key
            assert ours[key] <= 4 * max(torchs[key], typical / 4) + rounding, f"{kind} {key}"
    for key, parameter in model.named_parameters():
        assert parameter.grad.dtype == parameter.dtype and parameter.grad.stride() == parameter.stride(), key
    for one, other in zip(bns(model), bns(plain), strict=True):
        assert torch.equal(one.num_batches_tracked, other.num_batches_tracked)


def converted_in_place(model, dtype):
    """By `.data`, which leaves every parameter and buffer the object that it was."""
    for tensor in [*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())]:
        tensor.data = tensor.data.to(dtype)


# One after the other, each with the dtype of the images then.
CONVERSIONS = (
    (lambda m: m.bfloat16(), BF16),
    (lambda m: converted_in_place(m, FP16), FP16),
    (lambda m: each(bns(m), torch.float32), FP16),
)


@pytest.mark.interpreted
def test_a_network_that_was_converted_after_a_step_is_as_one_that_never_ran():
    """What is kept of earlier passes is that of other dtypes: the same results, bit for bit."""
    model = network("one-v1-B").to(DEVICE)
    fuse(model, "triton")
    images, labels = batch("one-v1-B", 0, 2)
    model(images)
    for convert, dtype in CONVERSIONS:
        model.zero_grad()
        convert(model)
        fresh = copy.deepcopy(model)
        fuse(fresh, "triton")
        results = []
        for one in (model, fresh):
            scores = one.train()(images.to(dtype))
            functional.cross_entropy(scores.float(), labels).backward()
            with torch.no_grad():
                after = one.eval()(images.to(dtype))
            gradients = {f"gradient of {key}": p.grad for key, p in one.named_parameters()}
            results.append(dict(one.named_buffers()) | gradients | {"scores": scores, "after": after})
        for key, expected in results[1].items():
            assert results[0][key].dtype == expected.dtype and torch.equal(results[0][key], expected), key
        assert results[1]["scores"].dtype == dtype
        assert all(parameter.grad.dtype == parameter.dtype for parameter in model.parameters())


@pytest.mark.interpreted
def test_a_block_and_a_stem_alone_in_half_precision():
    results = []
    for word in ("torch", "triton"):
        model = network("two-B").to(DEVICE)
        keep_bn(model, FP16)
        fuse(model, word)
        z = model.layer2[0](model.stem(batch("two-B", 0)[0].half()))
        (z.float() * torch.arange(z.shape[1], device=DEVICE)[:, None, None]).mean().backward()
        gradients = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
        results.append({"z": z.detach(), **gradients})
    assert results[0].keys() == results[1].keys()
    for key, expected in results[0].items():
        assert results[1][key].dtype == expected.dtype and distance(results[1][key], expected) < 0.02, key


@pytest.mark.interpreted
def test_half_parameters_are_the_fp32_ones_of_their_values():
    """No launch is added, statistics and gradients are those of fp32 parameters, rounded once."""
    results = []
    for wide in (True, False):
        model = network("two-B").to(DEVICE).half()
        if wide:
            model.float()
            model.fc.half()
        fuse(model, "triton")
        with runtime.record_launches() as launches:
            model(batch("two-B", 0, 2)[0].half()).float().square().sum().backward()
        results.append(([launch.kernel for launch in launches], model))
    (expected, single), (found, half) = results
    assert found == expected and found.count("pack_weights") == 1
    for key, parameter in half.named_parameters():
        assert parameter.grad.dtype == torch.float16
        assert torch.equal(parameter.grad, single.get_parameter(key).grad.half()), key
    for key, buffer in half.named_buffers():
        assert torch.equal(buffer, single.get_buffer(key).to(buffer.dtype)), key
