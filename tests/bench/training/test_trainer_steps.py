"""Five steps of the trainer beside a loop that is written out here: losses, learning rates and weights to 1e-6."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import resnet
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.training.process_group import World
from bench.training.recorder import Recorder
from bench.training.trainer import Trainer
from resnet.data import Batch, make_loader, open_dataset
from results.store.files import read_rows

CPU = torch.device("cpu")


def reference(
    config: RunConfig, batches: list[Batch], total_steps: int
) -> tuple[list[float], list[float], nn.Module, int]:
    """The recipe's steps without the suite's loop, engine and schedule: losses, learning rates, the network, hits."""
    torch.manual_seed(config.seed)
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    weights = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    losses, rates, rise, hits = [], [], 0.2 * total_steps, 0
    for step in range(len(batches) // config.grad_accum):
        at = step + 0.5
        rates.append(config.lr * (at / rise if at < rise else 1 - (at - rise) / (total_steps - rise)))
        optimizer.zero_grad()
        parts = []
        for batch in batches[step * config.grad_accum : (step + 1) * config.grad_accum]:
            log_p = functional.log_softmax(model(batch.images), 1)
            hits += sum(
                p.index(max(p)) == label for p, label in zip(log_p.tolist(), batch.labels.tolist(), strict=True)
            )
            right = -log_p.gather(1, batch.labels[:, None]).mean()
            parts.append(0.9 * right - 0.1 * log_p.mean())  # a tenth of the target spread over all classes
        (sum(parts) / len(parts)).backward()  # type: ignore[union-attr]
        for group in optimizer.param_groups:
            group["lr"] = rates[-1]
        optimizer.step()
        losses.append(float(sum(part.detach() for part in parts) / len(parts)))
    return losses, rates, model, hits


@pytest.mark.slow
@pytest.mark.parametrize("grad_accum", [1, 2])
def test_five_steps_are_those_of_a_loop_written_out(tmp_path: Path, grad_accum: int) -> None:
    keys = RunKeys(
        depth=8, dataset="digits", batch=16, precision="fp32", engine="ddp", steps=5, seed=3, loader="torch",
        grad_accum=grad_accum, ranks_per_node=1, results=str(tmp_path), weight_decay=0.01,
    )  # fmt: skip
    chosen, _ = resolve(keys, Host(ranks_per_node=1))
    chosen = dataclasses.replace(chosen, recipe=dataclasses.replace(chosen.recipe, label_smoothing=0.1))
    world = World(0, 1, 0, 1, CPU, 1)
    recorder = Recorder(chosen, "five", 0)
    trainer = Trainer(chosen, world, recorder, "five")
    before = [p.detach().clone() for p in trainer.model.parameters()]
    trainer.fit()
    loader = make_loader(
        "torch", open_dataset("digits", None, image_size=32).train, train=True, batch=16, rank=0, world_size=1, seed=3,
        augment="shift", image_size=32, device=CPU, threads=1, grad_accum=grad_accum,
    )  # fmt: skip
    images = loader.epoch(0)
    batches = [next(images) for _ in range(5 * grad_accum)]
    loader.close()
    losses, rates, model, hits = reference(chosen, batches, total_steps=5)
    steps, _ = read_rows(tmp_path, "steps")
    assert [step["loss"] for step in steps] == pytest.approx(losses, abs=1e-6)
    (epoch,), _ = read_rows(tmp_path, "epochs")
    assert epoch["lr"] == pytest.approx(rates[-1], rel=1e-12) and epoch["images"] == 5 * 16 * grad_accum
    assert epoch["loss"] == pytest.approx(sum(losses) / 5, abs=1e-6)
    assert epoch["train_top1"] == hits / (5 * 16 * grad_accum)
    for ours, theirs, start in zip(trainer.model.parameters(), model.parameters(), before, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
        assert not torch.equal(ours, start)
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["seed"] == 3 and row["dataset_hash"] == open_dataset("digits", None, image_size=32).hash
