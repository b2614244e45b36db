"""From a command line to checked configurations."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.config import grammar, paths
from bench.config.data_checks import check_cache, check_data
from bench.config.environment import threads_from
from bench.config.grammar import WordError, key
from bench.config.resolve import Host, resolve
from bench.config.run_config import RunConfig
from bench.config.slurm import allocation, cores_here
from launch import cluster as clusters
from launch import experiments
from launch.cluster import ClusterConfig
from launch.experiments import StartedKeys
from launch.gpus import gpus_here
from results.words import ConfigError

Program = Literal["local", "slurm"]
HERE = "this machine"
RANKS_A_CORE = 4  # of processors alone: tests may have more ranks than cores, a slip of a zero should not


@dataclass(kw_only=True)
class LaunchKeys(StartedKeys):
    """The keys of a run, of what it is started by, and of the launcher."""

    repeats: int = key("runs of each configuration, with seeds counting up from seed", "1", default=1, least=1)
    rerun: bool = key("of slurm.py: submit also what has a completed result already", "false", default=False)
    cluster: str | None = key("site profile in launch/conf/cluster or $RESNET_BENCH_CLUSTERS", "default")
    mode: str | None = key(
        "of slurm.py: submit and return; test: ask Slurm only; print: write the batch script of one configuration",
        "submit",
        choices=("print", "test", "submit"),
    )


@dataclass(frozen=True)
class Cell:
    """One configuration of a sweep, with the words it came from and where it goes."""

    keys: LaunchKeys
    config: RunConfig
    cluster: ClusterConfig | None


@dataclass(frozen=True)
class Plan:
    """A command line, whole and checked.

    Attributes:
        cells: in the order in which they run; none twice.
        notices: lines for stderr, each once.
        words: that were typed.
    """

    cells: list[Cell]
    notices: list[str]
    mode: str
    rerun: bool
    words: tuple[str, ...] = ()


def make_plan(program: Program, argv: Sequence[str]) -> Plan:
    """Compose and check the whole product of a command line.

    Raises:
        ValueError: one line that names the first word that cannot be used, and what would do instead.
    """
    typed, started = experiments.expand(argv, LaunchKeys)
    # What is submitted together is one sweep, and lies in one store.
    for name in ("mode", "rerun", *(("cluster", "results") if program == "slurm" else ())):
        if len({getattr(keys, name) for keys in typed}) > 1:
            raise WordError(f"{name}: one value for all configurations, not a sweep")
    if (count := sum(keys.repeats for keys in typed)) > grammar.MOST:
        each = max(1, grammar.MOST // len(typed))
        raise WordError(f"repeats={typed[-1].repeats}: {count:,} runs at a time; nearest is repeats={each}")
    mode, rerun = typed[0].mode or "submit", typed[0].rerun
    if program == "local" and typed[0].mode:
        raise WordError(f"mode={mode}: local.py runs at once; the modes are those of python launch/slurm.py")
    names = {keys.cluster or ("default" if program == "slurm" else None) for keys in typed}
    profiles = {name: clusters.load(name) for name in names if name}
    gpus = gpus_here() if program == "local" else 0
    notices: list[str] = []
    if program == "local":
        paths.check_temporary()
    cells: list[Cell] = []
    for keys in typed:
        cluster = profiles.get(keys.cluster or "default")
        host = _local_host(keys, cluster, gpus) if program == "local" else _slurm_host(keys, cluster, mode)
        for repeat in range(keys.repeats):
            seeded = replace(keys, seed=(keys.seed or 0) + repeat)
            config, said = _resolved(seeded, host)
            if program == "slurm":
                _check_results(config.results, mode)
                assert cluster
                cluster.check_paths(config)
            check_data(config, unpack=mode != "print")
            if program == "local":
                check_cache(config)
            cells.append(Cell(seeded, config, cluster))
            notices += said
    unique: dict[tuple[RunConfig, str | None], Cell] = {}
    for cell in cells:
        unique.setdefault((cell.config, cell.keys.cluster), cell)
    kept = list(unique.values())
    if len(kept) < len(cells):
        notices.append(f"{len(cells) - len(kept)} of {len(cells)} configurations repeat another: each is run once")
    counts = Counter(cell.config.experiment for cell in kept)
    notices = [one.line(counts[one.experiment.name]) for one in started] + notices
    saves = Counter(cell.config.save for cell in kept if cell.config.save)
    for path, count in saves.items():
        if count > 1:
            raise WordError(f"save={path}: {count} configurations would write it, each over the other; run them apart")
    for cell in kept:
        notices += _check_checkpoints(cell.config, program, mode)
    if mode == "print" and len(kept) > 1:
        raise WordError(
            f"mode=print: writes the script of one configuration, and these are {len(kept)}; one value a key"
        )
    return Plan(kept, list(dict.fromkeys(notices)), mode, rerun, tuple(argv))


def _resolved(keys: LaunchKeys, host: Host) -> tuple[RunConfig, list[str]]:
    """A configuration with what it is started by, and notices.

    Raises:
        WordError: as of `resolve`; behind an experiment, of whose words nobody has typed all.
    """
    try:
        config, said = resolve(keys, host)
    except ConfigError as error:
        if keys.experiment is None:
            raise
        raise WordError(f"experiment={keys.experiment}: {error}") from None
    return keys.mark(config), said


def _check_checkpoints(config: RunConfig, program: Program, mode: str) -> list[str]:
    """See that a run can go on from where it is told to, and save where it is told to, as far as that shows from here.

    Raises:
        CheckpointError: it cannot.
    """
    if config.save is None and config.resume is None:
        return []
    # Late: they take their time, and most command lines have neither key.
    from bench.training.checkpoint import compatibility, contents, occupied, writer

    if config.save and program == "local":  # of slurm.py's configurations some may have a job, which is to write there
        writer.refuse_if_taken(config.save)
        occupied.refuse_if_occupied(config.save, config.resume)
    if config.resume is None or (mode == "print" and not os.path.exists(config.resume)):
        return []
    found = contents.read(config.resume)
    compatibility.check(config.resume, found, config)
    return compatibility.notices(config.resume, found, config)


def _check_results(results: str, mode: str) -> None:
    """See that logs and the code of jobs can lie in the folder of rows.

    Raises:
        WordError: its name cannot be told to one of those who read it.
    """
    # Of Slurm: a backslash in the name of a log keeps it from being filled in, and there is no way to write one.
    odd = {"\n": "a line break ends a line of the batch script", "\\": clusters.NO_BACKSLASH}
    if mode != "print":
        odd[":"] = "a colon ends a folder in PYTHONPATH, and the jobs' code lies below this one"
        odd |= {f"%{letter}": f"submitit puts a number in place of %{letter}" for letter in "jtaA"}
    for text, why in odd.items():
        if text in results:
            raise WordError(f"results={results}: {why}; rename it")


def _local_host(keys: LaunchKeys, cluster: ClusterConfig | None, gpus: int) -> Host:
    if (keys.nodes or 1) > 1:
        raise WordError(f"nodes={keys.nodes}: local.py has this machine alone; nodes=1, or python launch/slurm.py")
    # The ranks will read these: what is wrong with them is better said now.
    allocation(os.environ)
    threads_from(os.environ)
    cores = cores_here(os.environ)
    if not gpus and (keys.ranks_per_node or 1) > (most := max(2, RANKS_A_CORE * cores)):
        raise WordError(
            f"ranks_per_node={keys.ranks_per_node}: {HERE} has {cores} cores and no GPU, and more than "
            f"{RANKS_A_CORE} ranks a core only wait for one another; nearest is ranks_per_node={most}"
        )
    return _host(keys, cluster, HERE, gpus)


def _slurm_host(keys: LaunchKeys, cluster: ClusterConfig | None, mode: str) -> Host:
    assert cluster
    host = _host(keys, cluster, f"a node of cluster={cluster.name}", cluster.gpus_per_node)
    return replace(host, visible=mode != "print")


def _host(keys: LaunchKeys, cluster: ClusterConfig | None, where: str, gpus: int) -> Host:
    if gpus and (keys.ranks_per_node or 1) > gpus:
        raise WordError(
            f"ranks_per_node={keys.ranks_per_node}: {where} has {gpus} GPUs; nearest is ranks_per_node={gpus}"
        )
    host = Host(ranks_per_node=gpus or 2, gpus=gpus, data=cluster.data if cluster else {})
    return replace(host, results=cluster.results) if cluster and cluster.results else host
