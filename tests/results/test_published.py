"""The published figures against what must hold of them whoever wrote them down."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from resnet import recipe
from resnet.architecture import Architecture
from resnet.data import DATASETS
from results.paper.cells import TABLES
from results.paper.curves import FIGURES
from results.published.figure import ERRORS, READ, Net
from results.published.schedules import SCHEDULES
from results.published.tables import ALL, shown_in
from results.store.schema import CHOICES

COUNTED = Path(__file__).parents[1] / "resnet" / "counts.csv"
ERROR_ROWS = [one for one in ALL if one.metric in ERRORS]
OF_CIFAR = [one for one in ERROR_ROWS if one.dataset == "cifar10" and one.recipe == "paper"]


def test_no_figure_stands_twice():
    assert [key for key, count in Counter(one.key for one in ALL).items() if count > 1] == []


@pytest.mark.parametrize("one", ALL, ids=lambda one: "-".join(one.key[:6]))
def test_a_figure_is_whole(one):
    assert one.read in READ and one.source and one.protocol and one.system
    assert one.bound in ("", "about", "above") and one.epoch in (None, "last", "best")
    if one.metric in ("parameters", "multiply-adds"):
        assert one.value > 1e5 and one.value == round(one.value)
    else:
        assert 0 < one.value < 1 and one.split in ("val", "test") and one.recipe
        assert one.value < 0.5 or one.metric.startswith("mAP") or one.bound == "above"
    assert len({one.mean is None, one.std is None, one.runs is None}) == 1
    if one.mean is not None:
        assert one.value < one.mean and one.std > 0 and one.runs == 5
    if one.net is not None:
        assert one.system == one.net.name
        architecture = Architecture(
            family=one.net.family, depth=one.net.depth, shortcut=one.net.shortcut, stride=one.net.stride, num_classes=10
        )
        assert one.net.stride == "v1.5" or not architecture.extension or one.net == Net("imagenet", 18, "B")


def test_the_five_wrong_answers_hold_the_first():
    both = {}
    for one in ERROR_ROWS:
        both.setdefault((one.place, one.system, one.protocol, one.split), {})[one.metric] = one.value
    pairs = [pair for pair in both.values() if len(pair) == 2]
    assert len(pairs) >= 20 and all(pair["top-5 error"] < pair["top-1 error"] / 2 for pair in pairs)


def test_every_residual_net_of_cifar_is_there():
    depths = [one.net.depth for one in OF_CIFAR if one.place == "Table 6"]
    assert depths == [20, 32, 44, 56, 110, 1202]
    errors = [one.value for one in OF_CIFAR if one.place == "Table 6"]
    assert errors[:5] == sorted(errors[:5], reverse=True)  # up to 110 layers deeper is better
    assert errors[4] < errors[5] < errors[1] + 0.005  # 1202 layers overfit


def test_deeper_plain_nets_are_worse():
    for place in ("Figure 6", "a-martyn"):
        plain = [one for one in ERROR_ROWS if one.place == place]
        assert len(plain) >= 4 and all(one.net.shortcut == "none" for one in plain)
        assert [one.net.depth for one in plain] == sorted(one.net.depth for one in plain)
        assert [one.value for one in plain] == sorted(one.value for one in plain)
    two = {one.net: one.value for one in shown_in("table=2")}
    assert two[Net("imagenet", 34, "none")] > two[Net("imagenet", 18, "none")]
    assert two[Net("imagenet", 34, "A")] < two[Net("imagenet", 18, "A")]


@pytest.mark.parametrize("place", ["Table 3", "Table 4", "released models", "torchvision"])
def test_deeper_and_freer_residual_nets_are_better(place):
    for metric in ERRORS:
        found = [one for one in ERROR_ROWS if (one.place, one.metric) == (place, metric) and one.net is not None]
        found = [one for one in found if one.net.shortcut != "none"]
        values = [one.value for one in sorted(found, key=lambda one: (one.net.depth, one.net.shortcut))]
        assert len(values) >= 3 and values == sorted(values, reverse=True)


def test_one_net_has_a_smaller_error_over_more_crops():
    by = {(one.place, one.net, one.metric): one.value for one in ERROR_ROWS if one.net is not None}
    for (place, net, metric), value in by.items():
        if place == "Table 4":
            assert value < by["Table 3", net, metric]
        if place == "released models":
            assert value > by["Table 3", net, metric]


def test_tables_that_show_one_net_twice_agree():
    by = {(one.place, one.system): one.value for one in ERROR_ROWS if one.metric == "top-1 error"}
    for system in ("plain-34", "ResNet-34 A"):
        assert by["Table 2", system] == by["Table 3", system]


def test_counts_are_those_that_were_counted_independently():
    with COUNTED.open() as file:
        counted = {
            (row["family"], row["depth"], row["shortcut"], row["stride"]): row for row in csv.DictReader(file)
        }  # fmt: skip
    found = [one for one in ALL if one.read == "counted"]
    assert len(found) == 2 * (9 + 4) + 6
    for one in found:
        if one.net is None:
            row = counted[one.system.lower().replace("-", ""), "", "", ""]
        else:
            stride = one.net.stride if one.net.family == "imagenet" else ""
            row = counted[one.net.family, str(one.net.depth), one.net.shortcut, stride]
        assert one.value == int(row[one.metric.replace("-", "_")])


def test_what_is_recalled_is_marked_so():
    recalled = {(one.place, one.system) for one in ALL if one.read == "rec"}
    assert {system for place, system in recalled if place == "its own paper"} == {
        "AlexNet", "VGG-16", "VGG-19", "GoogLeNet"
    }  # fmt: skip
    assert {place for place, _ in recalled} == {"its own paper", "Table 4"}
    assert all(one.epoch == "best" for one in ALL if one.place == "akamaster")


def test_every_table_and_figure_has_figures_of_its_own():
    words = {f"table={number}" for number in TABLES} | {"figure=1", "figure=6"}
    assert {word for one in ALL for word in one.shown_in} == words
    assert set(FIGURES) == {"1", "4", "6", "one-layer"}  # the last is no figure of the paper


def test_protocols_that_a_row_can_have_are_spelled_as_in_rows():
    ours = {one.protocol for one in ALL if one.net is not None and one.metric in ERRORS}
    assert ours == set(CHOICES["evaluations", "protocol"])
    assert {one.bn for one in ALL} <= {None, *CHOICES["evaluations", "bn"]}


@pytest.mark.parametrize(("dataset", "family", "depth"), [("cifar10", "cifar", 20), ("cifar10", "cifar", 110),
                                                         ("imagenet", "imagenet", 34)])  # fmt: skip
def test_schedules_are_those_of_the_recipe(dataset, family, depth):
    loaded, known, images = recipe.load("paper", dataset, family, depth), SCHEDULES[dataset], DATASETS[dataset]
    assert (loaded.batch, loaded.lr, loaded.weight_decay) == (known.global_batch, known.lr, known.weight_decay)
    each = known.train_images // known.global_batch
    assert min(loaded.steps or loaded.epochs * each, loaded.epochs * each) == known.steps
    assert (images.train_images, images.test_images) == (known.train_images, known.test_images)
    assert (images.image_size, images.num_classes) == (known.image_size, known.num_classes)
