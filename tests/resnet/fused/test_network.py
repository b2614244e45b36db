"""A network over the fused kernels behaves as a module does: evaluation, freezing, hooks, blocks alone, refusals."""

import copy
import re

import pytest
import torch
from fused_nets import DEVICE, batch, distance, network
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from kernels import runtime
from resnet.model import fuse

pytestmark = pytest.mark.interpreted


@pytest.mark.parametrize("name", ["cifar8-A", "cifar8-none", "bottleneck-v1.5-B", "basic-C"])
def test_evaluation_folds_bn_into_the_convolutions(name):
    model = network(name).to(DEVICE)
    images, _ = batch(name, 0)
    model(images)  # running statistics away from their first values
    model.eval()
    with torch.no_grad():
        expected = model(images)
        fuse(model, "triton")
        with runtime.record_launches() as launches:
            found = model(images)
        assert distance(found, expected) < 1e-5
        names = {launch.kernel for launch in launches}
        assert "conv_inference" in names and not names & {"bn_stats", "bn_act_backward_reduce"}
        model.layer1[0].conv1.weight.mul_(1.5)  # a new value under the same parameter
        fuse(model, "torch")
        expected = model(images)
        fuse(model, "triton")
        assert distance(model(images), expected) < 1e-5


def test_evaluation_sees_every_change_of_a_parameter():
    """Also those that autograd does not: of `.data`, and of a part that alone is in evaluation."""
    model, images = fused_net()
    model.eval()
    with torch.no_grad():
        model(images)
        for parameter in model.parameters():
            parameter.data.mul_(1.2)
        assert distance(model(images), plain(model, images)) < 1e-5
        model.train()
        model.layer1.eval()
        model(images)
        model.layer1[0].conv1.weight.mul_(0.5)
        state = copy.deepcopy(model.state_dict())
        found = model(images)
        model.load_state_dict(state)
        assert distance(found, plain(model, images)) < 1e-5


def plain(model, images):
    fuse(model, "torch")
    expected = model(images)
    fuse(model, "triton")
    return expected


def frozen_gradients(kernels_word, name, end=""):
    """Gradients and buffers after a step in which the BNs whose names end so are frozen."""
    model = network(name).to(DEVICE)
    images, labels = batch(name, 0)
    model(images)
    fuse(model, kernels_word)
    for key, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and key.endswith(end):
            module.eval()
    functional.cross_entropy(model(images), labels).backward()
    return {key: p.grad for key, p in model.named_parameters()}, dict(model.named_buffers())


@pytest.mark.parametrize(
    ("name", "end"),
    [("bottleneck-v1.5-B", ""), ("cifar8-B", "bn2"), ("cifar8-B", "downsample.1")],
    ids=["all", "the branch's at a join", "the projection's at a join"],
)
def test_frozen_bn_has_gradients_of_its_own(name, end):
    (expected, buffers), (found, after) = (frozen_gradients(word, name, end) for word in ("torch", "triton"))
    for key, gradient in expected.items():
        assert distance(found[key], gradient) < 1e-4, key
    for key, value in buffers.items():
        assert distance(after[key], value) < (1e-6 if end == "" else 1e-5), key


@pytest.mark.parametrize("name", ["cifar8-B", "bottleneck-v1.5-B"])
@pytest.mark.parametrize("place", ["layer2.0.bn1", "layer3.0.bn2", "layer1.0.conv1"])
def test_nan_reaches_the_same_gradients_as_in_torch(name, place):
    """A report of NaN names the layer that is to blame: no ReLU stops it on its way back, and none goes astray."""
    reached = []
    for word in ("torch", "triton"):
        model = network(name).to(DEVICE)
        fuse(model, word)
        with torch.no_grad():
            model.get_submodule(place).weight[0] = float("nan")
        images, labels = batch(name, 0, 2)
        functional.cross_entropy(model(images), labels).backward()
        reached.append({key for key, p in model.named_parameters() if p.grad.isnan().any()})
    assert reached[0] and reached[1] == reached[0]


def test_a_frozen_part_of_the_network_gets_no_gradient():
    model = network("cifar8-B").to(DEVICE)
    fuse(model, "triton")
    for parameter in [*model.layer1.parameters(), *model.conv1.parameters(), *model.bn1.parameters()]:
        parameter.requires_grad_(False)
    images, labels = batch("cifar8-B", 0)
    functional.cross_entropy(model(images), labels).backward()
    assert all(parameter.grad is None for parameter in model.layer1.parameters())
    fuse(model, "torch")
    found = {key: p.grad for key, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    functional.cross_entropy(model(images), labels).backward()
    assert found.keys() == {key for key, p in model.named_parameters() if p.grad is not None}
    for key, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert distance(found[key], parameter.grad) < 1e-4, key


@pytest.mark.parametrize("name", ["cifar8-A", "bottleneck-v1-B"])
def test_gradients_of_images_and_of_a_second_consumer(name):
    """A block's output that is looked at from two places: its gradient takes another way than the fused one."""
    gradients = {}
    for word in ("torch", "triton"):
        model = network(name).to(DEVICE)
        fuse(model, word)
        images, labels = batch(name, 0)
        images.requires_grad_(True)
        features = []
        handle = model.layer2.register_forward_hook(lambda module, inputs, output, seen=features: seen.append(output))
        loss = functional.cross_entropy(model(images), labels) + (features[0] * 0.1).square().mean()
        loss.backward()
        handle.remove()
        gradients[word] = {key: p.grad for key, p in model.named_parameters()} | {"images": images.grad}
    for key, expected in gradients["torch"].items():
        assert distance(gradients["triton"][key], expected) < 1e-4, key


def test_a_block_alone():
    for word in ("torch", "triton"):
        model = network("bottleneck-v1-A").to(DEVICE)
        fuse(model, word)
        x = torch.randn(2, 64, 6, 6, generator=torch.Generator().manual_seed(5)).to(DEVICE).requires_grad_(True)
        z = model.layer2[0](x)
        (z * torch.arange(z.shape[1], device=DEVICE)[:, None, None]).mean().backward()
        result = [z.detach(), x.grad, *(p.grad for p in model.layer2[0].parameters())]
        if word == "torch":
            expected = result
    assert all(distance(a, b) < 1e-4 for a, b in zip(result, expected, strict=True))


def test_checkpointed_blocks_and_a_hook_between_them():
    """Blocks by themselves: recomputed in the backward pass, with a hook that changes the gradient on its way."""
    gradients = {}
    for word in ("torch", "triton"):
        model = network("cifar8-B").to(DEVICE)
        fuse(model, word)
        x = model.stem(batch("cifar8-B", 0)[0])
        for block in model.residual_blocks():
            x = checkpoint(block, x, use_reentrant=False)
            x.register_hook(lambda gradient: gradient * 2)
        functional.cross_entropy(model.fc(x.mean((2, 3))), batch("cifar8-B", 0)[1]).backward()
        gradients[word] = {key: p.grad for key, p in model.named_parameters()}
    for key, expected in gradients["torch"].items():
        assert distance(gradients["triton"][key], expected) < 1e-4, key


def test_two_passes_before_either_goes_back():
    gradients = {}
    for word in ("torch", "triton"):
        model = network("cifar8-A").to(DEVICE)
        fuse(model, word)
        losses = [functional.cross_entropy(model(images), labels) for images, labels in map(cifar8_batch, range(2))]
        losses[0].backward(retain_graph=True)
        losses[1].backward()
        losses[0].backward()
        gradients[word] = {key: p.grad for key, p in model.named_parameters()}
    for key, expected in gradients["torch"].items():
        assert distance(gradients["triton"][key], expected) < 1e-4, key


def cifar8_batch(step):
    return batch("cifar8-A", step)


def test_momentum_of_none_and_untracked_statistics():
    buffers = {}
    for word in ("torch", "triton"):
        model = network("cifar8-none").to(DEVICE)
        model.layer1[0].bn1.momentum = None
        model.layer2[0].bn2 = nn.BatchNorm2d(32, track_running_stats=False, device=DEVICE)
        fuse(model, word)
        with torch.no_grad():
            outputs = [model(batch("cifar8-none", step)[0]) for step in range(2)]
            model.eval()
            outputs.append(model(batch("cifar8-none", 2)[0]))
        buffers[word] = {**dict(model.named_buffers()), **dict(enumerate(outputs))}
    for key, expected in buffers["torch"].items():
        assert distance(buffers["triton"][key], expected) < 1e-5, key


def test_the_same_weights_move_between_kernels():
    model = network("bottleneck-v1.5-B")
    state = model.state_dict()
    fuse(model, "triton")
    assert list(model.state_dict()) == list(state)
    network("bottleneck-v1.5-B", seed=1).load_state_dict(model.state_dict())


def fused_net(name="cifar8-A"):
    model = network(name).to(DEVICE)
    fuse(model, "triton")
    return model, batch(name, 0)[0]


def test_a_hook_that_would_never_fire_is_refused():
    model, images = fused_net()
    model.layer1[0].bn1.register_forward_hook(lambda *_: None)
    with pytest.raises(RuntimeError, match=r"^layer1\.0\.bn1: a hook .*kernels=torch$"):
        model(images)


@pytest.mark.parametrize(
    ("name", "path", "module"),
    [
        ("cifar8-A", "layer1.0.bn1", nn.SyncBatchNorm(16)),
        ("cifar8-A", "layer1.0.bn2", nn.GroupNorm(4, 16)),
        ("cifar8-A", "layer1.0.bn2", nn.BatchNorm2d(16, affine=False)),
        ("cifar8-A", "layer1.0.conv1", nn.Conv2d(16, 16, 3, padding=1)),
        ("cifar8-A", "layer1.0.conv2", nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False)),
        ("cifar8-A", "layer1.0.conv2", nn.Conv2d(16, 16, 3, padding=1, groups=2, bias=False)),
        ("cifar8-A", "layer1.0.conv2", nn.Conv2d(16, 16, 3, padding=1, padding_mode="reflect", bias=False)),
        ("cifar8-A", "layer1.0.conv2", nn.Conv2d(16, 16, 3, padding="same", bias=False)),
        ("cifar8-A", "layer2.0.downsample", nn.Sequential(nn.Conv2d(16, 32, 1, 2, bias=False), nn.BatchNorm2d(32))),
        ("bottleneck-v1-B", "maxpool", nn.Identity()),
        ("bottleneck-v1-B", "maxpool", nn.MaxPool2d(2, 2)),
        ("bottleneck-v1-B", "layer2.0.downsample.1", nn.Identity()),
    ],
)
def test_a_module_that_would_be_left_out_is_refused(name, path, module):
    model, images = fused_net(name)
    parent, _, last = path.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
    with pytest.raises(RuntimeError, match=rf"^{re.escape(path)}[^\n]* is not fused; use kernels=torch$"):
        model(images)


def test_parts_of_a_network_by_themselves():
    """The stem counts its own batches alone, and a block that ran first does not keep the network from running."""
    model, images = fused_net()
    x = model.stem(images)
    assert int(model.bn1.num_batches_tracked) == 1 and int(model.layer1[0].bn1.num_batches_tracked) == 0
    model, images = fused_net()
    model.layer1[0](x.detach())
    model(images)
    assert int(model.layer1[0].bn1.num_batches_tracked) == 2


def test_one_network_in_two_dtypes():
    model, images = fused_net()
    model.eval()
    with torch.no_grad():
        single = model(images)
        with torch.autocast(DEVICE.type, torch.float16):
            half = model(images)
        assert half.dtype == torch.float16 and distance(half, single) < 0.02
        assert torch.equal(model(images), single)


def test_a_gradient_expanded_over_the_batch():
    gradients = {}
    for word in ("torch", "triton"):
        model = network("cifar8-A").to(DEVICE)
        fuse(model, word)
        z = model.layer1[0](torch.linspace(-1, 1, 2 * 16 * 16, device=DEVICE).reshape(2, 16, 4, 4))
        (z.sum((0, 2, 3)) * torch.arange(16, device=DEVICE)).sum().backward()
        gradients[word] = {key: p.grad for key, p in model.layer1.named_parameters()}
    for key, expected in gradients["torch"].items():
        assert distance(gradients["triton"][key], expected) < 1e-4, key


def test_words_are_checked_where_a_network_is_fused():
    with pytest.raises(ValueError, match="^kernels=tritn: .*nearest is triton"):
        fuse(network("cifar8-A"), "tritn")


def test_a_second_derivative_is_refused():
    model, images = fused_net()
    (gradient,) = torch.autograd.grad(model(images).square().sum(), model.conv1.weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_compiling_it_whole_is_refused():
    model, images = fused_net()
    with pytest.raises(Exception, match="(?i)disable"):
        torch.compile(model, fullgraph=True, backend="eager")(images)
    torch._dynamo.reset()


def test_one_value_a_channel_is_refused_as_in_torch():
    model, _ = fused_net()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        model(torch.randn(1, 3, 4, 4, device=DEVICE))


def test_images_elsewhere_are_refused():
    model, images = fused_net()
    with pytest.raises(ValueError, match="^kernels=triton: images on meta, .*nearest is kernels=torch"):
        model.to("meta")(images.to("meta"))
