"""On which step all ranks stop: asked between steps, of all ranks at once."""

from bench.measure.clock import now_s
from bench.training.group.stop_request import REQUEST
from bench.training.process_group import World

__all__ = ["Agreement"]

AGREE_S = 0.5  # between two questions, about: each is a reduction over all ranks
MOST_STEPS = 1000


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
        ranks, seconds = self._world.all_reduce([float(asked), now - self._since_s])
        step_s = seconds / self._world.size / self._steps
        self.every = max(1, min(MOST_STEPS, round(AGREE_S / step_s) if step_s else MOST_STEPS))
        self._steps, self._since_s = 0, now
        return ranks > 0
