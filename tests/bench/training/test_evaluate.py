"""Evaluation: BN's statistics over real ranks, and every test image counted once."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from real_ranks import found_by
from torch import nn

from bench.training.evaluate import Accuracy, average_statistics, evaluate
from bench.training.process_group import World
from resnet.data import Batch

SCRIPT = Path(__file__).with_name("evaluation_rank.py")
ALONE = World(0, 1, 0, 1, torch.device("cpu"), 1)


@pytest.fixture(scope="module")
def two_ranks() -> list[dict]:
    found = found_by(SCRIPT, [], 2)
    assert [one["rank"] for one in found] == [0, 1]
    return found


@pytest.mark.ranks
def test_running_statistics_become_the_mean_over_the_ranks(two_ranks: list[dict]) -> None:
    for one in two_ranks:
        assert one["buffers"]["running_mean"] == [1.5, -1.0]
        assert one["buffers"]["running_var"] == [0.75, 4.0]
        assert one["buffers"]["num_batches_tracked"] == 7


@pytest.mark.ranks
def test_every_image_of_all_ranks_counts_once_and_padding_does_not(two_ranks: list[dict]) -> None:
    for one in two_ranks:
        assert one["accuracy"] == {"top1": 4 / 7, "top5": 1.0, "images": 7}
        assert one["modes"] == [False]


@pytest.mark.ranks
def test_training_images_of_all_ranks_count_once_and_padding_does_not(two_ranks: list[dict]) -> None:
    assert [one["train_top1"] for one in two_ranks] == [4 / 7, 4 / 7]


def scored(rows: list[list[float]], labels: list[int], valid: list[bool] | None = None) -> Batch:
    mask = None if valid is None else torch.tensor(valid)
    return Batch(torch.tensor(rows), torch.tensor(labels), mask)


def accuracy(*batches: Batch) -> Accuracy:
    return evaluate(
        nn.Identity(), SimpleNamespace(epoch=lambda number: iter(batches if number == 0 else ())), "fp32", ALONE
    )


def test_top_5_looks_at_five_and_top_1_at_one() -> None:
    falling = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0]
    found = accuracy(scored([falling] * 3, [0, 4, 5]))
    assert found == Accuracy(1 / 3, 2 / 3, 3)


def test_fewer_than_five_classes_are_all_looked_at() -> None:
    assert accuracy(scored([[2.0, 1.0]] * 2, [0, 1])) == Accuracy(0.5, 1.0, 2)


def test_batches_of_different_sizes_weigh_by_their_images() -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    assert accuracy(scored([right] * 3, [0] * 3), scored([wrong], [0])) == Accuracy(0.75, 1.0, 4)


def test_a_padded_row_is_neither_a_hit_nor_an_image() -> None:
    right, wrong = [1.0, 0.0], [0.0, 1.0]
    assert accuracy(scored([right, wrong, right], [0, 0, 0], [True, True, False])).top1 == 0.5
    assert accuracy(scored([right, wrong, wrong], [0, 0, 0], [True, True, False])).top1 == 0.5


def test_the_network_is_evaluated_in_eval_mode_without_gradients() -> None:
    seen = {}

    class Net(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.update(training=self.training, gradients=torch.is_grad_enabled())
            seen.update(autocast=torch.is_autocast_enabled("cpu"))
            return images

    batch = scored([[1.0, 0.0]], [0])
    for precision in ("fp32", "bf16"):
        net = Net().train()
        evaluate(net, SimpleNamespace(epoch=lambda number: iter([batch] if number == 0 else ())), precision, ALONE)
        assert seen == {"training": False, "gradients": False, "autocast": precision == "bf16"}
        assert not net.training


def test_one_rank_keeps_its_statistics() -> None:
    model = nn.BatchNorm2d(2)
    model.running_mean.fill_(3.0)  # type: ignore[union-attr]
    average_statistics(model, ALONE)
    assert model.running_mean.tolist() == [3.0, 3.0]  # type: ignore[union-attr]
