"""One rank that averages BN's statistics and evaluates its part of a test set; run by the tests of evaluation."""

import json
import sys
from types import SimpleNamespace

import torch
from torch import nn

from bench.training.evaluate import average_statistics, evaluate
from bench.training.process_group import start_process_group
from bench.training.training_accuracy import TrainingAccuracy
from resnet.data import Batch


def buffers(rank: int) -> dict[str, list[float]]:
    """What a rank's buffers hold before."""
    return {"running_mean": [1.0 + rank, -2.0 * rank], "running_var": [0.5 * (rank + 1), 4.0]}


class Scores(nn.Module):
    """Whose class scores are its images."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(2)
        self.modes: list[bool] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.modes.append(self.training)
        return images


def batches(rank: int) -> list[Batch]:
    """Seven images over two ranks, all of another hit or miss: rank 0 has four, rank 1 three and one of padding."""
    right = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 1]][rank])
    labels = torch.tensor([0, 1, 2, 3])
    scores = nn.functional.one_hot(torch.where(right == 1, labels, (labels + 1) % 10), 10).float()
    scores += 0.5 * nn.functional.one_hot(labels, 10)  # the right class is second, where it is not first
    valid = None if rank == 0 else torch.tensor([True, True, True, False])
    return [Batch(scores, labels, valid)]


def main() -> None:
    world = start_process_group(lambda failure: None)
    model = Scores()
    with torch.no_grad():
        for name, values in buffers(world.rank).items():
            getattr(model.bn, name).copy_(torch.tensor(values))
        model.bn.num_batches_tracked += 7
    average_statistics(model, world)
    found = {name: getattr(model.bn, name).tolist() for name in (*buffers(0), "num_batches_tracked")}
    accuracy = evaluate(model, SimpleNamespace(epoch=lambda number: iter(batches(world.rank))), "fp32", world)
    training = TrainingAccuracy(world.device)
    for batch in batches(world.rank):
        training.add(batch.images, batch)
    said = {"rank": world.rank, "buffers": found, "accuracy": vars(accuracy), "modes": model.modes}
    hits, images = training.take(world)
    said["train_top1"] = hits / images
    print("FOUND " + json.dumps(said), flush=True)
    world.barrier()
    world.close()


if __name__ == "__main__":
    sys.exit(main())
