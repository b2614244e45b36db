"""Softmax of each image averaged over the views of a protocol: all nets and protocols in one pass over the images."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import InitVar, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from bench.evaluation.images import Normalization, Piece, pieces
from bench.evaluation.protocols import Crop, View, crops_of, views_of
from kernels.dtypes import PRECISIONS
from resnet.data import Split

__all__ = ["Answers", "Figures", "NotFinite", "Totals", "answers", "check_finite"]

_PIECE = 128  # images that are read at a time, at least a batch of them


class NotFinite(ValueError):
    """A net puts out what is no number: nothing can be said of its errors."""


def check_finite(logits: Tensor, member: int = 0, members: int = 1) -> None:
    """See that scores are numbers.

    Raises:
        NotFinite: they are not; one line that says of which net.
    """
    if not logits.isfinite().all():
        which = f"net {member + 1} of {members}" if members > 1 else "the net"
        raise NotFinite(f"{which} puts out scores that are not finite: its weights are too large, or are no training's")


@dataclass(frozen=True)
class Answers:
    """What the nets say of some images.

    Attributes:
        rows: int64 [n], their places in the split.
        labels: int64 [n], on the device.
        softmax: by protocol float32 [members, n, classes], averaged over its views, on the device.
    """

    rows: np.ndarray
    labels: Tensor
    softmax: Mapping[str, Tensor]


@torch.no_grad()
def answers(
    models: Sequence[nn.Module],
    split: Split,
    rows: np.ndarray,
    protocols: Sequence[str],
    normalization: Normalization,
    *,
    image_size: int,
    batch: int,
    threads: int,
    device: torch.device,
    precision: str = "fp32",
) -> Iterator[Answers]:
    """Evaluate nets by protocols; each image is read once, and a view that several protocols have is computed once.

    Args:
        models: on the device; they are put into evaluation mode.
        rows: int64 [n], which images of the split.
        protocols: of `resnet.data.PROTOCOLS`.
        image_size: S, as of `protocols.views_of`.
        batch: views of S x S that go through a net at a time, or as many pixels of larger ones.
        threads: that read images.
        precision: of the network's forward pass; softmax and averages are float32.

    Raises:
        resnet.data.DataError: an image cannot be read; the message names it.
        NotFinite: a net puts out what is no number.
    """
    for model in models:
        model.eval()
    views = {name: views_of(name, image_size) for name in protocols}
    wanted = list(dict.fromkeys(itertools.chain(*views.values())))
    read = pieces(
        split, rows, crops_of(wanted), image_size=image_size, size=max(batch, _PIECE), threads=threads
    )  # fmt: skip
    for piece in read:
        labels = torch.from_numpy(np.ascontiguousarray(split.labels[piece.rows])).to(device)
        sums = {name: torch.zeros(len(models), len(labels), len(split.classes), device=device) for name in protocols}
        for places, crops, images in _batches(piece, normalization, image_size, batch, device):
            for mirrored in (False, True):
                seen = [
                    (at, [name for name in protocols if View(crop, mirrored) in views[name]])
                    for at, crop in enumerate(crops)
                ]
                chosen = [at for at, names in seen if names]
                if not chosen:
                    continue
                shown = images if len(chosen) == len(crops) else images[chosen]
                shown = shown.flip(3) if mirrored else shown
                for member, model in enumerate(models):
                    with torch.autocast(device.type, PRECISIONS[precision].torch_dtype, enabled=precision != "fp32"):
                        logits = model(shown.contiguous(memory_format=torch.channels_last))
                    check_finite(logits, member, len(models))
                    softmax = logits.float().softmax(dim=1)
                    for name in protocols:
                        of_it = [row for row, at in enumerate(chosen) if name in seen[at][1]]
                        if of_it:
                            at_images = torch.tensor([places[chosen[row]] for row in of_it], device=device)
                            sums[name][member].index_add_(0, at_images, softmax[of_it])
        yield Answers(piece.rows, labels, {name: sums[name] / len(views[name]) for name in protocols})


def _batches(
    piece: Piece, normalization: Normalization, image_size: int, batch: int, device: torch.device
) -> Iterator[tuple[list[int], list[Crop], Tensor]]:
    """The crops of a piece in batches of one size: places in the piece, crops, and float32 [n, 3, h, w]."""
    for (height, width), found in piece.crops.items():
        # As many pixels as a batch of crops has: larger batches of larger views are slower, and may not fit.
        size = max(1, batch * image_size**2 // (height * width))
        for start in range(0, len(found), size):
            part = found[start : start + size]
            pixels = torch.from_numpy(np.stack([pixels for _, _, pixels in part])).to(device)
            yield [place for place, _, _ in part], [crop for _, crop, _ in part], normalization(pixels)


@dataclass(frozen=True)
class Figures:
    """What is known of a net, or an ensemble, by one protocol.

    Attributes:
        top1: fraction of the images.
        top5: likewise.
        loss: mean cross entropy of the averaged softmax.
        images: that were evaluated.
    """

    top1: float
    top5: float
    loss: float
    images: int


@dataclass
class Totals:
    """Counts hits of each member, and of the ensemble, whose softmax is the mean of its members'.

    Args:
        protocols: by which the nets are evaluated.
        members: how many nets.

    Attributes:
        sums: by protocol and member (0 is the first; None the ensemble) top-1 hits, top-5 hits, loss and images.
    """

    protocols: InitVar[Sequence[str]]
    members: InitVar[int]
    sums: dict[tuple[str, int | None], list[float]] = field(init=False)

    def __post_init__(self, protocols: Sequence[str], members: int) -> None:
        every = [*range(members), *([None] if members > 1 else [])]
        self.sums = {(name, member): [0.0] * 4 for name in protocols for member in every}

    def add(self, found: Answers) -> None:
        """Count more images."""
        for name, softmax in found.softmax.items():
            members: list[tuple[int | None, Tensor]] = list(enumerate(softmax))
            if len(softmax) > 1:
                members.append((None, softmax.mean(dim=0)))
            for member, one in members:
                best = one.topk(min(5, one.shape[1]), dim=1).indices == found.labels[:, None]
                # A probability of 0, which float32 has where the net is sure of another class, has no logarithm.
                chosen = one.gather(1, found.labels[:, None]).clamp_min(torch.finfo(torch.float32).tiny)
                values = (best[:, 0].sum(), best.sum(), -chosen.double().log().sum())
                sums = self.sums[name, member]
                for at, value in enumerate((*map(float, values), len(one))):
                    sums[at] += value

    def figures(
        self, all_reduce: Callable[[Sequence[float]], list[float]] = list
    ) -> dict[tuple[str, int | None], Figures]:
        """The figures over all images of all ranks.

        Args:
            all_reduce: sums values over the ranks; every rank calls it.
        """
        keys = list(self.sums)
        flat = all_reduce([value for key in keys for value in self.sums[key]])
        found = {}
        for at, key in enumerate(keys):
            top1, top5, loss, images = flat[4 * at : 4 * at + 4]
            found[key] = Figures(top1 / images, top5 / images, loss / images, round(images))
        return found
