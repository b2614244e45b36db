"""Which configurations have a completed result already."""

import sys
from collections.abc import Sequence

from bench.config.run_config import RunConfig
from launch.plan import Cell
from resnet.data import DataError, open_dataset
from results.store.files import read_rows

__all__ = ["without_done"]


def without_done(cells: Sequence[Cell]) -> list[Cell]:
    """Leave out configurations that have a completed row, and say so."""
    done: dict[str, dict[str, set[str | None]]] = {}  # by folder of rows and configuration: hashes of images
    for root in {cell.config.results for cell in cells}:
        rows, _ = read_rows(root, "runs")
        images = done.setdefault(root, {})
        for row in rows:
            if row["status"] == "completed":
                images.setdefault(row["config_hash"], set()).add(row["dataset_hash"])
    wanted = []
    for cell in cells:
        # A row holds no path: whether it left these weights cannot be told from it.
        found = done[cell.config.results].get(cell.config.config_hash())
        if found and cell.config.save is None and _same_images(cell.config, found):
            what = f"{cell.config.name()} nodes={cell.config.nodes} seed={cell.config.seed}"
            where = f"has a completed result in {cell.config.results}"
            print(f"launch: {what} {where} and is not submitted; rerun=true submits it again", file=sys.stderr)
        else:
            wanted.append(cell)
    return wanted


def _same_images(config: RunConfig, hashes: set[str | None]) -> bool:
    """Whether runs whose images have these hashes have read those of a configuration; no where that is not known."""
    if config.data is None or config.loader == "synthetic":
        return True
    try:
        # All names and many sizes are read for it, which takes seconds on millions of files.
        splits = open_dataset(config.dataset, config.data, image_size=config.image_size)
    except DataError:  # not on this machine
        return False
    return splits.hash in hashes
