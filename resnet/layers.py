"""The layers of residual networks: convolutions, shortcuts, and the blocks that hold them.

Modules hold parameters under torchvision's names and nothing else; how they are computed is written in `conv_bn_act`,
`join` and the blocks' `forward`. Fused kernels take over a block's `forward` (`Block.fused`) and leave the state dict
alone. BN modules are plain `nn.BatchNorm2d` whose output is the value before ReLU and addition, so hooks on them see
what Figure 7 of the paper plots.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    """A convolution without bias (BN follows), padded so that only `stride` changes the image's size."""
    return nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=False)


def conv_bn_act(x: Tensor, conv: nn.Conv2d, bn: nn.BatchNorm2d) -> Tensor:
    """conv -> BN -> ReLU (paper, section 3.4).

    Args:
        x: [N, C_in, H, W], any floating dtype.
        conv: the convolution.
        bn: its normalization over C_out channels.

    Returns:
        [N, C_out, H', W'], in the convolution's dtype (autocast's, where it is on) and memory format.
    """
    # BN keeps its input for the backward pass, not its output, so ReLU may overwrite it.
    return F.relu_(bn(conv(x)))


def join(branch: Tensor, shortcut: Tensor | None) -> Tensor:
    """ReLU after the addition of the shortcut (paper, Figure 2); overwrites `branch`.

    Args:
        branch: output of a block's last BN, [N, C, H, W].
        shortcut: of the same shape and dtype, or None in a plain net.

    Returns:
        [N, C, H, W], in the storage of `branch`.
    """
    return F.relu_(branch if shortcut is None else branch.add_(shortcut))


def _zeros(shape: tuple[int, int, int, int], like: Tensor) -> Tensor:
    permuted = like.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if permuted else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout).zero_()


class _Subsample(torch.autograd.Function):
    """Every stride-th pixel, zero channels behind: one pass each way, where autograd's own slices take three back."""

    @staticmethod
    def forward(x: Tensor, stride: int, new_channels: int) -> Tensor:
        pixels = x[:, :, ::stride, ::stride]
        n, c, h, w = pixels.shape
        # Not F.pad: it loses channels_last where the stride does not divide the image.
        out = _zeros((n, c + new_channels, h, w), x)
        out[:, :c] = pixels
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int], output: Tensor) -> None:
        x, ctx.stride, _ = inputs
        ctx.shape = x.shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        grad_x = _zeros(ctx.shape, grad)
        grad_x[:, :, :: ctx.stride, :: ctx.stride] = grad[:, : ctx.shape[1]]
        return grad_x, None, None


@contextlib.contextmanager
def running_statistics_kept(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Let the BNs of some modules normalize by their batch, in training mode, and leave their running averages alone.

    They are still handed over, with a momentum of 0: a pass in the backward pass has to keep what the first one kept.
    """
    norms = [one for module in modules for one in module.modules() if isinstance(one, nn.BatchNorm2d)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    try:
        for norm in norms:
            norm.momentum, norm.num_batches_tracked = 0.0, None
        yield
    finally:
        for norm, (momentum, tracked) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, tracked


class StridedIdentity(nn.Module):
    """Shortcut option A: the identity, subsampled by `stride`, with zeros for the channels that are new; no parameters.

    Source: arXiv:1512.03385, section 3.3, option A; zeros come last, as in fb.resnet.torch.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.c_in, self.c_out, self.stride = c_in, c_out, stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] -> [N, c_out, ceil(H / stride), ceil(W / stride)], same dtype and memory format."""
        new_channels = self.c_out - self.c_in
        if self.stride == 1:
            return F.pad(x, (0, 0, 0, 0, 0, new_channels))
        return _Subsample.apply(x, self.stride, new_channels)

    def extra_repr(self) -> str:
        return f"{self.c_in}, {self.c_out}, stride={self.stride}"


class Projection(nn.Sequential):
    """Shortcut options B and C: a 1x1 convolution ("0") and its BN ("1"), the names torchvision gives them."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__(conv(c_in, c_out, 1, stride), nn.BatchNorm2d(c_out))


def make_shortcut(option: str, c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """The module on a block's shortcut, or None where it is the identity or (option "none") there is no shortcut.

    Source: arXiv:1512.03385, section 3.3 and Table 3.
    """
    changes = stride != 1 or c_in != c_out
    if option == "C" or (option == "B" and changes):
        return Projection(c_in, c_out, stride)
    if option == "A" and changes:
        return StridedIdentity(c_in, c_out, stride)
    return None


class ConvBn(NamedTuple):
    """A convolution by its name in the network, and the BN behind it."""

    name: str
    conv: nn.Conv2d
    bn: nn.BatchNorm2d


class Block(nn.Module):
    """What all blocks share: a branch of layers, a shortcut and their join.

    Attributes:
        expansion: output channels over `width`.
        residual: False in a plain net, whose blocks have no shortcut.
        downsample: module on the shortcut, None for the identity (torchvision's name).
        name: of the block in its network.
        fused: what computes the block in place of the modules, or None.
    """

    expansion: ClassVar[int]
    residual: bool
    downsample: nn.Module | None
    name: str = "block"
    fused: Any = None

    def branch(self, x: Tensor) -> Tensor:
        """The residual function F(x): all layers up to and with the last BN, before addition and ReLU."""
        raise NotImplementedError

    def shortcut(self, x: Tensor) -> Tensor | None:
        """What is added to the branch, None in a plain net."""
        if not self.residual:
            return None
        return x if self.downsample is None else self.downsample(x)

    def last_bn(self) -> nn.BatchNorm2d:
        """The BN before the addition, whose gamma `zero_init_residual` sets to zero."""
        raise NotImplementedError

    def branch_layers(self) -> list[ConvBn]:
        """The branch's convolutions with their BNs, in order."""
        raise NotImplementedError

    def conv_layers(self) -> list[ConvBn]:
        """The branch's convolutions with their BNs, and last the projection's where there is one."""
        layers = self.branch_layers()
        if isinstance(self.downsample, Projection):
            layers.append(ConvBn(f"{self.name}.downsample.0", *self.downsample))
        return layers

    def forward(self, x: Tensor) -> Tensor:
        """[N, C_in, H, W] -> [N, width * expansion, H / stride, W / stride]; the unit that fused kernels replace."""
        if self.fused is not None:
            return self.fused.block(self, x)
        return join(self.branch(x), self.shortcut(x))


class BasicBlock(Block):
    """Two 3x3 convolutions (paper, Figure 5 left); the first has the stride.

    Args:
        c_in: input channels.
        width: channels of both convolutions and of the output.
        stride: 1, or 2 where the image is halved.
        option: shortcut "none", "A", "B" or "C".
    """

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, option: str) -> None:
        super().__init__()
        self.residual = option != "none"
        self.conv1 = conv(c_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(option, c_in, width, stride)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn2(self.conv2(conv_bn_act(x, self.conv1, self.bn1)))

    def branch_layers(self) -> list[ConvBn]:
        return [
            ConvBn(f"{self.name}.conv1", self.conv1, self.bn1),
            ConvBn(f"{self.name}.conv2", self.conv2, self.bn2),
        ]

    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn2


class OneLayerBlock(Block):
    """One 3x3 convolution: y = W1 x + x, of which the paper observed no advantage (section 3.2).

    Args:
        c_in: input channels.
        width: channels of the convolution and of the output.
        stride: 1, or 2 where the image is halved.
        option: shortcut "A", "B" or "C".
    """

    expansion = 1

    def __init__(self, c_in: int, width: int, stride: int, option: str) -> None:
        super().__init__()
        self.residual = option != "none"
        self.conv1 = conv(c_in, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.downsample = make_shortcut(option, c_in, width, stride)

    def branch(self, x: Tensor) -> Tensor:
        return self.bn1(self.conv1(x))

    def branch_layers(self) -> list[ConvBn]:
        return [ConvBn(f"{self.name}.conv1", self.conv1, self.bn1)]

    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn1


class Bottleneck(Block):
    """1x1, 3x3 and 1x1 convolutions (paper, Figure 5 right).

    Args:
        c_in: input channels.
        width: channels of the 3x3; the output has four times as many.
        stride: 1, or 2 where the image is halved.
        option: shortcut "none", "A", "B" or "C".
        stride_in_3x3: the stride is in the 3x3 (v1.5, torchvision) rather than in the first 1x1 (v1, the paper).
    """

    expansion = 4

    def __init__(self, c_in: int, width: int, stride: int, option: str, stride_in_3x3: bool) -> None:
        super().__init__()
        c_out = width * self.expansion
        self.residual = option != "none"
        self.conv1 = conv(c_in, width, 1, 1 if stride_in_3x3 else stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, stride if stride_in_3x3 else 1)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, c_out, 1)
        self.bn3 = nn.BatchNorm2d(c_out)
        self.downsample = make_shortcut(option, c_in, c_out, stride)

    def branch(self, x: Tensor) -> Tensor:
        x = conv_bn_act(x, self.conv1, self.bn1)
        return self.bn3(self.conv3(conv_bn_act(x, self.conv2, self.bn2)))

    def branch_layers(self) -> list[ConvBn]:
        return [
            ConvBn(f"{self.name}.conv1", self.conv1, self.bn1),
            ConvBn(f"{self.name}.conv2", self.conv2, self.bn2),
            ConvBn(f"{self.name}.conv3", self.conv3, self.bn3),
        ]

    def last_bn(self) -> nn.BatchNorm2d:
        return self.bn3


class _GlobalAverage(torch.autograd.Function):
    """Mean over the image; its gradient is divided once a channel, then expanded: autograd's own writes every pixel."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.mean((2, 3))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.shape = inputs[0].shape

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels)[:, :, None, None].expand(ctx.shape)


def global_average(x: Tensor) -> Tensor:
    """Mean over the image (paper, section 3.3): [N, C, H, W] -> [N, C], in the dtype of `x`."""
    return _GlobalAverage.apply(x)


def he_init(model: nn.Module) -> None:
    """He initialization, fan-out, of every convolution; zero biases; BN starts as the identity.

    Source: He et al., arXiv:1502.01852, section 2.2 (backward case), as fb.resnet.torch applies it. Weights of linear
    layers keep PyTorch's uniform distribution, as there.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
