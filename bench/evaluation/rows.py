"""Rows of `evaluations`: what nets came to by which protocol."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.evaluation.nets import Net
from bench.evaluation.softmax import Figures
from bench.measure import machine, revision
from resnet.data import Splits
from results.identity import new_run_id, system_class
from results.store.files import table_path, write_once
from results.store.schema import Row, clean_row, to_table

__all__ = ["rows_of", "write"]

_OF_NET = ("family", "depth", "shortcut", "stride", "num_classes")


def rows_of(
    nets: Sequence[Net],
    found: Mapping[tuple[str, int | None], Figures],
    *,
    bn: str,
    bn_images: int | None,
    elapsed_s: float,
) -> list[Row]:
    """Rows of one pass over the images: of each member, and of the ensemble.

    Args:
        found: by protocol and member, see `softmax.Totals`.
        bn: "running" or "exact".
        bn_images: over which the exact statistics were taken; None where they were not.
        elapsed_s: of the pass.
    """
    rows = []
    for (protocol, member), figures in found.items():
        chosen = nets if member is None else [nets[member]]
        row: Row = {
            "member": None if member is None else member + 1,
            "members": len(nets),
            "weights": [net.sha256 for net in chosen],
            "protocol": protocol, "bn": bn, "bn_images": bn_images,
            "images": figures.images, "top1": figures.top1, "top5": figures.top5, "loss": figures.loss,
            "elapsed_s": elapsed_s, "images_per_s": figures.images / elapsed_s,
        }  # fmt: skip
        if member is not None:
            row |= {"trained_by": chosen[0].attempt, "epoch": chosen[0].epoch}
        row |= _shared([_of_net(net) for net in chosen])
        rows.append(row)
    return rows


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


def write(
    root: Path, rows: Sequence[Row], splits: Splits, *, dataset: str, split: str, image_size: int, precision: str,
    device: torch.device,
) -> str:  # fmt: skip
    """Write the rows of a command.

    Args:
        root: the store.
        rows: from `rows_of`.
        dataset: its name; `splits` says which copy of it was read.
        split: "test" or "train".

    Returns:
        The evaluation's id.

    Raises:
        OSError: the disk refuses; nothing was written.
    """
    system, code = machine.describe(device), revision.running()
    whole = {
        "evaluation_id": new_run_id("evaluation"), "created": datetime.now(UTC),
        "dataset": dataset, "dataset_hash": splits.hash, "sample": splits.name, "split": split,
        "image_size": image_size, "precision": precision, "kernels": "torch", "loader": "pil", "world_size": 1,
        "git_commit": code.commit, "dirty": code.dirty,
        "hardware": system_class(system), "system_id": system["system_id"],
    }  # fmt: skip
    month = f"{datetime.now(UTC):%Y-%m}"
    path = table_path(root, "evaluations", month, whole["evaluation_id"], 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_once(path, [to_table("evaluations", [clean_row("evaluations", whole | row) for row in rows])])
    return str(whole["evaluation_id"])
