"""Turns the journals of dead runs into rows, with status=killed.

    python -m results.recover [results=PATH] [run=ID,ID] [stale_s=900]
    python -m results.recover stale_s=60

On the host of a run its process is looked up; from elsewhere the age of its journal decides. Safe to repeat.
"""

import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from results.store import early_end
from results.store.files import BadFile, journals, table_files
from results.store.journal import Contents, JournalError, open_journal, read
from results.store.schema import Row
from results.store.writer import final_row, write_attempt
from results.words import chosen_ids, root_from

STALE_S = 900.0


@dataclass
class Sweep:
    """What became of the journals of a store.

    Attributes:
        rows: rows of `runs` written by this sweep.
        alive: names RUN.RESTART of attempts that may still run; untouched.
        bad: journals that cannot be read; left where they lie.
    """

    rows: list[Row] = field(default_factory=list)
    alive: list[str] = field(default_factory=list)
    bad: list[BadFile] = field(default_factory=list)


def recover(
    root: Path | str,
    run_ids: Iterable[str] | None = None,
    *,
    stale_s: float = STALE_S,
    known_dead: bool = False,
    failure_kind: str = "unknown",
    failure_message: str | None = None,
) -> list[Row]:
    """Write the rows of dead attempts and return those of `runs`; see `sweep`."""
    return sweep(
        root,
        run_ids,
        stale_s=stale_s,
        known_dead=known_dead,
        failure_kind=failure_kind,
        failure_message=failure_message,
    ).rows


def sweep(
    root: Path | str,
    run_ids: Iterable[str] | None = None,
    *,
    stale_s: float = STALE_S,
    known_dead: bool = False,
    failure_kind: str = "unknown",
    failure_message: str | None = None,
) -> Sweep:
    """Write the rows of attempts whose process is dead, and remove their journals.

    On the host of an attempt its process is looked up. From elsewhere it counts as dead once its journal has not been
    written to for `stale_s`. Safe to repeat and to run twice at once: one of the two writes a given row.

    Args:
        root: of the store.
        run_ids: only these runs; all by default.
        stale_s: seconds.
        known_dead: whether the caller knows that the runs are over, as from their cluster: the age of a journal then
            says nothing. What lives on this host is left alone all the same.
        failure_kind: for attempts whose journal does not say why they died, where the caller knows.
        failure_message: likewise.

    Raises:
        ValueError: no such failure_kind.
        OSError: the rows cannot be written.
    """
    root = Path(root).absolute()
    chosen = None if run_ids is None else set(run_ids)
    result = Sweep()
    for path in journals(root):
        name = path.name.removesuffix(".jsonl")
        if chosen is not None and name.rpartition(".")[0] not in chosen:
            continue
        try:
            file = open_journal(path)
        except FileNotFoundError:  # another sweep was faster
            continue
        except (OSError, JournalError) as error:
            result.bad.append(BadFile(path, str(error)))
            continue
        with file:
            try:
                contents = read(file, path.name)
                if f"{contents.row['run_id']}.{contents.row['restart_count']}" != name:
                    raise JournalError(f"{path.name}: is the journal of {contents.row['run_id']}")
            except (JournalError, KeyError) as error:
                result.bad.append(BadFile(path, str(error)))
                continue
            if contents.owner.lives() if known_dead else _lives(contents, file, path.parent, stale_s):
                result.alive.append(name)
                continue
            contents = read(file, path.name)  # with what it wrote between the two looks, before it died
            if contents.finished:  # by itself: only its files are missing
                row = final_row(contents, file)
            else:
                row = killed_row(contents, file, failure_kind, failure_message)
            try:
                write_attempt(root, contents, row, file)
            except FileExistsError:  # another sweep was faster, or the run wrote its row and died before the rest
                continue
            except ValueError as error:  # rows that no file can hold
                result.bad.append(BadFile(path, str(error)))
                continue
            result.rows.append(row)
    _remove_leftovers(root, stale_s)
    return result


def dead_journals(root: Path | str, stale_s: float = STALE_S) -> list[BadFile]:
    """Return the journals that `sweep` would not leave to a live run, each with how it ended; nothing is changed.

    A journal that cannot be read is among them: nobody can tell of what it is. So is their folder, where it cannot be.
    """
    found = []
    try:
        paths = journals(Path(root).absolute())
    except OSError as error:
        return [BadFile(Path(root) / "journal", error.strerror or str(error))]
    for path in paths:
        try:
            with open_journal(path) as file:
                contents = read(file, path.name)
                if not _lives(contents, file, path.parent, stale_s):
                    last = f"last line of the journal at {contents.last_at:%Y-%m-%dT%H:%M:%SZ}"
                    found.append(BadFile(path, f"ended without its rows; {last}"))
        except FileNotFoundError:  # it ended, or was recovered, meanwhile
            continue
        except (OSError, JournalError) as error:
            found.append(BadFile(path, str(error)))
    return found


def _lives(contents: Contents, file: BinaryIO, folder: Path, stale_s: float) -> bool:
    lives = contents.owner.lives()
    if lives is None:
        try:
            with tempfile.TemporaryFile(dir=folder) as clock:  # both times from the filesystem's clock, not one of ours
                now = os.fstat(clock.fileno()).st_mtime
        except OSError:  # nobody may write there
            now = time.time()
        lives = now - os.fstat(file.fileno()).st_mtime < stale_s
    return lives


def _remove_leftovers(root: Path, stale_s: float) -> None:
    """Remove temporary files of writers that died in the middle of one."""
    now = [path for pattern in ("journal/.*.tmp", "*/month=*/.*.tmp", ".index/*/.*.tmp") for path in root.glob(pattern)]
    if now:
        with tempfile.TemporaryFile(dir=root) as clock:
            limit = os.fstat(clock.fileno()).st_mtime - stale_s
        for path in now:
            try:
                if path.stat().st_mtime < limit:
                    path.unlink()
            except FileNotFoundError:
                continue


def killed_row(contents: Contents, file: BinaryIO, failure_kind: str, failure_message: str | None) -> Row:
    """Return the row of `runs` of a dead attempt; its figures are those of `results.store.early_end`."""
    row = contents.row
    seen = f"last line of the journal at {contents.last_at:%Y-%m-%dT%H:%M:%SZ}"
    if contents.unreadable:
        seen += f", {contents.unreadable} of its lines unreadable"
    told = row.get("failure_message") or failure_message
    ended = {
        "status": "killed",
        "failure_kind": row.get("failure_kind") or failure_kind,
        "failure_message": f"{told} ({seen})" if told else f"ended without a word; {seen}",
        "recovered": True,
    }
    if row.get("run_stop") is None:
        ended["null_reasons"] = {"run_stop": f"killed; {seen}"}
    return early_end.row_of(contents, file, ended)


def _sweep_and_say(root: Path, given: Mapping[str, Sequence[Any]]) -> int:
    result = sweep(root, given.get("run"), stale_s=given.get("stale_s", [STALE_S])[0])
    for row in result.rows:
        print(f"recovered {row['run_id']}.{row['restart_count']}: {row['status']}, {row['failure_message']}")
    for name in result.alive:
        print(f"left {name}: it may still run")
    for bad in result.bad:
        print(f"left {bad.path}: {bad.reason}", file=sys.stderr)
    if not (result.rows or result.alive or result.bad):
        print(f"nothing to recover in {root}")
    return 1 if result.bad else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`; exit status 1 where a journal cannot be read."""
    from bench.config import command
    from bench.config.grammar import key, values

    @dataclass
    class Keys:
        results: str | None = key("the store", "results/v1 of the checkout", path=True, one=True)
        run: str | None = key("only these runs; the start or the end of an id will do", "all", text="an id")
        stale_s: float | None = key(
            "time without a write after which a run on another host counts as dead",
            f"{STALE_S:g}",
            unit="s",
            least=0,
            one=True,
        )

    def read(typed: list[str]) -> tuple[Path, Mapping[str, Sequence[Any]]]:
        given = values(typed, Keys)
        root = root_from(given)
        if "run" in given:
            there = [*journals(root), *table_files(root, "runs")]  # of what has its rows there is nothing to recover
            given["run"] = chosen_ids(given["run"], sorted({path.stem.rpartition(".")[0] for path in there}))
        return root, given

    def do(task: tuple[Path, Mapping[str, Sequence[Any]]]) -> int:
        return _sweep_and_say(*task)

    return command.run("results.recover", __doc__, Keys, read, do, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
