"""Whether a trained net bears out the strong reading of "optimal depth": the blocks past it are empty."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.evaluation.lesions import Cut, Examination, Place

__all__ = ["MARGIN", "SILENT", "Cost", "Depth", "Verdict", "costs", "verdict"]

MARGIN = 0.01  # of accuracy: what costs no more counts as free
SILENT = 0.05  # |F(x)| / |x| of a block that counts as empty
_NORMAL = 1.96  # standard errors of a 95% interval


@dataclass(frozen=True)
class Cost:
    """What it costs to leave blocks out, as a fraction of the images; below zero where more are right without them.

    Attributes:
        mean: of one cut, or over the draws of a random deletion.
        low, high: of one cut, the 95% interval over images, paired with the whole net; of a random deletion, the range
            that holds the middle 95% of the draws, or, of one draw, as of one cut.
        draws: 0 of one cut.
    """

    mean: float
    low: float
    high: float
    draws: int = 0


@dataclass(frozen=True)
class Depth:
    """A depth of a stage at which its last blocks are left out.

    Attributes:
        stage: 1 is the first.
        count: blocks that are left out.
        truncation: cost of leaving out the last ones.
        deletion: cost of as many others; None where there are no others.
        loudest: the largest |F(x)| / |x| of the last ones.
        outcome: "supported": leaving the last out is free, others cost, and the last are empty; "refuted": one of the
            three is not so; "undecided": the intervals do not tell.
    """

    stage: int
    count: int
    truncation: Cost
    deletion: Cost | None
    loudest: float
    outcome: str


@dataclass(frozen=True)
class Verdict:
    """On the whole net: supported where any depth is, refuted where all are.

    Attributes:
        outcome: as of `Depth`.
        depths: all that were looked at.
    """

    outcome: str
    depths: tuple[Depth, ...]

    def __str__(self) -> str:
        free = [depth for depth in self.depths if depth.truncation.high <= MARGIN]
        silent = [depth for depth in self.depths if depth.loudest < SILENT]
        apart = [depth for depth in self.depths if depth.deletion and depth.deletion.low > MARGIN]
        count = len(self.depths)
        says = {
            "supported": "the strong reading of optimal depth is supported",
            "refuted": "the strong reading of optimal depth is refuted",
            "undecided": "the strong reading of optimal depth is neither supported nor refuted",
        }[self.outcome]
        return (
            f"{says}: of {count} truncations of a stage {len(free)} cost at most {MARGIN:.0%} of the images, "
            f"as many other blocks cost more than that in {len(apart)}, and the blocks left out are empty "
            f"(|F(x)|/|x| below {SILENT:g}) in {len(silent)}"
        )


def costs(found: Examination) -> dict[Cut, Cost]:
    """The cost of each cut, and of each random deletion over its draws (under its first draw)."""
    whole = found.right[None]
    single: dict[Cut, Cost] = {}
    draws: dict[tuple[int, int], list[tuple[Cut, np.ndarray]]] = {}
    for cut, right in found.right.items():
        if cut is None:
            continue
        lost = whole.astype(float) - right.astype(float)
        if cut.kind == "deletion":
            draws.setdefault((cut.places[0].stage, len(cut.places)), []).append((cut, lost))
        else:
            single[cut] = _over_images(lost)
    for each in draws.values():
        if len(each) == 1:  # where there is one other set alone its images are all that varies
            single[each[0][0]] = _over_images(each[0][1], draws=1)
            continue
        values = [float(lost.mean()) for _, lost in each]
        low, high = np.percentile(values, (2.5, 97.5))
        single[each[0][0]] = Cost(float(np.mean(values)), float(low), float(high), len(values))
    return single


def _over_images(lost: np.ndarray, draws: int = 0) -> Cost:
    """Of one cut: the mean over images of what each lost, and its 95% interval."""
    mean = float(lost.mean())
    error = _NORMAL * float(lost.std(ddof=1)) / np.sqrt(len(lost)) if len(lost) > 1 else float("inf")
    return Cost(mean, mean - error, mean + error, draws)


def verdict(found: Examination, known: Mapping[Cut, Cost]) -> Verdict | None:
    """The verdict on a residual net; None for a plain net, which has no shortcuts to go on by, and where no stage has
    more than one block.

    Args:
        known: from `costs`.
    """
    if not found.ratios:
        return None
    others = {(cut.places[0].stage, len(cut.places)): cost for cut, cost in known.items() if cut.kind == "deletion"}
    depths = []
    for cut, cost in known.items():
        if cut.kind != "truncation":
            continue
        stage, count = cut.places[0].stage, len(cut.places)
        deletion, loudest = others.get((stage, count)), _loudest(found.ratios, cut.places)
        depths.append(Depth(stage, count, cost, deletion, loudest, _outcome(cost, deletion, loudest)))
    outcomes = {depth.outcome for depth in depths}
    if not depths:
        return None
    whole = "supported" if "supported" in outcomes else "refuted" if outcomes == {"refuted"} else "undecided"
    return Verdict(whole, tuple(depths))


def _loudest(ratios: Mapping[Place, float], places: Sequence[Place]) -> float:
    return float(np.max([ratios[place] for place in places]))  # not a number where one of them is none


def _outcome(truncation: Cost, deletion: Cost | None, loudest: float) -> str:
    if truncation.low > MARGIN or loudest >= SILENT or (deletion is not None and deletion.high <= MARGIN):
        return "refuted"
    # Not a number where a shortcut hands an image on as zeros: nothing is supported by it.
    if truncation.high <= MARGIN and deletion is not None and deletion.low > MARGIN and loudest < SILENT:
        return "supported"
    return "undecided"
