"""Simulates nights of made-up runs, and counts what the check says of them.

    python -m results.calibrate [nights=1000] [cells=45] [runs=3,5] [scenario=NAME,NAME]
    python -m results.calibrate scenario=between-1,between-2

In each scenario first nothing changes: what the check confirms then is a false alarm, and what it leaves open, once the
pairs of all suspicions have run, is inconclusive. Then each cell of each night is made slower by 5% and by 3%: the
share in which that is found on the first night. A creep of 1% a week is held against a pinned baseline for four weeks.
Last, the check states its power from a cell's history and pairs, and that drop is tried: it should be found in 95%.
The second table has what others would have said of the same nights. All of it is SIMULATED, by the code of
`results.check`; minutes on two cores.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rich import box
from rich.table import Table
from rich.text import Text

from results.calibrate.nights import (
    Scenario,
    convergence,
    creep,
    nights,
    power_agreement,
    summarize,
)
from results.calibrate.rules import RULES
from results.check.noise import Noise
from results.listing.terminal import show

BETWEEN, WITHIN = 0.02, 0.004
SCENARIOS = {
    "between-1": Scenario("1% between, 0.4% within", Noise(0.01, WITHIN)),
    "between-2": Scenario("2% between, 0.4% within", Noise(BETWEEN, WITHIN)),
    "within-1": Scenario("2% between, 1% within", Noise(BETWEEN, 0.01)),
    "within-2": Scenario("2% between, 2% within", Noise(BETWEEN, 0.02)),
    "outliers": Scenario("2%, slow allocations lose up to 20%", Noise(BETWEEN, WITHIN, outlier_loss=0.2)),
    "tails": Scenario("2%, Student's t of 3 degrees", Noise(BETWEEN, WITHIN, degrees=3)),
    "drift": Scenario("2%, a walk of 0.3% a night", Noise(BETWEEN, WITHIN), drift=0.003),
    "memory": Scenario("2%, half of it common to a night, 0.8 to the next", Noise(BETWEEN, WITHIN), 0.0, 0.5, 0.8),
}
DROPS = (0.05, 0.03)
WEEKS = 4
CONVERGENCE = 45 * 100  # cells of a hundred nights


@dataclass(frozen=True)
class Task:
    """What is simulated."""

    nights: int
    cells: int
    runs: list[int]
    scenarios: list[str]
    seed: int


def _new_table(title: str, *heads: str) -> Table:
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False)
    for index, head in enumerate(heads):
        table.add_column(head, justify="left" if index == 0 else "right", overflow="fold")
    return table


def _simulate(task: Task) -> int:
    table = _new_table(
        f"SIMULATED: {task.nights} nights of {task.cells} cells", "variation, 5% of allocations slow", "runs",
        "screened\na night", "false alarms\nin 100 nights", "inconclusive\nin 100 nights",
        "5% found", "3% found", "creep found\nin 4 weeks",
        "drop said to be\nseen with 95%", "found",
    )  # fmt: skip
    others = _new_table("other rules, same nights", "rule", "variation", "runs", "false alarms\na night", "5% found")
    for name in task.scenarios:
        scenario = SCENARIOS[name]
        for runs in task.runs:
            print(f"results.calibrate: {scenario.name}, {runs} runs", file=sys.stderr)
            said = summarize(scenario, task.nights, task.cells, runs, task.seed, DROPS)
            crept = creep(scenario, WEEKS, max(task.cells, task.nights // 2), runs, task.seed + 1)
            drop, found = power_agreement(scenario, max(task.cells, task.nights // 2), runs, task.seed + 2)
            table.add_row(
                scenario.name, str(runs), f"{said.screened:.2f}", f"{100 * said.confirmed:.1f}",
                f"{100 * said.inconclusive:.1f}",
                *(f"{said.found[one]:.1%}" for one in DROPS), f"{crept:.1%}", f"{drop:.1%}", f"{found:.1%}",
            )  # fmt: skip
            for rule, (alarms, hits) in _others(scenario, task, runs).items():
                others.add_row(rule, scenario.name, str(runs), f"{alarms:.2f}", f"{hits:.1%}")
    alone = _new_table(
        "SIMULATED: convergence, without pairs: 10 epochs (deviation 0.8), accuracy (deviation 0.003)", "runs",
        "false alarms of epochs\nin 100 nights of 45 cells", "of accuracy", "either\ninconclusive",
        "14 epochs found", "rise said to be\nseen",
        "found",
    )  # fmt: skip
    for runs in task.runs:
        one = convergence(min(CONVERGENCE, task.nights * task.cells), runs, task.seed)
        alone.add_row(
            str(runs), f"{4500 * one.epochs:.1f}", f"{4500 * one.accuracy:.1f}", f"{4500 * one.left:.1f}",
            f"{one.found:.1%}", f"{one.visible:.1%}", f"{one.visible_found:.1%}",
        )  # fmt: skip
    show(table, Text(), others, Text(), alone)
    return 0


def _others(scenario: Scenario, task: Task, runs: int) -> dict[str, tuple[float, float]]:
    """False alarms a night and the share of 5% drops found, by rule."""
    alarms, hits, tried = (dict.fromkeys(RULES, 0.0) for _ in range(3))
    for index, night in enumerate(nights(scenario, task.nights, task.cells, runs, task.seed)):
        for name, (rule, every) in RULES.items():
            if index % every == 0:
                tried[name] += 1
                alarms[name] += float(rule(night, 0.0).sum())
                hits[name] += float(rule(night, DROPS[0]).mean())
    return {name: (alarms[name] / tried[name], hits[name] / tried[name]) for name in RULES}


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import key, values

    @dataclass(kw_only=True)
    class Keys:
        nights: int = key("nights that count", "1000", default=1000, least=1, most=100_000, one=True)
        cells: int = key("cells of a night", "45", default=45, least=1, most=10_000, one=True)
        runs: int | None = key("runs of a cell and night", "3,5", least=3, most=20)
        scenario: str | None = key("how runs differ", "all", choices=tuple(SCENARIOS))
        seed: int = key("of all draws", "0", default=0, least=0, one=True)

    def read(typed: list[str]) -> Task:
        given = values(typed, Keys)
        return Task(
            given.get("nights", [1000])[0], given.get("cells", [45])[0], given.get("runs", [3, 5]),
            given.get("scenario", list(SCENARIOS)), given.get("seed", [0])[0],
        )  # fmt: skip

    return command.run("results.calibrate", __doc__, Keys, read, _simulate, words)
