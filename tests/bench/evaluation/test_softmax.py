"""Each protocol's softmax is that of a naive loop over PIL and torch, whatever else is computed in the same pass."""

from pathlib import Path

import naive
import numpy as np
import pytest
import torch
from PIL import Image
from small_nets import SIZE, net

from bench.evaluation.images import Normalization
from bench.evaluation.protocols import PROTOCOLS
from bench.evaluation.softmax import Answers, Figures, Totals, answers
from resnet.data import DATASETS, DataError, Splits, open_dataset

KNOWN = DATASETS["imagefolder"]
BY_CHANNEL = Normalization(mean=KNOWN.mean, std=KNOWN.std)
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def splits(folder: Path) -> Splits:
    return open_dataset("imagefolder", folder, image_size=SIZE)


@pytest.fixture(scope="module")
def models() -> list[torch.nn.Module]:
    return [net(0), net(1)]


def computed(models, splits: Splits, protocols, normalization=BY_CHANNEL, rows=None, batch=5) -> Answers:  # type: ignore[no-untyped-def]
    rows = np.arange(len(splits.test)) if rows is None else rows
    found = list(
        answers(
            models, splits.test, rows, protocols, normalization, image_size=SIZE, batch=batch, threads=3, device=CPU
        )
    )
    return Answers(
        np.concatenate([one.rows for one in found]),
        torch.cat([one.labels for one in found]),
        {name: torch.cat([one.softmax[name] for one in found], dim=1) for name in protocols},
    )


@pytest.fixture(scope="module")
def whole(models, splits: Splits) -> Answers:  # type: ignore[no-untyped-def]
    """All protocols of both nets in one pass."""
    return computed(models, splits, PROTOCOLS)


@pytest.mark.parametrize("protocols", [("10-crop",), PROTOCOLS])
def test_softmax_is_that_of_a_naive_loop(  # type: ignore[no-untyped-def]
    models, splits: Splits, whole: Answers, protocols: tuple[str, ...]
) -> None:
    found = whole if protocols == PROTOCOLS else computed(models, splits, protocols)
    normalize = naive.by_channel(KNOWN.mean, KNOWN.std)
    assert found.labels.tolist() == splits.test.labels.tolist() and splits.test.paths
    for name in protocols:
        for member, model in enumerate(models):
            for row, path in enumerate(splits.test.paths):
                expected = naive.softmax(model, Image.open(path).convert("RGB"), name, SIZE, normalize)
                assert (found.softmax[name][member, row] - expected).abs().max() < 1e-5, (name, member, path)


@pytest.mark.slow
def test_a_resnet_18_is_fully_convolutional(splits: Splits) -> None:
    model = net(0, depth=18, family="imagenet", shortcut="B")
    found = computed([model], splits, ("multi-scale",))
    assert splits.test.paths
    for row, path in enumerate(splits.test.paths):
        picture = Image.open(path).convert("RGB")
        expected = naive.softmax(model, picture, "multi-scale", SIZE, naive.by_channel(KNOWN.mean, KNOWN.std))
        assert (found.softmax["multi-scale"][0, row] - expected).abs().max() < 1e-5


def test_protocols_are_told_apart(whole: Answers) -> None:
    found = whole.softmax
    for one in PROTOCOLS:
        assert found[one].sum(dim=2).sub(1).abs().max() < 1e-5
        for other in set(PROTOCOLS) - {one}:
            assert (found[one] - found[other]).abs().max() > 1e-3


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_a_pass_is_the_same_however_it_is_cut(models, splits: Splits, whole: Answers, batch: int) -> None:  # type: ignore[no-untyped-def]
    rows = np.array([8, 0, 5, 7, 3])
    part = computed(models[1:], splits, PROTOCOLS, rows=rows, batch=batch)
    assert part.rows.tolist() == rows.tolist()
    for name in PROTOCOLS:
        assert (part.softmax[name][0] - whole.softmax[name][1, rows]).abs().max() < 1e-5


def test_the_mean_image_moves_with_the_mirror_and_is_its_mean_at_other_sizes(models, splits: Splits) -> None:  # type: ignore[no-untyped-def]
    mean = np.random.default_rng(0).uniform(0, 255, (SIZE, SIZE, 3)).astype(np.float32)
    image = torch.from_numpy(mean).permute(2, 0, 1) / 255
    found = computed(models[:1], splits, ("10-crop", "multi-scale"), Normalization(mean=(), std=(), mean_image=mean))
    assert splits.test.paths
    for row, path in enumerate(splits.test.paths[:4]):
        picture = Image.open(path).convert("RGB")
        views = [naive.to_tensor(view) for view in naive.ten(naive.resize(picture, round(256 * SIZE / 224)), SIZE)]
        # The last five are mirror images, and so is the mean that goes with them.
        each = [view - image for view in views[:5]] + [view - image.flip(2) for view in views[5:]]
        with torch.no_grad():
            expected = models[0](torch.stack(each)).softmax(1).mean(0)
        assert (found.softmax["10-crop"][0, row] - expected).abs().max() < 1e-5
        flat = naive.softmax(models[0], picture, "multi-scale", SIZE, lambda x: x - image.mean((1, 2), keepdim=True))
        scaled = found.softmax["multi-scale"][0, row]
        if picture.width != picture.height:  # a square image at shorter side S has the mean image's own size
            assert (scaled - flat).abs().max() < 1e-5


def made_up(softmax: list[list[list[float]]], labels: list[int]) -> Answers:
    return Answers(np.arange(len(labels)), torch.tensor(labels), {"1-crop": torch.tensor(softmax)})


def test_figures_by_hand() -> None:
    """Two members, three images, six classes; the ensemble is right where neither member alone is."""
    first = [[0.6, 0.4, 0, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0, 0], [0.3, 0.2, 0.2, 0.1, 0.2, 0.0]]
    second = [[0.1, 0.4, 0.5, 0, 0, 0], [0.1, 0.2, 0.3, 0.4, 0, 0], [0.0, 0.2, 0.2, 0.3, 0.2, 0.1]]
    totals = Totals(["1-crop"], 2)
    totals.add(made_up([first[:2], second[:2]], [1, 0]))
    totals.add(made_up([first[2:], second[2:]], [5]))
    found = totals.figures()
    assert set(found) == {("1-crop", 0), ("1-crop", 1), ("1-crop", None)}
    assert (found["1-crop", 0].top1, found["1-crop", 1].top1, found["1-crop", None].top1) == (0.0, 0.0, 1 / 3)
    assert (found["1-crop", 0].top5, found["1-crop", 1].top5) == (2 / 3, 1.0)
    loss = -(np.log(0.4) + np.log(0.1) + np.log(0.1)) / 3
    assert found["1-crop", 1].loss == pytest.approx(loss, rel=1e-6)
    ensemble = -(np.log(0.4) + np.log(0.1) + np.log(0.05)) / 3
    assert found["1-crop", None].loss == pytest.approx(ensemble, rel=1e-6)
    assert np.isfinite(found["1-crop", 0].loss) and found["1-crop", 0].images == 3


def test_ranks_sum_their_counts() -> None:
    ranks = []
    for labels in ([0, 0], [1, 1, 0], []):
        totals = Totals(["1-crop"], 1)
        if labels:  # of few images some ranks have none
            totals.add(made_up([[[0.9, 0.1]] * len(labels)], labels))
        ranks.append(totals)
    flat: list[list[float]] = []
    for totals in ranks:
        totals.figures(lambda values: flat.append(list(values)) or [1.0] * len(values))  # type: ignore[func-returns-value]
    summed = [sum(values) for values in zip(*flat, strict=True)]
    (figures,) = ranks[0].figures(lambda values: summed).values()
    assert (figures.top1, figures.images) == (3 / 5, 5)


def test_one_net_is_no_ensemble() -> None:
    totals = Totals(["1-crop"], 1)
    totals.add(made_up([[[0.9, 0.1]]], [0]))
    assert totals.figures() == {("1-crop", 0): Figures(1.0, 1.0, pytest.approx(-np.log(0.9)), 1)}


def test_a_broken_image_is_named(models, splits: Splits, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import dataclasses

    broken = tmp_path / "broken.png"
    assert splits.test.paths
    broken.write_bytes(Path(splits.test.paths[0]).read_bytes()[:60])
    test = dataclasses.replace(splits.test, paths=[*splits.test.paths[:-1], str(broken)])
    with pytest.raises(DataError, match=f"^{broken}: "):
        computed(models[:1], dataclasses.replace(splits, test=test), ("1-crop",))
