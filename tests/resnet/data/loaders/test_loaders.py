import dataclasses
import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from readers import READERS, loader, read, stacked, worst

from resnet.data import Split, compute_mean_image, open_dataset, synthetic_splits, unpack_archive


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A training and a test folder of small coloured JPEGs of different sizes and shapes."""
    root = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", 11), ("val", 7)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                coarse = Image.fromarray(generator.integers(0, 256, (5, 6, 3), dtype=np.uint8))
                # Below twice the size at which they are read, so that the peer decodes them whole.
                size = (int(generator.integers(24, 63)), int(generator.integers(24, 63)))
                coarse.resize(size, Image.Resampling.BICUBIC).save(root / split / name / f"{i}.jpg", quality=92)
    return open_dataset("imagefolder", root, image_size=32)


@pytest.fixture(scope="module")
def in_memory():
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, (23, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(23) % 10
    return Split(name="train", dataset="cifar10", labels=labels, classes=list("abcdefghij"), images=images, hash="m")


@pytest.mark.parametrize("kind", READERS)
def test_batches_have_the_promised_form(kind, photographs):
    made = loader(kind, photographs.train, train=True)
    assert (made.steps_per_epoch, made.batches_per_epoch, made.images_per_epoch) == (5, 5, 20)
    batches = list(made.epoch(0))
    made.close()
    assert len(batches) == 5
    for batch in batches:
        assert batch.images.shape == (4, 3, 32, 32) and batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.shape == (4,) and batch.labels.dtype == torch.int64
        assert batch.valid is None and batch.images.isfinite().all()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("augment", ["paper", "fast", "none"])
def test_both_readers_give_the_same_photographs(train, augment, photographs):
    mean = np.random.default_rng(2).uniform(90, 150, (32, 32, 3)).astype(np.float32)
    options = {"train": train, "augment": augment, "mean_image": mean, "epochs": 2}
    dali, peer = (read(kind, photographs.train, which=(0, 1), **options) for kind in READERS)
    assert len(dali) == (10 if train else 12)
    # The same decoder library, resize and normalization: one level for different builds of libjpeg.
    assert worst(dali, peer) <= 1.5


@pytest.mark.parametrize("augment", ["paper", "fast", "shift"])
@pytest.mark.parametrize("size", [32, 48])
def test_both_readers_give_the_same_small_images(augment, size, in_memory):
    mean = np.random.default_rng(2).uniform(90, 150, (size, size, 3)).astype(np.float32)
    options = {"train": True, "augment": augment, "mean_image": mean, "image_size": size}
    dali, peer = (read(kind, in_memory, **options) for kind in READERS)
    # At 32 nothing is resized and all is equal; at 48 two libraries' bilinear filters round differently.
    assert worst(dali, peer) <= (1e-3 if size == 32 else 2)


def test_large_jpegs_that_the_peer_decodes_at_half_size_stay_close(tmp_path):
    for i in range(4):
        coarse = Image.fromarray(np.random.default_rng(i).integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((400, 300), Image.Resampling.BICUBIC).save(tmp_path / f"{i}.jpg", quality=92)
    paths = sorted(str(path) for path in tmp_path.glob("*.jpg"))
    split = Split(name="test", dataset="imagenet", labels=np.zeros(4, np.int64), classes=["a"], paths=paths)
    dali, peer = (read(kind, split, image_size=48) for kind in READERS)
    difference = (dali[0][0] - peer[0][0]).abs() * 255 * 0.229
    assert difference.mean() < 1.5 and difference.max() < 12


@pytest.mark.parametrize("kind", READERS)
def test_what_is_read_is_the_image(kind, in_memory, tmp_path):
    """Against the arrays themselves: order, shift, mirror and normalization, with nothing of the loaders' own."""
    batches = read(kind, in_memory, train=True, augment="fast", which=(3,))
    images, labels = stacked(batches)
    order = np.random.Generator(np.random.PCG64(np.random.SeedSequence([5, 3]))).permutation(23)[:20]
    assert labels.tolist() == (order % 10).tolist()
    mean = torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    std = torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
    moved = set()
    for image, index in zip(images, order, strict=True):
        pixels = torch.from_numpy(in_memory.images[index]).permute(2, 0, 1).float()
        padded = torch.nn.functional.pad(pixels, (4, 4, 4, 4))
        shown = (image * std + mean) * 255
        matches = [
            (down, right, flip)
            for down, right, flip in itertools.product(range(9), range(9), (False, True))
            if torch.allclose(
                shown.flip(2) if flip else shown, padded[:, down : down + 32, right : right + 32], atol=0.01
            )
        ]
        assert len(matches) == 1
        moved.add(matches[0])
    assert len(moved) > 15 and {flip for _, _, flip in moved} == {False, True}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_evaluation_shows_every_image_exactly_once(kind, world_size, in_memory):
    marked = in_memory.images.copy()
    # The top left pixel says which image it is.
    marked[:, 0, 0, 0] = np.arange(23) * 10
    split = dataclasses.replace(in_memory, name="test", images=marked)
    seen = []
    counts = set()
    for rank in range(world_size):
        batches = read(kind, split, rank=rank, world_size=world_size, augment="none")
        counts.add(len(batches))
        for images, labels, valid in batches:
            which = ((images[:, 0, 0, 0] * 0.2470 + 0.4914) * 25.5).round().long()
            assert (labels == which % 10).all()
            seen += which[valid].tolist() if valid is not None else which.tolist()
    assert sorted(seen) == list(range(23))
    assert counts == {-(-23 // (4 * world_size))}


@pytest.mark.parametrize("kind", READERS)
def test_a_run_resumed_at_an_epoch_sees_what_the_whole_run_saw(kind, photographs):
    options = {"train": True, "world_size": 2, "rank": 1, "batch": 3}
    whole = read(kind, photographs.train, which=range(4), **options)
    resumed = read(kind, photographs.train, which=(2, 3), **options)
    assert len(whole) == 12 and len(resumed) == 6
    for one, two in zip(whole[6:], resumed, strict=True):
        assert (one[0] == two[0]).all() and (one[1] == two[1]).all()
    assert any((one[0] != two[0]).any() for one, two in zip(whole[:6], resumed, strict=True))


@pytest.mark.parametrize("kind", [*READERS, "synthetic"])
@pytest.mark.parametrize("first", [1, 4])
def test_what_is_left_of_an_epoch_is_the_end_of_the_whole_one_and_the_next_one_follows(kind, first, photographs):
    def batches(loader, *where):
        return [(batch.images.clone(), batch.labels.clone()) for batch in loader.epoch(*where)]

    whole, rest = (loader(kind, photographs.train, train=True, epochs=3) for _ in range(2))
    expected = [batches(whole, 0), batches(whole, 1)]
    found = [batches(rest, 0, first), batches(rest, 1)]
    with pytest.raises(ValueError, match="first=5: an epoch has micro-batches 0 to 4"):
        next(rest.epoch(1, 5))
    for one in (whole, rest):
        one.close()
    assert [len(epoch) for epoch in found] == [5 - first, 5]
    for ours, theirs in zip([*found[0], *found[1]], [*expected[0][first:], *expected[1]], strict=True):
        assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


@pytest.mark.parametrize("kind", READERS)
def test_two_ranks_together_see_one_rank_with_twice_the_batch(kind, photographs):
    whole = read(kind, photographs.train, train=True, batch=6)
    halves = [read(kind, photographs.train, train=True, batch=3, world_size=2, rank=r) for r in range(2)]
    for one, left, right in zip(whole, *halves, strict=True):
        assert (one[0] == torch.cat([left[0], right[0]])).all()
        assert (one[1] == torch.cat([left[1], right[1]])).all()


@pytest.mark.parametrize("kind", [*READERS, "synthetic"])
def test_epochs_can_be_left_early_repeated_and_skipped(kind, photographs):
    made = loader(kind, photographs.train, train=True, epochs=6)
    first = [batch.labels.tolist() for batch in made.epoch(1)]
    part = [batch.labels.tolist() for batch in itertools.islice(made.epoch(1), 2)]
    assert part == first[:2]
    skipped = [batch.labels.tolist() for batch in made.epoch(4)]
    again = [batch.labels.tolist() for batch in made.epoch(1)]
    assert again == first and len(skipped) == 5
    made.close()
    made.close()


@pytest.mark.parametrize("kind", [*READERS, "synthetic"])
def test_an_epoch_shorter_than_the_read_ahead_ends(kind, photographs):
    made = loader(kind, photographs.test, batch=16, epochs=1)
    for _ in range(3):
        batches = list(made.epoch(0))
        assert len(batches) == 1 and int(batches[0].valid.sum()) == 14
    made.close()


def test_evaluations_follow_each_other_without_a_restart(photographs):
    made = loader("dali", photographs.test)
    first = [batch.images.clone() for batch in made.epoch(0)]
    stream = made._stream
    second = [batch.images.clone() for batch in made.epoch(0)]
    assert made._stream is stream
    made.close()
    assert len(first) == 4 and all((one == two).all() for one, two in zip(first, second, strict=True))


def test_workers_are_forked_safely_beside_a_running_pipeline(photographs):
    dali, peer = (loader(kind, photographs.train, train=True, batch=2, threads=2) for kind in READERS)
    for epoch in range(3):
        for one, two in zip(dali.epoch(epoch), peer.epoch(epoch), strict=True):
            assert (one.labels == two.labels).all()
    dali.close()
    peer.close()


def test_steps_per_epoch_cuts_the_epoch_and_the_stream_goes_on(photographs):
    long = read("dali", photographs.train, which=(0, 1), train=True)
    short = read("dali", photographs.train, which=(0, 1), train=True, steps_per_epoch=2)
    assert len(short) == 4
    assert (short[0][0] == long[0][0]).all() and (short[2][0] == long[5][0]).all()


def test_kept_batches_keep_their_pixels(in_memory):
    """Their memory is used again only after they are gone."""
    made = loader("dali", in_memory, train=True)
    kept = [batch.images for e in range(4) for batch in made.epoch(e)]
    copies = [images.clone() for images in kept]
    list(made.epoch(4))
    assert all((one == two).all() for one, two in zip(kept, copies, strict=True))
    made.close()
    assert all((one == two).all() for one, two in zip(kept, copies, strict=True))


def test_the_mean_image_is_the_mean_and_is_kept(photographs, in_memory, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    mean, seconds = compute_mean_image(in_memory, image_size=32, threads=2)
    assert mean.dtype == np.float32 and seconds > 0
    assert np.allclose(mean, in_memory.images.mean(axis=0), atol=1e-3)
    again, seconds = compute_mean_image(in_memory, image_size=32, threads=2)
    assert seconds == 0 and (again == mean).all()
    by_dali, _ = compute_mean_image(photographs.train, image_size=32, threads=2)
    os.remove(next(tmp_path.rglob("imagefolder-*.npy")))
    by_peer, _ = compute_mean_image(photographs.train, image_size=32, threads=1, kind="torch")
    assert by_dali.shape == (32, 32, 3) and np.abs(by_dali - by_peer).max() < 1


def test_synthetic_batches_are_normal_repeatable_and_sized_like_the_dataset():
    splits = synthetic_splits("imagenet")
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (1_281_167, 50_000, 1000)
    options = {"train": True, "batch": 8, "world_size": 2, "image_size": 64, "threads": 1}
    made = loader("synthetic", splits.train, **options)
    assert made.batches_per_epoch == 1_281_167 // 16
    batches = list(itertools.islice(made.epoch(0), 6))
    images = batches[0].images
    assert images.shape == (8, 3, 64, 64) and images.is_contiguous(memory_format=torch.channels_last)
    assert abs(float(images.mean())) < 0.02 and abs(float(images.std()) - 1) < 0.02
    assert batches[0].labels.min() >= 0 and batches[0].labels.max() < 1000
    same = next(iter(loader("synthetic", splits.train, **options).epoch(0)))
    other = next(iter(loader("synthetic", splits.train, **{**options, "rank": 1}).epoch(0)))
    assert (same.images == images).all() and (other.images != images).any()
    evaluation = loader("synthetic", synthetic_splits("digits").test, batch=50, world_size=3, rank=2)
    masks = [batch.valid for batch in evaluation.epoch(0)]
    assert masks[:2] == [None, None] and int(masks[2].sum()) == 0
    with pytest.raises(ValueError, match="dataset=digit: expected one of digits"):
        synthetic_splits("digit")


@pytest.mark.parametrize(
    ("kind", "changes", "words"),
    [
        ("dalli", {}, "loader=dalli: expected one of dali, torch, synthetic"),
        ("dali", {"augment": "shift"}, "augment=shift"),
        ("dali", {"augment": "paper"}, "expected mean_image"),
        ("dali", {"threads": 0}, "threads=0"),
        ("torch", {"train": True, "batch": 64}, "batch=64: with 1 ranks"),
    ],
)
def test_impossible_loaders_are_refused(kind, changes, words, photographs):
    with pytest.raises(ValueError, match=words):
        loader(kind, photographs.train, **changes)


def test_a_described_dataset_has_only_synthetic_images():
    with pytest.raises(ValueError, match="loader=dali: imagenet has no images here; expected loader=synthetic"):
        loader("dali", synthetic_splits("imagenet").train)


def test_the_torch_loader_reads_in_this_process_without_workers(photographs):
    assert worst(read("torch", photographs.test, threads=0), read("torch", photographs.test, threads=2)) == 0


@pytest.mark.slow
def test_dali_is_imported_for_its_own_loader_alone():
    code = "import sys, resnet.data; print('nvidia.dali' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"


@pytest.mark.slow
def test_a_process_that_leaves_its_loaders_open_ends(photographs):
    folder = os.path.dirname(os.path.dirname(os.path.dirname(photographs.train.paths[0])))
    code = f"""
import torch
from resnet.data import make_loader, open_dataset
split = open_dataset("imagefolder", {folder!r}, image_size=32).train
open_ones = []
for kind in ("dali", "torch"):
    made = make_loader(kind, split, train=True, batch=2, rank=0, world_size=1, seed=0, augment="fast", image_size=32,
                       device=torch.device("cpu"), threads=1)
    batches = made.epoch(0)
    next(batches)
    open_ones.append((made, batches))
print("done")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0 and result.stdout.strip() == "done", result.stderr


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("RESNET_BENCH_DATA"), reason="RESNET_BENCH_DATA is unset: no real photographs")
@pytest.mark.parametrize(
    ("archive", "dataset", "size", "counts"),
    [("imagenette-128", "imagefolder", 64, (9469, 3925)), ("cifar10-jpeg", "cifar10", 32, (50_000, 10_000))],
)
def test_both_readers_agree_on_real_images(archive, dataset, size, counts):
    splits = open_dataset(dataset, unpack_archive(archive), image_size=size)
    assert (len(splits.train), len(splits.test), len(splits.classes)) == (*counts, 10)
    every = slice(0, None, len(splits.test) // 300)
    test = dataclasses.replace(splits.test, paths=splits.test.paths[every], labels=splits.test.labels[every])
    dali, peer = (read(kind, test, batch=50, image_size=size) for kind in READERS)
    assert len(dali) == 7 and worst(dali, peer) <= 1.5
    mean, std = stacked(dali)[0].mean(), stacked(dali)[0].std()
    assert abs(mean) < 0.25 and 0.8 < std < 1.3
