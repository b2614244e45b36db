"""Compares two groups of runs: first their systems and settings, then each figure with its ratio and interval.

    python -m results.compare A B [results=PATH] [format=table|json|csv] [without=KEY,KEY]
    python -m results.compare before-update results/v1

A and B each name runs: a run's id, its start (the day) or its whole short end, the hash of a commit, a Slurm job, or a
folder of results; commas join several. Runs of one configuration (but for the seed), benchmark and data are one cell,
whatever system they ran on, and compared there; `without` leaves out keys of the configuration as well. A ratio is B /
A, with the exact interval of unpaired runs at the level that is stated: 95% where there are runs enough, 90% for three
against three.

Nothing here is a verdict; that is `results.check`. Exit status: 0 compared, 2 nothing can be compared.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from results.compare.cells import Comparison, compare
from results.compare.render import csv_text, json_text, parts
from results.compare.sides import read as read_side
from results.listing.terminal import show
from results.selection import SELECTS
from results.words import DEFAULT_ROOT, root_from

FORMATS = ("table", "json", "csv")
_KEY = re.compile(r"[A-Za-z_]+=")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values

    @dataclass(kw_only=True)
    class Keys:
        results: str = key(
            "the store that A and B are in",
            "results/v1 of the checkout",
            default=str(DEFAULT_ROOT),
            path=True,
            one=True,
        )
        format: str = key("of what is printed", "table", default="table", choices=FORMATS, one=True)
        without: str | None = key(
            "keys of the configuration, or data, that may differ within a cell", "none", text="a key of a run"
        )

    def read(typed: list[str]) -> tuple[Comparison, str]:
        sides = [word for word in typed if not _KEY.match(word)]
        given = values([word for word in typed if _KEY.match(word)], Keys)
        if len(sides) != 2:
            got = f"{len(sides)} ({', '.join(sides)})" if sides else "none"
            raise WordError(f"expected two words, A and B, each of them {SELECTS}; got {got}")
        root = root_from(given)
        a, b = (read_side(name, word, root) for name, word in zip("AB", sides, strict=True))
        return compare(a, b, given.get("without", [])), given.get("format", ["table"])[0]

    def do(task: tuple[Comparison, str]) -> int:
        found, form = task
        if form != "table":
            print(json_text(found) if form == "json" else csv_text(found))
            return 0
        show(*parts(found))
        return 0

    return command.run("results.compare", __doc__, Keys, read, do, words)
