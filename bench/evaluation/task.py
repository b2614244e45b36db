"""What a command examines: trained nets and the images of a split, all of it checked but for the images themselves."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import resnet
from bench.config import paths
from bench.config.grammar import WordError, key
from bench.config.slurm import cores_here
from bench.evaluation import nets as trained
from bench.evaluation import protocols
from bench.evaluation.images import Normalization, pieces
from bench.evaluation.nets import Net
from kernels.dtypes import PRECISIONS
from resnet.architecture import SHORTCUTS, STRIDES
from resnet.data import (
    DATA_VARIABLE,
    DATASETS,
    DataError,
    Split,
    Splits,
    compute_mean_image,
    dataset_in_environment,
    open_dataset,
)
from resnet.recipe import load as load_recipe
from results.words import DEFAULT_ROOT, ConfigError

__all__ = ["BATCH", "Setting", "SharedKeys", "Subject", "normalization", "plain_batches", "subject"]

BATCH = 64
SMALLEST, LARGEST = 8, 4096  # images, pixels a side


@dataclass(kw_only=True)
class SharedKeys:
    """Words that every command takes which examines trained nets."""

    weights: str | None = key("trained nets, as .safetensors; several are an ensemble", "required", path=True)
    data: str | None = key(
        "folder of the dataset, or an archive of it", f"what ${DATA_VARIABLE} has", path=True, one=True
    )
    dataset: str | None = key(
        "which dataset that is", "that of the run that saved the weights", choices=tuple(DATASETS), one=True
    )
    split: str | None = key("images to evaluate", "test", choices=("test", "train"), one=True)
    images: int | None = key("the first so many of them, in their order", "all", unit="images", least=1, one=True)
    image_size: int | None = key(
        "side that the network sees",
        "the run's, else the dataset's",
        unit="pixels",
        least=SMALLEST,
        most=LARGEST,
        one=True,
    )
    recipe: str | None = key(
        "how images were normalized in training, where the weights do not say: fast by channel, paper by mean image",
        "fast", choices=("fast", "paper"), one=True,
    )  # fmt: skip
    shortcut: str | None = key("of the net, where the weights do not say", "known", choices=SHORTCUTS, one=True)
    stride: str | None = key("of its bottlenecks, likewise", "known", choices=STRIDES, one=True)
    batch: int | None = key("images or views that go through a net at a time", str(BATCH), least=1, one=True)
    precision: str | None = key("of the forward pass", "fp32", choices=tuple(PRECISIONS), one=True)
    threads: int | None = key("that read images", "a core each", unit="threads", least=1, most=1024, one=True)
    results: str | None = key("folder that rows are written to", "results/v1 of the checkout", path=True, one=True)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The images of a dataset, and how they go through a net.

    Attributes:
        batch: images or views that go through a net at a time.
        threads: that read images.
        results: folder that rows are written to.
    """

    dataset: str
    splits: Splits
    image_size: int
    batch: int
    precision: str
    threads: int
    results: Path
    device: torch.device

    def autocast(self) -> torch.autocast:
        """The context of the forward pass."""
        dtype = PRECISIONS[self.precision].torch_dtype
        return torch.autocast(self.device.type, dtype, enabled=self.precision != "fp32")


@dataclass(frozen=True, kw_only=True)
class Subject(Setting):
    """Trained nets, and the images that they are examined on.

    Attributes:
        images: how many of the split, from its first on.
        per_pixel: whether the mean image of training is subtracted.
    """

    nets: list[Net]
    split: Split
    images: int
    per_pixel: bool


def subject(typed: Mapping[str, Sequence[Any]]) -> Subject:
    """Load the weights that were typed, and look at what the dataset's folder has.

    Args:
        typed: values by key, of `SharedKeys` and others.

    Raises:
        ValueError: one line that names the first word that cannot be used, and what would do instead.
    """
    one = {name: each[0] for name, each in typed.items()}
    if "weights" not in typed:
        raise WordError("weights is missing: add weights=PATH, a file that a run's save= wrote")
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    nets = []
    for path in typed["weights"]:
        if typed["weights"].count(path) > 1:
            raise WordError(f"weights={path}: is given twice; an ensemble is of different nets")
        found = paths.existing("weights", path, visible=True)
        try:
            net = trained.load(found, device=device, shortcut=one.get("shortcut"), stride=one.get("stride"))
        except resnet.WeightsError as error:
            raise WordError(f"weights={error}") from None
        nets.append(net)
    for place, net in enumerate(nets):
        if (twin := next((other for other in nets[:place] if other.sha256 == net.sha256), None)) is not None:
            raise WordError(f"weights={net.path}: is the net of {twin.path}; an ensemble is of different nets")
        if "recipe" in one:
            net.words.setdefault("recipe", one["recipe"])  # a row says how its images were normalized
    dataset = _dataset(nets, one)
    image_size = one.get("image_size") or _image_size(nets) or DATASETS[dataset].image_size
    splits = _open(nets, dataset, one, image_size)
    split = splits.train if one.get("split") == "train" else splits.test
    images = one.get("images", len(split))
    if images > len(split):
        raise WordError(f"images={images}: there are {len(split)}; nearest is images={len(split)}")
    return Subject(
        nets=nets, dataset=dataset, splits=splits, split=split, images=images, image_size=image_size,
        per_pixel=_augment(nets, dataset, one.get("recipe")) == "paper", batch=one.get("batch", BATCH),
        precision=one.get("precision", "fp32"), threads=one.get("threads", cores_here(os.environ)),
        results=paths.check_folder("results", one.get("results", str(DEFAULT_ROOT))), device=device,
    )  # fmt: skip


def _image_size(nets: Sequence[Net]) -> int | None:
    """The side that the runs' images had; None where no run says it."""
    known = trained.one_of(nets, "image_size")
    if known is None:
        return None
    if len(known) <= 4 and known.isascii() and known.isdigit() and SMALLEST <= int(known) <= LARGEST:
        return int(known)
    shown = known if len(known) <= 60 else f"{known[:57]}..."
    raise WordError(
        f"image_size={shown!r}, of the weights: expected a number of pixels from {SMALLEST} to {LARGEST}; "
        "add image_size="
    )


def _augment(nets: Sequence[Net], dataset: str, typed: str | None) -> str:
    """The policy by which the nets' images were normalized in training."""
    name = trained.one_of(nets, "recipe", typed) or "fast"
    architecture = nets[0].model.architecture
    try:
        return load_recipe(name, dataset, architecture.family, architecture.depth).augment
    except ConfigError as error:
        raise WordError(f"{error} (the recipe of the weights)") from None


def _dataset(nets: Sequence[Net], one: dict[str, Any]) -> str:
    """Which dataset is evaluated: the one that was typed, else that of the runs."""
    known = trained.one_of(nets, "dataset")
    if typed := one.get("dataset"):
        # Any images may be in a folder; those of a dataset with a name are no others than its own.
        if known in DATASETS and known != typed and "imagefolder" not in (known, typed):
            raise WordError(f"dataset={typed}: the weights were trained on {known}; nearest is dataset={known}")
        return str(typed)
    if known is None:
        names = ", ".join(DATASETS)
        raise WordError(f"dataset is missing: the weights do not say what they were trained on; choose from {names}")
    if known not in DATASETS:
        raise WordError(f"dataset={known}, of the weights: no such dataset here; choose from {', '.join(DATASETS)}")
    return known


def _open(nets: Sequence[Net], dataset: str, one: dict[str, Any], image_size: int) -> Splits:
    """Open the images, whose classes are those of the nets.

    Raises:
        WordError: there are none, or other ones.
    """
    path: str | None = None
    if DATASETS[dataset].comes_with:
        if "data" in one:
            raise WordError(
                f"data={one['data']}: the {dataset} come with {DATASETS[dataset].comes_with}; leave data out"
            )
    elif "data" in one:
        path = paths.existing("data", one["data"], visible=True)
    else:
        try:
            found = dataset_in_environment(dataset)
        except DataError as error:
            raise WordError(str(error)) from None
        if found is None:
            raise WordError(f"data is missing: add data=PATH; ${DATA_VARIABLE} has no images of {dataset}")
        path = str(found)
    try:
        splits = open_dataset(dataset, path, image_size=image_size)
    except DataError as error:
        raise WordError(f"data={path or dataset}: {error}") from None
    for net in nets:
        if net.number_of_classes != len(splits.classes):
            raise WordError(
                f"weights={net.path}: puts out {net.number_of_classes} classes, and {path or dataset} has "
                f"{len(splits.classes)}"
            )
    return splits


def normalization(of: Subject) -> Normalization:
    """How the nets' images were normalized in training.

    Raises:
        resnet.data.DataError: an image of the mean image cannot be read.
    """
    mean = None
    if of.per_pixel:
        mean, _ = compute_mean_image(of.splits.train, image_size=of.image_size, threads=of.threads, device=of.device)
    known = DATASETS[of.dataset]
    return Normalization(mean=known.mean, std=known.std, mean_image=mean)


def plain_batches(
    of: Setting, split: Split, rows: np.ndarray, normalize: Normalization
) -> Iterator[tuple[Tensor, Tensor]]:
    """Images as a run's own evaluation sees them, one view each, and their labels.

    Args:
        split: of the dataset.
        rows: int64 [n], which images.

    Yields:
        float32 [N, 3, S, S] in channels_last and int64 [N], on the device.

    Raises:
        resnet.data.DataError: an image cannot be read.
    """
    (view,) = protocols.views_of(DATASETS[of.dataset].eval_protocol, of.image_size)
    read = pieces(split, rows, [view.crop], image_size=of.image_size, size=of.batch, threads=of.threads)
    for piece in read:
        (found,) = piece.crops.values()
        pixels = torch.from_numpy(np.stack([pixels for _, _, pixels in found])).to(of.device)
        yield normalize(pixels), torch.from_numpy(np.ascontiguousarray(split.labels[piece.rows])).to(of.device)
