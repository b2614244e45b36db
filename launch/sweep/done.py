"""Which configurations need no job, or may have none: they are done, have one, or would replace weights."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

from bench.config.data_checks import check_data
from bench.config.run_config import RunConfig
from launch.plan import Cell
from launch.sweep.manifest import SweepCell
from launch.sweep.squeue import Queued
from resnet.data import DataError, open_dataset
from results.store.files import read_rows
from results.words import ConfigError

__all__ = ["Identity", "beginning_again", "check_saves", "identity", "without_done", "without_queued"]

Identity = tuple[str | None, ...]


def identity(config: RunConfig) -> Identity:
    """As of `SweepCell.identity`."""
    return config.config_hash(), config.data, config.save, config.resume


def without_queued(
    cells: Sequence[Cell], labels: Mapping[Identity, str], taken: Mapping[Identity, Queued]
) -> list[Cell]:
    """Leave out configurations that have a job, and say which."""
    wanted = []
    for cell in cells:
        if job := taken.get(identity(cell.config)):
            label = labels[identity(cell.config)]
            print(f"launch: {label}: {job} has it, and it is not submitted again", file=sys.stderr)
        else:
            wanted.append(cell)
    if len(wanted) < len(cells):
        print("launch: rerun=true submits what has a job all the same", file=sys.stderr)
    return wanted


def check_saves(cells: Sequence[Cell], taken: Mapping[Identity, Queued]) -> None:
    """See that no configuration would replace the weights of a run that has ended, or of a job that is still to end.

    One that saves is submitted again also where it has a completed row: a row holds no path.

    Args:
        taken: jobs by what they run.

    Raises:
        ConfigError: one would.
    """
    from bench.training.checkpoint.occupied import refuse_if_occupied  # late: few configurations save

    for cell in cells:
        if (save := cell.config.save) is None:
            continue
        if job := _writing(save, taken):
            raise ConfigError(f"save={save}: {job} is to write there; save elsewhere, or wait for its end")
        refuse_if_occupied(save, cell.config.resume)


def _writing(save: str, taken: Mapping[Identity, Queued]) -> Queued | None:
    """The job that is to write to a path."""
    return next((job for key, job in taken.items() if key[2] == save), None)


def beginning_again(swept: SweepCell, cell: Cell, taken: Mapping[Identity, Queued]) -> Cell | None:
    """What a cell of a sweep is to run when it begins again; None where it is done, or another sweep has it.

    A run that saved before it ended goes on from there.

    Args:
        swept: the cell as the sweep has it.
        cell: what it ran the last time.
        taken: jobs by what they run.

    Raises:
        ConfigError: it cannot run, or would replace the weights of another run.
    """
    config = cell.config
    if job := taken.get(swept.identity):
        print(f"launch: {swept.label}: {job} has it, and it is not submitted again", file=sys.stderr)
        return None
    if not without_done([cell], hint=""):
        return None
    check_data(config)
    if config.save is None:
        return cell
    from bench.training.checkpoint import compatibility, contents
    from bench.training.checkpoint.occupied import refuse_if_occupied, writer_at

    if job := _writing(config.save, taken):
        raise ConfigError(f"save={config.save}: {job} is to write there")
    last = writer_at(config.save)
    if last is None or last.run_id not in {one.run_id for one in swept.submissions}:
        refuse_if_occupied(config.save, config.resume)
        return cell
    compatibility.check(config.save, contents.read(config.save), config)
    print(f"launch: {swept.label} goes on from epoch {last.epoch}, which run {last.run_id} has saved", file=sys.stderr)
    return replace(cell, config=replace(config, resume=config.save))


def without_done(cells: Sequence[Cell], hint: str = "; rerun=true submits it again") -> list[Cell]:
    """Leave out configurations that have a completed row, and say so.

    Args:
        hint: what follows, where there is more to do.
    """
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
            print(f"launch: {what} {where} and is not submitted{hint}", file=sys.stderr)
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
