"""How far signals reach in plain and residual nets, from the table `lesions`: norms of activations and of gradients.

The paper (section 4.1) says of plain nets with BN that their forward signals have variances that are not zero and their
gradients healthy norms, so that vanishing gradients are not what makes deep ones train worse. It shows no figure of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from results.paper import fill
from results.paper.evaluated import run_standing
from results.paper.layers import DATASET, Examined, LayerFigure, by_command, in_order, unfinished_notes
from results.paper.measured import Store, finite
from results.paper.rules import also, marks_of, net_of
from results.published.figure import Net
from results.store.schema import Row
from results.words import counted

__all__ = ["KINDS", "NETS", "TITLE", "WORD", "Flow", "FlowFigure", "Look", "build", "kind_text"]

WORD = "gradient-flow"
TITLE = "Norms of activations and gradients by layer on CIFAR-10: section 4.1 of the paper has no figure of them"
KINDS = ("activation", "output_gradient", "weight_gradient")
NETS = tuple(Net("cifar", depth, shortcut) for shortcut in ("none", "A") for depth in (20, 56, 110))


@dataclass(frozen=True)
class Look:
    """The norms of a net after one epoch.

    Attributes:
        images: of the batch; None where not recorded.
        layers: names, the first one first.
        norms: by kind, one a layer; None where it is not finite or not recorded.
    """

    epoch: int
    images: int | None
    layers: list[str]
    norms: dict[str, list[float | None]]

    def smallest(self, kind: str) -> tuple[float, str] | None:
        """The smallest norm, and its layer; None where no layer has one."""
        known = [(norm, name) for norm, name in zip(self.norms[kind], self.layers, strict=True) if norm is not None]
        return min(known, key=lambda one: one[0], default=None)


@dataclass(frozen=True, kw_only=True)
class Flow(Examined):
    """One run of a net, by the last attempt that looked after each epoch.

    Attributes:
        looks: the earliest epoch first; 0 is before training.
        no_start: why there is none before training; "" where there is.
    """

    looks: list[Look]
    no_start: str

    @property
    def before(self) -> Look | None:
        """The one before training."""
        return self.looks[0] if self.looks[0].epoch == 0 else None

    @property
    def after(self) -> Look | None:
        """The last one, unless that is before training."""
        return self.looks[-1] if self.looks[-1].epoch else None


class FlowFigure(LayerFigure[Flow]):
    """The figure with what was measured of its nets."""


def build(store: Store) -> FlowFigure:
    """Lay out the figure over a store."""
    commands, more = by_command(store, KINDS, "train")
    runs = {row["run_id"]: row for row in store.runs}
    attempts: list[tuple[str, int, list[Row]]] = []
    strange = 0
    for own in commands:
        run_id, _, restart = (own[0].get("trained_by") or "").rpartition(".")
        if run_id and restart.isdecimal() and own[0].get("epoch") is not None:
            attempts.append((run_id, int(restart), own))
        else:
            strange += 1
    latest: dict[str, dict[int, list[Row]]] = {}
    # Of one attempt the command that came last: sorting keeps their order.
    for run_id, _, own in sorted(attempts, key=lambda one: one[1]):
        latest.setdefault(run_id, {})[own[0]["epoch"]] = own
    found = [one for run_id, epochs in latest.items() if (one := _flow(run_id, epochs, runs)) is not None]
    notes = unfinished_notes((epochs[max(epochs)][0] for epochs in latest.values()), NETS, runs)
    notes += [f"{counted(strange, 'measurement')} of no attempt or epoch, not shown"] if strange else []
    notes += more
    found.sort(key=lambda one: NETS.index(one.net))
    fills = {net: fill.of_flow(net, DATASET) for net in NETS}
    whole = [one for one in found if one.before is not None]
    return FlowFigure.of(f"figure={WORD}", TITLE, fills, found, whole, notes)


def _flow(run_id: str, epochs: Mapping[int, list[Row]], runs: Mapping[str, Row]) -> Flow | None:
    """None of a net that the figure has not, or whose run does not count."""
    last = max(epochs)
    first, run = epochs[last][0], runs.get(run_id, {})
    net, stands = net_of(first), run_standing(first, runs)
    if net not in NETS or net is None or stands is None:
        return None
    if run and last != run.get("epochs_completed"):
        whole = run.get("epochs_completed") or "unknown"
        # What followed another recipe stays with it: it is no smaller run of the paper's.
        stands = also(stands, "reduced", f"looked at up to epoch {last} of {whole}")
    marks = dict.fromkeys(marks_of(run) if run else ())
    for own in epochs.values():
        marks |= dict.fromkeys(f"examined by {mark}" for mark in marks_of(own[0]) if mark not in marks)
    no_start = ""
    if 0 not in epochs:
        resumed = run.get("resumed_from")
        no_start = "not looked at before training" + (f": it goes on from {resumed}" if resumed else "")
    return Flow(
        net=net, run_id=run_id, seed=run.get("seed", first.get("seed")), stands=stands, marks=tuple(marks),
        looks=[_look(epoch, own) for epoch, own in sorted(epochs.items())], no_start=no_start,
    )  # fmt: skip


def _look(epoch: int, own: list[Row]) -> Look:
    layers = list(dict.fromkeys(row.get("layer") or "?" for row in in_order(own)))
    norms: dict[str, list[float | None]] = {}
    for kind in KINDS:
        known = {row.get("layer") or "?": row["value"] for row in own if row["kind"] == kind and finite(row["value"])}
        norms[kind] = [known.get(name) for name in layers]
    return Look(epoch, own[0].get("images"), layers, norms)


def kind_text(kind: str) -> str:
    """A kind of norm in words, such as "output gradient"."""
    return kind.replace("_", " ")
