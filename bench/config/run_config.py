"""The configuration of one run: what the typed keys resolve to before anything starts."""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from bench.config import grammar
from bench.config.examined import Examined, examined
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from resnet import Architecture
from resnet.architecture import check_activation_checkpointing, check_bn_values
from resnet.recipe import Recipe
from results import identity

# Keys that rows written before there were such lack.
LATER_KEYS = (
    "loader_threads", "activation_checkpointing", "protocol", "bn", "bn_images", "examine", "examine_images",
)  # fmt: skip
# By whose name a run was started. What is started by two names, and is alike otherwise, is one configuration: these are
# columns of a row, and part of nothing by which configurations are compared.
STARTED_KEYS = ("experiment", "scale")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that is measured, resolved; the same values on every rank.

    Attributes:
        data: folder of the dataset; None where the images need none.
        steps: optimizer steps after which training stops, or None.
        lr: peak learning rate, scaling included.
        target: top-1 as a fraction, or None.
        batch: images a device and micro-batch.
        loader_threads: of one rank's loader, as asked; None leaves them to its cores.
        activation_checkpointing: True or None.
        protocol, bn, examine: several values of each are one text, with commas; see `examined`.
        results: absolute path.
        experiment, scale: by whose name the run was started, see `STARTED_KEYS`; or None.

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
    loader_threads: int | None = None
    activation_checkpointing: bool | None = None
    protocol: str | None = None
    bn: str | None = None
    bn_images: int | None = None
    examine: str | None = None
    examine_images: int | None = None
    experiment: str | None = field(default=None, compare=False)
    scale: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for option in fields(RunKeys):
            if option.name != "recipe":
                grammar.check(option, getattr(self, option.name))
        try:
            check_bn_values(self.architecture, self.image_size, self.batch)
            check_activation_checkpointing(self.activation_checkpointing, self.kernels)
        except ValueError as error:
            raise WordError(str(error)) from None
        if self.engine == "ddp" and self.zero_stage:
            raise WordError(f"zero_stage={self.zero_stage}: ZeRO is DeepSpeed's; engine=deepspeed, or zero_stage=0")
        self._check_loader_threads()
        examined(self)

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

    @property
    def examined(self) -> Examined:
        """What is found out about the net besides training it."""
        return examined(self)

    def threads_of_loader(self, cores: int) -> int:
        """Return the CPU threads (dali) or worker processes (torch) that one rank's loader has.

        A thread of DALI has one image at a time, and more of them than a batch has images are not started; a worker has
        whole batches, and as many are started as are asked for.

        Args:
            cores: that the rank may keep busy.
        """
        if self.loader_threads is None:
            return min(cores, self.batch)
        return self.loader_threads if self.loader == "torch" else min(self.loader_threads, self.batch)

    def name(self) -> str:
        """A short name for people and for files; not unique."""
        net = f"plain{self.depth}" if self.shortcut == "none" else f"resnet{self.depth}{self.shortcut}"
        net += "-one-layer" if self.family == "one-layer" else ""
        images = f"{self.dataset}-synthetic" if self.loader == "synthetic" else self.dataset
        return f"{net}-{images}" if self.stride == "v1" else f"{net}-{self.stride}-{images}"

    def values(self) -> dict[str, Any]:
        """Return the configuration as JSON has it.

        A key that is younger than rows that are kept stands there only once it is set: what leaves it to its default is
        the configuration that it was, under the hash that it had. Of `STARTED_KEYS` it has none.
        """
        return {
            name: value
            for name, value in asdict(self).items()
            if name not in STARTED_KEYS and (value is not None or name not in LATER_KEYS)
        }

    def config_hash(self) -> str:
        """16 hexadecimal digits that say what is measured: all but where data, rows and weights lie."""
        return identity.config_hash(self.values())

    def to_json(self) -> str:
        """The configuration as one line of JSON."""
        return json.dumps(self.values(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "RunConfig":
        """Read what `to_json` wrote."""
        values = json.loads(text)
        recipe: dict[str, Any] = values["recipe"]
        recipe["milestones"] = tuple(recipe["milestones"])
        return cls(**{**values, "recipe": Recipe(**recipe)})

    def _check_loader_threads(self) -> None:
        threads = self.loader_threads
        if threads is not None and self.loader == "synthetic":
            raise WordError(
                f"loader_threads={threads}: loader=synthetic reads no images; leave loader_threads out, or loader=dali"
            )
        if threads == 0 and self.loader != "torch":
            raise WordError(
                f"loader_threads=0: loader={self.loader} reads with threads; nearest is loader_threads=1 (0 is for "
                "loader=torch, which can read in the rank's own process)"
            )
