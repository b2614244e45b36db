"""The families of residual networks and their plain counterparts, built from a description."""

from typing import Any

import torch
from torch import Tensor, nn

from resnet.activation_checkpointing import checkpointed
from resnet.architecture import KERNELS, Architecture, check_activation_checkpointing, check_choice
from resnet.layers import (
    BasicBlock,
    Block,
    Bottleneck,
    ConvBn,
    OneLayerBlock,
    conv,
    conv_bn_act,
    global_average,
    he_init,
)
from results.words import ConfigError


class ResNet(nn.Module):
    """A residual network, or the plain network of the same layers where the shortcut is "none".

    Modules are named as in torchvision (conv1, bn1, layer1 ..., fc), so that the state dict of the imagenet family with
    shortcut B is torchvision's and published weights load unchanged.

    Source: arXiv:1512.03385, Table 1 and section 4.2.

    Args:
        architecture: which network.

    Attributes:
        architecture: the same.
        maxpool: 3x3 max pooling with stride 2, of the imagenet family alone; else None.
        fused: what computes the network in place of the modules (`resnet.fused.network.Fused`), or None.
        activation_checkpointing: whether blocks compute again in the backward pass what they did not keep.
    """

    maxpool: nn.Module | None
    fused: Any = None
    activation_checkpointing: bool = False

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        imagenet = architecture.family == "imagenet"
        channels = 64 if imagenet else 16
        self.conv1 = conv(3, channels, 7, 2) if imagenet else conv(3, channels, 3)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else None
        for index, (width, blocks) in enumerate(zip(architecture.widths, architecture.blocks, strict=True)):
            stage = nn.Sequential()
            for number in range(blocks):
                stride = 2 if index > 0 and number == 0 else 1
                block = self._block(channels, width, stride)
                block.name = f"layer{index + 1}.{number}"
                stage.append(block)
                channels = width * block.expansion
            self.add_module(f"layer{index + 1}", stage)
        self.fc = nn.Linear(channels, architecture.num_classes)

    def _block(self, channels: int, width: int, stride: int) -> Block:
        option = self.architecture.shortcut
        if self.architecture.bottleneck:
            return Bottleneck(channels, width, stride, option, stride_in_3x3=self.architecture.stride == "v1.5")
        if self.architecture.family == "one-layer":
            return OneLayerBlock(channels, width, stride, option)
        return BasicBlock(channels, width, stride, option)

    def stages(self) -> list[nn.Sequential]:
        """The stages in order, each a sequence of blocks."""
        return [getattr(self, f"layer{index + 1}") for index in range(len(self.architecture.blocks))]

    def residual_blocks(self) -> list[Block]:
        """All blocks in order."""
        return [module for module in self.modules() if isinstance(module, Block)]

    def conv_layers(self) -> list[ConvBn]:
        """All convolutions with their BNs: the stem's, then block by block."""
        return [ConvBn("conv1", self.conv1, self.bn1), *(p for b in self.residual_blocks() for p in b.conv_layers())]

    def stem(self, images: Tensor) -> Tensor:
        """The layers before the first stage: [N, 3, H, W] -> [N, 64, H / 4, W / 4] (cifar: [N, 16, H, W])."""
        if self.fused is not None:
            return self.fused.stem(self, images)
        x = conv_bn_act(images, self.conv1, self.bn1)
        return x if self.maxpool is None else self.maxpool(x)

    def forward(self, images: Tensor) -> Tensor:
        """Class scores before softmax.

        Args:
            images: [N, 3, H, W], floating, best in channels_last; any size from 32 on (cifar: from 4 on).

        Returns:
            [N, num_classes], in autocast's dtype where it is on.
        """
        if self.fused is not None:
            return self.fused.network(self, images)
        x = self.stem(images)
        if self.activation_checkpointing and torch.is_grad_enabled():
            x = checkpointed(self.residual_blocks(), x)
        else:
            for stage in self.stages():
                x = stage(x)
        return self.fc(global_average(x))


def build(
    *,
    family: str,
    depth: int,
    shortcut: str,
    stride: str = "v1",
    num_classes: int,
    kernels: str = "torch",
    zero_init_residual: bool = False,
    activation_checkpointing: bool = False,
) -> ResNet:
    """Build an initialized network on the current default device, in training mode, in fp32.

    Weights move freely between values of `kernels`: the state dict does not depend on it.

    Args:
        family: "imagenet", "cifar" or "one-layer".
        depth: 18, 34, 50, 101 or 152 (imagenet); 6n + 2 from 8 on (the others).
        shortcut: "none" (plain net), "A", "B" or "C"; see `resnet.layers.make_shortcut`.
        stride: "v1" (the paper) or "v1.5" (torchvision; bottleneck nets only).
        num_classes: outputs.
        kernels: "torch" is the reference; "compile" compiles `forward` as one graph at the first call; "triton" uses
            the fused kernels of `kernels` by a fixed rule; "auto" measures at the first call which of them pay.
        zero_init_residual: start each residual block as the identity by a zero gamma in its last BN (Goyal et al.,
            arXiv:1706.02677, section 5.1). Not for plain nets, which it would cut.
        activation_checkpointing: keep the input of some blocks alone, and compute the rest again in the backward pass;
            see `resnet.activation_checkpointing`. With kernels="torch" only.

    Raises:
        ConfigError: A word is unknown or does not fit the others; one line with the nearest valid choice.
    """
    check_choice("kernels", kernels, KERNELS)
    check_activation_checkpointing(activation_checkpointing, kernels)
    architecture = Architecture(family=family, depth=depth, shortcut=shortcut, stride=stride, num_classes=num_classes)
    if zero_init_residual and shortcut == "none":
        raise ConfigError("zero_init_residual=True: a plain net (shortcut=none) would put out zeros; nearest is False")
    model = ResNet(architecture)
    model.activation_checkpointing = activation_checkpointing
    he_init(model)
    if zero_init_residual:
        for block in model.residual_blocks():
            nn.init.zeros_(block.last_bn().weight)
    if kernels == "compile":
        # One graph or an error: a graph break would fall back to the reference without a word.
        model.compile(fullgraph=True)
    elif kernels in ("triton", "auto"):
        fuse(model, kernels)
    return model


def fuse(model: ResNet, kernels: str) -> None:
    """Compute a network with the fused kernels from now on ("triton", "auto"), or with its modules again ("torch")."""
    check_choice("kernels", kernels, ("torch", "triton", "auto"))
    fused = None
    if kernels != "torch":
        from resnet.fused.network import Fused  # imports Triton

        fused = Fused(kernels)
    model.fused = fused
    for block in model.residual_blocks():
        block.fused = fused
