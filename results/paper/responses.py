"""Figure 7: how strongly the 3x3 layers of trained nets respond, plain beside residual, from the table `lesions`."""

from collections.abc import Mapping
from dataclasses import dataclass

from results.paper import fill
from results.paper.evaluated import weights_standing
from results.paper.measured import Store, finite
from results.paper.rules import Standing, marks_of, net_of
from results.published.figure import Net
from results.published.schedules import SCHEDULES
from results.store.files import read_rows
from results.store.schema import Row

__all__ = ["NETS", "TITLE", "ResponseFigure", "Responses", "build"]

TITLE = "Figure 7: standard deviations of layer responses on CIFAR-10, after BN, before ReLU and addition"
DATASET = "cifar10"
NETS = (
    Net("cifar", 20, "none"), Net("cifar", 56, "none"),
    Net("cifar", 20, "A"), Net("cifar", 56, "A"), Net("cifar", 110, "A"),
)  # fmt: skip


@dataclass(frozen=True)
class Responses:
    """The responses of one net, as one command measured them.

    Attributes:
        run_id: that trained it, or the first digits of the file's hash where no run did.
        images: over which the deviations were taken; None where not recorded.
        layers: name and standard deviation of each 3x3 layer of a block, the first one first.
    """

    net: Net
    run_id: str
    seed: int | None
    images: int | None
    stands: Standing
    marks: tuple[str, ...]
    layers: list[tuple[str, float]]

    @property
    def mean(self) -> float:
        return sum(value for _, value in self.layers) / len(self.layers)


@dataclass(frozen=True)
class ResponseFigure:
    """The figure with what was measured of its nets.

    Attributes:
        shown: of nets that were trained as the paper's were.
        apart: of copies of the images, of smaller runs and of other recipes.
        missing: commands by net that nothing is shown of.
    """

    word: str
    title: str
    shown: list[Responses]
    apart: list[Responses]
    missing: dict[Net, str]
    notes: list[str]


def build(store: Store) -> ResponseFigure:
    """Lay out the figure over a store: of each file of weights what was measured last."""
    rows, bad = read_rows(store.root, "lesions")
    runs = {row["run_id"]: row for row in store.runs}
    latest: dict[tuple[str, ...], list[Row]] = {}
    commands: dict[str, list[Row]] = {}
    for row in rows:
        if row["kind"] == "response" and row.get("dataset") == DATASET and finite(row.get("value")):
            commands.setdefault(row["evaluation_id"], []).append(row)
    for own in sorted(commands.values(), key=lambda own: str(own[0].get("created") or "")):
        latest[tuple(own[0].get("weights") or [own[0]["evaluation_id"]])] = own
    found = [one for own in latest.values() if (one := _responses(own, runs)) is not None]
    shown = [one for one in found if one.stands.kind == "paper" and not one.stands.copy]
    there = {one.net for one in shown}
    missing = {net: fill.of_responses(net, DATASET) for net in NETS if net not in there}
    notes = [f"cannot be read: {file.path}: {file.reason}" for file in [*store.bad, *bad]]
    return ResponseFigure("figure=7", TITLE, shown, [one for one in found if one not in shown], missing, notes)


def _responses(own: list[Row], runs: Mapping[str, Row]) -> Responses | None:
    """None of a net that the figure has not, or whose run does not count."""
    first = own[0]
    net, stands = net_of(first), weights_standing(first, runs)
    if net not in NETS or net is None or stands is None or first.get("split") != "test":
        return None
    run = runs.get((first.get("trained_by") or "").rpartition(".")[0], {})
    run_id = run.get("run_id") or (first.get("weights") or ["unknown"])[0][:12]
    ordered = sorted(own, key=lambda row: (row["stage"], row["block"], row.get("layer") or ""))
    marks = marks_of(run) if run else ("weights of no run",)
    marks += tuple(f"examined by {mark}" for mark in marks_of(first))
    layers = [(row.get("layer") or "?", row["value"]) for row in ordered]
    return Responses(net, run_id, run.get("seed", first.get("seed")), first.get("images"), stands, marks, layers)


def images_text(one: Responses) -> str:
    """Over which images, such as "300 of 10,000 test images"."""
    images = "an unknown number" if one.images is None else f"{one.images:,}"
    return f"{images} of {SCHEDULES[DATASET].test_images:,} test images"
