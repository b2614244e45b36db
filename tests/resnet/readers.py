"""Loaders as the tests of this folder make and compare them."""

import torch

from resnet.data import make_loader

CPU = torch.device("cpu")
READERS = ("dali", "torch")


def loader(kind, split, **changes):
    options = {
        "train": False,
        "batch": 4,
        "rank": 0,
        "world_size": 1,
        "seed": 5,
        "augment": "fast",
        "image_size": 32,
        "device": CPU,
        "threads": 2 if kind == "dali" else 1,
        **changes,
    }
    return make_loader(kind, split, **options)


def read(kind, split, which=(0,), **changes):
    """Return all batches of some epochs, copied, as (images, labels, valid)."""
    made = loader(kind, split, **changes)
    try:
        return [(batch.images.clone(), batch.labels.clone(), batch.valid) for e in which for batch in made.epoch(e)]
    finally:
        made.close()


def stacked(batches):
    return torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])


def worst(one, two):
    """Largest difference of two lists of batches in grey levels of 0 to 255 (of the least contrasty channel)."""
    first, second = stacked(one), stacked(two)
    assert (first[1] == second[1]).all()
    return float((first[0] - second[0]).abs().max()) * 255 * 0.229
