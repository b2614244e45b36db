"""Which configurations are handed to Slurm together, and as what: arrays of those that need the same resources."""

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from submitit.slurm.slurm import _make_sbatch_string

from bench.config import grammar
from launch.batch.options import sbatch_options, srun
from launch.batch.script import BatchError, Refusal, cluster_of, test
from launch.batch.shell import this_job
from launch.plan import Cell, LaunchKeys
from launch.sweep.account import SlurmError, call

__all__ = [
    "FULL",
    "JOB_FILE",
    "LABEL_FILE",
    "Group",
    "array_script",
    "check",
    "grouped",
    "labels",
    "most_tasks",
    "part",
]

JOB_FILE = "job.pkl"  # what a job runs, in the folder of its logs
LABEL_FILE = "cell.txt"  # which one it is, as the first line of its log says
# Of what Slurm says where it takes no more jobs now, and would take them later.
FULL = re.compile(r"MaxSubmit|job submit limit")


@dataclass(frozen=True)
class Group:
    """Configurations of equal resources.

    Attributes:
        name: of their jobs.
        places: of their cells in the plan.
        cells: the same.
        labels: the words of each, see `labels`.
    """

    name: str
    places: tuple[int, ...]
    cells: tuple[Cell, ...]
    labels: tuple[str, ...]

    @property
    def resources(self) -> str:
        """What each of its jobs has."""
        return resources(self.cells[0])

    def __str__(self) -> str:
        label, first = self.labels[0], self.resources
        words = [label, *(word for word in first.split() if word not in label.split())]
        more = f" (and {len(self.cells) - 1} more)" if len(self.cells) > 1 else ""
        return " ".join(words) + more


def resources(cell: Cell) -> str:
    return f"nodes={cell.config.nodes} ranks_per_node={cell.config.ranks_per_node}"


def labels(cells: Sequence[Cell]) -> list[str]:
    """Return the words in which each of some configurations differs from the others; its name where there are none."""
    names = [option.name for option in fields(LaunchKeys) if option.name not in ("repeats", "rerun", "mode", "scale")]
    varied = [name for name in names if len({repr(getattr(cell.keys, name)) for cell in cells}) > 1]
    return [
        " ".join(grammar.word(name, getattr(cell.keys, name)) for name in varied) or cell.config.name()
        for cell in cells
    ]


def grouped(cells: Sequence[Cell], named: Sequence[str]) -> list[Group]:
    """Put together what differs for Slurm in nothing.

    Args:
        named: labels of the cells.
    """
    found: dict[str, list[int]] = {}
    for place, cell in enumerate(cells):
        options = sbatch_options(cell.config, cluster_of(cell), "", "") | {"job_name": None}
        found.setdefault(repr((options, srun(cell.config, cluster_of(cell)))), []).append(place)
    return [
        Group(
            _name([cells[place] for place in places]),
            tuple(places),
            tuple(cells[place] for place in places),
            tuple(named[place] for place in places),
        )
        for places in found.values()
    ]


def _name(cells: Sequence[Cell]) -> str:
    """What the jobs of a group are called: the net where there is one, the images, and nodes x ranks of each."""
    names = {cell.config.name() for cell in cells}
    if len(cells) == 1:
        return names.pop()
    images = {name.partition("-")[2] for name in names}
    common = names if len(names) == 1 else images if len(images) == 1 else {"sweep"}
    return f"{common.pop()}-{cells[0].config.nodes}x{cells[0].config.ranks_per_node}"


def check(group: Group) -> str:
    """Ask Slurm whether it could ever run the jobs of a group.

    Returns:
        What it says.

    Raises:
        BatchError: it could not; with the nearest number of nodes, or of ranks on each, that it could run.
    """
    cell = group.cells[0]
    try:
        return test(cell)
    except Refusal as refusal:
        if FULL.search(str(refusal)):
            return str(refusal)
        said = str(refusal)
    for name in ("nodes", "ranks_per_node"):
        asked = getattr(cell.config, name)

        def runs(number: int, name: str = name) -> bool:
            changed: dict[str, Any] = {name: number}
            try:
                test(replace(cell, config=replace(cell.config, **changed)))
            except (Refusal, ValueError):  # such as a global batch that does not split
                return False
            return True

        if near := _most(runs, asked):
            said += f"; nearest is {name}={near}"
            break
    raise BatchError(f"{group}: {said}; nothing was submitted")


def _most(holds: Callable[[int], bool], above: int) -> int:
    """The largest number from 1 on below a limit for which something holds; 0 where it does not hold for 1."""
    if above < 2 or not holds(1):
        return 0
    least = 1
    while above - least > 1:
        middle = (least + above) // 2
        least, above = (middle, above) if holds(middle) else (least, middle)
    return least


def most_tasks() -> int:
    """Return how many tasks an array of this cluster may have: it limits their numbers, which begin at 0.

    Raises:
        BatchError: it does not say.
    """
    try:
        said = call("scontrol", "show", "config")
    except SlurmError as error:
        raise BatchError(f"how large an array may be is not known ({error})") from None
    found = re.search(r"^MaxArraySize\s*=\s*([0-9]+)", said, re.M)
    if not found:
        raise BatchError("how large an array may be is not known (scontrol show config says no MaxArraySize)")
    return max(1, int(found[1]))


def part(group: Group, begin: int, end: int) -> Group:
    """Return some of a group's configurations."""
    return replace(group, places=group.places[begin:end], cells=group.cells[begin:end], labels=group.labels[begin:end])


def array_script(group: Group, folder: Path, root: Path) -> str:
    """The batch script of an array, or of the one job where there is one configuration alone.

    Args:
        folder: has a folder for each task, by its number, with the file of its job; that of a single job is its own.
        root: of the code that the jobs run.
    """
    cell, array = group.cells[0], len(group.cells) > 1
    config, cluster = cell.config, cluster_of(cell)
    logs = shlex.quote(str(folder)) + ('/"$SLURM_ARRAY_TASK_ID"' if array else "")
    # Patterns of Slurm's; a % of the folder's name is none.
    output = str(folder).replace("%", "%%") + ("/%a/%x-%A_%a.out" if array else "/%x-%j.out")
    options = sbatch_options(config, cluster, logs, output, root=root, array=array)
    options["job_name"] = group.name
    options["setup"] += [
        f'cat "$LOGS/{LABEL_FILE}"',
        # Where submitit looks for it. All else of a job lies there before it is submitted: whoever submits may be
        # killed as soon as Slurm has it.
        f'ln -sf {JOB_FILE} "$LOGS/{this_job(array)}"_submitted.pkl',
    ]
    return _make_sbatch_string(
        command=f'{srun(config, cluster, root=root, array=array)} -u -m submitit.core._submit "$LOGS"',
        folder=folder,
        use_srun=False,
        map_count=len(group.cells) if array else None,
        array_parallelism=len(group.cells),
        **options,
    )
