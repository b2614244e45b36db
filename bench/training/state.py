"""How far a run has come: what its checkpoints store, and what a resumed run goes on from."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

__all__ = ["RunState"]

MOST = 2**53  # no count or time of a run is larger; floats hold every whole number up to it


@dataclass(kw_only=True)
class RunState:
    """The part of a training run that is not in its weights and momentum; the same on every rank.

    Attributes:
        epoch: epochs done.
        step: optimizer steps done.
        cold: whether the cold start of very deep nets still lasts.
        cold_wrong, cold_images: since its last look at the training error, images over all ranks, and how many of them
            were classified wrong.
        elapsed_s: reading of the run's clock, downtime included; as of when the state was stored.
        downtime_s: part of it between the last checkpoint of an attempt and the start of the next one's data.
        tta_s: reading of the clock when the target was reached, or None.
        epochs_to_target: epochs done then, or None.
        top1: accuracy (a fraction) after each evaluation.
        epoch_loss: of the steps of an epoch that has not ended, the sum of their losses, each the mean over the ranks.
        epoch_hits, epoch_images: of its training images over all ranks, those that were classified right, and all.
    """

    epoch: int = 0
    step: int = 0
    cold: bool = False
    cold_wrong: int = 0
    cold_images: int = 0
    elapsed_s: float = 0.0
    downtime_s: float = 0.0
    tta_s: float | None = None
    epochs_to_target: int | None = None
    top1: list[float] = field(default_factory=list)
    epoch_loss: float = 0.0
    epoch_hits: int = 0
    epoch_images: int = 0

    def __post_init__(self) -> None:
        for name in ("epoch", "step", "cold_wrong", "cold_images", "epoch_hits", "epoch_images"):
            if type(value := getattr(self, name)) is not int or not 0 <= value <= MOST:
                raise ValueError(f"{name}={_shown(value)}: expected a whole number from 0 on")
        for name in ("elapsed_s", "downtime_s", "tta_s", "epoch_loss"):
            value = getattr(self, name)
            if name == "tta_s" and value is None:
                continue
            if type(value) not in (int, float) or not 0 <= value <= MOST:
                raise ValueError(f"{name}={_shown(value)}: expected {'a loss' if name == 'epoch_loss' else 'seconds'}")
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

    def end_epoch(self) -> None:
        """Count an epoch as done."""
        self.epoch += 1
        self.epoch_loss, self.epoch_hits, self.epoch_images = 0.0, 0, 0

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
            ValueError: a value is missing that has no default, is unknown, cannot be, or contradicts another; the
                message begins with its name.
        """
        known = {option.name for option in fields(cls)}
        if strange := [name for name in values if name not in known]:
            raise ValueError(f"{_shown(strange[0])}: there is no such value")
        # What has been there from the first version on.
        if missing := [name for name in ("epoch", "step", "elapsed_s", "top1") if name not in values]:
            raise ValueError(f"{missing[0]}: is missing")
        state = cls(**values)
        if not isinstance(state.top1, list) or not all(type(top1) is float and 0 <= top1 <= 1 for top1 in state.top1):
            raise ValueError(f"top1={_shown(state.top1)}: expected fractions")
        if not isinstance(state.cold, bool):
            raise ValueError(f"cold={_shown(state.cold)}: expected true or false")
        if len(state.top1) not in (0, state.epoch):  # none on synthetic images
            raise ValueError(f"top1: has {len(state.top1)} values after epoch={state.epoch}")
        if state.step < state.epoch:
            raise ValueError(f"step={state.step}: fewer than epoch={state.epoch}")
        if state.cold_wrong > state.cold_images:
            raise ValueError(f"cold_wrong={state.cold_wrong}: more than cold_images={state.cold_images}")
        if state.epoch_hits > state.epoch_images:
            raise ValueError(f"epoch_hits={state.epoch_hits}: more than epoch_images={state.epoch_images}")
        if state.downtime_s > state.elapsed_s:
            raise ValueError(f"downtime_s={state.downtime_s}: more than elapsed_s={state.elapsed_s}")
        epochs, seconds = state.epochs_to_target, state.tta_s
        if epochs is not None and (type(epochs) is not int or not 1 <= epochs <= len(state.top1)):
            raise ValueError(f"epochs_to_target={_shown(epochs)}: expected one of {len(state.top1)} epochs")
        if seconds is not None and seconds > state.elapsed_s:
            raise ValueError(f"tta_s={seconds}: more than elapsed_s={state.elapsed_s}")
        return state


def _shown(value: object) -> str:
    try:
        return f"{value!r:.60}"
    except (ValueError, RecursionError):  # an integer of more digits than Python writes
        return f"a huge {type(value).__name__}"
