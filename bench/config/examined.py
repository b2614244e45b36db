"""What a run may be asked to find out about its net besides training it: the keys `protocol`, `bn` and `examine`."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.config.grammar import WordError
from resnet.data import DATASETS

__all__ = [
    "BN_IMAGES", "EXAMINATIONS", "EXAMINE_IMAGES", "FLOW_IMAGES", "STATISTICS", "Examined", "check_counts",
    "check_protocols", "examined", "lost_with",
]  # fmt: skip

STATISTICS = ("running", "exact")  # of batch normalization
EXAMINATIONS = ("responses", "lesions", "gradient-flow")
# How many images are looked at where nobody says it, or as many as there are.
BN_IMAGES, EXAMINE_IMAGES, FLOW_IMAGES = 2048, 1000, 128


class Asked(Protocol):
    """The words of a configuration that are read here, as of `RunConfig`."""

    @property
    def dataset(self) -> str: ...
    @property
    def loader(self) -> str: ...
    @property
    def world_size(self) -> int: ...
    @property
    def protocol(self) -> str | None: ...
    @property
    def bn(self) -> str | None: ...
    @property
    def bn_images(self) -> int | None: ...
    @property
    def examine(self) -> str | None: ...
    @property
    def examine_images(self) -> int | None: ...
    @property
    def save(self) -> str | None: ...
    @property
    def data(self) -> str | None: ...
    @property
    def precision(self) -> str: ...
    @property
    def results(self) -> str: ...


@dataclass(frozen=True)
class Examined:
    """The same, split and filled in.

    Attributes:
        protocols: by which the trained net is evaluated at the end; empty where it is not.
        statistics: of batch normalization, in the order in which a net can have them: exact ones take the place of
            those that were trained.
        bn_images: training images for the exact ones, at most.
        examinations: of `EXAMINATIONS`.
        examine_images: test images for responses and lesions, at most.
        flow_images: training images for the gradient's flow, at most: one batch, of which all activations are kept in
            fp32.
    """

    protocols: tuple[str, ...]
    statistics: tuple[str, ...]
    bn_images: int
    examinations: tuple[str, ...]
    examine_images: int
    flow_images: int

    @property
    def after_training(self) -> bool:
        """Whether anything is looked at once training is over."""
        return bool(self.protocols) or bool({"responses", "lesions"} & set(self.examinations))


def examined(asked: Asked) -> Examined:
    """Split and fill in what was asked for.

    Raises:
        WordError: it cannot be done, or would do nothing; one line that names the word and what would do instead.
    """
    protocols, statistics, examinations = map(_parts, (asked.protocol, asked.bn, asked.examine))
    check_protocols(asked.dataset, protocols)
    words = {"protocol": asked.protocol, "bn": asked.bn, "examine": asked.examine}
    if asked.loader == "synthetic":
        for name, text in words.items():
            if text is not None:
                raise WordError(f"{name}={text}: loader=synthetic has no images to look at; leave {name} out")
    if asked.bn_images is not None and "exact" not in statistics:
        raise WordError(f"bn_images={asked.bn_images}: is for bn=exact; add bn=exact, or leave bn_images out")
    if asked.bn_images is not None and asked.bn_images < 2 * asked.world_size:
        raise WordError(
            f"bn_images={asked.bn_images}: each of {asked.world_size} ranks takes two or more; nearest is "
            f"bn_images={2 * asked.world_size}"
        )
    if asked.examine_images is not None and not examinations:
        raise WordError(f"examine_images={asked.examine_images}: is for examine=; add one of {', '.join(EXAMINATIONS)}")
    if statistics and not protocols:
        protocols = (DATASETS[asked.dataset].eval_protocol,)
    return Examined(
        protocols=protocols,
        statistics=tuple(name for name in STATISTICS if name in (statistics or ("running",))),
        bn_images=asked.bn_images or BN_IMAGES,
        examinations=examinations,
        examine_images=asked.examine_images or EXAMINE_IMAGES,
        flow_images=min(asked.examine_images or FLOW_IMAGES, FLOW_IMAGES),
    )


def check_counts(asked: Asked, *, train: int, test: int) -> None:
    """See that there are as many images as were typed; where none were, all there are will do.

    Args:
        train, test: images of the splits.

    Raises:
        WordError: there are fewer; names the nearest number.
    """
    for name, number, split, most in (
        ("bn_images", asked.bn_images, "training", train),
        ("examine_images", asked.examine_images, "test", test),
    ):
        if number is not None and number > most:
            raise WordError(f"{name}={number}: there are {most} {split} images; nearest is {name}={most}")


def lost_with(asked: Asked) -> str:
    """Return the commands that find out about saved weights what a run did not come to, or that there are none."""
    if asked.save is None:
        return "what it was to find out about its net is lost, since its weights were not saved (save=)"
    found = examined(asked)
    of = [f"weights={asked.save}", *([f"data={asked.data}"] if asked.data else [])]
    of += [f"precision={asked.precision}", f"results={asked.results}"]
    commands = []
    if found.protocols:
        words = [f"protocol={','.join(found.protocols)}", f"bn={','.join(found.statistics)}"]
        words += [f"bn_images={asked.bn_images}"] if asked.bn_images is not None else []
        commands.append(shlex.join(["python", "-m", "bench.evaluate", *of, *words]))
    if {"responses", "lesions"} & set(found.examinations):
        known = 0 if DATASETS[asked.dataset].counted else DATASETS[asked.dataset].test_images
        images = asked.examine_images or min(EXAMINE_IMAGES, known)
        commands.append(shlex.join(["python", "-m", "bench.depth", *of, *([f"images={images}"] if images else [])]))
    return f"what it did not come to is found by {' && '.join(commands)}"


def check_protocols(dataset: str, protocols: Sequence[str]) -> None:
    """See that a dataset's images can be evaluated by some protocols.

    Raises:
        WordError: names the first that they cannot be evaluated by, and those that would do.
    """
    fitting = DATASETS[dataset].protocols
    for name in protocols:
        if name not in fitting:
            near = f"'{fitting[0]}'" if " " in fitting[0] else fitting[0]
            raise WordError(
                f"protocol={name}: images of {dataset} are evaluated by {', '.join(fitting)} (nearest: protocol={near})"
            )


def _parts(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(text.split(","))
