"""What the blocks of a trained net are worth: how strongly they respond, and what it costs to leave some out."""

import contextlib
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.evaluation.softmax import check_finite
from resnet import ResNet
from resnet.layers import Block, ConvBn, global_average, join

__all__ = [
    "DRAWS", "Cut", "Examination", "Place", "all_cuts", "examine", "lesions", "place_of", "random_cuts", "removable",
    "truncations", "zero_tail",
]  # fmt: skip

AllReduce = Callable[[Sequence[float]], list[float]]

DRAWS = 20  # sets of random blocks for each number of them, where nobody says how many
MOST_COUNTS = 8  # of blocks that are left out at random in one stage, where there are more


@dataclass(frozen=True, order=True)
class Place:
    """A block of a net.

    Attributes:
        stage: 1 is the first.
        block: in its stage, 1 is the first.
    """

    stage: int
    block: int

    @property
    def name(self) -> str:
        """As modules are named."""
        return f"layer{self.stage}.{self.block - 1}"


@dataclass(frozen=True)
class Cut:
    """Blocks that are left out together, all of one stage.

    Attributes:
        kind: "lesion": one block; "truncation": the last ones of a stage; "deletion": as many at random.
        places: which, in their order.
        draw: of a random deletion, 1 is the first; 0 elsewhere.
    """

    kind: str
    places: tuple[Place, ...]
    draw: int = 0


def place_of(layer: str) -> Place:
    """The block that a layer is in, by the layer's name; of the stem stage 0, block 0."""
    if not layer.startswith("layer"):
        return Place(0, 0)
    stage, block, _ = layer.removeprefix("layer").split(".", 2)
    return Place(int(stage), int(block) + 1)


def removable(model: ResNet) -> list[Place]:
    """The blocks that can be left out: all of a residual net, whose shortcuts stay; of a plain net those that change
    neither channels nor size."""
    found = []
    for stage, blocks in enumerate(model.stages(), start=1):
        for number, block in enumerate(blocks, start=1):
            assert isinstance(block, Block)
            # What changes the size changes the channels too.
            first, last = block.branch_layers()[0].conv, block.branch_layers()[-1].conv
            if block.residual or first.in_channels == last.out_channels:
                found.append(Place(stage, number))
    return found


def lesions(model: ResNet) -> list[Cut]:
    """Each block alone (Veit et al., arXiv:1605.06431, section 4.1)."""
    return [Cut("lesion", (place,)) for place in removable(model)]


def truncations(model: ResNet) -> list[Cut]:
    """Each stage without its last blocks, from one to all but the first."""
    cuts = []
    for stage, blocks in enumerate(model.stages(), start=1):
        for left in range(len(blocks) - 1, 0, -1):
            cuts.append(Cut("truncation", tuple(Place(stage, number) for number in range(left + 1, len(blocks) + 1))))
    return cuts


def random_cuts(model: ResNet, draws: int, seed: int) -> list[Cut]:
    """As many blocks of a stage as a truncation leaves out, but others: any but the first, and never those together.

    Where there are no more such sets than draws, each is there once. Of long stages not every number is tried: the
    powers of two, up to all but two.

    Args:
        draws: sets of blocks for each number, at most.
        seed: of the choice.
    """
    cuts = []
    for stage, blocks in enumerate(model.stages(), start=1):
        counts = range(1, len(blocks) - 1)  # all but the first is one set alone, which truncation leaves out as well
        numbers = list(counts)
        if len(counts) > MOST_COUNTS:
            chosen_counts = {2**power for power in range(len(blocks).bit_length())} & set(counts)
            numbers = sorted(chosen_counts | {counts[-1]})
        for count in numbers:
            for draw, chosen in enumerate(_others(len(blocks), count, draws, [seed, stage, count]), start=1):
                cuts.append(Cut("deletion", tuple(Place(stage, number) for number in chosen), draw))
    return cuts


def _others(blocks: int, count: int, draws: int, seeds: list[int]) -> list[tuple[int, ...]]:
    """Sets of so many blocks of a stage, from its second on, that are not its last ones."""
    tail = tuple(range(blocks - count + 1, blocks + 1))
    if math.comb(blocks - 1, count) - 1 <= draws:
        return [one for one in itertools.combinations(range(2, blocks + 1), count) if one != tail]
    chosen: list[tuple[int, ...]] = []
    for draw in range(1, draws + 1):
        generator, one = np.random.default_rng([*seeds, draw]), tail
        while one == tail:
            one = tuple(sorted(map(int, generator.choice(np.arange(2, blocks + 1), size=count, replace=False))))
        chosen.append(one)
    return chosen


def all_cuts(model: ResNet, draws: int, seed: int) -> list[Cut]:
    """Lesions, truncations and random deletions, as far as their blocks can be left out."""
    possible = set(removable(model))
    every = (*lesions(model), *truncations(model), *random_cuts(model, draws, seed))
    return [cut for cut in every if possible.issuperset(cut.places)]


def zero_tail(model: ResNet, places: Iterable[Place]) -> None:
    """Set the last gamma of some blocks of a residual net to zero, and with it the beta: they become the identity.

    What is left is the truncated net, to the bit: the branch puts out zeros, and ReLU does not change what is not
    negative. With gamma alone it would be the truncated net with beta added.
    """
    with torch.no_grad():
        for place in places:
            norm = model.stages()[place.stage - 1][place.block - 1].last_bn()  # type: ignore[union-attr,operator]
            norm.weight.zero_()
            norm.bias.zero_()


@dataclass
class Examination:
    """What was found, over all images.

    Attributes:
        right: by cut, and None for the whole net, whether each image's top-1 is right: bool [n].
        responses: by layer with a 3x3 convolution, the deviation of its BN's output over images, channels and pixels
            (paper, Figure 7).
        ratios: by block the mean over images of |F(x)| / |x|, where x is what the shortcut hands over; empty in a plain
            net.
    """

    right: dict[Cut | None, np.ndarray]
    responses: dict[str, float]
    ratios: dict[Place, float]


@dataclass
class _Moments:
    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def add(self, values: Tensor) -> None:
        wide = values.double()
        self.count += wide.numel()
        self.total += float(wide.sum())
        self.squares += float(wide.square().sum())

    def over(self, all_reduce: AllReduce) -> None:
        """Add what the other ranks have."""
        count, self.total, self.squares = all_reduce([self.count, self.total, self.squares])
        self.count = round(count)

    @property
    def deviation(self) -> float:
        mean = self.total / self.count
        return float(np.sqrt(max(0.0, self.squares / self.count - mean**2)))


@torch.no_grad()
def examine(
    model: ResNet,
    batches: Iterable[tuple[Tensor, Tensor]],
    cuts: Sequence[Cut],
    *,
    rank: int = 0,
    ranks: int = 1,
    all_reduce: AllReduce = list,
) -> Examination:
    """Run the net whole and with each cut on all images.

    What a cut leaves as it is, the blocks before it, is computed once a batch.

    Args:
        model: over modules (`kernels=torch`), in whichever mode; it is left in evaluation mode.
        batches: float32 [N, 3, H, W], normalized, and labels int64 [N].
        cuts: of `removable` blocks.
        rank, ranks: which of the images these are: every `ranks`-th, from `rank` on.
        all_reduce: sums values over the ranks; every rank calls it.

    Returns:
        What was found on the images of all ranks; on every rank.

    Raises:
        ValueError: there are no images.
        NotFinite: the whole net puts out what is no number.
    """
    model.eval()
    moments = {layer.name: _Moments() for layer in _watched(model)}
    right: dict[Cut | None, list[np.ndarray]] = {cut: [] for cut in (None, *cuts)}
    ratios = {
        Place(stage, number + 1): 0.0
        for stage, blocks in enumerate(model.stages(), start=1)
        for number, block in enumerate(blocks)
        if block.residual
    }

    def answer(cut: Cut | None, logits: Tensor, labels: Tensor) -> None:
        right[cut].append((logits.argmax(dim=1) == labels).cpu().numpy())

    for images, labels in batches:
        with _responses(model, moments):
            inputs, logits, found = _whole(model, images)
        check_finite(logits)
        answer(None, logits, labels)
        for place, ratio in found.items():
            ratios[place] += float(ratio.double().sum())
        for cut in cuts:
            answer(cut, _without(model, inputs, cut), labels)
    count = round(all_reduce([float(sum(map(len, right[None])))])[0])
    if not count:
        raise ValueError("no images: nothing can be examined on none")
    mine = np.zeros((len(right), count))
    for row, parts in zip(mine, right.values(), strict=True):
        row[rank::ranks] = np.concatenate(parts) if parts else []
    every = np.array(all_reduce(mine.ravel().tolist()), dtype=np.float64).reshape(mine.shape) > 0
    for one in moments.values():
        one.over(all_reduce)
    summed = all_reduce(list(ratios.values()))
    return Examination(
        right=dict(zip(right, every, strict=True)),
        responses={name: one.deviation for name, one in moments.items()},
        ratios={place: total / count for place, total in zip(ratios, summed, strict=True)},
    )


def _watched(model: ResNet) -> list[ConvBn]:
    """The layers of Figure 7: those of the blocks' branches with a 3x3 convolution."""
    layers = [layer for block in model.residual_blocks() for layer in block.branch_layers()]
    return [layer for layer in layers if layer.conv.kernel_size == (3, 3)]


@contextlib.contextmanager
def _responses(model: ResNet, moments: dict[str, _Moments]) -> Iterator[None]:
    """Add what the BNs of the watched layers put out meanwhile."""

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        return lambda module, given, output: moments[name].add(output)

    hooks = [layer.bn.register_forward_hook(watch(layer.name)) for layer in _watched(model)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _whole(model: ResNet, images: Tensor) -> tuple[dict[Place, Tensor], Tensor, dict[Place, Tensor]]:
    """What goes into each block, the scores, and |F(x)| / |x| of each residual block and image."""
    inputs, ratios = {}, {}
    x = model.stem(images)
    for stage, blocks in enumerate(model.stages(), start=1):
        for number, block in enumerate(blocks, start=1):
            assert isinstance(block, Block)
            place = Place(stage, number)
            inputs[place] = x
            branch, shortcut = block.branch(x), block.shortcut(x)
            if shortcut is not None:
                ratios[place] = branch.float().flatten(1).norm(dim=1) / shortcut.float().flatten(1).norm(dim=1)
            x = join(branch, shortcut)
    return inputs, model.fc(global_average(x)), ratios


def _without(model: ResNet, inputs: dict[Place, Tensor], cut: Cut) -> Tensor:
    """The scores of the net without some blocks, from what goes into the first of them on."""
    x, left_out = inputs[cut.places[0]], set(cut.places)
    for stage, blocks in enumerate(model.stages(), start=1):
        for number, block in enumerate(blocks, start=1):
            assert isinstance(block, Block)
            place = Place(stage, number)
            if place < cut.places[0]:
                continue
            if place not in left_out:
                x = block(x)
            elif block.residual:
                shortcut = block.shortcut(x)
                assert shortcut is not None
                x = F.relu(shortcut)
    return model.fc(global_average(x))
