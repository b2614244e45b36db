"""The yardstick: a plain single-process PyTorch loop with nothing of the suite's in its way.

    python -m bench.peers.plain data=PATH [depth=20] [epochs=20] [target=0.85] [batch=128] [lr=0.2] [compile=true]
    python -m bench.peers.plain data=/data/cifar10 epochs=10 target=0.8

In-memory CIFAR-10 (decoded before the clock starts, which favours it), random crop and flip, torch.compile, bf16,
channels_last, SGD with Nesterov momentum 0.9 under torch's one-cycle schedule: what a researcher would write today.
"""

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import harmonic_mean

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

import resnet
from bench.config import command
from bench.config.grammar import WordError, key, parse
from bench.config.paths import existing, of_data
from bench.measure.clock import now_s
from bench.training.progress import clock
from resnet import Architecture
from resnet.data import DataError, Split, Splits, decode_image, open_dataset

EVAL_BATCH = 500


@dataclass(kw_only=True)
class Keys:
    """Words of the command line."""

    data: str | None = key("folder with CIFAR-10", "required", path=True, one=True)
    depth: int = key("6n+2", "20", default=20, unit="layers", least=8, one=True)
    epochs: int = key("passes over the training set", "20", default=20, unit="epochs", least=1, one=True)
    target: float = key(
        "top-1 that the time is taken to", "0.85", default=0.85, unit="fraction", above=0, most=1, one=True
    )
    batch: int = key("images a step", "128", default=128, unit="images", least=1, one=True)
    lr: float = key("peak learning rate", "0.2", default=0.2, above=0, one=True)
    compile: bool = key("whether torch.compile is used", "true", default=True, one=True)
    seed: int = key("of weights and order", "0", default=0, least=0, one=True)


class PlainLoop:
    """The loop's model, optimizer and decoded data.

    Args:
        train: split with 32x32 images, decoded here.
        epochs: of the whole schedule.
    """

    def __init__(self, train: Split, keys: Keys) -> None:
        torch.manual_seed(keys.seed)
        self.keys = keys
        pixels = decode(train)
        self.mean = pixels.mean((0, 2, 3), keepdim=True)
        self.std = pixels.std((0, 2, 3), keepdim=True)
        # Padded once; a crop is then a gather.
        self.images = functional.pad((pixels - self.mean) / self.std, (4, 4, 4, 4))
        self.labels = torch.from_numpy(np.asarray(train.labels))
        self.model: nn.Module = resnet.build(
            family="cifar", depth=keys.depth, shortcut="A", num_classes=len(train.classes)
        ).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if keys.compile:
            self.model.compile()
        self.steps_per_epoch = len(self.labels) // keys.batch
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=keys.lr, momentum=0.9, nesterov=True, weight_decay=5e-4, fused=True
        )
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, keys.lr, total_steps=keys.epochs * self.steps_per_epoch + 1, cycle_momentum=False
        )

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch of shuffled, cropped and flipped batches."""
        size = self.images.shape[-1] - 8
        span = torch.arange(size)
        order = torch.randperm(len(self.labels))
        for start in range(0, self.steps_per_epoch * self.keys.batch, self.keys.batch):
            chosen = order[start : start + self.keys.batch]
            corner = torch.randint(0, 9, (2, len(chosen), 1))
            rows, columns = corner[0] + span, corner[1] + span
            columns = torch.where(torch.rand(len(chosen), 1) < 0.5, columns.flip(1), columns)
            images = self.images[chosen[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
            yield images, self.labels[chosen]

    def train(self) -> float:
        """One epoch. Returns images/s."""
        self.model.train()
        start, images = now_s(), 0
        for batch, labels in self.batches():
            with torch.autocast("cpu", torch.bfloat16):
                loss = functional.cross_entropy(self.model(batch).float(), labels)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.schedule.step()
            images += len(labels)
        if not math.isfinite(loss.item()):
            raise ArithmeticError(f"loss is {loss.item()}: lr={self.keys.lr:g} may be too high")
        return images / (now_s() - start)

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> float:
        """Top-1 over normalized test images."""
        self.model.eval()
        hits = 0
        for start in range(0, len(labels), EVAL_BATCH):
            batch = images[start : start + EVAL_BATCH]
            with torch.autocast("cpu", torch.bfloat16):
                hits += int((self.model(batch).argmax(1) == labels[start : start + EVAL_BATCH]).sum())
        return hits / len(labels)

    def warm_up(self) -> None:
        """Compile before the clock starts, as the suite's own runs may; weights and schedule stay as they were."""
        state = {name: value.clone() for name, value in self.model.state_dict().items()}
        for size, train in ((self.keys.batch, True), (EVAL_BATCH, False)):
            self.model.train(train)
            images = torch.randn(size, *self.images.shape[1:2], 32, 32).contiguous(memory_format=torch.channels_last)
            with torch.set_grad_enabled(train), torch.autocast("cpu", torch.bfloat16):
                loss = self.model(images).float().logsumexp(1).mean()
            if train:
                loss.backward()
                self.optimizer.zero_grad(set_to_none=True)
        self.model.load_state_dict(state)


def decode(split: Split) -> Tensor:
    """All images of a split as one float32 [n, 3, h, w] tensor of values from 0 to 255.

    Raises:
        DataError: one is damaged or missing.
    """
    if split.images is not None:
        array = split.images
    else:
        assert split.paths is not None
        array = np.stack([np.asarray(decode_image(path)) for path in split.paths])
    return torch.from_numpy(array).permute(0, 3, 1, 2).float()


def _read(words: Sequence[str]) -> tuple[Keys, Splits]:
    (keys,) = parse(words, Keys)
    if keys.data is None:
        raise WordError("data is missing: add data=PATH, a folder with CIFAR-10")
    Architecture(family="cifar", depth=keys.depth, shortcut="A", num_classes=10)  # checks itself
    path = existing("data", keys.data, visible=True)
    with of_data(path):
        splits = open_dataset("cifar10", path, image_size=32, num_classes=10)
    if keys.batch > (images := len(splits.train)):
        raise WordError(f"batch={keys.batch}: there are {images} training images; nearest is batch={images}")
    return keys, splits


def _train(task: tuple[Keys, Splits]) -> int:
    """Run the yardstick; returns 1 where the target was never reached."""
    keys, splits = task
    try:
        loop = PlainLoop(splits.train, keys)
        pixels = decode(splits.test)
    except DataError as error:
        raise command.Failure(str(error)) from None
    test = ((pixels - loop.mean) / loop.std).contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(np.asarray(splits.test.labels))
    loop.warm_up()
    start, reached, rates = now_s(), None, []
    for epoch in range(1, keys.epochs + 1):
        try:
            rates.append(loop.train())
        except ArithmeticError as error:
            raise command.Failure(str(error)) from None
        top1 = loop.evaluate(test, labels)
        if reached is None and top1 >= keys.target:
            reached = now_s() - start, epoch
        line = f"epoch {epoch}/{keys.epochs}  {rates[-1]:,.0f} images/s  top-1 {top1:.2%}  {now_s() - start:.1f} s"
        print(line, flush=True)
    mean = harmonic_mean(rates)  # of epochs of equally many images: all images over all time
    print(f"plain loop on {splits.name}: {mean:,.0f} images/s, top-1 {top1:.2%} after {clock(now_s() - start)}")
    if reached is None:
        print(f"top-1 never reached {keys.target:.2%}")
        return 1
    print(f"{keys.target:.2%} reached after {reached[0]:.1f} s, {reached[1]} epochs")
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `command.run`."""
    return command.run("bench.peers.plain", __doc__, Keys, _read, _train, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
