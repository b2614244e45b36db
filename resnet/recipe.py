"""Training recipes: what the paper did and what is fast today, as checked values and pure functions of the step."""

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from results.words import ConfigError, suggestion

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One recipe as it applies to one dataset and depth.

    Attributes:
        name: "paper" or "fast"; written into every row.
        epochs: passes over the training set.
        steps: optimizer steps after which training stops if that comes first; None for no such limit.
        batch: images; over all devices and accumulation where `batch_is_global`, per device otherwise.
        lr: peak learning rate for `reference_batch` images a step (linear scaling), or as it is where that is None.
        decay_bn_bias: whether weight decay reaches BN's parameters and biases, as in the paper.
        label_smoothing: fraction of the target spread over all classes.
        schedule: "multistep" (divide by 10 at `milestones`) or "onecycle" (linear up over `warmup`, then down).
        milestones: fractions of the planned optimizer steps.
        warmup: fraction of the planned optimizer steps in which the rate rises.
        anneal: "linear" or "cosine", the way down of "onecycle".
        cold_lr: learning rate held at the start of very deep CIFAR nets until the training error is under `cold_error`
            (He et al. 2015, section 4.2: 0.01 until below 80%); None where there is no such start.
        augment: name of the augmentation in `resnet.data`.
        zero_init_residual: start each residual branch at zero (never for plain nets: it kills them).
        target: top-1 (a fraction) that time-to-accuracy is measured to; None where no figure is customary.
    """

    name: str
    epochs: int
    steps: int | None = None
    batch: int
    batch_is_global: bool
    lr: float
    reference_batch: int | None = None
    momentum: float = 0.9
    nesterov: bool
    weight_decay: float
    decay_bn_bias: bool
    label_smoothing: float = 0.0
    schedule: str
    milestones: tuple[float, ...] = ()
    warmup: float = 0.0
    anneal: str = "linear"
    cold_lr: float | None = None
    cold_error: float | None = None
    augment: str
    zero_init_residual: bool = False
    target: float | None = None

    def __post_init__(self) -> None:
        if self.schedule not in ("multistep", "onecycle"):
            raise ConfigError(f"recipe {self.name}: schedule={self.schedule!r} is neither 'multistep' nor 'onecycle'")
        if self.anneal not in ("linear", "cosine"):
            raise ConfigError(f"recipe {self.name}: anneal={self.anneal!r} is neither 'linear' nor 'cosine'")
        if (self.cold_lr is None) != (self.cold_error is None):
            raise ConfigError(f"recipe {self.name}: cold_lr and cold_error go together")


def names() -> list[str]:
    """Names of the recipes on disk, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load(name: str, dataset: str, family: str, depth: int) -> Recipe:
    """Read recipe `name` for a dataset, network family and depth.

    A recipe file has a part `all`, parts by family, by dataset, and `deep` (CIFAR nets of 110 layers and more); each
    overrides the ones before it.

    Raises:
        ConfigError: unknown recipe (the message lists the nearest), or a value that no recipe can have.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in names():
        near = suggestion(name, names())
        hint = f"did you mean {near}? " if near else ""
        raise ConfigError(f"recipe={name} is unknown: {hint}choose one of {', '.join(names())}")
    parts: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text())
    values: dict[str, Any] = {"name": name}
    small = family != "imagenet"  # nets of small images, trained alike
    for part in ("all", "cifar" if small else family, dataset):
        values |= parts.get(part) or {}
    if small and depth >= 110:
        values |= parts.get("deep") or {}
    if unknown := set(values) - {field.name for field in fields(Recipe)}:
        raise ConfigError(f"recipe {name}: unknown words {', '.join(sorted(unknown))} in {path.name}")
    values["milestones"] = tuple(values.get("milestones") or ())
    return Recipe(**values)


def lr_factor(recipe: Recipe, step: int, total_steps: int) -> float:
    """The learning rate of optimizer step `step` (0-based) of `total_steps`, as a fraction of the peak."""
    if recipe.schedule == "multistep":
        return 0.1 ** sum(step >= round(milestone * total_steps) for milestone in recipe.milestones)
    rise = recipe.warmup * total_steps
    # The middle of the step is what the line is read at, so that neither end wastes a step on a rate of zero.
    at = step + 0.5
    if at < rise:
        return at / rise
    fall = (at - rise) / max(total_steps - rise, 1.0)
    return 1.0 - fall if recipe.anneal == "linear" else 0.5 * (1.0 + math.cos(math.pi * fall))


def decay_groups(named_parameters: Any, recipe: Recipe, weight_decay: float) -> list[dict[str, Any]]:
    """Split parameters into SGD groups: convolution and fc weights decay; BN and biases do where the recipe says so.

    Args:
        named_parameters: pairs of name and parameter, as `nn.Module.named_parameters()` yields them.
        weight_decay: the coefficient of the decayed group.
    """
    decayed: list[Any] = []
    kept: list[Any] = []
    for _, parameter in named_parameters:
        (decayed if parameter.ndim > 1 or recipe.decay_bn_bias else kept).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}]
    return groups + ([{"params": kept, "weight_decay": 0.0}] if kept else [])
