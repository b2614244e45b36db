"""Statistics of batch normalization over many training images, in place of the momentum average of training."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from resnet.layers import running_statistics_kept

__all__ = ["mixed_rows", "set_exact_statistics", "spread_rows"]


def spread_rows(count: int, images: int) -> np.ndarray:
    """Places of `count` of a split's images, evenly spread: folders are ordered by class; int64 [count]."""
    return np.arange(count, dtype=np.int64) * images // count


def mixed_rows(count: int, images: int) -> np.ndarray:
    """The same places in a random order, always the same one; int64 [count].

    Whatever is cut from their front has images of many classes, as batches of training have: a BN whose batch has one
    class alone puts out something else than it did in training.
    """
    return np.random.default_rng(0).permutation(spread_rows(count, images))


def _none_alone(batches: Iterable[Tensor]) -> Iterator[Tensor]:
    """The batches; a last one of a single image joins the one before, since it may have one value a channel."""
    waiting: list[Tensor] = []
    for batch in batches:
        waiting.append(batch)
        if len(waiting) > 2:
            yield waiting.pop(0)
    yield from [torch.cat(waiting)] if waiting and len(waiting[-1]) == 1 else waiting


@torch.no_grad()
def set_exact_statistics(
    model: nn.Module,
    batches: Iterable[Tensor],
    all_reduce: Callable[[Sequence[float]], list[float]] = list,
) -> int:
    """Set the running statistics of every BN to the mean and variance of its input over images.

    The net is in training mode meanwhile: each BN normalizes by its own batch, and its successors see what they saw in
    training. The variance is that of all values together: the mean of the batches' variances lacks what their means
    differ by. The authors' released models have averages over many training images too, says their README.

    Args:
        model: in whichever mode; it is left in evaluation mode.
        batches: float32 [N, 3, H, W], normalized as in training.
        all_reduce: sums values over the ranks; every rank calls it.

    Returns:
        Images over all ranks.

    Raises:
        ValueError: there are none.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    totals = {norm: torch.zeros(2, norm.num_features, dtype=torch.float64) for norm in norms}
    counts = dict.fromkeys(norms, 0)

    def add(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d)
        values = inputs[0].double()
        totals[norm] += torch.stack([values.sum(dim=(0, 2, 3)), values.square().sum(dim=(0, 2, 3))]).cpu()
        counts[norm] += values.numel() // norm.num_features

    hooks = [norm.register_forward_pre_hook(add) for norm in norms]
    images = 0
    model.train()
    try:
        with running_statistics_kept([model]):  # until all is known
            for batch in _none_alone(batches):
                model(batch)
                images += len(batch)
    finally:
        for hook in hooks:
            hook.remove()
        model.eval()
    flat = [float(images)]
    for norm in norms:
        flat += [float(counts[norm]), *totals[norm].flatten().tolist()]
    summed = all_reduce(flat)
    if not summed[0]:
        raise ValueError("no images: the statistics of batch normalization cannot be averaged over none")
    at = 1
    for norm in norms:
        count, size = summed[at], norm.num_features
        mean, square = torch.tensor(summed[at + 1 : at + 1 + 2 * size], dtype=torch.float64).view(2, size) / count
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(mean)
        # Rounding may leave a channel that never varies a little below zero.
        norm.running_var.copy_((square - mean.square()).clamp_min(0))
        at += 1 + 2 * size
    return round(summed[0])
