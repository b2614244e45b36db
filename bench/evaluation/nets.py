"""Nets from weights files: which network, how it was trained, and so how its images are normalized."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import resnet
from resnet.architecture import TRAINING
from results.words import ConfigError, parse_json

__all__ = ["Net", "load", "one_of"]


@dataclass(frozen=True, kw_only=True)
class Net:
    """A trained network.

    Attributes:
        path: of the weights file.
        sha256: of its content; None where no file has it.
        model: on the device.
        attempt: RUN.RESTART that saved it; None where no run did.
        epoch: epochs that it had done.
        words: what the run says of itself, such as recipe, dataset, image_size and seed; empty where none does.
    """

    path: str
    sha256: str | None
    model: resnet.ResNet
    attempt: str | None = None
    epoch: int | None = None
    words: dict[str, str]

    @property
    def number_of_classes(self) -> int:
        return self.model.architecture.num_classes


def load(
    path: str, *, device: torch.device, kernels: str = "torch", shortcut: str | None = None, stride: str | None = None
) -> Net:
    """Load a network, in evaluation mode and channels_last.

    Args:
        path: a file of `save=`, or of anybody with torchvision's names and shapes.
        kernels: what computes it, see `resnet.build`.
        shortcut, stride: what the file may not tell, see `resnet.architecture_of`.

    Raises:
        resnet.WeightsError: it is no weights file, does not tell enough, or has a value that is not finite.
    """
    architecture, metadata = resnet.architecture_of(path, shortcut=shortcut, stride=stride)
    model = resnet.build(
        family=architecture.family, depth=architecture.depth, shortcut=architecture.shortcut,
        stride=architecture.stride, num_classes=architecture.num_classes, kernels=kernels,
    )  # fmt: skip
    resnet.load_weights(model, path)
    odd = next((name for name, value in model.state_dict().items() if not value.isfinite().all()), None)
    if odd:
        raise resnet.WeightsError(f"{path}: {odd} has values that are not finite")
    model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Net(path=path, sha256=digest, model=model, **_training(path, metadata.get(TRAINING)))


def _training(path: str, text: str | None) -> dict[str, Any]:
    """What a run wrote into the metadata of its weights."""
    if text is None:
        return {"words": {}}
    try:
        values = parse_json(text)
    except ValueError as error:
        raise resnet.WeightsError(f"{path}: its metadata {TRAINING} is not JSON ({error})") from None
    words = values.get("net") if isinstance(values, dict) else None
    if isinstance(words, str):  # version 1 of checkpoints
        words = dict(word.split("=", 1) for word in words.split() if "=" in word)
    if not isinstance(words, dict):
        return {"words": {}}
    attempt, epoch = values.get("attempt"), values.get("epoch")
    return {
        "words": {str(name): str(value) for name, value in words.items()},
        "attempt": attempt if isinstance(attempt, str) else None,
        "epoch": epoch if type(epoch) is int else None,
    }


def one_of(nets: Sequence[Net], name: str, typed: str | None = None) -> str | None:
    """The value of a word that all nets share, such as their recipe.

    Args:
        typed: on the command line; it counts where the nets do not say.

    Returns:
        None where nobody says it.

    Raises:
        ConfigError: they do not share it, or another one was typed.
    """
    known = {net.words[name]: Path(net.path).name for net in nets if name in net.words}
    if typed is not None:
        known.setdefault(typed, f"{name}={typed}")
    if len(known) > 1:
        (one, first), (other, second) = list(known.items())[:2]
        raise ConfigError(f"{name}: {first} has {one} and {second} has {other}; evaluate them apart")
    return next(iter(known), None)
