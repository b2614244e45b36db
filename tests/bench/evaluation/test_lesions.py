"""Blocks that are left out are those that were meant, and what is said of them follows from the images."""

import copy
import math

import numpy as np
import pytest
import torch
from small_nets import SIZE, net
from torch.nn import functional as F

import resnet
from bench.evaluation.lesions import (
    Cut,
    Examination,
    Place,
    all_cuts,
    examine,
    lesions,
    random_cuts,
    removable,
    truncations,
    zero_tail,
)
from bench.evaluation.verdict import MARGIN, costs, verdict
from resnet import ResNet
from resnet.layers import global_average

IMAGES = torch.randn(7, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])
BATCHES = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]


def truncated(model: ResNet, cut: Cut) -> ResNet:
    """The net that has these blocks no more."""
    left = copy.deepcopy(model)
    for place in reversed(cut.places):
        del left.stages()[place.stage - 1][place.block - 1]
    return left


@pytest.mark.parametrize("shortcut", ["A", "B", "C", "none"])
def test_a_cut_gives_what_the_net_without_these_blocks_gives(shortcut: str) -> None:
    model = net(0, depth=20, shortcut=shortcut)
    cuts = [cut for cut in truncations(model) if set(cut.places) <= set(removable(model))]
    assert [len(cut.places) for cut in cuts] == [1, 2] * 3
    found = examine(model, BATCHES, cuts)
    with torch.no_grad():
        for cut in (None, *cuts):
            expected = model if cut is None else truncated(model, cut)
            scores = expected(IMAGES)
            if shortcut != "C" or cut is None:  # whose shortcuts stay: projections
                assert found.right[cut].tolist() == (scores.argmax(1) == LABELS).tolist()
    assert set(found.ratios) == (set() if shortcut == "none" else set(removable(model)))


def test_a_lesion_leaves_the_shortcut_alone() -> None:
    model = net(0, depth=20, shortcut="B")
    found = examine(model, BATCHES, lesions(model))
    for cut in lesions(model):
        (place,) = cut.places
        with torch.no_grad():
            x = model.stem(IMAGES)
            for stage, blocks in enumerate(model.stages(), start=1):
                for number, block in enumerate(blocks, start=1):
                    x = F.relu(block.shortcut(x)) if Place(stage, number) == place else block(x)
            scores = model.fc(global_average(x))
        assert found.right[cut].tolist() == (scores.argmax(1) == LABELS).tolist()


@pytest.mark.parametrize(
    ("family", "depth", "shortcut"), [("cifar", 20, "A"), ("cifar", 20, "B"), ("imagenet", 18, "B")]
)
def test_zeroed_tails_are_the_truncated_net_to_the_bit(family: str, depth: int, shortcut: str) -> None:
    model = net(0, family=family, depth=depth, shortcut=shortcut)
    for cut in truncations(model):
        zeroed = copy.deepcopy(model)
        zero_tail(zeroed, cut.places)
        with torch.no_grad():
            assert torch.equal(zeroed(IMAGES), truncated(model, cut)(IMAGES))
            assert not torch.equal(zeroed(IMAGES), model(IMAGES))


@pytest.mark.slow
def test_responses_and_ratios_are_those_of_the_modules() -> None:
    model = net(0, depth=8, shortcut="B")
    found = examine(model, BATCHES, lesions(model))
    seen: dict[str, torch.Tensor] = {}
    block = model.layer2[0]
    hooks = [
        block.bn2.register_forward_hook(lambda module, given, output: seen.update(branch=output.clone())),
        block.downsample.register_forward_hook(lambda module, given, output: seen.update(shortcut=output.clone())),
    ]
    with torch.no_grad():
        model(IMAGES)
    for hook in hooks:
        hook.remove()
    assert found.responses["layer2.0.conv2"] == pytest.approx(
        float(seen["branch"].double().std(correction=0)), rel=1e-6
    )
    norms = [seen[name].flatten(1).norm(dim=1) for name in ("branch", "shortcut")]
    assert found.ratios[Place(2, 1)] == pytest.approx(float((norms[0] / norms[1]).mean()), rel=1e-5)
    assert set(found.responses) == {f"layer{stage}.0.conv{layer}" for stage in (1, 2, 3) for layer in (1, 2)}
    bottleneck = net(0, family="imagenet", depth=50, shortcut="B")
    names = examine(bottleneck, [(IMAGES[:1], LABELS[:1])], []).responses
    assert len(names) == 16 and all(name.endswith("conv2") for name in names)  # of three layers the 3x3 one


def test_of_a_plain_net_what_changes_size_stays() -> None:
    model = net(0, depth=20, shortcut="none")
    assert [place.name for place in removable(model)] == [
        "layer1.0", "layer1.1", "layer1.2", "layer2.1", "layer2.2", "layer3.1", "layer3.2",
    ]  # fmt: skip
    assert len(removable(net(0, depth=20))) == 9


def test_random_cuts_are_other_blocks_than_those_of_the_truncation() -> None:
    """Of five blocks all sets are there, once: but for the first block, and for the last ones together."""
    model = net(0, depth=32)
    cuts = random_cuts(model, 6, seed=3)
    for stage in (1, 2, 3):
        of_stage = [cut for cut in cuts if cut.places[0].stage == stage]
        sets = [tuple(place.block for place in cut.places) for cut in of_stage]
        assert all(place.stage == stage for cut in of_stage for place in cut.places)
        assert sets == [
            (2,), (3,), (4,), (2, 3), (2, 4), (2, 5), (3, 4), (3, 5), (2, 3, 4), (2, 3, 5), (2, 4, 5),
        ]  # fmt: skip
        assert [cut.draw for cut in of_stage] == [1, 2, 3, 1, 2, 3, 4, 5, 1, 2, 3]
    assert random_cuts(net(0, depth=14), 6, seed=0) == []  # of two blocks the second is the last
    deep_net = resnet.build(family="cifar", depth=56, shortcut="A", num_classes=3)
    drawn = random_cuts(deep_net, 7, seed=3)
    assert drawn == random_cuts(deep_net, 7, seed=3) != random_cuts(deep_net, 7, seed=4)
    for cut in drawn:
        blocks = [place.block for place in cut.places]
        assert blocks == sorted(set(blocks)) and min(blocks) >= 2 and max(blocks) <= 9
        assert blocks != list(range(10 - len(blocks), 10))
    assert len({cut.places for cut in drawn}) > 50


def test_an_empty_last_block_is_found_to_be_one() -> None:
    """Its truncation is free, and that of the other block is not: of three blocks too."""
    model = net(0, depth=20)
    zero_tail(model, [Place(1, 3)])
    cuts = all_cuts(model, 20, 0)
    right = {cut: np.arange(1000) < (900 if cut.places == (Place(1, 3),) else 600) for cut in cuts}
    ratios = {Place(stage, block): 1.0 for stage in (1, 2, 3) for block in (1, 2, 3)} | {Place(1, 3): 0.0}
    found = Examination({None: np.arange(1000) < 900, **right}, {}, ratios)
    said = verdict(found, costs(found))
    assert said is not None and said.outcome == "supported"


def test_how_many_are_left_out_of_long_stages() -> None:
    deep_net = resnet.build(family="cifar", depth=110, shortcut="A", num_classes=3)
    deep = {len(cut.places) for cut in random_cuts(deep_net, 2, seed=0)}
    assert deep == {1, 2, 4, 8, 16}


def made_up(whole: int, truncated: int, others: list[int], ratio: float, images: int = 1000) -> Examination:
    """A net of one stage of three blocks: of so many images so many are right without the last, and without others."""

    def right(count: int) -> np.ndarray:
        return np.arange(images) < count

    last = Cut("truncation", (Place(1, 3),))
    draws = {Cut("deletion", (Place(1, 2),), draw): right(count) for draw, count in enumerate(others, start=1)}
    ratios = {Place(1, 1): 1.0, Place(1, 2): 1.0, Place(1, 3): ratio}
    return Examination({None: right(whole), last: right(truncated), **draws}, {}, ratios)


@pytest.mark.parametrize(
    ("truncated", "others", "ratio", "outcome"),
    [
        (900, [700, 710, 720], 0.01, "supported"),
        (899, [700, 710, 720], 0.01, "supported"),
        (900, [700, 710, 720], 0.2, "refuted"),  # the last block is not empty
        (700, [700, 710, 720], 0.01, "refuted"),  # truncating costs
        (900, [895, 899, 900], 0.01, "refuted"),  # others cost nothing either
        (893, [700, 710, 720], 0.01, "undecided"),  # 0.7%, give or take 0.5%
        (900, [700, 800, 895], 0.01, "undecided"),  # some draws cost, others do not
        (900, [700, 710, 720], math.nan, "undecided"),  # of an image that the shortcut hands on as zeros
        (700, [700, 710, 720], math.nan, "refuted"),
    ],
)
def test_the_verdict_by_hand(truncated: int, others: list[int], ratio: float, outcome: str) -> None:
    found = made_up(900, truncated, others, ratio)
    known = costs(found)
    said = verdict(found, known)
    assert said is not None and said.outcome == outcome
    depth = said.depths[0]
    assert (depth.stage, depth.count, depth.loudest) == (1, 1, pytest.approx(ratio, nan_ok=True))
    assert f"of {len(said.depths)} truncations" in str(said)


@pytest.mark.parametrize(
    ("truncated", "ratios", "outcomes"),
    [
        # Without the last block, and without the last two: right of 900, and |F(x)|/|x| of the second and third block.
        ((900, 900), (0.01, 0.01), ("undecided", "supported", "supported")),
        ((893, 600), (0.01, 0.01), ("undecided", "refuted", "undecided")),
        ((600, 600), (0.01, 0.01), ("refuted", "refuted", "refuted")),
        ((893, 900), (0.2, 0.01), ("undecided", "refuted", "undecided")),  # the second block is not empty
        ((893, 900), (0.01, 0.2), ("refuted", "refuted", "refuted")),
    ],
)
def test_each_depth_is_judged_by_its_own_blocks_and_draws(
    truncated: tuple[int, int], ratios: tuple[float, float], outcomes: tuple[str, str, str]
) -> None:
    """Of four blocks; one other at random may cost or not, two others cost."""

    def right(count: int) -> np.ndarray:
        return np.arange(1000) < count

    last = [Cut("truncation", tuple(Place(1, at) for at in range(first, 5))) for first in (4, 3)]
    found: dict[Cut | None, np.ndarray] = {None: right(900)}
    found |= {cut: right(count) for cut, count in zip(last, truncated, strict=True)}
    found |= {Cut("deletion", (Place(1, 2),), draw): right(count) for draw, count in enumerate((700, 900), start=1)}
    found |= {Cut("deletion", (Place(1, 2), Place(1, 3)), draw): right(700) for draw in (1, 2)}
    known = {Place(1, 1): 1.0, Place(1, 2): 1.0, Place(1, 3): ratios[0], Place(1, 4): ratios[1]}
    examined = Examination(found, {}, known)
    said = verdict(examined, costs(examined))
    assert said is not None
    assert (*(depth.outcome for depth in said.depths), said.outcome) == outcomes
    assert [depth.loudest for depth in said.depths] == [ratios[1], max(ratios)]


def test_costs_by_hand() -> None:
    known = {cut.kind: cost for cut, cost in costs(made_up(900, 880, [700, 800], 0.1)).items()}
    lost = known["truncation"]
    assert lost.mean == pytest.approx(0.02)
    assert lost.high - lost.mean == pytest.approx(1.96 * np.sqrt(0.02 * 0.98 / 999), rel=1e-6)
    assert lost.mean - lost.low == pytest.approx(lost.high - lost.mean)
    others = known["deletion"]
    assert (others.mean, others.draws) == (pytest.approx(0.15), 2)
    assert (others.low, others.high) == (pytest.approx(0.1025), pytest.approx(0.1975))
    # Of one other set alone the images vary, as of one cut.
    one = {cut.kind: cost for cut, cost in costs(made_up(900, 880, [880], 0.1)).items()}
    assert one["deletion"].draws == 1 and one["deletion"].mean == pytest.approx(0.02)
    assert (one["deletion"].low, one["deletion"].high) == (lost.low, lost.high)
    assert MARGIN == 0.01
    better = costs(made_up(900, 950, [900, 900], 0.1))
    assert next(iter(better.values())).mean == pytest.approx(-0.05)


def test_no_verdict_on_a_plain_net_and_none_without_images() -> None:
    model = net(0, depth=20, shortcut="none")
    cuts = [cut for cut in truncations(model) if set(cut.places) <= set(removable(model))]
    found = examine(model, BATCHES, cuts)
    assert verdict(found, costs(found)) is None
    with pytest.raises(ValueError, match="^no images"):
        examine(model, [], [])
