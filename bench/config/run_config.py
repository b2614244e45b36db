"""The configuration of one run: what the typed keys resolve to before anything starts."""

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from bench.config import grammar
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from resnet import Architecture
from resnet.architecture import check_bn_values
from resnet.recipe import Recipe
from results import identity


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that is measured, resolved; the same values on every rank.

    Attributes:
        data: folder of the dataset; None where the images need none.
        steps: optimizer steps after which training stops, or None.
        lr: peak learning rate, scaling included.
        target: top-1 as a fraction, or None.
        batch: images a device and micro-batch.
        results: absolute path.

    Raises:
        WordError: values that do not go together; one line that names the word and what would do instead.
    """

    family: str
    depth: int
    shortcut: str
    stride: str
    kernels: str
    dataset: str
    data: str | None
    image_size: int
    num_classes: int
    loader: str
    recipe: Recipe
    epochs: int
    steps: int | None
    lr: float
    weight_decay: float
    target: float | None
    batch: int
    grad_accum: int
    engine: str
    zero_stage: int
    precision: str
    seed: int
    nodes: int
    ranks_per_node: int
    results: str
    save: str | None
    resume: str | None

    def __post_init__(self) -> None:
        for option in fields(RunKeys):
            if option.name != "recipe":
                grammar.check(option, getattr(self, option.name))
        try:
            check_bn_values(self.architecture, self.image_size, self.batch)
        except ValueError as error:
            raise WordError(str(error)) from None
        if self.engine == "ddp" and self.zero_stage:
            raise WordError(f"zero_stage={self.zero_stage}: ZeRO is DeepSpeed's; engine=deepspeed, or zero_stage=0")

    @property
    def architecture(self) -> Architecture:
        """The network."""
        return Architecture(
            family=self.family,
            depth=self.depth,
            shortcut=self.shortcut,
            stride=self.stride,
            num_classes=self.num_classes,
        )

    @property
    def world_size(self) -> int:
        """Ranks in all."""
        return self.nodes * self.ranks_per_node

    @property
    def global_batch(self) -> int:
        """Images of one optimizer step."""
        return self.batch * self.grad_accum * self.world_size

    def name(self) -> str:
        """A short name for people and for files; not unique."""
        net = f"plain{self.depth}" if self.shortcut == "none" else f"resnet{self.depth}{self.shortcut}"
        return f"{net}-{self.dataset}" if self.stride == "v1" else f"{net}-{self.stride}-{self.dataset}"

    def config_hash(self) -> str:
        """16 hexadecimal digits that say what is measured: all but where data, rows and weights lie."""
        return identity.config_hash(asdict(self))

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        recipe: dict[str, Any] = values["recipe"]
        recipe["milestones"] = tuple(recipe["milestones"])
        return cls(**{**values, "recipe": Recipe(**recipe)})
