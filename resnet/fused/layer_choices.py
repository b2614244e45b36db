"""What computes each layer of a fused network, as a run's row has it, and the hash of that by which runs compare."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from kernels.choose.choice import Choice
    from kernels.operands import TileConfig


class Configs(TypedDict):
    """Tile configs by part, such as "128x64x64/w4/s3"; None where torch computes it, or the kernel's own is used."""

    forward: str | None
    dgrad: str | None
    inference: str | None


class LayerChoice(TypedDict):
    """What computes one convolution.

    Attributes:
        forward: "torch", "triton", or "prologue" (ours, which applies the BN and ReLU before it too).
        dgrad, inference: "torch" or "triton".
        config: of our kernels.
    """

    forward: str
    dgrad: str
    inference: str
    config: Configs


@dataclass(frozen=True)
class LayerChoices:
    """What computes each layer, by the convolution's name."""

    layers: dict[str, LayerChoice]

    @classmethod
    def of(cls, choices: "Mapping[str, Choice]") -> "LayerChoices":
        """The choices of `kernels`, by the convolution's name."""
        return cls({name: _layer(choice) for name, choice in choices.items()})

    def to_json(self) -> str:
        """The column `kernels_choices`: JSON, the same text for the same choices in whatever order they came."""
        return json.dumps(self.layers, sort_keys=True, separators=(",", ":"))

    def hash(self) -> str:
        """The column `choices_hash`: 16 hex digits of `to_json`; timings of runs compare only where it is the same."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:16]


def _layer(choice: "Choice") -> LayerChoice:
    return {
        "forward": choice.forward,
        "dgrad": choice.dgrad,
        "inference": choice.inference,
        "config": {
            "forward": _text(choice.forward_config),
            "dgrad": _text(choice.dgrad_config),
            "inference": _text(choice.inference_config),
        },
    }


def _text(config: "TileConfig | None") -> str | None:
    return None if config is None else str(config)
