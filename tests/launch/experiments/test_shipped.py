"""Every experiment that comes with the suite has exactly these runs, written out from the paper."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from bench.config.run_config import RunConfig
from launch import experiments
from launch.plan import LaunchKeys


class Run(NamedTuple):
    """What the paper says of a run, as far as it is trained."""

    dataset: str
    shortcut: str
    depth: int
    epochs: int
    steps: int | None
    seed: int = 0
    examine: str | None = None
    family: str = "cifar"
    protocol: str | None = None


def cifar(shortcut: str, depth: int, seed: int = 0) -> Run:
    """64,000 steps of 128 images, which are 164.1 epochs."""
    return Run("cifar10", shortcut, depth, 165, 64_000, seed)


def imagenet(shortcut: str, depth: int) -> Run:
    """600,000 steps of 256 images are 120 epochs; 90 is the usual reading, by plateaus at 30 and 60."""
    return Run("imagenet", shortcut, depth, 90, None, family="imagenet", protocol="10-crop")


def small_cifar(shortcut: str, depth: int) -> Run:
    return Run("cifar10", shortcut, depth, 8, None)


def small_imagenet(shortcut: str, depth: int) -> Run:
    return Run("imagefolder", shortcut, depth, 10, None, family="imagenet", protocol="10-crop")


PAPER = {
    "table2": [imagenet("none", 18), imagenet("none", 34), imagenet("A", 18), imagenet("A", 34)],
    "figure4": [imagenet("none", 18), imagenet("none", 34), imagenet("A", 18), imagenet("A", 34)],
    "table3": [
        imagenet(shortcut, depth)._replace(protocol="10-crop,multi-scale")  # Table 4 too
        for shortcut, depth in (("A", 34), ("B", 34), ("C", 34), ("B", 50), ("B", 101), ("B", 152))
    ],
    "table6": [
        cifar("A", 20), cifar("A", 32), cifar("A", 44), cifar("A", 56), cifar("A", 110, 0), cifar("A", 110, 1),
        cifar("A", 110, 2), cifar("A", 110, 3), cifar("A", 110, 4), cifar("A", 1202),
    ],
    "figure1": [cifar("none", 20), cifar("none", 56)],
    "figure6": [
        cifar("none", 20), cifar("none", 32), cifar("none", 44), cifar("none", 56), cifar("none", 110),
        cifar("A", 20), cifar("A", 32), cifar("A", 44), cifar("A", 56), cifar("A", 110), cifar("A", 1202),
    ],
    "figure7": [
        cifar(shortcut, depth)._replace(examine="responses")
        for shortcut, depth in (("none", 20), ("none", 56), ("A", 20), ("A", 56), ("A", 110))
    ],
    "depth": [cifar("A", depth)._replace(examine="responses,lesions") for depth in (20, 56, 110)],
    "one-layer": [
        cifar("none", 20), cifar("none", 56), cifar("A", 20)._replace(family="one-layer"),
        cifar("A", 56)._replace(family="one-layer"), cifar("A", 20), cifar("A", 56),
    ],
    "gradient-flow": [
        cifar(shortcut, depth)._replace(examine="gradient-flow")
        for shortcut in ("none", "A")
        for depth in (20, 56, 110)
    ],
}  # fmt: skip
SMALL = {
    "table2": [
        small_imagenet("none", 18), small_imagenet("none", 34), small_imagenet("A", 18), small_imagenet("A", 34),
    ],
    "figure4": [
        small_imagenet("none", 18), small_imagenet("none", 34), small_imagenet("A", 18), small_imagenet("A", 34),
    ],
    "table3": [
        small_imagenet(shortcut, depth)._replace(protocol="10-crop,multi-scale")
        for shortcut, depth in (("A", 34), ("B", 34), ("C", 34), ("B", 50))
    ],
    "table6": [small_cifar("A", 20), small_cifar("A", 56)],
    "figure1": [small_cifar("none", 20), small_cifar("none", 56)],
    "figure6": [small_cifar("none", 20), small_cifar("none", 56), small_cifar("A", 20), small_cifar("A", 56)],
    "figure7": [
        small_cifar(shortcut, depth)._replace(examine="responses") for shortcut in ("none", "A") for depth in (20, 56)
    ],
    "depth": [small_cifar("A", depth)._replace(examine="responses,lesions") for depth in (20, 56)],
    "one-layer": [
        small_cifar("none", 20), small_cifar("none", 56), small_cifar("A", 20)._replace(family="one-layer"),
        small_cifar("A", 56)._replace(family="one-layer"), small_cifar("A", 20), small_cifar("A", 56),
    ],
    "gradient-flow": [
        small_cifar(shortcut, depth)._replace(examine="gradient-flow")
        for shortcut in ("none", "A")
        for depth in (20, 56)
    ],
}  # fmt: skip


def run_of(config: RunConfig) -> Run:
    """The run of a configuration that is, in all else, as the paper has it."""
    cifar_like = config.dataset == "cifar10"
    assert (config.recipe.name, config.stride, config.lr, config.weight_decay) == ("paper", "v1", 0.1, 1e-4)
    assert config.global_batch == (128 if cifar_like else 256)
    assert config.image_size == {"cifar10": 32, "imagenet": 224, "imagefolder": 112}[config.dataset]
    assert config.loader == "dali" and config.architecture.extension == (config.family == "one-layer")
    assert config.recipe.augment == "paper"
    assert config.recipe.cold_lr == (0.01 if cifar_like and config.depth >= 110 else None)
    # Of 1202 layers the activations of a batch would fill a GPU: it is the one net that computes them twice.
    assert config.activation_checkpointing == (True if config.depth == 1202 else None)
    assert config.kernels == "torch" or config.depth != 1202
    assert (config.bn, config.bn_images) == (None, None)
    most = 10_000 if config.examine == "responses" and config.epochs == 165 else None
    assert config.examine_images == most
    return Run(
        config.dataset, config.shortcut, config.depth, config.epochs, config.steps, config.seed, config.examine,
        config.family, config.protocol,
    )  # fmt: skip


def test_these_are_all() -> None:
    there = {path.stem for path in experiments.FOLDER.glob("*.yaml")}
    assert there == set(PAPER) == set(SMALL)


@pytest.mark.parametrize(
    ("name", "scale", "runs"),
    [(name, scale, runs[name]) for scale, runs in (("paper", PAPER), ("small", SMALL)) for name in runs],
)
def test_an_experiment_has_exactly_these_runs(plan: Any, images: Path, name: str, scale: str, runs: list[Run]) -> None:
    for program in ("local", "slurm"):
        where = "" if program == "local" else " ranks_per_node=2"
        found = plan(f"experiment={name} scale={scale} data={images}{where}", program)
        assert [run_of(cell.config) for cell in found.cells] == runs
        assert {(cell.config.experiment, cell.config.scale) for cell in found.cells} == {(name, scale)}
        assert not any("repeat another" in notice for notice in found.notices)


def test_the_paper_s_scale_is_the_default(plan: Any, images: Path) -> None:
    cells = plan(f"experiment=figure1 data={images}").cells
    assert [run_of(cell.config) for cell in cells] == PAPER["figure1"]
    assert {cell.config.scale for cell in cells} == {"paper"}


# Where in which paper what is no table or figure of it stands.
PLACES = {
    "depth": "Veit et al., NIPS 2016, arXiv:1605.06431, section 4; the nets of arXiv:1512.03385, section 4.2",
    "one-layer": "He et al., CVPR 2016, arXiv:1512.03385, section 3.2",
    "gradient-flow": "He et al., CVPR 2016, arXiv:1512.03385, section 4.1",
}


@pytest.mark.parametrize("name", PAPER)
def test_a_file_says_what_it_shows_and_where_that_stands(name: str) -> None:
    experiment = experiments.load(name, LaunchKeys)
    if name in PLACES:
        assert experiment.source == PLACES[name]
        return
    number = f"{name[:-1].capitalize()} {name[-1]}"
    assert experiment.source.startswith("He et al., CVPR 2016, ") and experiment.source.endswith(f", {number}")
    assert experiment.path.read_text().startswith(f"# {number}")
    assert ("respond" if name == "figure7" else "error") in experiment.shows


@pytest.mark.parametrize("name", PAPER)
def test_without_images_it_is_refused_and_never_run_on_synthetic_ones(plan: Any, name: str) -> None:
    for scale in ("paper", "small"):
        groups = experiments.load(name, LaunchKeys).groups[scale]
        assert all(group["loader"] == ["dali"] for group in groups)  # none is left to find out what there is
        with pytest.raises(ValueError, match=f"^experiment={name}: .*add data=PATH"):
            plan(f"experiment={name} scale={scale}")
