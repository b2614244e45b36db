"""Weights and momentum of a checkpoint, to disk and back; nothing is ever pickled."""

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import resnet
from bench.measure.failure import Diverged
from bench.training.checkpoint import folder
from bench.training.checkpoint.contents import KEY, VERSION, Checkpoint, locate, read
from bench.training.checkpoint.folder import MOMENTUM, STATE, STATISTICS, WEIGHTS, CheckpointError, shown
from bench.training.checkpoint.rank_statistics import BUFFERS, statistics_of
from bench.training.engine import Engine, get_momentum, loss_scaler, set_momentum
from bench.training.process_group import World
from results.durable import replace_file

LATE_S = 30.0  # after which a file that another node has written counts as missing
_LONGEST = 4096  # bytes of a path


def save(path: str, engine: Engine, world: World, checkpoint: Checkpoint) -> None:
    """Write a checkpoint as the last one of `save=path`, and remove all but it and the one before; every rank calls it.

    Raises:
        Diverged: a weight or its momentum is not finite.
        OSError, resnet.WeightsError: the disk refuses; what was there before is still whole.
    """
    momenta = {}
    for name, parameter in engine.model.named_parameters():
        value = get_momentum(engine, parameter)
        if value is not None and world.rank == 0:
            momenta[name] = value.detach().to("cpu").clone(memory_format=torch.contiguous_format)
    statistics = _statistics(engine.model, world) if checkpoint.within else {}
    if world.rank == 0:
        _check_finite(engine.model.state_dict(), momenta)
        scaler = loss_scaler(engine)
        if scaler is not None:
            state = scaler.state_dict()
            scale = {"scale": float(state["scale"]), "growth_tracker": int(state["_growth_tracker"])}
            checkpoint = replace(checkpoint, loss_scaler=scale)
        weights = Path(path)
        before, old_momentum = _present(weights, checkpoint)
        name = folder.new_name(checkpoint.state.epoch, checkpoint.state.step, checkpoint.left.attempt)
        pointer = json.dumps({
            "version": VERSION, "home": folder.home_of(weights).name, "checkpoint": name,
            # For whoever has the weights alone: how their images were normalized, say.
            "attempt": checkpoint.left.attempt, "epoch": checkpoint.state.epoch, "net": checkpoint.net,
        })  # fmt: skip
        data, text = safetensors.torch.save(momenta, {"format": "pt"}), checkpoint.to_json().encode()
        parts: dict[str, Callable[[Path], object]] = {
            WEIGHTS: lambda file: _save_weights(engine.model, statistics, file, {KEY: pointer}),
            MOMENTUM: lambda file: replace_file(file, lambda opened: opened.write(data)),
            STATE: lambda file: replace_file(file, lambda opened: opened.write(text)),
        }
        if statistics:
            own = safetensors.torch.save(statistics, {"format": "pt"})
            parts[STATISTICS] = lambda file: replace_file(file, lambda opened: opened.write(own))
        folder.write(weights, name, parts)
        folder.prune(weights, {name, before})
        if old_momentum is not None:
            old_momentum.unlink(missing_ok=True)
    world.barrier()


def _statistics(model: torch.nn.Module, world: World) -> dict[str, Tensor]:
    """Each rank's own buffers, on the CPU, by `statistics_of`: within an epoch those of BN differ between ranks."""
    buffers = _statistics_in(model)
    flat = torch.cat([buffer.detach().double().flatten() for buffer in buffers.values()])  # which holds each exactly
    found = {}
    for rank, row in enumerate(world.gather(flat[None])):
        parts = row[0].split([buffer.numel() for buffer in buffers.values()])
        for (name, buffer), part in zip(buffers.items(), parts, strict=True):
            found[statistics_of(rank, name)] = part.view(buffer.shape).to("cpu", buffer.dtype).contiguous()
    return found


def _save_weights(
    model: torch.nn.Module, statistics: Mapping[str, Tensor], file: Path, metadata: dict[str, str]
) -> None:
    """Write the weights; within an epoch with the mean of the ranks' running statistics, as at the end of one."""
    own = {name: buffer.clone() for name, buffer in _statistics_in(model).items()} if statistics else {}
    try:
        for name in own:
            each = [value for key, value in statistics.items() if key.partition("/")[2] == name]
            model.get_buffer(name).copy_(torch.stack(each).double().mean(0))
        resnet.save_weights(model, file, metadata)
    finally:
        for name, buffer in own.items():
            model.get_buffer(name).copy_(buffer)


def _statistics_in(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if name.endswith(BUFFERS)}


def load_statistics(path: str, found: str, checkpoint: Checkpoint, model: torch.nn.Module, rank: int) -> None:
    """Load this rank's own buffers of a checkpoint that was written within an epoch; of another there is nothing to do.

    Args:
        path: what was typed, for messages.
        found: its weights file, see `agreed`.

    Raises:
        CheckpointError: they cannot be read.
    """
    if not checkpoint.within:
        return
    file = Path(found).with_name(STATISTICS)
    try:
        statistics = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"resume={path}: its statistics {file} cannot be read: {error}") from error
    for name, buffer in _statistics_in(model).items():
        value = statistics[statistics_of(rank, name)]
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"resume={path}: {file}: {statistics_of(rank, name)} has values that are not finite")
        buffer.copy_(value)


def _check_finite(*groups: dict[str, Tensor]) -> None:
    for what, group in zip(("weights", "momentum"), groups, strict=True):
        for name, value in group.items():
            if value.is_floating_point() and not torch.isfinite(value).all():
                raise Diverged(f"{what} {name} is not finite: no checkpoint is written; lr may be too high")


def _present(weights: Path, checkpoint: Checkpoint) -> tuple[str, Path | None]:
    """The checkpoint that is to stay beside a new one, and the momentum of an older form that the new one replaces.

    The last one stays if it is this attempt's own, or whole; else the latest that is.
    """
    home = folder.home_of(weights)
    old, last = None, ""
    try:
        found = locate(str(weights))
        last = found.parent.name if found.name == WEIGHTS and found.parent.parent.name == home.name else ""
        old = None if last else found.with_name(read(str(weights)).momentum)
    except CheckpointError:
        pass
    names = folder.others(home)
    for name in sorted(names, key=lambda name: name != last):  # stable: else the latest first
        if f"-{checkpoint.left.attempt}-" in name:
            return name, old
        try:
            folder.verify(home / name, {WEIGHTS, MOMENTUM, STATE}, {STATISTICS})
        except CheckpointError:
            continue
        return name, old
    return "", old


def agreed(path: str, world: World) -> str:
    """The weights file of the checkpoint that rank 0 finds at `path`, on every rank; every rank calls it.

    Raises:
        CheckpointError: on rank 0: there is none.
    """
    text = str(locate(path)).encode() if world.rank == 0 else b""
    row = torch.zeros(1, _LONGEST, dtype=torch.float64)
    row[0, : len(text)] = torch.tensor(list(text), dtype=torch.float64)
    first = world.gather(row)[0]
    found = bytes(int(value) for value in first[0].tolist()).rstrip(b"\0").decode()
    deadline = time.monotonic() + (LATE_S if world.rank else 0.0)
    while not os.path.lexists(found) and time.monotonic() < deadline:  # a shared file system shows it late
        time.sleep(0.1)
    return found


def load_weights(path: str, found: str, model: torch.nn.Module) -> None:
    """Load the weights of a checkpoint, before an engine makes master copies of them.

    Args:
        path: what was typed, for messages.
        found: its weights file, see `agreed`.

    Raises:
        CheckpointError: they cannot be read, do not fit the network, or are not finite.
    """
    try:
        resnet.load_weights(model, found)
    except resnet.WeightsError as error:
        raise CheckpointError(f"resume={path}: {shown(str(error), 400)}") from error.__cause__
    for name, value in model.state_dict().items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"resume={path}: {found}: {name} has values that are not finite")


def load_momentum(path: str, found: str, checkpoint: Checkpoint, engine: Engine) -> None:
    """Load the momentum of a checkpoint, and what fp16 scales its loss by, into the engine; every rank must call it.

    Args:
        path: what was typed, for messages.
        found: its weights file, see `agreed`.

    Raises:
        CheckpointError: it cannot be read, is not finite, or is not of each parameter one value of its shape; nothing
            is loaded then.
    """
    file = Path(found).with_name(checkpoint.momentum)
    try:
        momenta = safetensors.torch.load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"resume={path}: its momentum {file} cannot be read: {error}") from error
    parameters = dict(engine.model.named_parameters())
    problems = [f"{name} is missing" for name in parameters if name not in momenta]
    problems += [f"{name} is of no parameter" for name in momenta if name not in parameters]
    for name, value in momenta.items():
        if name in parameters and (value.shape != parameters[name].shape or not value.is_floating_point()):
            expected = tuple(parameters[name].shape)
            problems.append(f"{name} is {value.dtype} {tuple(value.shape)}, expected floating point {expected}")
        elif not torch.isfinite(value).all():
            problems.append(f"{name} has values that are not finite")
    if problems:
        raise CheckpointError(f"resume={path}: its momentum {file} does not fit the network: {shown(problems[0], 400)}")
    for name, parameter in parameters.items():
        set_momentum(engine, parameter, momenta[name])
    scaler = loss_scaler(engine)
    if scaler is not None and checkpoint.loss_scaler is not None:
        saved = checkpoint.loss_scaler
        tracker = int(saved["growth_tracker"])
        scaler.load_state_dict(scaler.state_dict() | {"scale": saved["scale"], "_growth_tracker": tracker})
