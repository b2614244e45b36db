"""What was submitted together: a sweep's cells, their jobs, and the code that they run, as one JSON file."""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from results.durable import replace_file
from results.words import ConfigError

__all__ = ["FILE", "Array", "Manifest", "Submission", "SweepCell", "find", "read"]

FILE = "manifest.json"
VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A job of a cell.

    Attributes:
        job_id: as Slurm says it, "17", or "17_4" for a task of an array.
        run_id: of the rows that it writes.
        submitted: when, in UTC, as ISO 8601.
        log: folder of the logs of its script and its ranks.
    """

    job_id: str
    run_id: str
    submitted: str
    log: str


@dataclass(frozen=True, kw_only=True)
class SweepCell:
    """One configuration of a sweep.

    Attributes:
        label: the words in which it differs from other cells, "depth=20 nodes=2"; its name where it is alone.
        name: of its rows, see `RunConfig.name`.
        data, save, resume: paths of the configuration, which are not in its hash.
        submissions: the last one last; none until Slurm has taken it.
    """

    label: str
    name: str
    config_hash: str
    seed: int
    nodes: int
    ranks_per_node: int
    data: str | None = None
    save: str | None = None
    resume: str | None = None
    submissions: tuple[Submission, ...] = ()

    @property
    def identity(self) -> tuple[str | None, ...]:
        """What cells have in common that would do the same."""
        return self.config_hash, self.data, self.save, self.resume


@dataclass(frozen=True, kw_only=True)
class Array:
    """What one call of sbatch hands to Slurm, written down before it: a call may not live to say what became of it.

    Attributes:
        script: name of its batch script in the sweep's folder, by which squeue knows its jobs.
        cells: places among the sweep's, in the order of the array's tasks; a single one is a plain job.
        run_ids: of the cells.
        job_id: of the whole; empty until that is known.
    """

    script: str
    cells: tuple[int, ...]
    run_ids: tuple[str, ...]
    job_id: str = ""

    def job_id_of(self, task: int) -> str:
        """The job of a task, as Slurm says it."""
        return self.job_id if len(self.cells) == 1 else f"{self.job_id}_{task}"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """A sweep as it was submitted.

    Attributes:
        sweep_id: names it, and its folder.
        created: in UTC, as ISO 8601.
        words: that were typed.
        cluster: name of the site profile.
        results: folder of the rows.
        commit: of the code; empty where that is not known.
        dirty: whether the code had changes that were not committed; None where that is not known.
        snapshot: hash of the code that the jobs run, of which `code` is a copy.
        synthetic: whether any cell trains on synthetic images that were not asked for.
    """

    sweep_id: str
    created: str
    words: tuple[str, ...]
    cluster: str
    results: str
    commit: str
    dirty: bool | None
    snapshot: str
    synthetic: bool
    cells: tuple[SweepCell, ...]
    arrays: tuple[Array, ...] = ()

    @property
    def folder(self) -> Path:
        """Where the manifest and what belongs to it lie."""
        return folder_of_sweeps(self.results) / self.sweep_id

    @property
    def code(self) -> Path:
        """The copy of the checkout that the jobs run."""
        return self.folder / "code"

    def logs(self, cell: int | None = None) -> Path:
        """Folder of the logs of a cell, which names it; or of all."""
        if cell is None:
            return self.folder / "logs"
        label = re.sub(r"[^\w=.,+-]+", "-", self.cells[cell].label, flags=re.ASCII)
        return self.folder / "logs" / f"{cell:03d}-{label[:100]}"

    def begun(self, array: Array) -> "Manifest":
        """The sweep with one more array, of which nothing is known yet."""
        return dataclasses.replace(self, arrays=(*self.arrays, array))

    def taken(self, array: Array, job_id: str) -> "Manifest":
        """The sweep after Slurm has taken one of its arrays."""
        known = dataclasses.replace(array, job_id=job_id)
        cells, now = list(self.cells), datetime.now(UTC).isoformat(timespec="seconds")
        for task, (place, run_id) in enumerate(zip(array.cells, array.run_ids, strict=True)):
            one = Submission(job_id=known.job_id_of(task), run_id=run_id, submitted=now, log=str(self.logs(place)))
            cells[place] = dataclasses.replace(cells[place], submissions=(*cells[place].submissions, one))
        arrays = tuple(known if one == array else one for one in self.arrays)
        return dataclasses.replace(self, arrays=arrays, cells=tuple(cells))

    def without(self, array: Array) -> "Manifest":
        """The sweep without an array that Slurm has not taken."""
        return dataclasses.replace(self, arrays=tuple(one for one in self.arrays if one != array))

    def write(self) -> None:
        """Write the manifest in place of what was there.

        Raises:
            OSError: the disk refuses; what was there before is still whole.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"version": VERSION, **dataclasses.asdict(self)}, indent=1)
        replace_file(self.folder / FILE, lambda file: file.write(text.encode()))


def folder_of_sweeps(results: str) -> Path:
    """Where the sweeps of a store lie."""
    return Path(results) / "jobs"


def read(path: Path) -> Manifest:
    """Read a manifest.

    Args:
        path: of the file.

    Raises:
        ConfigError: it cannot be read, or is of another version.
    """
    try:
        stored = json.loads(path.read_text())
        if (version := stored.pop("version")) != VERSION:
            raise ConfigError(f"{path}: version {version} of a manifest, expected {VERSION}")
        cells = [
            SweepCell(**{**cell, "submissions": tuple(Submission(**one) for one in cell["submissions"])})
            for cell in stored["cells"]
        ]
        arrays = [
            Array(**{**one, "cells": tuple(one["cells"]), "run_ids": tuple(one["run_ids"])})
            for one in stored.get("arrays", ())
        ]
        lists = {"words": tuple(stored["words"]), "cells": tuple(cells), "arrays": tuple(arrays)}
        return Manifest(**{**stored, **lists})
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise ConfigError(
            f"{path}: no manifest of a sweep, or a damaged one ({why}); restore it, or move {path.parent} away"
        ) from None


def find(results: Sequence[str]) -> list[Path]:
    """Return the manifests of these stores, those of the newest sweeps first."""
    found = [path for root in results for path in folder_of_sweeps(root).glob(f"*/{FILE}")]
    seconds = Counter(map(_second, found))
    # An id has the second alone; of those that share one the manifests say which came first.
    return sorted(
        found, key=lambda path: (_second(path), seconds[_second(path)] > 1 and _created(path), path), reverse=True
    )


def _second(path: Path) -> str:
    return path.parent.name[:15]


def _created(path: Path) -> str:
    try:
        return read(path).created
    except ConfigError:  # whoever reads it says so
        return ""
