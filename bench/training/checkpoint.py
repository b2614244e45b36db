"""Training state on disk, complete or absent: weights as safetensors, momentum beside them, nothing pickled."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

import resnet
from bench.config.run_config import RunConfig
from bench.training.engine import Engine, get_momentum, set_momentum
from bench.training.process_group import World
from bench.training.state import RunState
from results.durable import replace_file
from results.words import ConfigError

KEY = "training"  # of the weights file's metadata
VERSION = 2  # of what stands there
NET = (
    "family", "depth", "shortcut", "stride", "num_classes", "dataset", "image_size", "epochs", "steps", "batch",
    "grad_accum", "seed", "lr", "world_size", "weight_decay", "target",
)  # fmt: skip
LATER = ("weight_decay", "target")  # words that checkpoints of version 1 lack


class VersionError(ValueError):
    """A training state that a later version wrote."""


class CheckpointError(ConfigError):
    """A checkpoint cannot be resumed from; the message is one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What stands beside the weights.

    Attributes:
        run_id: of the run that wrote it.
        restart: its restart count.
        net: what a run must share to go on from here, see `net_of`.
        saved_at: seconds since 1970.
        state: how far the run had come.
        momentum: name of the file with the momentum, in the same folder; empty until it is written.
    """

    run_id: str
    restart: int
    net: dict[str, Any]
    saved_at: float
    state: RunState
    momentum: str = ""

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"version": VERSION} | asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Checkpoint":
        """Read what `to_json` wrote, or the flat form before it (version 1).

        Raises:
            ValueError, TypeError: anything else.
        """
        values = json.loads(text)
        version = values.pop("version", 1)
        if version == 1:
            values = _from_version_1(values)
        elif type(version) is not int or version < 1:
            raise ValueError(f"version {version!r}")
        elif version > VERSION:
            raise VersionError(f"version {version} of a training state; this reader knows 1 and {VERSION}")
        found = cls(**values | {"state": RunState.from_json(values["state"])})
        if type(found.restart) is not int or found.restart < 0 or not isinstance(found.net, dict):
            raise ValueError("a value of another type")
        if type(found.saved_at) not in (int, float) or not 0 <= found.saved_at < 1e11:  # seconds until the year 5138
            raise ValueError("no time")
        if not isinstance(found.momentum, str) or Path(found.momentum).name != found.momentum or not found.momentum:
            raise ValueError("no name of a file")
        return found


def _from_version_1(values: dict[str, Any]) -> dict[str, Any]:
    """The state lay among the other values, the momentum's file was called `state`, and `net` was one text."""
    own = {name: values.pop(name) for name in ("run_id", "restart", "net", "saved_at", "state")}
    net = dict(word.split("=", 1) for word in own["net"].split())
    return {**own, "net": net, "momentum": own["state"], "state": values}


def net_of(config: RunConfig) -> dict[str, str]:
    """The part of a configuration in which a resumed run may not differ, as words that a person can compare."""
    return {word: str(getattr(config, word)) for word in NET} | {"recipe": config.recipe.name}


def save(path: str, engine: Engine, world: World, checkpoint: Checkpoint) -> None:
    """Write the weights to `path` and the momentum beside it; every rank must call it.

    The momentum goes first, under a name of its own; the rename of the weights file, whose metadata names it, makes
    both count at once. The momentum of an earlier call is removed after that.

    Raises:
        OSError, resnet.WeightsError: the disk refuses; what was there before is still whole.
    """
    momenta = {}
    for name, parameter in engine.model.named_parameters():
        value = get_momentum(engine, parameter)
        if value is not None and world.rank == 0:
            momenta[name] = value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    if world.rank == 0:
        weights = Path(path)
        weights.parent.mkdir(parents=True, exist_ok=True)
        momentum = weights.with_name(
            f"{weights.stem}.{checkpoint.run_id}.{checkpoint.state.epoch:04d}.momentum.safetensors"
        )
        old = _momentum_file(weights)
        data = safetensors.torch.save(momenta, {"format": "pt"})
        replace_file(momentum, lambda file: file.write(data))
        resnet.save_weights(engine.model, weights, {KEY: replace(checkpoint, momentum=momentum.name).to_json()})
        if old and old != momentum:
            old.unlink(missing_ok=True)
    world.barrier()


def read(path: str) -> Checkpoint:
    """Read how far the checkpoint at `path` had come, without its tensors.

    Raises:
        CheckpointError: no such file, not a checkpoint, or its momentum is missing.
    """
    weights = Path(path)
    if not weights.is_file():
        raise CheckpointError(f"resume={path}: no such checkpoint")
    try:
        with safe_open(weights, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"resume={path}: not a readable safetensors file: {error}") from error
    if text is None:
        raise CheckpointError(f"resume={path}: weights without a training state; a run's save=PATH writes one")
    try:
        checkpoint = Checkpoint.from_json(text)
    except VersionError as error:
        raise CheckpointError(f"resume={path}: has {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise CheckpointError(f"resume={path}: its training state is damaged; resume from another checkpoint") from None
    if not weights.with_name(checkpoint.momentum).is_file():
        raise CheckpointError(f"resume={path}: its momentum {checkpoint.momentum} is missing from the same folder")
    return checkpoint


def check(path: str, checkpoint: Checkpoint, config: RunConfig) -> None:
    """See that a run of `config` may go on from a checkpoint.

    Raises:
        CheckpointError: it is of another configuration, or of a run that was complete.
    """
    theirs, ours = checkpoint.net, net_of(config)
    differ = [
        f"{word}={theirs.get(word)} (here {value})"
        for word, value in ours.items()
        if theirs.get(word) != value and not (word in LATER and word not in theirs)
    ]
    if differ:
        raise CheckpointError(f"resume={path}: the checkpoint has {', '.join(differ)}")
    done = checkpoint.state
    reached = (epoch for epoch, top1 in enumerate(done.top1, start=1) if config.target and top1 >= config.target)
    if next(reached, None) != done.epochs_to_target:  # else the time to target would be that to another one
        raise CheckpointError(f"resume={path}: was written for another target than target={config.target}")
    if done.epoch >= config.epochs or (config.steps and done.step >= config.steps):
        raise CheckpointError(f"resume={path}: that run was complete at epoch {done.epoch}, step {done.step}")


def load_momentum(path: str, checkpoint: Checkpoint, engine: Engine) -> None:
    """Load the momentum of a checkpoint into the engine; every rank must call it.

    Raises:
        CheckpointError: it cannot be read, or is not of each parameter one value of its shape; nothing is loaded then.
    """
    file = Path(path).with_name(checkpoint.momentum)
    try:
        momenta = load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"resume={path}: its momentum {file} cannot be read: {error}") from error
    parameters = dict(engine.model.named_parameters())
    problems = [f"{name} is missing" for name in parameters if name not in momenta]
    problems += [f"{name} is of no parameter" for name in momenta if name not in parameters]
    for name, value in momenta.items():
        if name in parameters and (value.shape != parameters[name].shape or not value.is_floating_point()):
            expected = tuple(parameters[name].shape)
            problems.append(f"{name} is {value.dtype} {tuple(value.shape)}, expected floating point {expected}")
    if problems:
        raise CheckpointError(f"resume={path}: its momentum {file} does not fit the network: {problems[0]}")
    for name, parameter in parameters.items():
        set_momentum(engine, parameter, momenta[name])


def _momentum_file(weights: Path) -> Path | None:
    try:
        return weights.with_name(read(str(weights)).momentum)
    except CheckpointError:
        return None
