"""Turns the journals of dead runs into rows, with status=killed.

    python -m results.recover [results=PATH] [run=ID,ID] [stale_s=900]
    python -m results.recover stale_s=60

On the host of a run its process is looked up; from elsewhere the age of its journal decides. Safe to repeat.
"""

import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from results.statistics import percentile
from results.store.files import BadFile, journals, table_files
from results.store.journal import Contents, JournalError, read, read_steps
from results.store.schema import FIGURES, Row, merge
from results.store.writer import write_attempt
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
    failure_kind: str = "unknown",
    failure_message: str | None = None,
) -> list[Row]:
    """Write the rows of dead attempts and return those of `runs`; see `sweep`."""
    return sweep(root, run_ids, stale_s=stale_s, failure_kind=failure_kind, failure_message=failure_message).rows


def sweep(
    root: Path | str,
    run_ids: Iterable[str] | None = None,
    *,
    stale_s: float = STALE_S,
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
            file = path.open("rb")
        except FileNotFoundError:  # another sweep was faster
            continue
        except OSError as error:
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
            if _lives(contents, file, path.parent, stale_s):
                result.alive.append(name)
                continue
            row = contents.row if contents.finished else killed_row(contents, file, failure_kind, failure_message)
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

    A journal that cannot be read is among them: nobody can tell of what it is.
    """
    found = []
    for path in journals(Path(root).absolute()):
        try:
            with path.open("rb") as file:
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
    """Return the row of `runs` of a dead attempt: what its journal says and what honestly follows from that.

    Throughput comes from whole epochs after the first (and after the warm-up): their images over the time between
    their ends, less evaluation and checkpoints. Percentiles come from rank 0's steps after the warm-up.
    """
    row, epochs = contents.row, sorted(contents.epochs, key=lambda epoch: epoch["epoch"])
    seen = f"last line of the journal at {contents.last_at:%Y-%m-%dT%H:%M:%SZ}"
    if contents.unreadable:
        seen += f", {contents.unreadable} of its lines unreadable"
    told = row.get("failure_message") or failure_message
    values: Row = {
        "status": "killed",
        "failure_kind": row.get("failure_kind") or failure_kind,
        "failure_message": f"{told} ({seen})" if told else f"ended without a word; {seen}",
        "recovered": True,
        "epochs_completed": _done(row, epochs),
    }
    reasons = {"run_stop": f"killed; {seen}", "steps_completed": "killed; the last steps were not journalled"}
    for figures in (_from_epochs(row, epochs), _throughput(row, epochs), _from_steps(row, file)):
        for column, value in figures.items():
            if row.get(column) is not None and column != "best_top1":  # the others stand; a best grows
                continue
            if isinstance(value, str):
                reasons[column] = value
            else:
                values[column] = value
    for column in FIGURES:
        if row.get(column) is None and column not in values:
            reasons.setdefault(column, "killed before it was measured")
    reasons = {column: why for column, why in reasons.items() if row.get(column) is None}
    return merge("runs", row, {**values, "null_reasons": {**reasons, **(row.get("null_reasons") or {})}})


def _done(row: Row, epochs: list[Row]) -> int:
    """Epochs done, those of the attempt from which this one went on included."""
    return epochs[-1]["epoch"] if epochs else row.get("epochs_completed") or 0


def _from_epochs(row: Row, epochs: list[Row]) -> dict[str, float | int | str]:
    """Accuracy and time figures, or the reason why not, by column."""
    measured = [epoch for epoch in epochs if epoch.get("top1") is not None]
    done = _done(row, epochs)
    figures: dict[str, float | int | str] = {}
    if measured:  # and what an attempt before had, from which this one went on
        figures["best_top1"] = max([*(epoch["top1"] for epoch in measured), row.get("best_top1") or 0.0])
    if measured and measured[-1]["epoch"] == row.get("epochs"):
        figures["final_top1"] = measured[-1]["top1"]
    else:
        figures["final_top1"] = f"killed after epoch {done} of {row.get('epochs') or 'an unknown number'}"
    if epochs and epochs[-1].get("elapsed_s") is not None:
        figures["elapsed_s"] = epochs[-1]["elapsed_s"]
    target = row.get("target_top1")
    reached = next((epoch for epoch in measured if target is not None and epoch["top1"] >= target), None)
    why = "no target" if target is None else f"killed after epoch {done}, before top-1 {target:g} was reached"
    figures["epochs_to_target"] = reached["epoch"] if reached else why
    figures["tta_s"] = reached["elapsed_s"] if reached and reached.get("elapsed_s") is not None else why
    if reached and reached.get("elapsed_s") is None:
        figures["tta_s"] = "the epoch's time was not journalled"
    return figures


def _throughput(row: Row, epochs: list[Row]) -> dict[str, float | int | str]:
    def none(why: str) -> dict[str, float | int | str]:
        return {"images_per_s": why, "train_s": why}

    if any(epoch.get(column) is None for epoch in epochs for column in ("elapsed_s", "images")):
        return none("killed; times or images of its epochs were not journalled")
    if any(later["epoch"] != epoch["epoch"] + 1 for epoch, later in itertools.pairwise(epochs)):
        return none("killed; its journal lacks epochs")
    warmup, batch = row.get("warmup_steps") or 0, row.get("global_batch")
    if warmup and not batch:
        return none("killed; the end of its warm-up is not known")
    images = itertools.accumulate(epoch["images"] for epoch in epochs)
    base = next((index for index, total in enumerate(images) if total >= warmup * (batch or 0)), len(epochs))
    counted = epochs[base + 1 :]
    if not counted:
        return none("killed before a whole epoch after the warm-up")
    if any(epoch.get("top1") is not None and epoch.get("eval_s") is None for epoch in counted):
        return none("killed; the time of its evaluations was not journalled")
    seconds = counted[-1]["elapsed_s"] - epochs[base]["elapsed_s"]
    seconds -= sum(epoch.get("eval_s") or 0.0 for epoch in counted)
    seconds -= sum(epoch.get("checkpoint_s") or 0.0 for epoch in epochs[base:-1])  # each comes after its epoch's clock
    if seconds <= 0:
        return none("killed; the times of its epochs contradict each other")
    return {"images_per_s": sum(epoch["images"] for epoch in counted) / seconds, "train_s": seconds}


def _from_steps(row: Row, file: BinaryIO) -> dict[str, float | int | str]:
    step_ms: list[float] = []
    data_ms: list[float] = []
    for columns in read_steps(file):
        ranks, whole = columns.get("rank", []), columns.get("step_ms", [])
        waits = columns.get("data_ms") or [None] * len(whole)
        for rank, step, wait in zip(ranks, whole, waits, strict=False):
            if rank == 0 and step is not None:
                step_ms.append(step)
                data_ms.append(float("nan") if wait is None else wait)
    figures: dict[str, float | int | str] = {}
    if step_ms and 0 <= sum(data_ms) <= sum(step_ms) < math.inf:
        figures["data_wait_frac"] = sum(data_ms) / sum(step_ms)
    warmup = row.get("warmup_steps")
    counted = step_ms[warmup:] if warmup is not None else []
    why = "killed; its warm-up is not known" if warmup is None else "killed before two steps after the warm-up"
    if not all(map(math.isfinite, counted)):  # JSON has them, and a row of `runs` refuses them
        counted, why = [], "killed; a step's time in the journal is not a finite number"
    for column, fraction in (("step_ms_p50", 0.5), ("step_ms_p95", 0.95)):
        figures[column] = percentile(counted, fraction) if len(counted) > 1 else why
    return figures


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
