"""Accuracy over the training images as they are trained on, from the logits that each step computes anyway."""

import torch
from torch import Tensor

from bench.training.process_group import World
from resnet.data import Batch

__all__ = ["TrainingAccuracy"]


class TrainingAccuracy:
    """Counts hits on this rank's device; the host asks for them once an epoch.

    One minus it is the paper's training error (Figures 1, 4 and 6): of augmented images, in training mode, each at the
    weights of its own step.

    Args:
        device: of the logits.
    """

    def __init__(self, device: torch.device) -> None:
        self._counted = torch.zeros(2, dtype=torch.int64, device=device)  # hits, images

    @torch.no_grad()
    def add(self, logits: Tensor, batch: Batch) -> None:
        """Count a micro-batch, padding left out, without waiting for the device.

        Args:
            logits: [N, classes], of the forward that is trained on.
            batch: with the labels of the images, whatever the recipe makes of them in its loss.
        """
        hits = logits.detach().argmax(1) == batch.labels
        valid = torch.ones_like(hits) if batch.valid is None else batch.valid
        self._counted += torch.stack([(hits & valid).sum(), valid.sum()])

    def take(self, world: World) -> tuple[int, int]:
        """Hits and images of all ranks since it was last asked for."""
        hits, images = world.all_reduce(self._counted.tolist())
        self._counted.zero_()
        return round(hits), round(images)
