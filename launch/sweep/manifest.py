"""What was submitted together: a sweep's cells, their jobs, and the code that they run, as one JSON file."""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from results.durable import replace_file
from results.words import ConfigError

__all__ = ["FILE", "Manifest", "Submission", "SweepCell", "find", "read"]

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
        name: of its rows and its job, see `RunConfig.name`.
        submissions: the last one last; none until Slurm has taken it.
    """

    label: str
    name: str
    config_hash: str
    seed: int
    nodes: int
    ranks_per_node: int
    submissions: tuple[Submission, ...] = ()


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
        snapshot: folder of the copy that the jobs run.
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

    @property
    def folder(self) -> Path:
        """Where the manifest and what belongs to it lie."""
        return folder_of_sweeps(self.results) / self.sweep_id

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
        return Manifest(**{**stored, "words": tuple(stored["words"]), "cells": tuple(cells)})
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ConfigError(f"{path}: no manifest of a sweep ({error})") from None


def find(results: Sequence[str]) -> list[Path]:
    """Return the manifests of these stores, those of the newest sweeps first."""
    found = [path for root in results for path in folder_of_sweeps(root).glob(f"*/{FILE}")]
    return sorted(found, key=lambda path: path.parent.name, reverse=True)
