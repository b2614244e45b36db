"""Rows of `evaluations` and `lesions`: what nets came to by which protocol, and what is known of their blocks."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bench.evaluation.lesions import Cut, Examination, place_of
from bench.evaluation.nets import Net
from bench.evaluation.softmax import Figures
from bench.evaluation.task import Setting, Subject
from bench.evaluation.verdict import Cost
from bench.measure import machine, revision
from resnet.data import Split
from results.identity import new_run_id, system_class
from results.store.files import table_path, write_once
from results.store.schema import Row, clean_row, to_table

__all__ = ["hashes", "lesion_rows", "of_nets", "rows_of", "title", "write"]

_OF_NET = ("family", "depth", "shortcut", "stride", "num_classes")


def rows_of(
    nets: Sequence[Net],
    found: Mapping[tuple[str, int | None], Figures],
    *,
    bn: str,
    bn_images: int | None,
    elapsed_s: float,
    world_size: int = 1,
) -> list[Row]:
    """Rows of one pass over the images: of each member, and of the ensemble.

    Args:
        found: by protocol and member, see `softmax.Totals`.
        bn: "running" or "exact".
        bn_images: over which the exact statistics were taken; None where they were not.
        elapsed_s: of the pass.
        world_size: ranks that shared it.
    """
    rows = []
    for (protocol, member), figures in found.items():
        chosen = nets if member is None else [nets[member]]
        row: Row = {
            "member": None if member is None else member + 1,
            "members": len(nets),
            "weights": hashes(chosen),
            "protocol": protocol, "bn": bn, "bn_images": bn_images,
            "images": figures.images, "top1": figures.top1, "top5": figures.top5, "loss": figures.loss,
            "elapsed_s": elapsed_s, "images_per_s": figures.images / elapsed_s,
            "kernels": "torch", "loader": "pil", "world_size": world_size,
        }  # fmt: skip
        rows.append(row | of_nets(chosen))
    return rows


def hashes(nets: Sequence[Net]) -> list[str] | None:
    """The hashes of nets' files; None where one of them has no file."""
    found = [net.sha256 for net in nets if net.sha256 is not None]
    return found if len(found) == len(nets) else None


def of_nets(nets: Sequence[Net]) -> Row:
    """What is known of a net, or alike of all of an ensemble, as columns."""
    row = _shared([_of_net(net) for net in nets])
    return row if len(nets) > 1 else row | {"trained_by": nets[0].attempt, "epoch": nets[0].epoch}


def _of_net(net: Net) -> dict[str, Any]:
    architecture = net.model.architecture
    seed = net.words.get("seed", "")
    return {
        **{name: getattr(architecture, name) for name in _OF_NET},
        "recipe": net.words.get("recipe"),
        "seed": int(seed) if seed.isdecimal() else None,
    }


def _shared(each: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The values that all have alike; None where they differ."""
    return {name: value if all(one[name] == value for one in each) else None for name, value in each[0].items()}


def lesion_rows(found: Examination, known: Mapping[Cut, Cost]) -> list[Row]:
    """Rows of `lesions`, without what they all share.

    Args:
        known: from `verdict.costs`.
    """
    whole = float(found.right[None].mean())
    made: list[Row] = [{"kind": "whole", "stage": 0, "block": 0, "top1": whole}]
    for layer, deviation in found.responses.items():
        place = place_of(layer)
        made.append(
            {"kind": "response", "stage": place.stage, "block": place.block, "layer": layer, "value": deviation}
        )
    for place, ratio in found.ratios.items():
        made.append({"kind": "ratio", "stage": place.stage, "block": place.block, "layer": place.name, "value": ratio})
    for cut, cost in known.items():
        made.append({
            "kind": cut.kind, "stage": cut.places[0].stage,
            "block": 0 if cut.kind == "deletion" else cut.places[0].block,
            "count": len(cut.places), "draws": cost.draws or None, "top1": whole - cost.mean,
            "cost": cost.mean, "low": cost.low, "high": cost.high,
        })  # fmt: skip
    return made


def title(of: Subject) -> str:
    """What was examined on, as the head of a table."""
    return f"{of.splits.name}, {of.images:,} {of.split.name} images, {of.image_size} pixels, {of.precision}"


def new_id(table: str) -> str:
    """An id for the rows of a command in `evaluations` or `lesions`."""
    return new_run_id(table.removesuffix("s"))


def write(of: Setting, split: Split, table: str, rows: Sequence[Row], evaluation_id: str, part: int = 0) -> None:
    """Write the rows of a command, or of a run's examination of its net, or a part of them.

    Args:
        split: whose images were looked at.
        table: `evaluations` or `lesions`.
        rows: without what they all share, which is added.
        evaluation_id: of `new_id`.
        part: which of several under the same id, 0 for the first.

    Raises:
        OSError: the disk refuses; nothing was written.
    """
    system, code = machine.describe(of.device), revision.running()
    now = datetime.now(UTC)
    whole = {
        "evaluation_id": evaluation_id, "created": now,
        "dataset": of.dataset, "dataset_hash": of.splits.hash, "sample": of.splits.name, "split": split.name,
        "image_size": of.image_size, "precision": of.precision,
        "git_commit": code.commit, "dirty": code.dirty,
        "hardware": system_class(system), "system_id": system["system_id"],
    }  # fmt: skip
    path = table_path(of.results, table, f"{now:%Y-%m}", evaluation_id, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_once(path, [to_table(table, [clean_row(table, whole | row) for row in rows])])
