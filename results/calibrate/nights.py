"""Simulated nights of cells, and what the check says of them: the code of `results.check` on made-up runs."""

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from results.check.confirm import PAIRS, confirm, confirmed_many, unclear
from results.check.metrics import METRICS, Metric
from results.check.noise import Noise, estimate
from results.check.power import visible
from results.check.screen import MOST_RUNS, SOLE, SUSPECT, Rule, disagree, screen, screen_many
from results.check.spoilt import far_limit, is_far, spoils

__all__ = ["Night", "Scenario", "convergence", "creep", "nights", "power_agreement", "summarize"]

Rates = NDArray[np.float64]
MAIN = next(metric for metric in METRICS if metric.name == "images_per_s")
ACCURACY = next(metric for metric in METRICS if metric.name == "final_top1")
EPOCHS = next(metric for metric in METRICS if metric.name == "epochs_to_target")
FLOOR = MAIN.floor
WEEK = 7
PAIR_SETS = 6  # of a cell from before, of two commits that do not differ: most stopped early
WARM_NIGHTS = 20  # of history before the first night that counts, for rules that want more than 20 runs


@dataclass(frozen=True)
class Scenario:
    """How made-up runs differ.

    Attributes:
        name: for the table.
        noise: of a run.
        drift: by which all runs become slower or faster a night, the standard deviation of a step of a random walk.
        shared: share of the variance between allocations that all runs of a cell's night have in common.
        memory: autocorrelation of that common part from night to night.
    """

    name: str
    noise: Noise
    drift: float = 0.0
    shared: float = 0.0
    memory: float = 0.0


@dataclass
class Night:
    """One night, as a rule sees it: rates, 1 the typical one.

    Attributes:
        accepted: [cells, MOST_RUNS], the last that were accepted.
        series: [cells, points], every run before this night, in order.
        runs: [cells, runs] of this night.
        alone: ratios b / a of pairs of the same code, [cells, PAIRS].
        before: of each cell, the ratios b / a of sets of pairs from before.
    """

    accepted: Rates
    series: Rates
    runs: Rates
    alone: Rates
    before: list[list[list[float]]] = field(default_factory=list)

    def screened(self, drop: float = 0.0) -> NDArray[np.bool_]:
        """Return which cells the screen flags, were each slower by a fraction."""
        return screen_many(-self.runs * (1 - drop), -self.accepted, floor=FLOOR, rule=SUSPECT)

    def confirmed(self, drop: float = 0.0) -> NDArray[np.bool_]:
        """Return which cells the pairs find worse, were each slower by a fraction."""
        return confirmed_many(1 - self.alone * (1 - drop))

    @cached_property
    def open(self) -> NDArray[np.bool_]:
        """Return which cells are left open where nothing changed: by their runs, or by the pairs of a suspicion."""
        found = self.torn.copy()
        # What can be seen is never less than the floor.
        beyond = 1 - np.median(self.runs, axis=1) / np.median(self.accepted, axis=1) > FLOOR
        for cell in np.flatnonzero(beyond):
            now, held = self.runs[cell], self.accepted[cell].tolist()
            said = screen((-now).tolist(), [-value for value in held], floor=FLOOR, rule=SUSPECT)
            if said.flagged:
                changes = (1 - self.alone[cell]).tolist()
                found[cell] |= unclear(confirm(changes), changes, said.worsening)
            elif said.p >= SUSPECT.level:
                noise = estimate(held, self.before[cell] if self.before else ())
                seen = visible(noise, len(now), len(held), floor=FLOOR, rule=SUSPECT, higher=True)
                found[cell] |= disagree(said, seen, SUSPECT)
        return found

    @cached_property
    def torn(self) -> NDArray[np.bool_]:
        """Return which cells have too many runs that are far worse than the baseline's, whatever their median is."""
        worse = 1 - self.runs.min(axis=1) / np.median(self.accepted, axis=1)
        found = worse > MAIN.far  # the limit is never less
        for cell in np.flatnonzero(found):
            found[cell] = _torn(MAIN, self.runs[cell], self.accepted[cell], SUSPECT)
        return found


def nights(scenario: Scenario, count: int, cells: int, runs: int, seed: int) -> Iterator[Night]:
    """Simulate nights of cells in which nothing changes; what passes is accepted, no regression and nothing open.

    Args:
        count: nights that count.
        cells: of a night.
        runs: of a cell and night, each in an allocation of its own.
        seed: of all draws.
    """
    draw = np.random.default_rng(seed)
    noise = scenario.noise
    own = Noise(
        noise.between * math.sqrt(1 - scenario.shared), noise.within, noise.outliers, noise.outlier_loss, noise.degrees
    )
    common = draw.standard_normal(cells)
    level = np.zeros(cells)

    def measure() -> Rates:
        nonlocal common, level
        common = scenario.memory * common + math.sqrt(1 - scenario.memory**2) * draw.standard_normal(cells)
        level = level + scenario.drift * draw.standard_normal(cells)
        centre = level + noise.between * math.sqrt(scenario.shared) * common
        return np.exp(centre)[:, None] * own.allocations(draw, (cells, runs))

    warm = max(WARM_NIGHTS, math.ceil(MOST_RUNS / runs))
    series = np.concatenate([measure() for _ in range(warm)], axis=1)
    accepted = series[:, -MOST_RUNS:]
    # Of draws of their own, so that what else is drawn does not depend on them.
    earlier = noise.ratios(np.random.default_rng([seed, 1]), (cells, PAIR_SETS, PAIRS))
    before = [[_stopped(one) for one in sets] for sets in earlier]
    for _ in range(count):
        night = Night(accepted, series, measure(), noise.ratios(draw, (cells, PAIRS)), before)
        yield night
        passed = ~((night.screened() & night.confirmed()) | night.open)
        moved = np.concatenate([accepted, night.runs], axis=1)[:, -MOST_RUNS:]
        accepted = np.where(passed[:, None], moved, accepted)
        series = np.concatenate([series, night.runs], axis=1)[:, -(WARM_NIGHTS * runs) :]


def _stopped(ratios: Rates) -> list[float]:
    """The pairs of a set that would have been run."""
    return ratios[: confirm((ratios - 1).tolist()).pairs].tolist()


@dataclass
class Summary:
    """What the check said over all nights.

    Attributes:
        screened, confirmed, inconclusive: cells a night, where nothing had changed.
        found: by drop, the share of cells in which it is found on the first night.
    """

    screened: float
    confirmed: float
    inconclusive: float
    found: dict[float, float] = field(default_factory=dict)


def summarize(scenario: Scenario, count: int, cells: int, runs: int, seed: int, drops: tuple[float, ...]) -> Summary:
    """Simulate nights and count; every cell of every night is a trial of each drop."""
    flagged = confirmed = left = 0
    found = dict.fromkeys(drops, 0)
    for night in nights(scenario, count, cells, runs, seed):
        screened = night.screened()
        flagged += int(screened.sum())
        confirmed += int((screened & night.confirmed()).sum())
        left += int(night.open.sum())
        for drop in drops:
            found[drop] += int((night.screened(drop) & night.confirmed(drop)).sum())
    shares = {drop: hits / (count * cells) for drop, hits in found.items()}
    return Summary(flagged / count, confirmed / count, left / count, shares)


def creep(scenario: Scenario, weeks: int, cells: int, runs: int, seed: int, weekly: float = 0.01) -> float:
    """Return in which share of cells a creep is found within some weeks, against a baseline pinned before it began.

    Args:
        weekly: loss of a week, spread over its nights.
    """
    pinned: Rates | None = None
    found = np.zeros(cells, dtype=bool)
    for index, night in enumerate(nights(scenario, weeks * WEEK, cells, runs, seed), start=1):
        pinned = night.accepted if pinned is None else pinned
        drop = 1 - (1 - weekly) ** (index / WEEK)
        against = Night(pinned, night.series, night.runs, night.alone)
        found |= against.screened(drop) & against.confirmed(drop)
    return float(found.mean())


def power_agreement(scenario: Scenario, trials: int, runs: int, seed: int) -> tuple[float, float]:
    """Return the mean drop that the check says it can see, and how often just that drop is found.

    Each trial has a history and pairs of its own, from which the noise is estimated as the check does.

    Args:
        trials: cells.
    """
    draw = np.random.default_rng(seed)
    noise, said, hits = scenario.noise, [], 0
    for night in nights(scenario, 1, trials, runs, seed):
        for cell in range(trials):
            before = [_stopped(one) for one in noise.ratios(draw, (PAIR_SETS, PAIRS))]
            found = estimate(night.accepted[cell].tolist(), before)
            drop = visible(found, runs, MOST_RUNS, floor=FLOOR, rule=SUSPECT, higher=True)
            if drop is None:
                continue
            said.append(drop)
            own = slice(cell, cell + 1)
            one = Night(night.accepted[own], night.series[own], night.runs[own], night.alone[own])
            hits += int((one.screened(drop) & one.confirmed(drop))[0])
    return float(np.mean(said)), hits / len(said)


@dataclass
class Convergence:
    """What is said of epochs to a target and of accuracy, which no pairs confirm.

    Attributes:
        epochs, accuracy: shares of cells in which a change is found where there is none.
        left: share of cells in which the runs disagree on one of them, or too many are far off, where there is no
            change.
        found: share in which 14 epochs are found where there were 10.
        visible: the mean rise of epochs that is said to be seen, a fraction.
        visible_found: share in which just that is found.
    """

    epochs: float
    accuracy: float
    left: float
    found: float
    visible: float
    visible_found: float


def convergence(trials: int, runs: int, seed: int) -> Convergence:
    """Simulate cells whose epochs are whole, 10 with a deviation of 0.8, and whose accuracy deviates by 0.003.

    Args:
        trials: cells, each with a baseline of `MOST_RUNS`.
        runs: of a cell.
        seed: of all draws.
    """
    draw = np.random.default_rng(seed)
    counts = np.zeros(6)
    for _ in range(trials):
        before = np.rint(10 + 0.8 * draw.standard_normal(MOST_RUNS))
        now, late = (np.rint(mean + 0.8 * draw.standard_normal(runs)) for mean in (10, 14))
        said = [screen(list(sign * now), list(sign * before), floor=0.2, rule=SOLE) for sign in (1, -1)]
        accuracy, old = (0.95 + 0.003 * draw.standard_normal(count) for count in (runs, MOST_RUNS))
        wrong = screen(list(-accuracy), list(-old), floor=0.005, rule=SOLE, absolute=True)
        drop = visible(
            estimate(old.tolist(), absolute=True), runs, MOST_RUNS, floor=0.005, rule=SOLE, higher=True,
            confirmed=False, absolute=True,
        )  # fmt: skip
        found = screen(list(late), list(before), floor=0.2, rule=SOLE).flagged
        noise = estimate(before.tolist(), whole=True)
        rise, less = (
            visible(noise, runs, MOST_RUNS, floor=0.2, rule=SOLE, higher=higher, confirmed=False)
            for higher in (False, True)
        )
        moved = np.rint(10 * (1 + (rise or 0.0)) + 0.8 * draw.standard_normal(runs))
        seen = screen(list(moved), list(before), floor=0.2, rule=SOLE).flagged
        left = any(
            disagree(one, seen_by, SOLE) for one, seen_by in zip((*said, wrong), (rise, less, drop), strict=True)
        )
        left |= _torn(EPOCHS, now, before, SOLE) or _torn(ACCURACY, accuracy, old, SOLE)
        counts += [any(one.flagged for one in said), wrong.flagged, left, found, rise or 0.0, seen]
    return Convergence(*(counts / trials).tolist())


def _torn(metric: Metric, now: Rates, before: Rates, rule: Rule) -> bool:
    """Whether too many runs are far worse than the baseline's median, and those of the baseline are not."""
    held = before.tolist()
    limit, middle = far_limit(metric, held, rule), statistics.median(held)
    far, usual = (sum(is_far(metric, value, middle, limit) for value in side) for side in (now.tolist(), held))
    return spoils(far, len(now), usual, len(held))
