"""What a resumed run may not have otherwise than the one before, and what it may, which its row then says."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from bench.config.run_config import RunConfig
from bench.training.checkpoint.contents import Checkpoint, other_kept
from bench.training.checkpoint.folder import CheckpointError, shown

# Keys of a configuration that change what is learned, or what the figures mean: they have to agree.
NET = (
    "family", "depth", "shortcut", "stride", "num_classes", "dataset", "image_size", "epochs", "steps", "batch",
    "grad_accum", "seed", "lr", "world_size", "weight_decay", "target",
)  # fmt: skip
# Of a recipe: what keys of the configuration stand for.
RESOLVED = ("name", "epochs", "steps", "batch", "batch_is_global", "reference_batch", "weight_decay", "target")
# Columns of `runs` that change an outcome by rounding, or in time, alone: the same network, images and steps. They may
# differ, and the row of a run of which attempts differ says so in its column `mixed`.
MAY_DIFFER = (
    "kernels", "choices_hash", "loader", "sample", "dataset_hash", "engine", "zero_stage", "precision", "comm_dtype",
    "nodes", "ranks_per_node", "threads_per_rank", "loader_threads", "hardware", "git_commit",
    "activation_checkpointing",
)  # fmt: skip
# Those of them that are keys of the configuration, and so are known before a run starts.
_CHOSEN = (
    "kernels", "loader", "engine", "zero_stage", "precision", "nodes", "ranks_per_node", "activation_checkpointing",
)  # fmt: skip
# Words that older versions lack.
_LATER = {1: ("weight_decay", "target", "synthetic"), 2: ("synthetic",), 3: (), 4: ()}


def net_of(config: RunConfig) -> dict[str, str]:
    """The part of a configuration in which a resumed run may not differ, as words that a person can compare."""
    words = {word: str(getattr(config, word)) for word in NET}
    words |= {"recipe": config.recipe.name, "synthetic": str(config.loader == "synthetic").lower()}
    recipe = dataclasses.asdict(config.recipe)
    return words | {f"recipe.{name}": str(value) for name, value in recipe.items() if name not in RESOLVED}


def check(path: str, checkpoint: Checkpoint, config: RunConfig) -> None:
    """See that a run of `config` may go on from a checkpoint.

    Raises:
        CheckpointError: it is of another configuration, or of a run that was complete.
    """
    theirs, ours = checkpoint.net, net_of(config)
    older = checkpoint.version < 3
    lacking = {word for word in ours if word in _LATER[checkpoint.version] or (older and word.startswith("recipe."))}
    differ = [
        f"{_word(word, theirs.get(word))} (here {_word('', value)})"
        for word, value in ours.items()
        if theirs.get(word) != value and not (word in lacking and word not in theirs)
    ]
    differ += [f"{_word(word, value)} (no key here)" for word, value in theirs.items() if word not in ours]
    if differ:
        raise CheckpointError(f"resume={path}: the checkpoint has {', '.join(differ)}")
    done = checkpoint.state
    reached = (epoch for epoch, top1 in enumerate(done.top1, start=1) if config.target and top1 >= config.target)
    if next(reached, None) != done.epochs_to_target:  # else the time to target would be that to another one
        here = _word("target", str(config.target))
        raise CheckpointError(f"resume={path}: was written for another target than {here}")
    if done.epoch >= config.epochs or (config.steps and done.step >= config.steps):
        raise CheckpointError(
            f"resume={path}: that run was complete at epoch {done.epoch}, step {done.step}{other_kept(path)}"
        )


def _word(name: str, value: str | None) -> str:
    """A value as a person could type it, with its name where there is one; `None` is a key that was left out."""
    if value in (None, "None"):
        return f"no {shown(name)}=" if name else "none"
    return f"{shown(name)}={shown(value)}" if name else shown(value)


def check_data(path: str, checkpoint: Checkpoint, dataset_hash: str | None, steps_per_epoch: int) -> None:
    """See that the images are those of a checkpoint, once they are open.

    Args:
        dataset_hash: None where they are synthetic.
        steps_per_epoch: optimizer steps.

    Raises:
        CheckpointError: they are others, or its steps are not those of its epochs.
    """
    if checkpoint.version >= 3 and checkpoint.dataset_hash != dataset_hash:
        raise CheckpointError(
            f"resume={path}: the checkpoint is of the images dataset_hash={checkpoint.dataset_hash} "
            f"(here {dataset_hash}): data= has others"
        )
    state = checkpoint.state
    if not 0 <= state.step - state.epoch * steps_per_epoch < (steps_per_epoch if checkpoint.within else 1):
        raise CheckpointError(
            f"resume={path}: state.step={state.step} after {state.epoch} epochs, which have {steps_per_epoch} steps "
            "each here"
        )


def notices(path: str, checkpoint: Checkpoint, config: RunConfig) -> list[str]:
    """One line on what a run of `config` would have otherwise than the checkpoint, as far as that is known before."""
    ours = {name: _text(getattr(config, name)) for name in _CHOSEN}
    if config.loader_threads is not None:  # else it depends on the cores that the ranks will find
        ours["loader_threads"] = _text(config.threads_of_loader(config.loader_threads))
    differ = [
        f"{_word(name, checkpoint.facts[name][-1])} (here {_word('', value)})"
        for name, value in ours.items()
        if checkpoint.facts.get(name, [value])[-1] != value
    ]
    if checkpoint.version < 3:
        return [f"resume={path}: does not say what computed it; the row will have all of it in its column mixed"]
    return [f"resume={path}: the checkpoint has {', '.join(differ)}; the row will say mixed"] if differ else []


def joined(before: Mapping[str, list[str | None]] | None, row: Mapping[str, Any]) -> dict[str, list[str | None]]:
    """The values that a chain of attempts had, in their order, by column; each change once.

    Args:
        before: of the attempts before; None for a first attempt.
        row: of `runs`, of the present one.
    """
    facts: dict[str, list[str | None]] = {}
    for name in MAY_DIFFER:
        history = [] if before is None else list(before.get(name, [None]))
        value = _text(row.get(name))
        facts[name] = history if history and history[-1] == value else [*history, value]
    return facts


def mixed(facts: Mapping[str, list[str | None]]) -> str | None:
    """What differed between attempts, as the JSON of column `mixed`; None where nothing did."""
    differ = {name: values for name, values in facts.items() if len(values) > 1}
    return json.dumps(differ, sort_keys=True) if differ else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
