"""What one published figure is: the system, the value, and everything that it may be compared by."""

from dataclasses import dataclass
from typing import Literal

__all__ = ["ERRORS", "Net", "Published", "READ"]

Metric = Literal["top-1 error", "top-5 error", "mAP", "mAP@.5", "mAP@[.5,.95]", "parameters", "multiply-adds"]
ERRORS: tuple[Metric, ...] = ("top-1 error", "top-5 error")
# How a figure came here; shown with all but the first two.
READ: dict[str, str] = {
    "paper": "read in the paper that it is of",
    "src": "read in the authors' own files",
    "counted": "computed layer by layer from the architecture",
    "rec": "recalled: not yet checked against its source",
    "unstated": "how it was read is not recorded",
}


@dataclass(frozen=True)
class Net:
    """A network of this suite, by the columns of `runs` that say which one it is."""

    family: str
    depth: int
    shortcut: str
    stride: str = "v1"

    @property
    def name(self) -> str:
        """As the paper names it, such as "plain-34" or "ResNet-34 B"; a stride that is not the paper's is said."""
        if self.shortcut == "none":
            return f"plain-{self.depth}"
        # The paper's CIFAR nets all have shortcut A, and are named by their depth alone.
        option = "" if (self.family, self.shortcut) == ("cifar", "A") else f" {self.shortcut}"
        blocks = " one-layer" if self.family == "one-layer" else ""
        return f"ResNet-{self.depth}{blocks}{option}" + (f" {self.stride}" if self.stride != "v1" else "")


@dataclass(frozen=True, kw_only=True)
class Published:
    """One figure that somebody published.

    Attributes:
        place: where it stands: "Table 6" or "Figure 6" of the paper, or whose figure it is.
        shown_in: words of `results.paper` that show it, such as "table=6".
        system: as its authors name it.
        net: the same network in this suite; None where the suite has none that its rows could name.
        value: a fraction for errors and mAP, a number for counts; with `mean`, that of the best run.
        mean, std, runs: over repeated runs, where these are published.
        protocol: which pixels of a test image are seen; figures compare within one protocol only.
        bn: statistics of batch normalization, "running" or "exact"; None where the source does not say.
        split: images that it is of: "val", "test", or "" for a count.
        epoch: "last", or "best" for the best epoch on the test images; None where the source does not say.
        recipe: how it was trained.
        source: the paper, or a URL or repository.
        read: how it came here, one of `READ`.
        bound: "" for the value itself, "about" for one read off a picture, "above" for a lower bound.
    """

    place: str
    shown_in: tuple[str, ...]
    system: str
    net: Net | None = None
    dataset: str
    metric: Metric
    value: float
    mean: float | None = None
    std: float | None = None
    runs: int | None = None
    protocol: str
    bn: str | None = None
    split: str
    epoch: str | None = None
    recipe: str
    source: str
    read: str
    bound: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What tells it from every other figure."""
        return (self.place, self.system, self.dataset, self.metric, self.protocol, self.split, self.source)

    @property
    def is_ours(self) -> bool:
        """Whether it is of the paper's own recipe, so that a training run of this suite can repeat it."""
        return self.net is not None and self.recipe == "paper"
