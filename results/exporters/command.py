"""Hands runs to a tracker of experiments: Weights & Biases, trackio, MLflow or TensorBoard.

    python -m results.exporters library=NAME [to=FOLDER] [project=NAME] [results=PATH] [run=ID,ID] [COLUMN=VALUE ...]
    python -m results.exporters library=tensorboard to=build/tensorboard results=results/record
    python -m results.exporters library=mlflow to=build/mlflow depth=20..110 status=completed
    WANDB_MODE=online python -m results.exporters library=wandb run=3f0c2a1b

Each run goes there once, as its last attempt: settings, figures, and a series over its epochs. Single steps stay in
Parquet. What is there already is left as it is. Exit status 1: a run was left out, which a line says.
Libraries are optional: pip install 'resnet-bench[wandb]', likewise trackio, mlflow and tensorboard. Columns choose runs
as they do in results.report.
"""

import contextlib
import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, Protocol

from results.exporters.runs import ENDED, ExportedRun, exported, last_of
from results.listing.filters import FILTERS, SORT, filter_options, find
from results.store.files import read_rows
from results.store.load import stem
from results.store.schema import to_rows
from results.words import ConfigError, counted, printable, root_from

__all__ = ["LIBRARIES", "main"]

# Name, and the module here that speaks to it.
LIBRARIES = {"wandb": "wandb", "trackio": "wandb", "mlflow": "mlflow", "tensorboard": "tensorboard"}
PROJECT = "resnet-bench"
NAME = re.compile(r"\w[\w.-]{0,127}", re.ASCII)  # that all of them take
# Whose exceptions are of the library, its server or its database, and no fault of ours.
THEIRS = ("wandb", "trackio", "mlflow", "tensorboard", "sqlalchemy", "requests", "httpx", "gradio_client")


class Tracker(Protocol):
    """Where runs go."""

    def has(self, run_id: str) -> bool: ...

    def write(self, run: ExportedRun) -> None: ...


@dataclass(frozen=True)
class Task:
    """What is to be exported, and to where."""

    library: str
    project: str
    to: Path | None
    runs: list[ExportedRun]
    notes: list[str]


def _tracker(task: Task) -> Tracker:
    more: dict[str, Any] = {"library": task.library} if LIBRARIES[task.library] == "wandb" else {}
    try:
        module = importlib.import_module(f"results.exporters.{LIBRARIES[task.library]}")
        tracker: Tracker = module.Tracker(task.project, task.to, **more)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"library={task.library}: there is no {error.name} here: pip install 'resnet-bench[{task.library}]'"
        ) from None
    return tracker


def _export(task: Task) -> int:
    with contextlib.redirect_stdout(sys.stderr):  # where libraries say what they do
        tracker = _tracker(task)
    written = there = 0
    for note in dict.fromkeys(task.notes):
        print(printable(note), file=sys.stderr)
    for run in task.runs:
        with contextlib.redirect_stdout(sys.stderr):
            known = tracker.has(run.run_id)
            if not known:
                tracker.write(run)
        if known:
            there += 1
        else:
            written += 1
            print(run.run_id)
    print(f"{counted(written, 'run')} exported, {there} there already", file=sys.stderr)
    return 1 if task.notes else 0


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import check_folder

    options: dict[str, tuple[type, Any]] = {
        "library": (str, key("the tracker", "this is required", choices=tuple(LIBRARIES), one=True)),
        "to": (
            str,
            key("folder that it writes to", "what its own settings say; tensorboard needs one", path=True, one=True),
        ),
        "project": (str, key("the project, or experiment, that runs go to", PROJECT, text="a name", one=True)),
        "results": (str, key("the store", "results/v1 of the checkout", path=True, one=True)),
        "run": (str, key("only these runs; the start or the end of an id will do", "all runs", text="an id")),
    }
    options |= filter_options(key)
    keys = make_dataclass("Keys", [(name, kind | None, option) for name, (kind, option) in options.items()])

    def read(typed: list[str]) -> Task:
        given = values(typed, keys)
        if "library" not in given:
            raise WordError(f"library is missing: add library= with one of {', '.join(LIBRARIES)}")
        library = given["library"][0]
        if library == "tensorboard" and "to" not in given:
            raise WordError("to is missing: tensorboard reads a folder; nearest is to=build/tensorboard")
        root = root_from(given)
        filters = {column: wanted for column, wanted in given.items() if column in FILTERS}
        found = find(root, SORT, filters, given.get("run", ()))
        # A run is its last attempt, whichever attempts the filters mean.
        meant = {(row["run_id"], row["restart_count"]): None for row in to_rows(found.table)}
        rows, bad = read_rows(root, "runs", {run_id for run_id, _ in meant})
        lost = {stem(one.path.name)[0] for one in (*bad, *found.bad)}
        notes = [f"cannot be read, and its run is left out: {one}" for one in (*bad, *found.bad)]
        kept = [row for row in last_of(rows) if (row["run_id"], row["restart_count"]) in meant]
        notes += [f"run={row['run_id']}: has not ended, and is left out" for row in kept if row["status"] not in ENDED]
        rows = [row for row in kept if row["status"] in ENDED and row["run_id"] not in lost]
        project = given.get("project", [PROJECT])[0]
        if not NAME.fullmatch(project):
            near = re.sub(r"[^\w.-]+", "-", project, flags=re.ASCII).strip("-.") or PROJECT
            raise WordError(f"project={project}: letters, digits, '.', '_' and '-'; nearest is project={near}")
        to = check_folder("to", given["to"][0]) if "to" in given else None
        return Task(library, project, to, exported(root, rows), notes)

    def do(task: Task) -> int:
        try:
            return _export(task)
        except OSError as error:
            raise command.Failure(f"library={task.library}: {error}") from None
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in THEIRS:
                raise
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise command.Failure(f"library={task.library}: {said}") from None

    return command.run("results.exporters", __doc__, keys, read, do, words, goes_on=True)
