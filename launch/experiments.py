"""The paper's experiments by name: what each shows, and its runs as words of the command line, one YAML file each."""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from bench.config import grammar
from bench.config.grammar import WordError, key
from bench.config.keys import RunKeys
from bench.config.paths import absolute
from bench.config.run_config import RunConfig
from launch.profile_file import read
from results.words import counted, nearest

__all__ = ["Experiment", "Started", "StartedKeys", "expand", "load"]

FOLDER = Path(__file__).parent / "conf" / "experiment"
VARIABLE = "RESNET_BENCH_EXPERIMENTS"
PAPER, SMALL = "paper", "small"
SCALES = (PAPER, SMALL)
KINDS = {"shows": str, "source": str, PAPER: list[str], SMALL: list[str]}
# What a person types beside a name: where and how it is run, and what becomes of it.
TYPED_ALONE = ("experiment", "scale", "cluster", "mode", "rerun", "results", "save", "resume")
# What is trained, and on what: typed with another value than the paper's, its numbers are no longer what comes out.
TRAINED = (
    "family", "depth", "shortcut", "stride", "dataset", "image_size", "num_classes", "recipe", "epochs", "steps", "lr",
    "weight_decay", "batch",
)  # fmt: skip

# Several values of these are one configuration.
TOGETHER = tuple(option.name for option in fields(RunKeys) if option.metadata["together"])
# Several values of these tell no runs apart.
NO_SWEEPS = ("repeats", *TOGETHER)

Values = Mapping[str, Sequence[Any]]


@dataclass(kw_only=True)
class StartedKeys(RunKeys):
    """The keys of a run, and by which experiment it is started."""

    experiment: str | None = key(
        f"an experiment of the paper ({', '.join(sorted(path.stem for path in FOLDER.glob('*.yaml')))}), or of one's "
        f"own in ${VARIABLE}; words beside it choose among its runs, or change them",
        "none",
    )
    scale: str | None = key(
        "how an experiment is run: as in the paper, or reduced, which is no figure of the paper's",
        PAPER,
        choices=SCALES,
        one=True,
    )

    def mark(self, config: RunConfig) -> RunConfig:
        """The configuration, with what it is started by."""
        return replace(config, experiment=self.experiment, scale=self.scale) if self.experiment else config


Keys = TypeVar("Keys", bound=StartedKeys)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as its file has it.

    Attributes:
        shows: what it is about, in one line.
        source: where that stands.
        groups: by scale, the values of each key of a group of runs; a group is the whole product of its sweeps.
    """

    name: str
    path: Path
    shows: str
    source: str
    groups: Mapping[str, Sequence[Values]]

    def swept(self, scale: str) -> dict[str, list[Any]]:
        """The keys that tell its runs apart, with all their values; what is typed of them chooses."""
        found: dict[str, list[Any]] = {}
        for group in self.groups[scale]:
            for name, values in group.items():
                known = found.setdefault(name, [])
                known += [value for value in values if value not in known]
        groups = self.groups[scale]
        # What is trained and only some groups say, such as family=one-layer, tells these from the others.
        some = {name for name in found if name in TRAINED and any(name not in group for group in groups)}
        return {name: each for name, each in found.items() if (len(each) > 1 or name in some) and name not in NO_SWEEPS}


@dataclass(frozen=True)
class Started:
    """An experiment that a command line starts.

    Attributes:
        scale: as it was asked for.
        changed: words that make its runs others than the experiment's.
    """

    experiment: Experiment
    scale: str
    changed: Sequence[str]

    def line(self, count: int) -> str:
        """What is about to be run, for a person.

        Args:
            count: of its runs.
        """
        name, shows, source = self.experiment.name, self.experiment.shows, self.experiment.source
        said = f"experiment={name} scale={self.scale}, {counted(count, 'run')}: {shows} ({source})"
        if self.scale == SMALL:
            said += "; REDUCED: its figures are not the paper's"
        elif self.changed:
            said += f"; with {' '.join(self.changed)} its figures are not the paper's, and its rows have no scale"
        return said


def files() -> dict[str, Path]:
    """Files of the known experiments by name; one in the folder of RESNET_BENCH_EXPERIMENTS hides ours."""
    folders = [FOLDER]
    if typed := os.environ.get(VARIABLE):
        folders.append(absolute(typed))
        if not folders[-1].is_dir():  # one's own file in it may have been meant to hide ours
            raise WordError(f"{VARIABLE}={typed}: no such folder; unset it for the experiments of the paper alone")
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}


def load(name: str, keys: type[StartedKeys]) -> Experiment:
    """Read an experiment.

    Args:
        keys: that its words may have.

    Raises:
        WordError: there is none of that name, or its file has what cannot be; one line with the file and the field.
    """
    known = files()
    if name not in known:
        raise WordError(
            f"experiment={name}: no such experiment in {FOLDER} or ${VARIABLE}; choose from "
            f"{', '.join(known)} (nearest: experiment={nearest(name, list(known))})"
        )
    path = known[name]
    where = f"experiment={name}: {path}"
    found = read(f"experiment={name}", path, KINDS, where=where)
    if missing := [field for field in ("shows", "source", PAPER) if field not in found]:
        raise WordError(f"{where} has no {missing[0]}; expected shows, source and paper, and small where it has one")
    groups = {scale: _groups(f"{where}: {scale}", found[scale], keys) for scale in SCALES if scale in found}
    return Experiment(name=name, path=path, shows=found["shows"], source=found["source"], groups=groups)


def _groups(where: str, lines: Sequence[str], keys: type[StartedKeys]) -> list[Values]:
    """The values of each line of words."""
    if not lines:
        raise WordError(f"{where} is empty; expected words, such as [depth=20,56 dataset=cifar10]")
    groups: list[Values] = []
    count = 0
    for number, line in enumerate(lines, 1):
        try:
            words = shlex.split(line)
            groups.append(grammar.values(words, keys))
            repeats = groups[-1].get("repeats", [1])
            count += len(grammar.product(groups[-1], keys, words)) // len(repeats) * sum(repeats)
        except ValueError as error:  # of shlex too: a quote without its end
            raise WordError(f"{where}, item {number}: {error}") from None
        if odd := [name for name in TYPED_ALONE if name in groups[-1]]:
            raise WordError(f"{where}, item {number}: {odd[0]}= is typed beside experiment=, and stands in no file")
        if count > grammar.MOST:
            raise WordError(f"{where} has more than {grammar.MOST:,} runs with item {number}; nearest is fewer items")
    return groups


def expand(argv: Sequence[str], keys: type[Keys]) -> tuple[list[Keys], list[Started]]:
    """Expand a command line, whose experiments stand for their runs.

    A typed word chooses among the runs of an experiment where they differ in its key, and changes them all elsewhere.

    Returns:
        The keys of each configuration, and the experiments.

    Raises:
        WordError: a word that cannot be used, also one that no run of an experiment has.
    """
    typed = grammar.values(argv, keys)
    names, scales = typed.pop("experiment", []), typed.pop("scale", [])
    if not names:
        if scales:
            every = ", ".join(files())
            raise WordError(f"scale={scales[0]}: is that of an experiment; add experiment=, one of {every}")
        return grammar.product(typed, keys, argv), []
    scale = scales[0] if scales else PAPER
    cells: list[Keys] = []
    started: list[Started] = []
    for name in dict.fromkeys(names):
        experiment = load(name, keys)
        if scale not in experiment.groups:
            raise WordError(f"scale={scale}: experiment={name} has no such scale in {experiment.path}; leave scale out")
        own, changed = _cells(experiment, scale, typed, argv, keys)
        cells += own
        started.append(Started(experiment, scale, changed))
    if len(cells) > grammar.MOST:
        raise WordError(f"experiment={','.join(names)}: {len(cells):,} runs; nearest is {grammar.MOST:,} at a time")
    return cells, started


def _cells(
    experiment: Experiment, scale: str, typed: Values, argv: Sequence[str], keys: type[Keys]
) -> tuple[list[Keys], list[str]]:
    """The runs of an experiment that typed values leave, and the words that change what is trained."""
    said = f"experiment={experiment.name} scale={scale}"
    swept = experiment.swept(scale)
    chosen = [name for name in typed if name in swept]
    for name in chosen:
        for value in typed[name]:
            if value not in swept[name]:
                there = ",".join(_text(name, one) for one in swept[name])
                near = _nearest(value, swept[name])
                raise WordError(
                    f"{grammar.word(name, value)}: {said} has {name}={there} (nearest: {grammar.word(name, near)})"
                )
    cells: list[Keys] = []
    changed: list[str] = []
    for group in experiment.groups[scale]:
        kept = {
            name: [value for value in values if name not in chosen or value in typed[name]]
            for name, values in group.items()
        }
        if not all(kept.values()) or any(name in TRAINED and name not in group for name in chosen):
            continue
        values = {**kept, **{name: typed[name] for name in typed if name not in chosen or name not in group}}
        # Several values are one configuration: what the experiment is about is looked at beside what was typed.
        values |= {
            name: list(dict.fromkeys((*group[name], *typed[name])))
            for name in typed
            if name in TOGETHER and name in group
        }
        for cell in grammar.product(values, keys, argv):
            others = [name for name in typed if name not in chosen and _changes(cell, name, group)]
            # What the paper has not is no figure at the paper's scale.
            mark = None if others and scale == PAPER else scale
            cells.append(replace(cell, experiment=experiment.name, scale=mark))
            changed += [name for name in others if name not in changed]
    if not cells:
        words = " ".join(f"{name}={','.join(_text(name, value) for value in typed[name])}" for name in chosen)
        raise WordError(f"{words}: no run of {said} has all of this; leave one of the words out")
    return cells, [word for word in argv if word.partition("=")[0] in changed]


def _changes(cell: StartedKeys, name: str, group: Values) -> bool:
    """Whether the value of a key makes a run train something else than its group has."""
    value = getattr(cell, name)
    matters = name in TRAINED or (name == "loader" and value == "synthetic")
    return matters and value not in group.get(name, ())


def _text(name: str, value: Any) -> str:
    """A value as it is typed."""
    return grammar.word(name, value).partition("=")[2]


def _nearest(value: Any, choices: Sequence[Any]) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return min(choices, key=lambda choice: abs(choice - value))
    return nearest(str(value), list(map(str, choices)))
