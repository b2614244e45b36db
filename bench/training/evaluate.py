"""Evaluation of a network over the test set, every image exactly once over all ranks."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.training.engine import autocast
from bench.training.process_group import World
from resnet.data import Batch, Loader


@dataclass(frozen=True)
class Accuracy:
    """Top-1 and top-5 as fractions of `images`."""

    top1: float
    top5: float
    images: int


@torch.no_grad()
def evaluate(model: nn.Module, loader: Loader, precision: str, world: World) -> Accuracy:
    """Accuracy over what `loader` yields on all ranks, padding left out; BN's statistics are averaged over them first.

    Args:
        model: the bare network; it is left in eval mode.
    """
    average_statistics(model, world)
    model.eval()
    seen = torch.zeros(3, dtype=torch.float64, device=world.device)
    for batch in loader.epoch(0):
        with autocast(precision, world.device):
            logits = model(batch.images)
        seen += _hits(logits.float(), batch)
    top1, top5, images = world.all_reduce(seen.tolist())
    return Accuracy(top1 / images, top5 / images, round(images))


@torch.no_grad()
def average_statistics(model: nn.Module, world: World) -> None:
    """Average BN's running statistics over the ranks, each of which saw only its own batches."""
    if world.size == 1:
        return
    buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
    flat = torch.cat([buffer.flatten() for buffer in buffers])
    torch.distributed.all_reduce(flat)
    flat /= world.size
    offset = 0
    for buffer in buffers:
        buffer.copy_(flat[offset : offset + buffer.numel()].view_as(buffer))
        offset += buffer.numel()


def _hits(logits: Tensor, batch: Batch) -> Tensor:
    """Top-1 hits, top-5 hits and images of a batch, padding left out; float64 [3]."""
    best = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.labels[:, None]
    valid = torch.ones_like(batch.labels, dtype=torch.bool) if batch.valid is None else batch.valid
    hits = best & valid[:, None]
    return torch.stack([hits[:, 0].sum(), hits.sum(), valid.sum()]).double()
