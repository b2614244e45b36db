"""What lies at a save= path already: no new run takes its place."""

import itertools
import os
from pathlib import Path

from bench.training.checkpoint.ancestor import Ancestor, named
from bench.training.checkpoint.contents import is_complete, locate, writer_of
from bench.training.checkpoint.folder import WEIGHTS, CheckpointError, home_of, others


def refuse_if_occupied(save: str, resume: str | None, run_id: str | None = None) -> None:
    """See that a run would replace nothing at its save= path but what it goes on from, or has written itself.

    Args:
        save: the path.
        resume: of the run.
        run_id: of the run, which may have been here before a restart; None where it has none yet.

    Raises:
        CheckpointError: another run's checkpoints are there, or any other file.
    """
    weights = Path(save)
    home = home_of(weights)
    kept = others(home)
    there = os.path.lexists(weights)
    if not (there or kept) or (resume and _lies_there(resume, weights, home)):
        return
    free = f"save={_free(weights)} is free"
    writer = writer_at(save)
    if writer is None:
        what = "a file is there that no run has saved, and weights would replace it"
        raise CheckpointError(f"save={save}: {what}; {free}")
    if run_id is not None and writer.run_id == run_id:
        return
    last = weights if there else home / kept[0] / WEIGHTS
    on = "" if is_complete(weights) else f"resume={last} goes on from them, "
    raise CheckpointError(
        f"save={save}: run {writer.run_id} has saved its weights there (epoch {writer.epoch}), and those of another "
        f"would replace them; {on}{free}"
    )


def writer_at(save: str) -> Ancestor | None:
    """The attempt that has saved at a path; None where none has, or what lies there is another file."""
    weights = Path(save)
    if os.path.lexists(weights):
        return writer_of(weights)
    kept = others(home_of(weights))
    return named(kept[0]) if kept else None


def _lies_there(resume: str, weights: Path, home: Path) -> bool:
    """Whether what is gone on from is at the save= path, or one of its checkpoints."""
    if _same(Path(resume), weights):
        return True
    try:
        return _same(locate(resume).parent.parent, home)
    except CheckpointError:  # which says more where it is read
        return True


def _same(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _free(weights: Path) -> Path:
    """A path like another, at which nothing lies."""
    tries = (weights.with_stem(f"{weights.stem}-{number}") for number in itertools.count(2))
    return next(path for path in tries if not os.path.lexists(path) and not os.path.lexists(home_of(path)))
