"""Training state on disk, complete or absent: weights as safetensors, momentum beside them, nothing pickled."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

import resnet
from bench.config import RunConfig
from bench.engine import Engine, get_momentum, set_momentum
from bench.world import World
from results.durable import replace_file

KEY = "training"  # of the weights file's metadata


class CheckpointError(ValueError):
    """A checkpoint cannot be resumed from; the message is one line that says why."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run had come.

    Attributes:
        run_id: of the run that wrote it.
        restart: its restart count.
        net: what a run must share to go on from here, see `net_of`.
        epoch: epochs done.
        step: optimizer steps done.
        elapsed_s: the run's clock when it was written.
        saved_at: seconds since 1970.
        cold: whether the cold start of very deep nets still lasts.
        top1: accuracy after each epoch.
        state: name of the file with the momentum, in the same folder; empty until it is written.
    """

    run_id: str
    restart: int
    net: str
    epoch: int
    step: int
    elapsed_s: float
    saved_at: float
    cold: bool
    tta_s: float | None
    epochs_to_target: int | None
    top1: list[float] = field(default_factory=list)
    state: str = ""


def net_of(config: RunConfig) -> str:
    """The part of a configuration in which a resumed run may not differ, as text a person can compare."""
    words = "family depth shortcut stride num_classes dataset image_size epochs steps batch grad_accum seed lr".split()
    same = {word: getattr(config, word) for word in (*words, "world_size")}
    return " ".join(f"{word}={value}" for word, value in {**same, "recipe": config.recipe.name}.items())


def save(path: str, engine: Engine, world: World, progress: Progress) -> None:
    """Write the weights to `path` and the momentum beside it; every rank must call it.

    The momentum goes first, under a name of its own; the rename of the weights file, whose metadata names it, makes
    both count at once. The momentum of an earlier call is removed after that.

    Raises:
        OSError, resnet.WeightsError: the disk refuses; what was there before is still whole.
    """
    momenta = {}
    for name, parameter in engine.model.named_parameters():
        momentum = get_momentum(engine, parameter)
        if momentum is not None and world.rank == 0:
            momenta[name] = momentum.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    if world.rank == 0:
        weights = Path(path)
        weights.parent.mkdir(parents=True, exist_ok=True)
        state = weights.with_name(f"{weights.stem}.{progress.run_id}.{progress.epoch:04d}.momentum.safetensors")
        old = _momentum_file(weights)
        replace_file(state, lambda file: file.write(safetensors.torch.save(momenta, {"format": "pt"})))
        written = asdict(progress) | {"state": state.name}
        resnet.save_weights(engine.model, weights, {KEY: json.dumps(written, sort_keys=True)})
        if old and old != state:
            old.unlink(missing_ok=True)
    world.barrier()


def read(path: str) -> Progress:
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
        progress = Progress(**json.loads(text))
        numbers = (progress.epoch, progress.step, progress.restart)
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or not progress.state:
            raise ValueError
        float(progress.elapsed_s), float(progress.saved_at)
    except (TypeError, ValueError):
        raise CheckpointError(f"resume={path}: its training state is damaged; resume from another checkpoint") from None
    if not weights.with_name(progress.state).is_file():
        raise CheckpointError(f"resume={path}: its momentum {progress.state} is missing from the same folder")
    return progress


def check(path: str, progress: Progress, config: RunConfig) -> None:
    """See that a run of `config` may go on from a checkpoint.

    Raises:
        CheckpointError: it is of another configuration, or of a run that was complete.
    """
    if progress.net != net_of(config):
        theirs, ours = (dict(word.split("=", 1) for word in net.split()) for net in (progress.net, net_of(config)))
        differ = [f"{word}={theirs.get(word)} (here {ours[word]})" for word in ours if theirs.get(word) != ours[word]]
        raise CheckpointError(f"resume={path}: the checkpoint has {', '.join(differ)}")
    if progress.epoch >= config.epochs or (config.steps and progress.step >= config.steps):
        raise CheckpointError(f"resume={path}: that run was complete at epoch {progress.epoch}, step {progress.step}")


def load_momentum(path: str, progress: Progress, engine: Engine) -> None:
    """Load the momentum of a checkpoint into the engine; every rank must call it."""
    state = Path(path).with_name(progress.state)
    try:
        momenta = load_file(state)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"resume={path}: its momentum {state} cannot be read: {error}") from error
    for name, parameter in engine.model.named_parameters():
        if name in momenta:
            set_momentum(engine, parameter, momenta[name])


def _momentum_file(weights: Path) -> Path | None:
    try:
        return weights.with_name(read(str(weights)).state)
    except (CheckpointError, TypeError, ValueError):
        return None
