"""A ledger of one training step: what was launched for which layer, what torch computed beside it, what was kept.

Falling back to torch cannot pass for fusing: each launch stands in a table written here, torch may touch an activation
with convolutions alone, and what is kept for the backward pass is counted to the byte.
"""

import functools
from collections import Counter

import pytest
import torch
from fused_nets import DEVICE, batch, network
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from kernels import runtime
from resnet.model import fuse

pytestmark = pytest.mark.interpreted

SIZE = 3  # images; no layer has as many output channels
WEIGHTS = {"weights": ["pack_weights"]}
APPLY, REDUCE, DGRAD = "bn_act_backward_apply", "bn_act_backward_reduce", "conv_dgrad"

# A layer's own launches, forward and backward.
CIFAR_STEM = ["bn_stats", "bn_act", APPLY]
STEM = ["bn_stats", "stem", "stem_backward_reduce", "stem_backward_apply"]
FIRST_3X3 = ["conv3x3", DGRAD, APPLY]
LAST_3X3 = ["conv3x3", "bn_act", DGRAD, APPLY]  # its ReLU before it is a prologue; the join is its own
# cuDNN's convolution and gradient: statistics apart, and the join before it reduced apart.
STRIDED_3X3 = ["bn_stats", REDUCE, APPLY]
FIRST_1X1 = ["conv1x1", DGRAD, APPLY]
INNER_3X3 = ["conv3x3", DGRAD, APPLY]
LAST_1X1 = ["conv1x1", "bn_act", DGRAD, APPLY]
PROJECTION = ["conv1x1"]  # of a CIFAR net; its gradient is cuDNN's: ours would save no pass


def cifar20(projected=()):
    table = {**WEIGHTS, "conv1": CIFAR_STEM}
    for stage in (1, 2, 3):
        for block in range(3):
            strided = stage > 1 and block == 0
            table[f"layer{stage}.{block}.conv1"] = STRIDED_3X3 if strided else FIRST_3X3
            table[f"layer{stage}.{block}.conv2"] = LAST_3X3
            if (stage, block) in projected:
                table[f"layer{stage}.{block}.downsample.0"] = PROJECTION
    table["layer3.2.conv2"] = [*LAST_3X3, REDUCE]  # the gradient comes from the pooling, through no convolution
    return table


def plain20():
    table = cifar20()
    for stage in (2, 3):  # with no shortcut to add, the block before reduces the gradient itself
        table[f"layer{stage}.0.conv1"] = ["bn_stats", APPLY]
        table[f"layer{stage - 1}.2.conv2"] = [*LAST_3X3, REDUCE]
    return table


def bottleneck(stride):
    """Option B: layer1 keeps 64 channels, so its shortcuts are identities; the others begin with a projection."""
    table = {**WEIGHTS, "conv1": STEM}
    for block in ("1.0", "1.1", "2.0", "2.1", "3.0", "4.0"):
        names = [f"layer{block}.{name}" for name in ("conv1", "conv2", "conv3", "downsample.0")]
        table[names[0]], table[names[1]], table[names[2]] = FIRST_1X1, INNER_3X3, LAST_1X1
        if block in ("2.0", "3.0", "4.0"):
            table[names[3]] = ["bn_stats"]  # cuDNN's
            if stride == "v1":  # the gradient of the first 1x1 is cuDNN's, on the grid of its stride
                # With more than 64 channels on a side it is cuDNN's forward as well.
                table[names[0]] = ["conv1x1" if block == "2.0" else "bn_stats", REDUCE, APPLY]
            else:  # cuDNN's 3x3: what it reads is written; statistics, and sums of the BN before it, are apart
                table[names[0]] = ["conv1x1", "bn_act", DGRAD, REDUCE, APPLY]
                table[names[1]] = ["bn_stats", APPLY]
        if block[0] != "1":  # more than 64 channels: what the last 1x1 reads is written
            table[names[1]] = [*table[names[1]], "bn_act"]
    table["layer4.0.conv3"] = [*LAST_1X1, REDUCE]
    return table


TABLES = {
    "cifar20-none": plain20(),
    "cifar20-A": cifar20(),
    "cifar20-B": cifar20([(2, 0), (3, 0)]),
    "cifar20-C": cifar20([(stage, block) for stage in (1, 2, 3) for block in range(3)]),
    "bottleneck-v1-B": bottleneck("v1"),
    "bottleneck-v1.5-B": bottleneck("v1.5"),
}
# What torch may do with an image: cuDNN's convolutions, the mean over it, and casts and views of it.
ALLOWED = {
    "aten::convolution", "aten::convolution_backward", "aten::mean", "aten::expand", "aten::detach", "aten::permute",
    "aten::view", "aten::clone", "aten::_to_copy", "aten::empty", "aten::slice", "aten::alias", "aten::new_empty",
}  # fmt: skip


class Seen(TorchDispatchMode):
    """Names of the operations that get a [N, C, H, W] tensor of `size` images."""

    def __init__(self, size):
        super().__init__()
        self.size, self.names = size, Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)]
        if any(tensor.dim() == 4 and tensor.shape[0] == self.size for tensor in tensors):
            self.names[func.name().partition(".")[0]] += 1
        return func(*args, **(kwargs or {}))


@functools.cache
def step(name):
    """One step of a network over the fused kernels: network, launches, torch's operations, bytes kept, image side."""
    model = network(name).to(DEVICE)
    fuse(model, "triton")
    images, labels = batch(name, 0, SIZE)
    weights = {tuple(part.conv.weight.shape) for part in model.conv_layers()}
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept = {}

    def pack(tensor):
        image = tensor.dim() == 4 and tuple(tensor.shape) not in weights
        statistics = tensor.dim() == 2 and (tensor.dtype == torch.uint8 or len(tensor) == 2)
        if (image or statistics) and tensor.data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with runtime.record_launches() as launches, Seen(SIZE) as seen:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = functional.cross_entropy(model(images), labels)
        loss.backward()
    return model, launches, seen.names, sum(t.numel() * t.element_size() for t in kept.values()), images.shape[-1]


@pytest.mark.parametrize("name", TABLES)
def test_each_layer_launches_what_the_table_says(name):
    found = {}
    for launch in step(name)[1]:
        found.setdefault(launch.layer, []).append(launch.kernel)
    assert {layer: sorted(kernels) for layer, kernels in found.items()} == {
        layer: sorted(kernels) for layer, kernels in TABLES[name].items()
    }


@pytest.mark.parametrize("name", TABLES)
def test_torch_only_convolves(name):
    model, launches, names, *_ = step(name)
    strayed = set(names) - ALLOWED
    assert not strayed, f"torch computed {strayed} on activations"
    # A convolution forward and one backward for each that is cuDNN's, and one backward for the gradient of each weight.
    ours = Counter(launch.kernel for launch in launches)
    convolutions = len(model.conv_layers())
    assert names["aten::convolution"] == convolutions - ours["conv1x1"] - ours["conv3x3"]
    # The stem's convolution has no gradient of its images.
    assert names["aten::convolution_backward"] == 2 * convolutions - 1 - ours[DGRAD]


def test_every_kernel_of_training_is_in_some_table():
    launched = {kernel for table in TABLES.values() for kernels in table.values() for kernel in kernels}
    assert launched == {
        "pack_weights", "bn_stats", "bn_act", REDUCE, APPLY, "stem", "stem_backward_reduce", "stem_backward_apply",
        "conv1x1", DGRAD, "conv3x3",
    }  # fmt: skip


def kept_bytes(model, name, size, side):
    """Bytes that a step keeps, layer by layer: each y, mean and invstd, a join's bits, the images, the pool's argmax.

    A block's input is the output of the block before, kept once. The activation between two layers is kept where cuDNN
    convolves it; where ours applies BN and ReLU to what it reads, there is none.
    """
    element, total = 4, 0
    imagenet = not name.startswith("cifar")
    side_out = side // 2 if imagenet else side
    stem = size * model.conv1.out_channels * side_out**2
    total += size * 3 * side**2 * element + stem * element + 8 * model.conv1.out_channels
    pixels = side_out**2
    if imagenet:
        side_out //= 2
        pixels = side_out**2
        total += size * model.conv1.out_channels * pixels  # argmax, a byte
    channels = model.conv1.out_channels
    for block in model.residual_blocks():
        total += size * channels * pixels * element  # x
        for i, (_, conv, _) in enumerate(block.branch_layers()):
            written = (conv.kernel_size[0] == 3 and conv.stride[0] == 2) or conv.out_channels > 64
            if i > 0 and written:
                total += size * conv.in_channels * side_out**2 * element  # z
            side_out = -(-side_out // conv.stride[0])
            total += size * conv.out_channels * side_out**2 * element + 8 * conv.out_channels
        channels, pixels = conv.out_channels, side_out**2
        if len(block.conv_layers()) > len(block.branch_layers()):
            total += size * channels * pixels * element + 8 * channels
        if block.residual:
            total += size * pixels * -(-channels // 8)
    return total


@pytest.mark.parametrize("name", TABLES)
def test_a_step_keeps_no_more_than_the_backward_pass_reads(name):
    model, _, _, found, side = step(name)
    assert found == kept_bytes(model, name, SIZE, side)
