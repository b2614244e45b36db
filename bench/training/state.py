"""How far a run has come: what its checkpoints store, and what a resumed run goes on from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["RunState"]


@dataclass(kw_only=True)
class RunState:
    """The part of a training run that is not in its weights and momentum; the same on every rank.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        cold: whether the cold start of very deep nets still lasts.
        elapsed_s: reading of the run's clock, downtime included; as of when the state was stored.
        downtime_s: part of it between the last checkpoint of an attempt and the start of the next one's data.
        tta_s: reading of the clock when the target was reached, or None.
        epochs_to_target: epochs done then, or None.
        top1: accuracy (a fraction) after each evaluation.
    """

    epoch: int = 0
    step: int = 0
    cold: bool = False
    elapsed_s: float = 0.0
    downtime_s: float = 0.0
    tta_s: float | None = None
    epochs_to_target: int | None = None
    top1: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("epoch", "step"):
            if type(value := getattr(self, name)) is not int or value < 0:
                raise ValueError(f"{name}={value!r}: expected a whole number from 0 on")
        for name in ("elapsed_s", "downtime_s", "tta_s"):
            value = getattr(self, name)
            if name == "tta_s" and value is None:
                continue
            if type(value) not in (int, float) or not 0 <= value < math.inf:
                raise ValueError(f"{name}={value!r}: expected seconds")
        if (self.tta_s is None) != (self.epochs_to_target is None):
            raise ValueError(f"tta_s={self.tta_s}, epochs_to_target={self.epochs_to_target}: expected both or neither")

    def evaluated(self, top1: float, elapsed_s: float, target: float | None) -> bool:
        """Take in the accuracy after an epoch; returns whether the target was reached with it, for the first time.

        Args:
            top1: a fraction of the test images.
            elapsed_s: reading of the run's clock after the evaluation.
            target: top-1 to reach, or None.
        """
        self.top1.append(top1)
        if target is None or self.tta_s is not None or top1 < target:
            return False
        self.tta_s, self.epochs_to_target = elapsed_s, self.epoch
        return True

    def resumed(self, away_s: float) -> None:
        """Count the time since the state was stored: the clock of a run never pauses.

        Args:
            away_s: seconds; below 0 where the clocks of two machines disagree, which counts as none.
        """
        self.elapsed_s += max(0.0, away_s)
        self.downtime_s += max(0.0, away_s)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "RunState":
        """Read what `dataclasses.asdict` and JSON made of a state.

        Raises:
            ValueError, TypeError: a value is missing that has no default, is unknown or cannot be.
        """
        state = cls(**values)
        fractions = isinstance(state.top1, list) and all(type(top1) is float and 0 <= top1 <= 1 for top1 in state.top1)
        if not fractions or not isinstance(state.cold, bool):
            raise ValueError(f"top1={state.top1!r:.80}, cold={state.cold!r}: expected fractions and true or false")
        return state
