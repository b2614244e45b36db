"""Which sweep is meant, and which of its cells."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from launch import cluster as clusters
from launch.sweep.manifest import Manifest, Submission, SweepCell, find, folder_of_sweeps, read
from results.words import DEFAULT_ROOT, NAMES_ONE, ConfigError, like_id, meant_ids, nearest

__all__ = ["Chosen", "choose", "stores"]


@dataclass(frozen=True)
class Chosen:
    """A sweep, and the words that chose some of its cells.

    Attributes:
        path: of its manifest.
        cell: what `cell=` says; empty for all cells.
    """

    path: Path
    cell: str

    @property
    def store(self) -> Path:
        """The folder of rows in which the manifest lies, which may have moved since it was written."""
        return self.path.parents[2]

    def read(self) -> tuple[Manifest, list[SweepCell]]:
        """Return the sweep as it is now, and those of its cells that are meant.

        Raises:
            ConfigError: the manifest is gone, or none of ours; or no cell is meant.
        """
        manifest = read(self.path)
        _check(self.path, manifest)
        return manifest, cells(manifest, self.cell)


def stores() -> list[str]:
    """Return where rows go unless `results=` says otherwise: the checkout's own store, and those of site profiles."""
    found = [str(DEFAULT_ROOT)]
    for name in clusters.profiles():
        try:
            results = clusters.load(name).results
        except ConfigError:  # whoever submits with it is told
            continue
        if results and results not in found and Path(results).is_dir():
            found.append(results)
    return found


def choose(word: str | None, results: Sequence[str]) -> Path:
    """Return the manifest of the sweep that a word means, or that of the newest one.

    Args:
        word: an id, its beginning or its short end; None for the newest.
        results: stores to look in.

    Raises:
        ConfigError: there is none, or the word means none or several.
    """
    paths = find(results)
    where = " or ".join(str(folder_of_sweeps(root)) for root in results)
    if not paths:
        raise ConfigError(f"no sweep in {where}: nothing was submitted, or results=PATH says where its rows lie")
    if word is None:
        return paths[0]
    by_id = {path.parent.name: path for path in reversed(paths)}
    found = meant_ids(word, by_id)
    if len(found) > 1:
        raise ConfigError(f"{word}: {len(found)} sweeps have it; choose from {', '.join(sorted(found)[-4:])}")
    if not found:
        near = f"nearest is {like}" if (like := like_id(word, by_id)) else f"the newest is {paths[0].parent.name}"
        raise ConfigError(f"{word or repr(word)}: no such sweep in {where}; {NAMES_ONE}; {near}")
    return by_id[found[0]]


def cells(manifest: Manifest, words: str) -> list[SweepCell]:
    """Return the cells that have all of some words in their label; all where there are none.

    Raises:
        ConfigError: none has.
    """
    if not words:
        return list(manifest.cells)
    exact = [cell for cell in manifest.cells if cell.label == words]
    found = exact or [cell for cell in manifest.cells if set(words.split()) <= set(cell.label.split())]
    if not found:
        near = nearest(words, [cell.label for cell in manifest.cells])
        raise ConfigError(f"cell={words}: no such cell in {manifest.sweep_id}; nearest is cell={near!r}")
    return found


def _check(path: Path, manifest: Manifest) -> None:
    """See that a manifest has what its commands use, and not merely the names of it.

    Raises:
        ConfigError: it has not.
    """

    def sound(value: object, names: Sequence[str], kind: type) -> bool:
        return all(type(getattr(value, name)) is kind for name in names)

    texts = ("sweep_id", "created", "cluster", "results", "commit", "snapshot")
    if sound(manifest, texts, str) and manifest.cells and manifest.sweep_id == path.parent.name:
        named = sound_cells = True
        for cell in manifest.cells:
            named = named and sound(cell, ("label", "name", "config_hash"), str)
            sound_cells = sound_cells and sound(cell, ("seed", "nodes", "ranks_per_node"), int)
            for one in cell.submissions:
                named = named and sound(one, [option.name for option in fields(Submission)], str)
        if named and sound_cells:
            return
    raise ConfigError(f"{path}: no manifest of sweep {path.parent.name}: it is damaged, or of something else")
