"""Which nets are timed, and which ways of computing their training step are compared."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bench.config.grammar import WordError, key, parse
from bench.config.paths import check_folder
from bench.roofline.net_keys import NetKeys
from bench.roofline.step import Step
from bench.step.variants import KERNELS, Variant
from resnet.architecture import check_bn_values
from results.words import DEFAULT_ROOT


@dataclass(kw_only=True)
class Keys(NetKeys):
    """Words of the command line, behind those that name the net."""

    kernels: str | None = key("what computes the layers, in turn", "torch,compile,triton,auto", choices=KERNELS)
    graphs: bool | None = key("whether the whole step is captured as a CUDA graph, in turn", "false,true")
    rounds: int = key("turns of all variants", "10", default=10, least=2)
    steps: int = key("timed steps of each variant in a turn", "5", default=5, unit="steps", least=1)
    profile: bool = key(
        "whether each of our kernels is measured in the step, beside what its machine code predicts", "false",
        default=False, one=True,
    )  # fmt: skip
    seed: int = key("of weights and images", "0", default=0, least=0, most=2**31 - 1)
    results: str = key("folder that rows are written to", "results/v1", default=str(DEFAULT_ROOT), path=True)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One net, batch and precision, and the variants that are compared on it."""

    keys: Keys
    step: Step
    variants: tuple[Variant, ...]


def plan(words: Sequence[str]) -> list[Plan]:
    """Group a command line's cells by what variants share.

    Raises:
        WordError, ValueError: one line that names the word and what would do instead.
    """
    grouped: dict[str, list[Keys]] = {}
    for cell in parse(words, Keys):
        grouped.setdefault(repr(replace(cell, kernels=None, graphs=None)), []).append(cell)
    plans = []
    for cells in grouped.values():
        keys = replace(cells[0], results=str(check_folder("results", cells[0].results)))
        step = keys.step()
        check_bn_values(step.architecture, step.image_size, step.batch)
        typed = dict.fromkeys(cell.kernels for cell in cells)
        kernels = [one for one in typed if one] or ["torch", "compile", "triton", "auto"]
        graphs = [one for one in dict.fromkeys(cell.graphs for cell in cells) if one is not None] or [False, True]
        variants = tuple(Variant(one, graph) for graph in graphs for one in kernels)
        if keys.profile and not any(variant.launches for variant in variants):
            raise WordError("profile=true: no variant launches our kernels one by one; add kernels=triton graphs=false")
        plans.append(Plan(keys=keys, step=step, variants=variants))
    return plans
