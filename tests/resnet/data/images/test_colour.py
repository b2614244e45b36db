import numpy as np
import pytest
import torch

from resnet.data.images.augment import Placement, draws, place, resolve
from resnet.data.images.colour import Colour

CPU = torch.device("cpu")


def pixels(n, size):
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8))


def test_channel_moments_and_memory_format():
    resolved = resolve("fast", "cifar10", image_size=32, train=True)
    source = pixels(37, 32)
    images = Colour(resolved, CPU)(source, place(resolved, draws(0, 0, np.arange(37))))
    expected = (source.double() / 255 - torch.tensor(resolved.mean)) / torch.tensor(resolved.std)
    assert images.shape == (37, 3, 32, 32) and images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(images.double(), expected.permute(0, 3, 1, 2), atol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (-4, 3), (2, 4)])
@pytest.mark.parametrize("flip", [False, True])
def test_per_pixel_mean_moves_with_the_crop_and_the_padding_is_zero(shift, flip):
    """Subtract, pad with zeros, crop, mirror: the order of the paper, done here on the finished crop."""
    resolved = resolve("paper", "cifar10", image_size=32, train=True)
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    mean = generator.uniform(0, 255, (32, 32, 3)).astype(np.float32)
    down, right = shift

    def crop(array):
        cut = np.pad(array, ((4, 4), (4, 4), (0, 0)))[4 + down : 36 + down, 4 + right : 36 + right]
        return cut[:, ::-1] if flip else cut

    expected = crop((image.astype(np.float32) - mean) / 255)
    placement = Placement(np.array([shift], np.int32), np.array([flip]), None)
    source = torch.from_numpy(crop(image)[None].copy())
    images = Colour(resolved, CPU, mean)(source, placement)
    assert np.allclose(images[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_per_pixel_mean_of_windows_is_mirrored_with_the_image():
    resolved = resolve("paper", "imagenet", image_size=16, train=True)
    mean = np.random.default_rng(1).uniform(0, 255, (16, 16, 3)).astype(np.float32)
    source = pixels(2, 16)
    noise = np.array([[0.1, -0.2, 0.05], [0.0, 0.0, 0.0]], np.float32)
    placement = Placement(np.zeros((2, 2), np.int32), np.array([False, True]), noise)
    images = Colour(resolved, CPU, mean)(source, placement).permute(0, 2, 3, 1).numpy()
    assert np.allclose(images[0], (source[0].numpy() - mean) / 255 + noise[0], atol=1e-6)
    assert np.allclose(images[1], (source[1].numpy() - mean[:, ::-1]) / 255, atol=1e-6)


def test_a_missing_or_misshapen_mean_is_named():
    resolved = resolve("paper", "cifar10", image_size=32, train=True)
    with pytest.raises(ValueError, match="expected mean_image"):
        Colour(resolved, CPU)
    with pytest.raises(ValueError, match=r"shape \(3, 32, 32\)"):
        Colour(resolved, CPU, np.zeros((3, 32, 32), np.float32))
