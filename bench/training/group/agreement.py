"""On which step all ranks stop: asked between steps, of all ranks at once."""

import time

from bench.measure.clock import now_s
from bench.measure.failure import SAVED, Stopped
from bench.training.group.stop_request import REQUEST
from bench.training.process_group import World

__all__ = ["Agreement", "stopped"]

ECHO_S = 2.0
AGREE_S = 0.5  # between two questions, about: each is a reduction over all ranks
MOST_STEPS = 50  # should steps become slower meanwhile


def stopped(step: int, save: str | None) -> Stopped:
    """What ends a run that was asked to stop, on every rank: by whom, and where it goes on.

    Args:
        step: optimizer steps done.
        save: where they are saved; None where this attempt has saved nothing.
    """
    why = REQUEST.asked()
    if why is None:
        time.sleep(ECHO_S)  # the rank that was asked says so first
    message, kind = (why.message, why.kind) if why else ("another rank was asked to stop", "interrupted")
    return Stopped(message + (f"{SAVED}{step}: resume={save} goes on" if save else ""), kind)


class Agreement:
    """Asks at the same steps on every rank, since all ranks count alike and hear of the same times.

    Attributes:
        every: steps between two questions.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.every = 1
        self._steps = 0
        self._since_s = now_s()

    def ask_next(self) -> None:
        """Ask before the next step, on every rank: before an epoch begins, after which nothing new is to be saved."""
        self.every = 1

    def stops(self) -> bool:
        """Whether any rank was asked to stop; to be called before each step, on every rank."""
        self._steps += 1
        if self._steps < self.every:
            return False
        asked = REQUEST.asked() is not None
        if self._world.size == 1:
            self._steps = 0
            return asked
        now = now_s()
        # Whole microseconds add up to the same number in any order: on each rank the same steps come of it.
        ranks, taken_us = self._world.all_reduce([float(asked), float(round(1e6 * (now - self._since_s)))])
        step_s = 1e-6 * taken_us / self._world.size / self._steps
        self.every = max(1, min(MOST_STEPS, round(AGREE_S / step_s) if step_s else MOST_STEPS))
        self._steps, self._since_s = 0, now
        return ranks > 0
