"""Figure 7: how strongly the 3x3 layers of trained nets respond, plain beside residual, from the table `lesions`."""

from collections.abc import Mapping
from dataclasses import dataclass

from results.paper import fill
from results.paper.evaluated import attempt_of, precision_marks, weights_standing
from results.paper.layers import DATASET, Examined, LayerFigure, by_command, in_order, unfinished_notes
from results.paper.measured import Store, finite
from results.paper.rules import marks_of, net_of, run_of
from results.published.figure import Net
from results.published.schedules import SCHEDULES
from results.store.schema import Row

__all__ = ["NETS", "TITLE", "ResponseFigure", "Responses", "build"]

TITLE = "Figure 7: standard deviations of layer responses on CIFAR-10, after BN, before ReLU and addition"
NETS = (
    Net("cifar", 20, "none"), Net("cifar", 56, "none"),
    Net("cifar", 20, "A"), Net("cifar", 56, "A"), Net("cifar", 110, "A"),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Responses(Examined):
    """The responses of one net, as one command measured them.

    Attributes:
        images: over which the deviations were taken; None where not recorded.
        layers: name and standard deviation of each 3x3 layer of a block, the first one first.
    """

    images: int | None
    layers: list[tuple[str, float]]

    @property
    def mean(self) -> float:
        return sum(value for _, value in self.layers) / len(self.layers)


class ResponseFigure(LayerFigure[Responses]):
    """The figure with what was measured of its nets."""


def build(store: Store) -> ResponseFigure:
    """Lay out the figure over a store: of each net, at one image size, what was measured last."""
    commands, notes = by_command(store, ["response"], "test")
    runs = {row["run_id"]: row for row in store.runs}
    latest: dict[tuple[int, str], list[Row]] = {}
    for rows in commands:
        if own := [row for row in rows if finite(row.get("value"))]:
            first = own[0]
            size = first.get("image_size") or SCHEDULES[DATASET].image_size
            # A run that examines itself without save= has no file; saved and examined again it is the same net.
            of = attempt_of(first) or " ".join(first.get("weights") or [first["evaluation_id"]])
            latest[(size, of)] = own
    found = [one for own in latest.values() if (one := _responses(own, runs)) is not None]
    notes += unfinished_notes((own[0] for own in latest.values()), NETS, runs)
    fills = {net: fill.of_responses(net, DATASET) for net in NETS}
    return ResponseFigure.of("figure=7", TITLE, fills, found, found, notes)


def _responses(own: list[Row], runs: Mapping[str, Row]) -> Responses | None:
    """None of a net that the figure has not, or whose run does not count."""
    first = own[0]
    net, stands = net_of(first), weights_standing(first, runs)
    if net not in NETS or net is None or stands is None:
        return None
    run = runs.get(run_of(first), {})
    run_id = run.get("run_id") or (first.get("weights") or ["unknown"])[0][:12]
    marks = marks_of(run) if run else ("weights of no run",)
    marks += tuple(f"examined by {mark}" for mark in marks_of(first))
    marks += precision_marks(first, run or {"precision": "fp32"}, "examined")
    layers = [(row.get("layer") or "?", row["value"]) for row in in_order(own)]
    return Responses(
        net=net, run_id=run_id, seed=run.get("seed", first.get("seed")), images=first.get("images"), stands=stands,
        marks=marks, layers=layers,
    )  # fmt: skip
