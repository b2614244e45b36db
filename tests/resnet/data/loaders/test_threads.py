"""However many threads or workers a loader has, however small its batches: the same images, once each."""

import dataclasses
import functools

import numpy as np
import pytest
import torch
from PIL import Image
from readers import read

from resnet.data import Split, compute_mean_image, open_dataset, synthetic_splits

THREADS = (1, 2, 7, 48, 96)
SHAPES = [(batch, world_size) for batch in (1, 3, 64) for world_size in (1, 2, 8)]
MOST = 2 * 64 * 8 + 5  # images of the largest


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Small coloured JPEGs of different sizes and shapes, as many as the largest batches need."""
    root = tmp_path_factory.mktemp("folder")
    generator = np.random.default_rng(0)
    for split, count in (("train", MOST), ("val", 2)):
        (root / split / "a").mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(generator.integers(0, 256, (3, 4, 3), dtype=np.uint8))
            size = (int(generator.integers(24, 48)), int(generator.integers(24, 48)))
            coarse.resize(size, Image.Resampling.BICUBIC).save(root / split / "a" / f"{i}.jpg")
    return open_dataset("imagefolder", root, image_size=32).train


@pytest.fixture(scope="module")
def splits(folder):
    return {
        "digits": open_dataset("digits", None, image_size=32).train,
        "folder": folder,
        "synthetic": synthetic_splits("digits").train,
    }


def part(split: Split, count: int) -> Split:
    """The first images of a split, each with a label of its own."""
    images, paths = (None if held is None else held[:count] for held in (split.images, split.paths))
    return dataclasses.replace(split, labels=np.arange(count), images=images, paths=paths)


def ranks(kind, split, train, batch, world_size, threads, last=False):
    """What every rank, or the last one, reads of an epoch of a few steps and some images more."""
    some = part(split, 2 * batch * world_size + 5)
    options = {"train": train, "batch": batch, "world_size": world_size, "threads": threads}
    augment = "fast" if kind != "synthetic" else "none"
    whose = range(world_size - 1 if last else 0, world_size)
    return [read(kind, some, rank=rank, augment=augment, **options) for rank in whose]


def check(kind, split, shapes, threads, *, modes=(True, False), last=False):
    """Hold all threads against one, in training and in evaluation, on all ranks or the last."""
    for train in modes:
        for batch, world_size in shapes:
            read_by = functools.partial(ranks, kind, split, train, batch, world_size)
            one = read_by(1)
            seen = [
                label
                for batches in one
                for _, labels, valid in batches
                for label in (labels if valid is None else labels[valid]).tolist()
            ]
            count = 2 * batch * world_size + 5
            each = -(-count // (batch * world_size)) if not train else count // (batch * world_size)
            assert {len(batches) for batches in one} == {each}
            assert len(seen) == (min(count, each * batch * world_size) if train else count)
            if kind != "synthetic":  # whose labels are drawn
                assert len(set(seen)) == len(seen) and (train or set(seen) == set(range(count)))
            for many in threads:
                for rank, (mine, theirs) in enumerate(zip(read_by(many, last), one[-1:] if last else one, strict=True)):
                    what = f"{many} threads, {rank} of {world_size} (the last: {last}), batch {batch}, train {train}"
                    assert len(mine) == len(theirs), what
                    for ours, known in zip(mine, theirs, strict=True):
                        assert torch.equal(ours[0], known[0]) and torch.equal(ours[1], known[1]), what
                        assert (ours[2] is None) == (known[2] is None), what
                        assert ours[2] is None or torch.equal(ours[2], known[2]), what


@pytest.mark.parametrize(
    "shape", [shape if shape == (3, 2) else pytest.param(shape, marks=pytest.mark.slow) for shape in SHAPES]
)
@pytest.mark.parametrize("where", ["digits", "folder"])
def test_dali_reads_the_same_with_any_number_of_threads(where, shape, splits):
    check("dali", splits[where], [shape], THREADS[1:])


@pytest.mark.slow
@pytest.mark.parametrize("where", ["digits", "folder"])
def test_a_dataloader_reads_the_same_with_any_number_of_workers(where, splits):
    """A worker has whole batches: what may go wrong is that there are fewer of them than workers."""
    check("torch", splits[where], [(3, 2)], (0, 7))
    check("torch", splits[where], [(1, 1), (64, 1)], (2,))


@pytest.mark.slow
def test_far_more_workers_than_batches_end(splits):
    check("torch", splits["digits"], [(3, 1)], (48,), modes=[False])


@pytest.mark.soak
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("where", ["digits", "folder"])
def test_a_dataloader_of_any_size_reads_the_same(where, shape, splits):
    check("torch", splits[where], [shape], (0, *THREADS[1:]), last=True)


@pytest.mark.slow
def test_synthetic_images_are_the_same_whatever_is_asked_for(splits):
    check("synthetic", splits["synthetic"], SHAPES, THREADS[1:])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["dali", "torch"])
@pytest.mark.parametrize("where", ["digits", "folder"])
def test_the_mean_image_is_the_same_with_any_number_of_threads(kind, where, splits, tmp_path, monkeypatch):
    some = part(splits[where], 200)
    found = []
    for threads in (1, *(THREADS[1:] if kind == "dali" else (0, 7))):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(threads)))
        mean, seconds = compute_mean_image(some, image_size=32, threads=threads, kind=kind)
        assert seconds > 0
        found.append(mean)
    assert all(np.array_equal(mean, found[0]) for mean in found)
