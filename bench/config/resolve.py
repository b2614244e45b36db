"""Fills in what was not typed of a run's keys, from the dataset, the recipe and the host, and checks the whole."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from bench.config import grammar, paths
from bench.config.data_checks import classes_in
from bench.config.grammar import WordError
from bench.config.keys import DEFAULT_DATASET, RunKeys
from bench.config.run_config import RunConfig
from resnet.architecture import IMAGENET_STAGES
from resnet.data import DATA_VARIABLE, DATASETS, DataError, Dataset, dataset_in_environment
from resnet.recipe import Recipe
from resnet.recipe import load as load_recipe
from results.words import DEFAULT_ROOT, PATH_KEYS


@dataclass(frozen=True, kw_only=True)
class Host:
    """Where a run happens, as far as it decides about keys that nobody typed.

    Attributes:
        ranks_per_node: GPUs of a machine there, or what stands in for them.
        gpus: of a machine there; None where nobody knows.
        data: folder by dataset.
        results: folder for rows.
        visible: whether its file system can be looked at from here.
    """

    ranks_per_node: int
    gpus: int | None = None
    data: Mapping[str, str] = field(default_factory=dict)
    results: str = str(DEFAULT_ROOT)
    visible: bool = True


def resolve(keys: RunKeys, host: Host) -> tuple[RunConfig, list[str]]:
    """Fill in what was not typed, from the dataset, the recipe and the host, and check the whole.

    Returns:
        The configuration, and one-line notices of what was decided that a person would want to know.

    Raises:
        WordError: one line that names the word and what would do instead.
    """
    dataset = DATASETS[keys.dataset] if keys.dataset else DEFAULT_DATASET
    family = keys.family or dataset.family
    depth = _depth(keys, family)
    recipe = load_recipe(keys.recipe or "fast", dataset.name, family, depth)
    loader, data, notices = _images(keys, dataset, host)
    synthetic = loader == "synthetic"
    if synthetic and keys.target is not None:
        raise WordError(f"target={keys.target:g}: synthetic images have no accuracy; leave target out, or loader=dali")
    nodes, ranks = keys.nodes or 1, keys.ranks_per_node or host.ranks_per_node
    grad_accum = keys.grad_accum or 1
    batch = keys.batch or _batch(recipe, nodes, ranks, grad_accum)
    lr = recipe.lr
    if recipe.reference_batch:
        lr *= batch * grad_accum * nodes * ranks / recipe.reference_batch
    config = RunConfig(
        family=family,
        depth=depth,
        shortcut=keys.shortcut or ("B" if family == "imagenet" else "A"),
        stride=keys.stride or "v1",
        kernels=_kernels(keys, host),
        dataset=dataset.name,
        data=data,
        image_size=keys.image_size or dataset.image_size,
        num_classes=_num_classes(keys, dataset, data, host),
        loader=loader,
        recipe=recipe,
        epochs=keys.epochs or (1 if synthetic else recipe.epochs),
        steps=keys.steps or (None if keys.epochs else recipe.steps),
        lr=lr if keys.lr is None else keys.lr,
        weight_decay=recipe.weight_decay if keys.weight_decay is None else keys.weight_decay,
        target=None if synthetic else keys.target or recipe.target,
        batch=batch,
        grad_accum=grad_accum,
        engine=keys.engine or "deepspeed",
        zero_stage=keys.zero_stage or 0,
        precision=keys.precision or "bf16",
        seed=keys.seed or 0,
        nodes=nodes,
        ranks_per_node=ranks,
        results=str(paths.check_folder("results", keys.results or host.results, visible=host.visible)),
        save=paths.weights_file(keys.save, visible=host.visible) if keys.save else None,
        resume=paths.existing("resume", keys.resume, visible=host.visible) if keys.resume else None,
        loader_threads=keys.loader_threads,
        protocol=keys.protocol,
        bn=keys.bn,
        bn_images=keys.bn_images,
        examine=keys.examine,
        examine_images=keys.examine_images,
        activation_checkpointing=keys.activation_checkpointing or None,  # false is what it is without the word
    )
    return config, notices


def words(keys: RunKeys, config: RunConfig) -> list[str]:
    """Words that resolve to `config` anywhere, once nodes= is added: what was typed and what the host decided."""
    values = {option.name: getattr(keys, option.name) for option in fields(RunKeys)}
    decided = (*PATH_KEYS, "dataset", "kernels", "loader", "ranks_per_node", "seed")
    values |= {name: getattr(config, name) for name in decided}
    if DATASETS[config.dataset].counted:
        values["num_classes"] = config.num_classes
    return [grammar.word(name, value) for name, value in values.items() if value is not None and name != "nodes"]


def _depth(keys: RunKeys, family: str) -> int:
    if keys.depth is None:
        raise WordError("depth is missing: add depth=50 (ImageNet), or depth=20 dataset=digits; --help lists every key")
    guessed = keys.dataset is None and keys.family is None
    if guessed and keys.depth not in IMAGENET_STAGES and keys.depth % 6 == 2:
        depths = ", ".join(map(str, IMAGENET_STAGES))
        fitting = " or ".join(f"dataset={dataset.name}" for dataset in DATASETS.values() if dataset.family == "cifar")
        raise WordError(
            f"depth={keys.depth}: a depth of the cifar family; add {fitting} "
            f"(dataset={DEFAULT_DATASET.name}, the default, has depths {depths})"
        )
    return keys.depth


def _kernels(keys: RunKeys, host: Host) -> str:
    """What computes the layers: on GPUs whatever is measured to be fastest."""
    if keys.kernels is None:
        return "auto" if host.gpus and not keys.activation_checkpointing else "torch"
    if host.gpus == 0 and keys.kernels == "auto":
        raise WordError("kernels=auto: chooses by timing kernels on a GPU, and there is none; nearest is kernels=torch")
    if host.gpus == 0 and keys.kernels == "triton" and os.environ.get("TRITON_INTERPRET") != "1":
        raise WordError(
            "kernels=triton: there is no GPU, and Triton's interpreter is for tests (minutes a step, its times mean "
            "nothing); nearest is kernels=torch, or TRITON_INTERPRET=1 in the environment to interpret all the same"
        )
    return keys.kernels


def _images(keys: RunKeys, dataset: Dataset, host: Host) -> tuple[str, str | None, list[str]]:
    """Loader, folder and notices."""
    loader = keys.loader or "dali"
    if dataset.comes_with:
        if keys.data:
            source = f"the {dataset.name} come with {dataset.comes_with}"
            holds = "dataset=cifar10, or dataset=imagefolder for class folders of one's own"
            raise WordError(f"data={keys.data}: {source}; leave data out, or say what it holds: {holds}")
        return loader, None, []
    if keys.data is None and loader == "synthetic" and not dataset.counted:
        return loader, None, []
    known = keys.data or host.data.get(dataset.name)
    if folder := known or _in_environment(dataset.name):
        folder = paths.existing("data", folder, visible=host.visible)
        if not os.path.exists(folder):
            return loader, folder, [f"data={folder} is not on this machine; it is taken as it stands"]
        # A folder of the dataset's own name is what one expects to be read.
        expected = known or Path(folder).name == dataset.name
        return loader, folder, [] if expected else [f"dataset={dataset.name}: data={folder}, of ${DATA_VARIABLE}"]
    if dataset.counted and keys.num_classes is None:
        raise WordError(f"dataset={dataset.name}: add data=PATH (or loader=synthetic num_classes=N)")
    if loader == "synthetic":
        return loader, None, []
    missing = f"no images of {dataset.name} in the site profile or ${DATA_VARIABLE}"
    for name in ("loader", "target", "loader_threads", "protocol", "bn", "examine"):  # who types one wants images
        if (value := getattr(keys, name)) is not None:
            raise WordError(f"{grammar.word(name, value)}: {missing}; add data=PATH")
    notice = f"{missing}: measuring throughput on synthetic images (loader=synthetic); time-to-accuracy needs data=PATH"
    return "synthetic", None, [notice]


def _in_environment(dataset: str) -> str | None:
    try:
        found = dataset_in_environment(dataset)
    except DataError as error:
        raise WordError(str(error)) from None
    return str(found) if found else None


def _num_classes(keys: RunKeys, dataset: Dataset, data: str | None, host: Host) -> int:
    source = f"dataset={dataset.name}"
    known = None if dataset.counted else dataset.num_classes
    if known is None and data is not None and (os.path.isdir(data) or host.visible):
        known = classes_in(dataset.name, data)
        source = f"data={data}"
    if known is None and keys.num_classes is None:
        raise WordError(f"data={data}: not on this machine, so its classes cannot be counted; add num_classes=N")
    if known is not None and keys.num_classes not in (None, known):
        raise WordError(f"num_classes={keys.num_classes}: {source} has {known}; leave num_classes out")
    return known or keys.num_classes or 0


def _batch(recipe: Recipe, nodes: int, ranks: int, grad_accum: int) -> int:
    if not recipe.batch_is_global:
        return recipe.batch
    world = nodes * ranks
    share, rest = divmod(recipe.batch, world * grad_accum)
    if rest or not share:
        sizes = [size for size in range(1, recipe.batch + 1) if recipe.batch % (size * grad_accum) == 0]
        fitting = ", ".join(map(str, sizes)) if sizes else "none"
        raise WordError(
            f"recipe={recipe.name}: its global batch of {recipe.batch} does not split over nodes={nodes} x "
            f"ranks_per_node={ranks} x grad_accum={grad_accum}; world sizes that divide: {fitting} (or give batch=)"
        )
    return share
