"""Saves and loads a network's weights as safetensors, complete or not at all; nothing is ever unpickled."""

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from resnet.architecture import IMAGENET_STAGES, Architecture
from resnet.model import ResNet
from results.durable import replace_file
from results.words import ConfigError

Value = TypeVar("Value")


class WeightsError(ValueError):
    """A weights file cannot be written, read, or does not fit the model; the message is one line that says why."""


def save_weights(model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None) -> None:
    """Write the state dict of a `ResNet`, contiguous whatever its memory format, with its architecture as metadata.

    The file appears complete or not at all: it is written beside `path`, flushed to disk and renamed. Call it on one
    rank.

    Args:
        model: from `resnet.build`, not wrapped.
        path: the file, customarily NAME.safetensors; its folder is created where missing.
        metadata: strings to store beside family, depth, shortcut, stride and num_classes.

    Raises:
        WeightsError: The model is wrapped, metadata is not strings or contradicts the architecture, or the file cannot
            be written.
    """
    path = Path(path)
    stored = _architecture(model) | {"format": "pt"}
    for key, value in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise WeightsError(f"metadata {key!r}: expected strings, got {type(value).__name__} {value!r}")
        if stored.setdefault(key, value) != value:
            raise WeightsError(f"metadata {key}={value}: the model has {key}={stored[key]}")
    # Engines keep parameters as views of one buffer, and channels_last ones are permuted: a plain copy is neither.
    tensors = {
        name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Not save_file, which lets nobody but the owner read the file.
        replace_file(path, lambda file: file.write(save(tensors, stored)))
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: cannot be written: {_line(error)}") from error


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> dict[str, str]:
    """Load every weight of a `ResNet` from a safetensors file; the model stays as it was where anything does not fit.

    Files from elsewhere (torchvision's published weights, converted) load where names and shapes are equal. BN's
    `num_batches_tracked` may be missing, as it is in old files, and is then zero. Values are cast to the model's
    dtypes.

    Args:
        model: from `resnet.build`, not wrapped, on any device and in any memory format.
        path: the file.

    Returns:
        The file's metadata.

    Raises:
        WeightsError: The file is missing or not safetensors; names, shapes or the architecture in its metadata differ.
    """
    path = Path(path)
    architecture = _architecture(model)
    tensors, metadata = _read(path, lambda file, name: file.get_tensor(name))
    # Strides v1 and v1.5, and shortcuts none and A, have the same names and shapes: only the metadata tells them apart.
    for key, value in architecture.items():
        if metadata.get(key, value) != value:
            raise WeightsError(f"{path}: weights of {key}={metadata[key]}, the model has {key}={value}")
    expected = model.state_dict()
    for name, tensor in expected.items():
        if name.endswith(".num_batches_tracked"):
            tensors.setdefault(name, torch.zeros_like(tensor, device="cpu"))
    _check_names(path, expected, tensors)
    model.load_state_dict(tensors)
    return metadata


def architecture_of(
    path: str | os.PathLike[str], *, shortcut: str | None = None, stride: str | None = None
) -> tuple[Architecture, dict[str, str]]:
    """Tell which network a weights file is of, by its metadata, else by its tensors' names and shapes.

    Files from elsewhere have no such metadata. Nets with padded or no shortcuts have the same tensors, and so have
    bottlenecks of both strides: they need a word.

    Args:
        path: the file.
        shortcut: "none" or "A", where the tensors do not tell.
        stride: "v1" or "v1.5" (torchvision), where they do not.

    Returns:
        The network, and the file's metadata.

    Raises:
        WeightsError: the file is missing or not safetensors, of no network of these families, or needs a word.
    """
    path = Path(path)
    shapes, metadata = _read(path, lambda file, name: tuple(file.get_slice(name).get_shape()))
    if "family" not in metadata:
        return _by_shapes(path, shapes, shortcut, stride), metadata
    try:
        found = Architecture(
            family=metadata["family"], depth=_number(metadata, "depth"), shortcut=metadata["shortcut"],
            stride=metadata["stride"], num_classes=_number(metadata, "num_classes"),
        )  # fmt: skip
    except KeyError as error:
        raise WeightsError(f"{path}: its metadata has a family but no {error.args[0]}") from None
    except ValueError as error:
        raise WeightsError(f"{path}: its metadata: {_line(error)}") from None
    _check_tensors(path, shapes, found)
    for key, typed in (("shortcut", shortcut), ("stride", stride)):
        if typed is not None and typed != getattr(found, key):
            raise WeightsError(f"{path}: weights of {key}={getattr(found, key)}, and {key}={typed} was asked for")
    return found, metadata


def _number(metadata: Mapping[str, str], key: str) -> int:
    text = metadata[key]
    if not (text.isascii() and text.removeprefix("-").isdigit() and len(text) <= 9):
        raise ValueError(f"{key}={text[:60]}: expected a whole number")
    return int(text)


def _check_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]], said: Architecture) -> None:
    """See that a file's tensors may be of the network that its metadata says, before one of that size is built."""
    projected = any(name.endswith(".downsample.0.weight") for name in shapes)
    padded = said.shortcut if said.shortcut in ("none", "A") else "A"  # which have the same tensors
    found = _by_shapes(path, shapes, None if projected else padded, said.stride)
    for key, value in asdict(found).items():
        if value != getattr(said, key):
            raise WeightsError(f"{path}: its metadata has {key}={getattr(said, key)}, and its tensors {key}={value}")


def _read(path: Path, take: Callable[[Any, str], Value]) -> tuple[dict[str, Value], dict[str, str]]:
    """What `take` makes of each tensor of a file, by name, and the file's metadata."""
    if not path.is_file():
        raise WeightsError(f"{path}: no such weights file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: take(file, name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file: {_line(error)}") from error


def _by_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]], shortcut: str | None, stride: str | None
) -> Architecture:
    stages = [0] * 4
    projections = 0
    for name in shapes:
        stage, _, rest = name.partition(".")
        block, _, layer = rest.partition(".")
        if stage in ("layer1", "layer2", "layer3", "layer4") and block.isdigit():
            stages[int(stage[5]) - 1] = max(stages[int(stage[5]) - 1], int(block) + 1)
            projections += layer == "downsample.0.weight"
    classes, stem = shapes.get("fc.weight", ()), shapes.get("conv1.weight", ())
    if len(classes) != 2 or len(stem) != 4 or not stages[0]:
        raise WeightsError(f"{path}: no residual network's weights: expected conv1, layer1 ... and fc")
    bottleneck = "layer1.0.conv3.weight" in shapes
    if stem[2] == 7:
        sizes = {18: False, 34: False, 50: True, 101: True, 152: True}
        depth = next((d for d, deep in sizes.items() if IMAGENET_STAGES[d] == tuple(stages) and deep == bottleneck), 0)
        family = "imagenet"
    else:
        one_layer = "layer1.0.conv2.weight" not in shapes
        depth = (3 if one_layer else 6) * stages[0] + 2 if len({*stages[:3]}) == 1 and not stages[3] else 0
        family = "one-layer" if one_layer else "cifar"
    if not depth:
        raise WeightsError(f"{path}: {', '.join(map(str, stages))} blocks a stage are of no network of these families")
    if projections:
        found = "C" if projections == sum(stages) else "B"
        if shortcut not in (None, found):
            raise WeightsError(f"{path}: has projections as shortcut={found}, and shortcut={shortcut} was asked for")
    elif shortcut not in ("none", "A"):
        raise WeightsError(f"{path}: has no projections and does not say more; add shortcut=A, or none for a plain net")
    else:
        found = shortcut
    if bottleneck and stride is None:
        raise WeightsError(f"{path}: does not say where its bottlenecks stride; add stride=v1.5 (torchvision), or v1")
    try:
        return Architecture(
            family=family, depth=depth, shortcut=found, stride=stride or "v1", num_classes=classes[0]
        )  # fmt: skip
    except ConfigError as error:
        raise WeightsError(f"{path}: {error}") from None


def _architecture(model: nn.Module) -> dict[str, str]:
    if not isinstance(model, ResNet):
        kind = type(model).__name__
        raise WeightsError(
            f"model: expected a ResNet from resnet.build, got {kind}; pass what it wraps, if it wraps one"
        )
    return {key: str(value) for key, value in asdict(model.architecture).items()}


def _check_names(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> None:
    problems = []
    for name, tensor in expected.items():
        if name in found and tensor.is_floating_point() and not found[name].is_floating_point():
            raise WeightsError(f"{path}: {name} has values of {found[name].dtype}; expected a floating dtype")
    if missing := [name for name in expected if name not in found]:
        problems.append(f"missing {_some(missing)}")
    if unexpected := [name for name in found if name not in expected]:
        problems.append(f"unexpected {_some(unexpected)}")
    if shapes := [
        f"{name} {list(found[name].shape)}, model {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]:
        problems.append(f"of another shape {_some(shapes)}")
    if problems:
        raise WeightsError(f"{path}: does not fit the model: {'; '.join(problems)}")


def _some(items: list[str]) -> str:
    return ", ".join(items[:3]) + (f" and {len(items) - 3} more" if len(items) > 3 else "")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
