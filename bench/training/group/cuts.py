"""What it means that nodes of a run have lost each other: a network that is cut, or a node that is gone."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Self

from bench.config.environment import RankEnvironment
from bench.measure.failure import Failure
from bench.training.group.links import CUT_S, INTERVAL_S

SETTLE_S = INTERVAL_S + 1.0  # in which all that have lost the same node have noticed
SILENT_S = 10.0  # without a beat, after which rank 0 hears nothing of a rank
SHOWN = 4  # of cuts that a message names


@dataclass(frozen=True)
class Cut:
    """Two nodes of which one has lost the other, by number."""

    one: int
    other: int

    def __post_init__(self) -> None:
        if self.one > self.other:
            one, other = self.other, self.one
            object.__setattr__(self, "one", one)
            object.__setattr__(self, "other", other)

    def to_text(self) -> str:
        return f"{self.one} {self.other}"

    @classmethod
    def from_text(cls, text: str) -> Self:
        one, other = map(int, text.split())
        return cls(one, other)


def failure_of(cuts: Collection[Cut], heard: Collection[int], place: RankEnvironment) -> Failure:
    """Name what cuts come to.

    Args:
        cuts: at least one.
        heard: the nodes of which rank 0 hears; its own is one.
        place: of rank 0.
    """
    partners = {
        node: {cut.other if cut.one == node else cut.one for cut in cuts if node in (cut.one, cut.other)}
        for node in range(place.nodes)
    }
    # A node that nobody reaches and of which rank 0 hears nothing may have lost its power as well as its network.
    gone = [node for node in partners if node not in heard and len(partners[node]) == place.nodes - 1]
    by_name = place.nodes > 2  # of two nodes both are named
    between = sorted(
        (cut.one, cut.other) for cut in cuts if not by_name or (cut.one not in gone and cut.other not in gone)
    )
    parts = [f"{place.named_node(node)} can be reached from no other node" for node in gone if by_name]
    parts += [
        f"{place.named_node(one)} and {place.named_node(other)} cannot reach one another" for one, other in between
    ]
    more = f"; and {len(parts) - SHOWN} more" if len(parts) > SHOWN else ""
    cause = "; either a node is down, or the network" if gone else ""
    message = f"{'; '.join(parts[:SHOWN])}{more}: no sign of life for {CUT_S:.0f} s{cause}"
    return Failure("failed", "rank_lost" if gone else "network", message, 0)
