"""What would fill a missing cell: commands, in words that they take today, or why there are none."""

from collections.abc import Iterable

from results.published.figure import Net, Published
from results.published.schedules import SCHEDULES

__all__ = ["FIVE", "of_figure", "of_flow", "of_net", "of_responses", "wanted_seeds"]

FIVE = 5  # runs, of which the paper shows the best with mean and deviation


def wanted_seeds(published: Published | None) -> range:
    """Seeds that a cell is made of."""
    return range(FIVE if published is not None and (published.runs or 1) >= FIVE else 1)


def of_net(net: Net, dataset: str, seeds: Iterable[int] = (0,), *, save: bool = False) -> str:
    """Return the command that trains a net of the paper as the paper did."""
    words = [f"depth={net.depth}", f"dataset={dataset}", f"shortcut={net.shortcut}"]
    # The other two families follow from the dataset.
    words += [f"family={net.family}"] if net.family == "one-layer" else []
    words += [f"stride={net.stride}"] if net.stride != "v1" else []
    words += ["recipe=paper", f"seed={','.join(map(str, seeds))}", "data=PATH"]
    words += ["save=WEIGHTS.safetensors"] if save else []
    return f"python launch/local.py {' '.join(words)}"


def of_responses(net: Net, dataset: str) -> str:
    """Return the commands that train a net and measure the responses of its layers."""
    return f"{of_net(net, dataset, save=True)} && python -m bench.depth weights=WEIGHTS.safetensors data=PATH"


def of_flow(net: Net, dataset: str) -> str:
    """Return the command that trains a net, and measures the norms of its layers before and meanwhile."""
    return f"{of_net(net, dataset)} examine=gradient-flow"


def of_figure(published: Published, have: Iterable[int] = ()) -> str:
    """Return what would fill the cell of a published figure.

    Args:
        have: seeds that are there.

    Returns:
        Commands, or in brackets why nothing in this suite can fill it.
    """
    net = published.net
    if published.metric in ("parameters", "multiply-adds"):
        if net is None:
            return "(counted; launch/ starts no such network)"
        dataset = SCHEDULES[published.dataset].dataset
        words = f"depth={net.depth} dataset={dataset} shortcut={net.shortcut} loader=synthetic steps=1"
        return f"python launch/local.py {words}"
    if published.protocol == "detection":
        return "(this suite trains no detector)"
    if published.split == "test" and published.dataset == "imagenet":
        return "(the labels of ImageNet's test images are not published)"
    if net is None:
        return "(launch/ starts no such network)"
    if published.epoch == "best":
        return "(best epoch on the test images: nothing here is chosen so)"
    if published.place == "torchvision":
        stride = f" stride={net.stride}" if net.stride != "v1" else ""
        return _evaluate(published, f" dataset={published.dataset}{stride}")
    if not published.is_ours:
        return f"(another recipe: {published.recipe})"
    own = published.protocol == SCHEDULES[published.dataset].protocol and published.bn in (None, "running")
    missing = [seed for seed in wanted_seeds(published) if seed not in set(have)]
    command = of_net(net, published.dataset, missing, save=not own)
    return command if own else f"{command} && {_evaluate(published)}"


def _evaluate(published: Published, more: str = "") -> str:
    """The command that evaluates saved weights by the protocol of a published figure."""
    bn = f" bn={published.bn}" if published.bn else ""
    return f"python -m bench.evaluate weights=WEIGHTS.safetensors data=PATH protocol={published.protocol}{bn}{more}"
