"""Turns a batch of uint8 pixels into the network's normalized float input, for every loader alike."""

import numpy as np
import torch

from resnet.data.images.augment import Augmentation, Placement

_CHUNK = 1 << 15


class Colour:
    """Normalizes uint8 [N, S, S, 3] to float32 [N, 3, S, S] in channels_last, on the CPU or on a GPU.

    Pixels are taken in [0, 1]. With channel moments: (x - mean) / std. With a mean image: x - mean, and no division;
    the mean moves and mirrors with the crop, so that the padding is zero after the subtraction (He et al. 2016,
    section 4.2). Then the colour noise, if the policy has any (divided like the pixels).

    Args:
        augmentation: What to do.
        device: Where the pixels come in and the floats go out.
        mean_image: float32 [S, S, 3] in [0, 255]; needed where `augmentation.per_pixel`.

    Raises:
        ValueError: The mean image is missing or has another shape.
    """

    def __init__(self, augmentation: Augmentation, device: torch.device, mean_image: np.ndarray | None = None) -> None:
        size = augmentation.image_size
        self._size = size
        self._pad = augmentation.pad
        std = np.array(augmentation.std, np.float32)
        mean = np.array(augmentation.mean, np.float32)
        if augmentation.per_pixel:
            if mean_image is None:
                raise ValueError("augment=paper: expected mean_image, the per-pixel mean of the training images")
            if mean_image.shape != (size, size, 3):
                raise ValueError(f"mean_image: shape {mean_image.shape}; expected {(size, size, 3)}")
            std = np.ones(3, np.float32)
            self._bank = -_moved(mean_image.astype(np.float32) / 255, self._pad)
        else:
            self._bank = np.tile(-mean / std, size * size)[None]
        self._moves = augmentation.per_pixel
        self._scale = np.tile(1 / (255 * std), size * size)
        self._noise = np.float32(1) / std
        self._device = device
        if device.type != "cpu":
            self._bank_tensor = torch.from_numpy(self._bank).to(device)
            self._scale_tensor = torch.from_numpy(self._scale[:3].copy()).to(device)

    def _rows(self, placement: Placement) -> np.ndarray:
        """Return which row of the bank each sample subtracts: int64 [N]."""
        side = 2 * self._pad + 1
        down, right = (placement.shifts + self._pad).astype(np.int64).T
        return (down * side + right) * 2 + placement.flips

    def __call__(self, pixels: torch.Tensor, placement: Placement) -> torch.Tensor:
        """Normalize a batch: uint8 [N, S, S, 3], contiguous, to a new float32 [N, 3, S, S] in channels_last."""
        if pixels.device.type == "cpu":
            images = torch.empty(pixels.shape, dtype=torch.float32)
            self.fill(images.numpy(), pixels.numpy(), placement)
        else:
            images = self._on_gpu(pixels, placement)
        return images.permute(0, 3, 1, 2)

    def fill(self, out: np.ndarray, pixels: np.ndarray, placement: Placement) -> None:
        """Normalize on the CPU: uint8 `pixels` to float32 `out`, both [N, S, S, 3] and contiguous."""
        # One thread and cache-sized pieces: this runs beside the training's own threads, and numpy, unlike torch's
        # operators, brings up no second set of OpenMP threads.
        flat, source = out.reshape(len(out), -1), pixels.reshape(len(pixels), -1)
        rows = self._rows(placement) if self._moves else None
        noise = None
        if placement.colour is not None:
            noise = np.tile(placement.colour * self._noise, (1, self._size))[:, None]
        step = max(1, _CHUNK // flat.shape[1])
        for first in range(0, len(flat), step):
            part = slice(first, first + step)
            piece = flat[part]
            np.copyto(piece, source[part])
            piece *= self._scale
            piece += self._bank[rows[part]] if rows is not None else self._bank
            if noise is not None:
                lines = piece.reshape(len(piece), self._size, -1)
                lines += noise[part]

    def _on_gpu(self, pixels: torch.Tensor, placement: Placement) -> torch.Tensor:
        images = pixels.to(torch.float32)
        shape = (-1, self._size, self._size, 3)
        if self._moves:
            rows = torch.from_numpy(self._rows(placement)).pin_memory().to(self._device, non_blocking=True)
            bias = self._bank_tensor[rows].view(shape)
        else:
            bias = self._bank_tensor[0, :3]
        torch.addcmul(bias, images, self._scale_tensor, out=images)
        if placement.colour is not None:
            noise = torch.from_numpy(placement.colour * self._noise).pin_memory().to(self._device, non_blocking=True)
            images += noise[:, None, None, :]
        return images


def _moved(mean: np.ndarray, pad: int) -> np.ndarray:
    """Return every shifted and mirrored view of a mean image, zero outside: float32 [(2p+1)^2 * 2, S*S*3]."""
    size = mean.shape[0]
    padded = np.pad(mean, ((pad, pad), (pad, pad), (0, 0)))
    views = []
    for down in range(2 * pad + 1):
        for right in range(2 * pad + 1):
            view = padded[down : down + size, right : right + size]
            views += [view.reshape(-1), view[:, ::-1].reshape(-1)]
    return np.stack(views)
