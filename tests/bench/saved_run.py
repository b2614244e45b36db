"""Checkpoints of a small network as a run writes them, without ranks."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

import resnet
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.training.checkpoint import compatibility, tensors
from bench.training.checkpoint.ancestor import Ancestor
from bench.training.checkpoint.contents import KEY, Checkpoint, read_at
from bench.training.state import RunState

STEPS = 22  # of an epoch
CONFIG, _ = resolve(RunKeys(depth=8, dataset="digits"), Host(ranks_per_node=2))
STATE = RunState(epoch=1, step=STEPS, elapsed_s=3.0, top1=[0.5])
SAVED = Checkpoint(
    run_id="r",
    restart=1,
    net=compatibility.net_of(CONFIG),
    saved_at=1.0,
    state=STATE,
    chain=(Ancestor(run_id="first-run", restart=0, epoch=0),),
    facts={"kernels": ["torch"], "precision": ["fp32", "bf16"], "choices_hash": [None]},
    dataset_hash="abc123",
    steps_per_epoch=STEPS,
)
LATER = ("weight_decay", "target", "synthetic")  # words that version 1 lacked; recipe.* as well


def at(epoch: int, **changes: Any) -> Checkpoint:
    """The checkpoint after another epoch."""
    state = RunState(epoch=epoch, step=STEPS * epoch, elapsed_s=3.0 * epoch, top1=[0.5] * epoch)
    return dataclasses.replace(SAVED, state=state, **changes)


def world(rank: int = 0) -> Any:
    return SimpleNamespace(rank=rank, barrier=lambda: None, gather=lambda rows: [rows])


def trained() -> Any:
    """An engine after a step of SGD with momentum, and all its parameters different from another's."""
    model = resnet.build(family="cifar", depth=8, shortcut="A", num_classes=10)
    engine: Any = SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    model(torch.randn(2, 3, 32, 32)).square().sum().backward()
    engine.optimizer.step()
    return engine


def untrained(depth: int = 8) -> Any:
    """An engine whose momentum is zero, which takes no step to make."""
    model = resnet.build(family="cifar", depth=depth, shortcut="A", num_classes=10)
    engine: Any = SimpleNamespace(model=model, optimizer=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))
    for parameter in model.parameters():
        engine.optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return engine


def momenta(engine: Any) -> list[torch.Tensor]:
    return [engine.optimizer.state[parameter]["momentum_buffer"] for parameter in engine.model.parameters()]


def save(path: Path, checkpoint: Checkpoint = SAVED, engine: Any = None) -> Any:
    """Write a checkpoint as the last of a save= path; returns the engine that it was of."""
    engine = engine or trained()
    tensors.save(str(path), engine, world(), checkpoint)
    return engine


def save_old(path: Path, version: int, *, engine: Any = None, **changes: Any) -> Any:
    """Write a checkpoint of version 1 or 2 as those versions did.

    Args:
        changes: other values of its training state.
    """
    engine = engine or trained()
    net = {word: value for word, value in SAVED.net.items() if "." not in word and word != "synthetic"}
    state = {"epoch": 1, "step": STEPS, "elapsed_s": 3.0, "cold": False, "tta_s": None, "epochs_to_target": None,
             "top1": [0.5]}  # fmt: skip
    own: dict[str, Any] = {"run_id": "r", "restart": 0, "saved_at": 1.0}
    momentum = f"{path.stem}.r.0001.momentum.safetensors"
    if version == 1:
        words = " ".join(f"{word}={value}" for word, value in net.items() if word not in LATER)
        values = own | state | {"net": words, "state": momentum}
    else:
        values = own | {"version": 2, "net": net, "state": state | {"downtime_s": 0.0}, "momentum": momentum}
    resnet.save_weights(engine.model, path, {KEY: json.dumps(values | changes)})
    stored = dict(zip((name for name, _ in engine.model.named_parameters()), momenta(engine), strict=True))
    torch_save(stored, path.with_name(momentum))
    return engine


def torch_save(stored: dict[str, torch.Tensor], path: Path) -> None:
    from safetensors.torch import save_file

    save_file(stored, path, {"format": "pt"})


def load(path: Path | str, engine: Any = None, config: RunConfig | None = CONFIG) -> tuple[Checkpoint, Any]:
    """Do all that a resumed run does before its data; without a configuration, whatever it is of."""
    engine = engine or trained()
    found = tensors.agreed(str(path), world())
    checkpoint = read_at(str(path), Path(found))
    if config:
        compatibility.check(str(path), checkpoint, config)
    tensors.load_weights(str(path), found, engine.model)
    tensors.load_momentum(str(path), found, checkpoint, engine)
    return checkpoint, engine


def content(engine: Any) -> list[bytes]:
    """Every weight, buffer and momentum of an engine."""
    values = [*engine.model.state_dict().values(), *momenta(engine)]
    return [value.detach().contiguous().numpy().tobytes() for value in values]
