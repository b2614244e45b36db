"""Exact statistics are those of all values together, over all ranks, and change nothing else of a net."""

import copy
from collections.abc import Sequence

import naive
import numpy as np
import pytest
import torch
from small_nets import SIZE, net

from bench.evaluation.exact_bn import mixed_rows, set_exact_statistics, spread_rows


def batches(sizes: Sequence[int]) -> list[torch.Tensor]:
    """Batches whose means differ, so that the variance of all is not the mean of theirs."""
    torch.manual_seed(7)
    return [torch.randn(size, 3, SIZE, SIZE) * (1 + at) + 3 * at for at, size in enumerate(sizes)]


def norms(model: torch.nn.Module) -> dict[str, torch.nn.BatchNorm2d]:
    return {name: one for name, one in model.named_modules() if isinstance(one, torch.nn.BatchNorm2d)}


@pytest.mark.parametrize("sizes", [(4, 4), (2, 5, 3), (6,)])
def test_statistics_are_those_of_all_values(sizes: tuple[int, ...]) -> None:
    model, images = net(0), batches(sizes)
    expected = naive.exact_statistics(copy.deepcopy(model), images)
    assert set_exact_statistics(model, images) == sum(sizes)
    assert not model.training
    for name, norm in norms(model).items():
        mean, var = expected[name]
        assert torch.allclose(norm.running_mean.double(), mean, rtol=1e-5, atol=1e-5), name
        assert torch.allclose(norm.running_var.double(), var, rtol=1e-5, atol=1e-6), name


def test_nothing_else_of_the_net_changes() -> None:
    model = net(0)
    before = copy.deepcopy(model.state_dict())
    set_exact_statistics(model, batches((4, 4)))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.endswith(("running_mean", "running_var")), name
    assert {norm.momentum for norm in norms(model).values()} == {0.1}
    assert all(not module._forward_pre_hooks for module in model.modules())


def test_ranks_give_the_statistics_of_all_their_images() -> None:
    images, parts, summed = batches((4, 3, 5)), [], []
    whole = net(0)
    set_exact_statistics(whole, images)
    for part in (images[:1], images[1:]):
        set_exact_statistics(net(0), part, lambda flat: parts.append(list(flat)) or list(flat))  # type: ignore[func-returns-value]
    summed = [sum(values) for values in zip(*parts, strict=True)]
    ranked = net(0)
    assert set_exact_statistics(ranked, images[:1], lambda flat: summed) == 12
    for name, value in whole.state_dict().items():
        assert torch.allclose(value.double(), ranked.state_dict()[name].double(), rtol=1e-5, atol=1e-6), name


def test_a_failure_leaves_the_net_as_it_was() -> None:
    model = net(0)
    before = copy.deepcopy(model.state_dict())

    def failing():  # type: ignore[no-untyped-def]
        yield batches((4,))[0]
        raise RuntimeError("no more images")

    with pytest.raises(RuntimeError, match="no more images"):
        set_exact_statistics(model, failing())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model.training and all(not module._forward_pre_hooks for module in model.modules())


def test_no_images_are_refused() -> None:
    with pytest.raises(ValueError, match="^no images"):
        set_exact_statistics(net(0), [])


def test_rows_are_spread_over_the_split() -> None:
    assert spread_rows(4, 10).tolist() == [0, 2, 5, 7]
    assert spread_rows(10, 10).tolist() == list(range(10))
    assert spread_rows(3, 1_281_167).tolist() == [0, 427_055, 854_111]


def test_batches_of_mixed_rows_have_many_classes() -> None:
    """Of 10 classes in the order of their folders, 64 images of 1,024 have all; spread rows alone have one."""
    labels = np.repeat(np.arange(10), 5000)
    mixed = mixed_rows(1024, 50_000)
    assert sorted(mixed.tolist()) == spread_rows(1024, 50_000).tolist()
    assert np.array_equal(mixed, mixed_rows(1024, 50_000))
    for ranks in (1, 2, 8):
        for rank in range(ranks):
            assert len(set(labels[mixed[rank::ranks][:64]].tolist())) == 10
    assert len(set(labels[spread_rows(1024, 50_000)[:64]].tolist())) == 1


def test_a_last_image_is_not_normalized_alone() -> None:
    """Of 18 layers at 32 pixels the last stage has one value a channel and image, of which no variance can be taken."""
    model, images = net(0, family="imagenet", depth=18, shortcut="B"), batches((3, 2, 1))
    joined = [images[0], torch.cat(images[1:])]
    expected = naive.exact_statistics(copy.deepcopy(model), joined)
    assert set_exact_statistics(model, iter(images)) == 6
    for name, norm in norms(model).items():
        assert torch.allclose(norm.running_mean.double(), expected[name][0], rtol=1e-5, atol=1e-5), name
        assert torch.allclose(norm.running_var.double(), expected[name][1], rtol=1e-4, atol=1e-5), name
    one = net(0)
    assert set_exact_statistics(one, batches((1,))) == 1
