"""Rows of what is timed on one GPU without a training run: the net, the run's row, and files of the `kernels` table."""

import contextlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from bench.measure import code_state, machine
from bench.roofline.step import Step
from resnet.data import dataset_of_family
from results import identity
from results.store.files import attempt_name, table_files, table_path, write_once
from results.store.schema import FIGURES, SCHEMA_VERSION, Row, clean_row, to_table
from results.store.writer import RunWriter

NOT_A_RUN = "neither data nor accuracy: random images that are on the device already"


def new_run_id(step: Step, *words: str) -> str:
    """A name that no other run has and that sorts by time."""
    architecture = step.architecture
    shortcut = architecture.shortcut if architecture.shortcut != "none" else "plain"
    version = f"-{architecture.stride}" if architecture.stride != "v1" else ""
    name = "-".join((f"resnet{architecture.depth}{shortcut}{version}", step.precision, *words))
    return identity.new_run_id(name)


def run_row(step: Step, config: Mapping[str, Any], run_id: str, benchmark: str, kernels: str) -> Row:
    """What is known of a run before it starts, as columns of `runs`.

    Args:
        config: all that is measured; goes into `config_json` and `config_hash`.
        benchmark: "step" or "micro".
        kernels: of the variant; "all" where several are beside one another.
    """
    architecture = step.architecture
    ran = code_state.running()
    return {
        "run_id": run_id,
        "schema_version": SCHEMA_VERSION,
        "config_hash": identity.config_hash(config),
        "config_json": json.dumps(config, sort_keys=True),
        "git_commit": ran.commit,
        "dirty": ran.dirty,
        "snapshot": ran.snapshot,
        "family": architecture.family,
        "depth": architecture.depth,
        "shortcut": architecture.shortcut,
        "stride": architecture.stride,
        "num_classes": architecture.num_classes,
        "image_size": step.image_size,
        "kernels": kernels,
        "benchmark": benchmark,
        "loader": "synthetic",
        "synthetic": True,
        "dataset": dataset_of_family(architecture.family).name,  # whose sizes the random images have
        "precision": step.precision,
        "extension": architecture.extension,
        "batch_per_device": step.batch,
        "global_batch": step.batch,
        "bn_span": step.batch,
        "grad_accum": 1,
        "zero_stage": 0,
        "nodes": 1,
        "world_size": 1,
        "ranks_per_node": 1,
        "seed": config.get("seed"),
        "init_start": datetime.now(UTC),
    }


def open_run(root: str | Path, row: Row, device: torch.device) -> RunWriter:
    """Begin a run's rows, the machine's among them."""
    writer = RunWriter(root, row)
    system = machine.describe(device)
    writer.system(system)
    writer.update(hardware=identity.system_class(system))
    writer.update(**identity.comparability(writer.row))
    return writer


def reasons(row: Mapping[str, Any], reason: str = NOT_A_RUN) -> dict[str, str]:
    """A reason for every figure that has no value."""
    return {name: reason for name in FIGURES if row.get(name) is None}


def write_kernels(root: str | Path, run_id: str, month: str, rows: Sequence[Mapping[str, Any]]) -> Path | None:
    """Write rows of the `kernels` table as the next of the run's files: RUN.0, RUN.1 and so on, each written once.

    Args:
        month: YYYY-MM of the run.

    Returns:
        The file, None where there are no rows.

    Raises:
        ValueError: a row that does not fit the schema, or an id that cannot be a file's name.
    """
    attempt_name(run_id, 0)
    number = len(table_files(Path(root), "kernels", [run_id]))
    path = table_path(Path(root), "kernels", month, run_id, number)
    cleaned = [clean_row("kernels", {**row, "run_id": run_id}) for row in rows]
    return path if write_once(path, [to_table("kernels", cleaned)]) else None


def write_system(root: str | Path, run_id: str, month: str, row: Mapping[str, Any]) -> None:
    """Write the machine's row of a run, unless it is there."""
    cleaned = clean_row("system", {**row, "run_id": run_id, "restart": 0})
    with contextlib.suppress(FileExistsError):
        write_once(table_path(Path(root), "system", month, run_id, 0), [to_table("system", [cleaned])])
