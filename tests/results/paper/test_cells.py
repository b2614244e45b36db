"""What may stand beside a published figure: one thing that differs is enough to keep it away."""

from dataclasses import replace

import pytest

from results.paper.cells import beside
from results.paper.measured import Label
from results.published.figure import Net
from results.published.tables import ALL

RELEASED = next(one for one in ALL if (one.place, one.system) == ("released models", "ResNet-50 B"))
FITTING = Label(net=Net("imagenet", 50, "B"), system="ResNet-50 B", dataset="imagenet", metric="top-1 error",
                protocol="1-crop", bn="exact")  # fmt: skip


def test_what_agrees_in_everything_may_stand_beside():
    assert beside(RELEASED, FITTING)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "reduced"},
        {"kind": "other"},
        {"copy": "imagenet-jpeg-small"},
        {"net": Net("imagenet", 50, "B", "v1.5")},
        {"net": Net("imagenet", 50, "A")},
        {"net": None},
        {"dataset": "cifar10"},
        {"metric": "top-5 error"},
        {"protocol": "10-crop"},
        {"bn": "running"},
    ],
)
@pytest.mark.parametrize("origin", ["trained here", "weights of no run"])
def test_one_difference_keeps_it_away(change, origin):
    assert not beside(RELEASED, replace(FITTING, origin=origin, **change))


def test_images_of_another_split_keep_it_away():
    assert not beside(replace(RELEASED, split="test"), FITTING)


@pytest.mark.parametrize("origin", ["trained here", "weights of no run"])
def test_a_best_epoch_has_nothing_beside_it(origin):
    for one in ALL:
        if one.place == "akamaster":
            label = Label(net=one.net, system=one.system, dataset=one.dataset, metric=one.metric,
                          protocol=one.protocol, bn="running", origin=origin)  # fmt: skip
            assert not beside(one, label) and beside(replace(one, epoch="last", recipe="paper"), label)
