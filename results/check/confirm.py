"""Interleaved pairs: whether a suspicion is confirmed, decided after each pair.

Eight pairs of one allocation, all of one sign, with a median beyond 1% (see `docs/results.md` for what this finds). The
first pair of another sign settles that they will not all be of one: what is left need not be run, and stopping there
changes no error rate. That nothing can be confirmed any more does not say that there is nothing.

Whoever repeats pairs until they say what is wanted finds it in the end. So all pairs of the same commits are one
sequence, whichever command ran them and wherever it was stopped: what it says first stands, and it starts over only
after pairs that say neither, `MOST_SETS` times in all. That bounds how often it is wrong, however often pairs are run.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from results.statistics import median

__all__ = [
    "LEAST_MEDIAN", "MOST_SETS", "PAIRS", "Confirmation", "Settled", "confirm", "confirmed_many", "settle", "unclear",
]  # fmt: skip

PAIRS = 8  # of 2 runs each: where nothing differs, all are of one given sign in 1 of 256 cases
LEAST_MEDIAN = 0.01
MOST_SETS = 3  # that are looked at of one sequence, each only where those before it said neither


@dataclass(frozen=True)
class Confirmation:
    """What pairs say so far.

    Attributes:
        outcome: worse or better where it is settled that b differs from a; same where it is settled that no difference
            can be shown, unclear where b is worse by more than `LEAST_MEDIAN` in the median all the same; open where
            more pairs are needed.
        pairs: how many were looked at: those up to the one that settled it.
        median: of their changes, a fraction; 0.0 where there are none.
    """

    outcome: Literal["worse", "better", "same", "unclear", "open"]
    pairs: int
    median: float


def confirm(changes: Sequence[float]) -> Confirmation:
    """Decide from the pairs that there are, in the order in which they ran.

    Args:
        changes: how much worse b is than a in each pair, as a fraction of a; negative where it is better. At most the
            first `PAIRS` count.

    Raises:
        ValueError: a change is not finite.
    """
    looked = list(changes[:PAIRS])
    for count, change in enumerate(looked, start=1):
        if change == 0 or (change > 0) != (looked[0] > 0):
            middle = median(looked[:count])
            return Confirmation("unclear" if middle > LEAST_MEDIAN else "same", count, middle)
    middle = median(looked) if looked else 0.0
    if len(looked) < PAIRS:
        return Confirmation("open", len(looked), middle)
    if abs(middle) <= LEAST_MEDIAN:
        return Confirmation("same", PAIRS, middle)
    return Confirmation("worse" if middle > 0 else "better", PAIRS, middle)


def unclear(said: Confirmation, changes: Sequence[float], suspicion: float) -> bool:
    """Return whether pairs that are settled neither confirm nor refute a suspicion.

    Args:
        said: by these pairs.
        changes: how much worse b is than a in each.
        suspicion: by how much b looked worse before them, a fraction.
    """
    looked = changes[: said.pairs]
    # One pair (with no change at all) does not say how far pairs lie apart.
    apart = math.inf if len(looked) < 2 else max(looked) - min(looked)
    return said.outcome == "unclear" or (said.outcome == "same" and apart > suspicion)


@dataclass(frozen=True)
class Settled:
    """What a whole sequence of pairs says of a suspicion.

    Attributes:
        said: by the set that counts.
        looked: its changes.
        stop: of how many pairs of the sequence this is the last that was looked at.
        refuted: whether they say that the suspicion was wrong.
        final: whether no further pair would be looked at.
    """

    said: Confirmation
    looked: tuple[float, ...]
    stop: int
    refuted: bool
    final: bool


def settle(changes: Sequence[float], suspicion: float) -> Settled:
    """Decide from all pairs of two commits.

    Args:
        changes: how much worse b is than a in each, in the order in which they ran.
        suspicion: by how much b looked worse before them, a fraction.
    """
    start = 0
    for sets in range(1, MOST_SETS + 1):
        rest = changes[start:]
        said = confirm(rest)
        stop, looked = start + said.pairs, tuple(rest[: said.pairs])
        # A set may look close by chance where those before it did not: to refute, all pairs together must.
        neither = unclear(said, rest, suspicion) or (
            said.outcome in ("same", "better") and median(changes[:stop]) > LEAST_MEDIAN
        )
        if said.outcome == "open" or not neither:
            return Settled(said, looked, stop, said.outcome in ("same", "better"), said.outcome != "open")
        if sets == MOST_SETS or stop == len(changes):
            break
        start = stop
    return Settled(said, looked, stop, False, sets == MOST_SETS)


def confirmed_many(changes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return whether each row of whole sets of pairs confirms that b is worse; `confirm` is the call for one.

    Args:
        changes: [sets, PAIRS].
    """
    return (changes > 0).all(axis=1) & (np.median(changes, axis=1) > LEAST_MEDIAN)
