"""Draws what a run has: its accuracy over the clock, the parts of its steps, its kernels against their floors.

    python -m results.plot to=FOLDER [results=PATH] [run=ID] [draw=PICTURE,PICTURE]
    python -m results.plot to=build/plots results=results/record draw=accuracy,steps

Reads a store and writes each picture as SVG and PNG: accuracy-RUN (top-1 over the run's clock, of test and training
images, and when the target was reached), steps-RUN (the wait for data and the rest of a step, for each rank) and
roofline-RUN (each measured kernel against its floor: max(bytes_min / copy rate, flops / matrix rate), with the rates
that its own run measured).

    python -m bench.roofline depth=50 stride=v1.5 batch=256 --json | python -m results.plot ladder=- to=FOLDER

draws what `bench.roofline` computes, ladder-NET: the bytes of a step at each level of fusion, none of it measured.
"""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from results.plot import accuracy, kernels, ladder, step_parts
from results.plot.run_rows import RunRows, run_ids, unnamed_files
from results.words import DEFAULT_ROOT, ConfigError, chosen_ids, root_from


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture of a run: the table that it is drawn from, and the two functions of its module."""

    table: str
    read: Callable[[RunRows], Any]
    draw: Callable[[Any, Path], list[Path]]


OF_A_RUN = {
    "accuracy": Picture(table="epochs", read=accuracy.read, draw=accuracy.draw),
    "steps": Picture(table="steps", read=step_parts.read, draw=step_parts.draw),
    "kernels": Picture(table="kernels", read=kernels.read, draw=kernels.draw),
}
LADDER = "ladder"
Drawing = Callable[[Path], list[Path]]


class Lacking(ConfigError):
    """A run has no rows of a kind, which is nothing to speak of where another run has."""


def drawings(store: Path, typed_run: str | None, typed: Sequence[str]) -> list[Drawing]:
    """What is to be drawn of a run.

    Args:
        store: is there.
        typed_run: an id, or its start or end; None for the latest that will do.
        typed: pictures that must be drawn; none for whatever the run has.

    Raises:
        ConfigError: no such run, or nothing of it can be drawn; one line.
    """
    wanted = list(typed or OF_A_RUN)
    tables = [OF_A_RUN[name].table for name in (wanted if typed_run is None else OF_A_RUN)]
    for path in unnamed_files(store, tables):
        print(f"left out {path}: not named RUN.RESTART.parquet", file=sys.stderr)
    ids = run_ids(store, tables)
    if not ids:
        there = [name for name, one in OF_A_RUN.items() if run_ids(store, [one.table])]
        measure = "train with launch/local.py, or run bench.micro on a GPU"
        hint = f"nearest is draw={','.join(there)}" if there else measure
        raise ConfigError(f"results={store}: no {' or '.join(tables)} in it; {hint}")
    if typed_run is not None:
        return _of_run(RunRows(store, chosen_ids([typed_run], ids)[0]), wanted, all_of_them=bool(typed))
    passed: list[ConfigError] = []
    for run_id in reversed(ids):
        try:
            found = _of_run(RunRows(store, run_id), wanted, all_of_them=bool(typed))
        except ConfigError as error:
            passed.append(error)
            continue
        for fault in passed:
            if not isinstance(fault, Lacking):
                print(f"passed over: {fault}", file=sys.stderr)
        return found
    raise passed[0]


def _of_run(rows: RunRows, wanted: Sequence[str], *, all_of_them: bool) -> list[Drawing]:
    found: list[Drawing] = []
    faults: list[ConfigError] = []
    for name in wanted:
        picture = OF_A_RUN[name]
        try:
            content = picture.read(rows)
        except ConfigError as error:
            if all_of_them:
                raise
            faults.append(error)
            continue
        if content is not None:
            found.append(partial(picture.draw, content))
        elif all_of_them:
            others = [other for other in OF_A_RUN if other != name]
            has = [other for other in others if rows.run_id in run_ids(rows.store, [OF_A_RUN[other].table])]
            instead = f"; nearest is draw={','.join(has)}" if has else ""
            raise Lacking(f"draw={name}: run={rows.run_id} has no readable {picture.table}{instead}")
    if not found:
        raise faults[0] if faults else Lacking(f"run={rows.run_id}: none of its files can be read")
    for fault in faults:
        print(f"not drawn: {fault}", file=sys.stderr)
    return found


def _ladders(source: str) -> list[Drawing]:
    try:
        if source == "-":
            if sys.stdin is None:
                raise ConfigError(f"ladder=-: stdin is closed; make one with: {ladder.MAKE}")
            words = sys.stdin.read()
        else:
            words = Path(os.path.expanduser(source)).read_text()
    except OSError as error:
        raise ConfigError(f"ladder={source}: {error.strerror or error}; make one with: {ladder.MAKE}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"ladder={source}: no text; make one with: {ladder.MAKE}") from None
    return [partial(ladder.draw, found) for found in ladder.read(source, words)]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import check_folder

    @dataclass(kw_only=True)
    class Keys:
        to: str | None = key(
            "folder that the pictures are written to, made if need be", "required", path=True, one=True
        )
        draw: str | None = key(
            "pictures", "all that the run has; with ladder= alone, the ladder", choices=(*OF_A_RUN, LADDER)
        )
        results: str = key(
            "store to read", "results/v1 of the checkout", default=str(DEFAULT_ROOT), path=True, one=True
        )
        run: str | None = key(
            "which run, or the start or end of its id", "the latest with something to draw", text="an id", one=True
        )
        ladder: str | None = key("what bench.roofline --json printed; - for stdin", "none", path=True, one=True)

    def read(typed: Sequence[str]) -> dict[str, list[Any]]:
        given = values(typed, Keys)
        if "to" not in given:
            raise WordError("to is missing: add to=FOLDER")
        wanted = given.get("draw", [])
        if LADDER in wanted and "ladder" not in given:
            raise WordError(f"draw=ladder: add ladder=FILE, made with: {ladder.MAKE}")
        if "ladder" in given and wanted and LADDER not in wanted:
            raise WordError(f"ladder={given['ladder'][0]}: is not drawn; nearest is draw={','.join([*wanted, LADDER])}")
        for name in ("run", "results"):
            if name in given and wanted and not set(OF_A_RUN) & set(wanted):
                raise WordError(f"{name}={given[name][0]}: a ladder has no run; leave {name} out, or add to draw=")
        return given

    def do(given: dict[str, list[Any]]) -> int:
        to = given["to"][0]
        folder = check_folder("to", to)
        wanted = list(dict.fromkeys(given.get("draw", [])))
        of_a_run = [name for name in wanted if name != LADDER]
        found: list[Drawing] = []
        if of_a_run or not (wanted or "ladder" in given) or {"run", "results"} & given.keys():
            try:
                store = root_from(given)
            except ValueError as error:
                raise WordError(str(error)) from None
            if not store.is_dir():
                raise WordError(f"results={store}: no such folder")
            found += drawings(store, given.get("run", [None])[0], of_a_run)
        if "ladder" in given:
            found += _ladders(given["ladder"][0])
        for drawing in found:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                files = drawing(folder)
            except OSError as error:
                raise command.Failure(f"to={to}: {error.strerror or error}") from None
            print(*files, sep="\n")
        return 0

    return command.run("results.plot", __doc__, Keys, read, do, words, goes_on=True)
