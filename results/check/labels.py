"""Cells in words, told apart where the words are the same."""

from collections.abc import Callable, Mapping, Sequence

from results.check.runs import Run

__all__ = ["labels"]


def labels(cells: Mapping[str, Sequence[Run]], parts: Callable[[Run], Mapping[str, str]]) -> dict[str, str]:
    """Return each cell in words, with the parts that tell it from others of the same words; SYNTHETIC in capitals.

    Args:
        cells: runs by cell, at least one each.
        parts: what the runs of a cell share, by name.
    """
    alike: dict[str, list[str]] = {}
    for key, runs in cells.items():
        alike.setdefault(runs[0].label, []).append(key)
    found = {}
    for label, keys in alike.items():
        shared = {key: parts(cells[key][0]) for key in keys}
        names = dict.fromkeys(name for one in shared.values() for name in one)
        telling = [name for name in names if len({one.get(name) for one in shared.values()}) > 1]
        for key in keys:
            words = [f"{name.removeprefix('configuration.')}={shared[key].get(name, 'unknown')}" for name in telling]
            synthetic = any(run.row["synthetic"] or run.row["loader"] == "synthetic" for run in cells[key])
            found[key] = " ".join([label, *words, *(["SYNTHETIC"] if synthetic else [])])
    return found
