"""Small photographs of odd sizes, and nets that tell them apart a little."""

import numpy as np
import torch
from PIL import Image

import resnet

SIZES = [(60, 40), (40, 60), (41, 41), (90, 37), (40, 64), (32, 32), (60, 40), (200, 45)]  # width, height
SIZE = 32  # that the nets see


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    """Smooth colours, in which neighbours differ little and corners much."""
    noise = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.BICUBIC)


def net(seed: int, *, depth: int = 8, family: str = "cifar", shortcut: str = "A", classes: int = 3) -> resnet.ResNet:
    """A net that tells images apart: neither gammas, biases nor running statistics are as at the start."""
    torch.manual_seed(seed)
    model = resnet.build(family=family, depth=depth, shortcut=shortcut, num_classes=classes)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
        model.train()
        model(torch.randn(8, 3, SIZE, SIZE) * 0.7 + 0.2)
    return model.eval()
