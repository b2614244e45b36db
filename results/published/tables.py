"""All published figures, and those that one table or figure of the paper is shown with."""

from results.published.cifar import CIFAR
from results.published.counts import COUNTS
from results.published.detection import DETECTION
from results.published.figure import Published
from results.published.imagenet import IMAGENET

__all__ = ["ALL", "shown_in"]

ALL: tuple[Published, ...] = (*IMAGENET, *CIFAR, *DETECTION, *COUNTS)


def shown_in(word: str) -> list[Published]:
    """Return the figures of a table or figure, such as "table=6", in their order."""
    return [one for one in ALL if word in one.shown_in]
