"""Plain networks that the paper compares with: AlexNet, VGG and GoogLeNet, as first published."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from resnet.architecture import check_choice
from resnet.layers import he_init

# Channels of each 3x3 convolution by stage (arXiv:1409.1556, Table 1, configurations D and E).
VGG_STAGES = {
    16: ((64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3),
    19: ((64, 64), (128, 128), (256,) * 4, (512,) * 4, (512,) * 4),
}

# 1x1; 3x3 reduce, 3x3; 5x5 reduce, 5x5; pool projection (arXiv:1409.4842, Table 1), by stage.
INCEPTION_STAGES = (
    ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)),
)


def _conv_relu(
    c_in: int, c_out: int, kernel: int, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> list[nn.Module]:
    return [nn.Conv2d(c_in, c_out, kernel, stride, padding, groups=groups), nn.ReLU(inplace=True)]


def _classifier(c_in: int, num_classes: int) -> list[nn.Module]:
    """Two hidden layers of 4096 with dropout, as AlexNet and VGG have them."""
    hidden: list[nn.Module] = []
    for channels in (c_in, 4096):
        hidden += [nn.Linear(channels, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)]
    return [nn.Flatten(), *hidden, nn.Linear(4096, num_classes)]


def alexnet(num_classes: int = 1000) -> nn.Sequential:
    """AlexNet in two columns, as groups: conv2, 4 and 5 see one column, conv3 and the linear layers both.

    Takes [N, 3, 227, 227]. Source: Krizhevsky, Sutskever, Hinton, NIPS 2012, Figure 2 and section 3.
    """

    def normalize() -> nn.Module:
        # PyTorch divides alpha by the size, the paper does not.
        return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)

    return nn.Sequential(
        *_conv_relu(3, 96, 11, stride=4),
        normalize(),
        nn.MaxPool2d(3, 2),
        *_conv_relu(96, 256, 5, padding=2, groups=2),
        normalize(),
        nn.MaxPool2d(3, 2),
        *_conv_relu(256, 384, 3, padding=1),
        *_conv_relu(384, 384, 3, padding=1, groups=2),
        *_conv_relu(384, 256, 3, padding=1, groups=2),
        nn.MaxPool2d(3, 2),
        *_classifier(256 * 6 * 6, num_classes),
    )


def vgg(depth: int, num_classes: int = 1000) -> nn.Sequential:
    """VGG-16 or VGG-19, without BN.

    Takes [N, 3, 224, 224]. Source: Simonyan, Zisserman, arXiv:1409.1556, Table 1.
    """
    layers: list[nn.Module] = []
    channels = 3
    for stage in VGG_STAGES[depth]:
        for width in stage:
            layers += _conv_relu(channels, width, 3, padding=1)
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *_classifier(channels * 7 * 7, num_classes))


class Inception(nn.Module):
    """Four branches over one input, put side by side (arXiv:1409.4842, Figure 2b)."""

    def __init__(self, c_in: int, widths: tuple[int, int, int, int, int, int]) -> None:
        super().__init__()
        one, reduce3, three, reduce5, five, pool = widths
        self.branch1 = nn.Sequential(*_conv_relu(c_in, one, 1))
        self.branch2 = nn.Sequential(*_conv_relu(c_in, reduce3, 1), *_conv_relu(reduce3, three, 3, padding=1))
        self.branch3 = nn.Sequential(*_conv_relu(c_in, reduce5, 1), *_conv_relu(reduce5, five, 5, padding=2))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, 1, padding=1), *_conv_relu(c_in, pool, 1))
        self.c_out = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        """[N, c_in, H, W] -> [N, c_out, H, W]."""
        return torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], 1)


class GoogLeNet(nn.Module):
    """GoogLeNet, optionally with the two auxiliary heads on inception 4a and 4d that help it to train.

    Source: Szegedy et al., arXiv:1409.4842, Table 1 and section 5.
    """

    def __init__(self, num_classes: int = 1000, auxiliary_heads: bool = False) -> None:
        super().__init__()

        def normalize() -> nn.Module:
            return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75)

        def pool() -> nn.Module:
            return nn.MaxPool2d(3, 2, ceil_mode=True)

        self.stem = nn.Sequential(
            *_conv_relu(3, 64, 7, stride=2, padding=3),
            pool(),
            normalize(),
            *_conv_relu(64, 64, 1),
            *_conv_relu(64, 192, 3, padding=1),
            normalize(),
            pool(),
        )
        channels = 192
        self.stages = nn.ModuleList()
        for stage in INCEPTION_STAGES:
            blocks = nn.ModuleList()
            for widths in stage:
                block = Inception(channels, widths)
                blocks.append(block)
                channels = block.c_out
            self.stages.append(blocks)
        self.pools = nn.ModuleList([pool(), pool(), nn.AdaptiveAvgPool2d(1)])
        self.classifier = nn.Sequential(nn.Flatten(), nn.Dropout(0.4), nn.Linear(channels, num_classes))
        heads = {"a": 512, "d": 528} if auxiliary_heads else {}
        self.heads = nn.ModuleDict({place: self._head(width, num_classes) for place, width in heads.items()})

    @staticmethod
    def _head(c_in: int, num_classes: int) -> nn.Sequential:
        hidden = [nn.Linear(128 * 4 * 4, 1024), nn.ReLU(inplace=True), nn.Dropout(0.7), nn.Linear(1024, num_classes)]
        return nn.Sequential(nn.AvgPool2d(5, 3), *_conv_relu(c_in, 128, 1), nn.Flatten(), *hidden)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Class scores; in training with auxiliary heads also theirs.

        Args:
            images: [N, 3, H, W]; with auxiliary heads, in training, 224x224.

        Returns:
            [N, num_classes], or a tuple of it and one tensor of that shape for each auxiliary head.
        """
        x = self.stem(images)
        auxiliary: list[Tensor] = []
        for index, (blocks, pool) in enumerate(zip(self.stages, self.pools, strict=True)):
            assert isinstance(blocks, nn.ModuleList)
            for letter, block in zip("abcde", blocks, strict=False):
                x = block(x)
                if self.training and index == 1 and letter in self.heads:
                    auxiliary.append(self.heads[letter](x))
            x = pool(x)
        scores = self.classifier(x)
        return (scores, *auxiliary) if auxiliary else scores


_BUILDERS: dict[str, Callable[[int], nn.Module]] = {
    "alexnet": alexnet,
    "vgg16": lambda num_classes: vgg(16, num_classes),
    "vgg19": lambda num_classes: vgg(19, num_classes),
    "googlenet": GoogLeNet,
}


def build(name: str, num_classes: int = 1000, *, auxiliary_heads: bool = False) -> nn.Module:
    """Build a comparator, with He's initialization, on the current default device.

    Args:
        name: "alexnet" (227x227), "vgg16", "vgg19" or "googlenet" (224x224).
        num_classes: outputs.
        auxiliary_heads: GoogLeNet's two heads, used in training only.

    Raises:
        ValueError: The name is unknown, `num_classes` below 1, or heads are asked of a network that has none.
    """
    check_choice("peer", name, tuple(_BUILDERS))
    if num_classes < 1:
        raise ValueError(f"num_classes={num_classes}: expected a whole number from 1 on; nearest is 1")
    if auxiliary_heads and name != "googlenet":
        raise ValueError(f"auxiliary_heads=True: {name} has none, only googlenet has; nearest is False")
    model = GoogLeNet(num_classes, auxiliary_heads=True) if auxiliary_heads else _BUILDERS[name](num_classes)
    he_init(model)
    return model
