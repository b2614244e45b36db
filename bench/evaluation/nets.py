"""Nets from weights files: which network, how it was trained, and so how its images are normalized."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import resnet
from resnet import Architecture
from resnet.architecture import TRAINING
from results.words import ConfigError, parse_json

__all__ = ["Net", "load", "one_of"]

_ATTEMPT = re.compile(r"[!-~]+\.\d{1,9}")


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
    for name, value in model.state_dict().items():
        if not value.isfinite().all():
            raise resnet.WeightsError(f"{path}: {name} has values that are not finite")
        if name.endswith("running_var") and (value < 0).any():
            raise resnet.WeightsError(f"{path}: {name} has variances below 0")
    model.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Net(path=path, sha256=digest, model=model, **_training(path, metadata.get(TRAINING), architecture))


def _training(path: str, text: str | None, architecture: Architecture) -> dict[str, Any]:
    """What a run wrote into the metadata of its weights, as far as it can be true."""
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
    said = {str(name): str(value) for name, value in words.items()}
    for name in ("family", "depth", "shortcut", "stride", "num_classes"):
        known = str(getattr(architecture, name))
        if said.get(name, known) != known:
            raise _untrue(path, name, said[name], f"the weights are of {name}={known}")
    if "seed" in said and not _whole(said["seed"], 0, 2**31 - 1):
        raise _untrue(path, "seed", said["seed"], "expected a whole number from 0 to 2147483647")
    attempt, epoch = values.get("attempt"), values.get("epoch")
    if attempt is not None and not (isinstance(attempt, str) and _ATTEMPT.fullmatch(attempt)):
        raise _untrue(path, "attempt", attempt, "expected RUN.RESTART")
    if epoch is not None and not (type(epoch) is int and 0 <= epoch < 2**31):
        raise _untrue(path, "epoch", epoch, "expected a whole number from 0 on")
    return {"words": said, "attempt": attempt, "epoch": epoch}


def _untrue(path: str, field: str, value: object, what: str) -> resnet.WeightsError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return resnet.WeightsError(f"{path}: its metadata {TRAINING} has {field}={shown}; {what}")


def _whole(text: str, least: int, most: int) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most


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
