"""How runs are named on a command line: by id, by what they were made of, or by where their rows lie."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import expanduser
from pathlib import Path
from typing import Literal

from results.store.files import read_table
from results.words import ConfigError, like_id

__all__ = ["SELECTS", "Selection", "select"]

SELECTS = "a run's id, its start (the day) or its whole short end; a commit; a Slurm job; a folder of results"
Way = Literal["id", "job", "commit", "start", "folder"]  # in which a word means runs
LEAST_COMMIT = 7  # digits
_COMMIT = re.compile(rf"[0-9a-f]{{{LEAST_COMMIT},40}}")
_REVISION = re.compile(r"(?:commit:(?=.)|(?=(?:HEAD|@)(?:[~^@].*)?$))(?P<name>.*)")  # as git and bench.pairs take one


@dataclass(frozen=True)
class Selection:
    """Runs of one store.

    Attributes:
        root: of the store.
        run_ids: whole ids, sorted.
        whole: whether these are all that a folder or a commit has, so that what is not among them is missing.
        exact: those that a word means one by one, by their id or its end.
        starts: words that are the start of ids.
        rows_say: whether a word is a commit or a job: which runs it means is only in their rows.
    """

    root: Path
    run_ids: list[str]
    whole: bool
    exact: frozenset[str] = frozenset()
    starts: tuple[str, ...] = ()
    rows_say: bool = False


def select(key: str, words: Iterable[str], root: Path) -> list[Selection]:
    """Find the runs that words mean, store by store.

    A word is tried as a whole run id, a folder, a Slurm job, the end of a run id, a commit, the start of run ids (which
    begin with their time: 20261126 are those of a day); the first that finds runs counts.

    Args:
        key: what the words were given to, for errors.
        words: see `SELECTS`.
        root: of the store that is meant where a word is no folder.

    Raises:
        ConfigError: a word means no run, or the end of the ids of several.
    """
    found: dict[Path, Selection] = {}
    columns: dict[Path, list[tuple[str, str, str]]] = {}
    for word in words:
        folder = Path(expanduser(word))
        try:
            holds = (folder / "runs").is_dir()
        except OSError as error:  # such as a name that is too long, or a folder that nobody may enter
            raise ConfigError(f"{key}={word:.80}: {error.strerror or error}") from None
        elsewhere = "/" in word or holds
        store = folder if elsewhere else root
        if elsewhere and not holds:
            raise ConfigError(f"{key}={word}: no folder of results (it has no runs/); the default is {root}")
        if store not in columns:
            columns[store] = _named_by(store)
        ids, way = (
            _matches(key, word, columns[store]) if not elsewhere else ({row[0] for row in columns[store]}, "folder")
        )
        if not ids:
            raise ConfigError(f"{key}={word}: {_none(key, word, store, columns[store])}")
        before = found.get(store, Selection(store, [], True))
        found[store] = Selection(
            store, sorted(ids.union(before.run_ids)), way in ("folder", "commit") and before.whole,
            before.exact | (ids if way == "id" else set()), before.starts + ((word,) if way == "start" else ()),
            way in ("commit", "job") or before.rows_say,
        )  # fmt: skip
    return list(found.values())


def _none(key: str, word: str, store: Path, rows: Sequence[tuple[str, str, str]]) -> str:
    """Why a word means no run, and what would."""
    if revision := _REVISION.fullmatch(word):
        name = revision["name"]
        exact = name if _COMMIT.fullmatch(name) else f"$(git rev-parse {name})"
        return f"a commit is its hash here, 7 digits or more; nearest is {_typed(key, exact)}"
    if not rows:
        return f"no such run, commit or Slurm job in {store}: it has none"
    others = {text[: max(LEAST_COMMIT, len(word))] for _, text, _ in rows if text} | {job for *_, job in rows if job}
    near = f"; nearest is {_typed(key, like)}" if (like := like_id(word, {row[0] for row in rows}, others)) else ""
    return f"no such run, commit or Slurm job in {store}; say {SELECTS}{near}"


def _typed(key: str, word: str) -> str:
    """A word as it is typed: the sides of a comparison have no key."""
    return word if key in ("A", "B") else f"{key}={word}"


def _named_by(root: Path) -> list[tuple[str, str, str]]:
    """Id, commit and Slurm job of each attempt of a store; "" where it has none."""
    names = ("run_id", "git_commit", "slurm_job_id")
    table, _ = read_table(root, "runs", columns=names)
    columns = [[value or "" for value in table[name].to_pylist()] for name in names]
    return [row for row in zip(*columns, strict=True) if row[0]]


def _matches(key: str, word: str, rows: Sequence[tuple[str, str, str]]) -> tuple[set[str], Way]:
    ids = {row[0] for row in rows}
    if word in ids:
        return {word}, "id"
    if not word:
        return set(), "id"
    if jobs := {row[0] for row in rows if row[2] == word}:
        return jobs, "job"
    if ends := {run_id for run_id in ids if run_id.endswith(word)}:
        if len(ends) > 1:
            raise ConfigError(f"{key}={word}: {len(ends)} runs end so; such as {min(ends)} and {max(ends)}")
        return ends, "id"
    if _COMMIT.fullmatch(word) and (commits := {row[0] for row in rows if row[1].startswith(word)}):
        return commits, "commit"
    return {run_id for run_id in ids if run_id.startswith(word)}, "start"
