"""The tables of the store: columns with fixed types, and the check that a row fits them.

Evolution: add nullable columns at the end of a table, nothing else; any other change is a new root (`v2/`). Numbers
are int64 or float64 everywhere, because readers refuse mixed widths; timestamps are UTC microseconds; fractions are
fractions, not percents. A missing number is null, never 0.0, and its reason is in `null_reasons`.
"""

import math
import numbers
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from results.store.values import (
    FLAG,
    INT,
    REAL,
    REALS,
    TEXT,
    TEXT_MAP,
    TEXTS,
    TIME,
    describe,
    is_number,
    list_of,
    real,
    text_map,
)  # fmt: skip
from results.words import nearest, suggestion

SCHEMA_VERSION = 1
Row = dict[str, Any]


def _columns(**groups: str | pa.DataType) -> pa.Schema:
    """Schema from `name=type`."""
    return pa.schema(list(groups.items()))


# Tables are read by group, so that lines stay as they are.
# fmt: off
SCHEMAS: dict[str, pa.Schema] = {
    "runs": _columns(
        run_id=TEXT, schema_version=INT, config_hash=TEXT, comparability_key=TEXT, system_id=TEXT, git_commit=TEXT,
        dirty=FLAG,
        family=TEXT, depth=INT, shortcut=TEXT, stride=TEXT, recipe=TEXT, dataset=TEXT, dataset_hash=TEXT,
        image_size=INT, num_classes=INT, kernels=TEXT, loader=TEXT, engine=TEXT, precision=TEXT, comm_dtype=TEXT,
        zero_stage=INT, grad_accum=INT, batch_per_device=INT, global_batch=INT, nodes=INT, world_size=INT, seed=INT,
        config_json=TEXT,  # the whole configuration without its paths, see results.words.PATH_KEYS
        slurm_job_id=TEXT, array_task=INT, restart_count=INT, nodelist=TEXT,
        status=TEXT, failure_kind=TEXT, failure_message=TEXT,
        init_start=TIME, init_stop=TIME, run_start=TIME, run_stop=TIME, prepare_s=REAL, downtime_s=REAL,
        target_top1=REAL, best_top1=REAL, final_top1=REAL, epochs_to_target=INT,
        tta_s=REAL,  # from before the first training data; evaluation inside
        eval_interval=INT,  # epochs
        images_per_s=REAL, step_ms_p50=REAL, step_ms_p95=REAL, data_wait_frac=REAL, flops_per_image=INT, mfu=REAL,
        peak_mem_bytes=INT, energy_j=REAL, null_reasons=TEXT_MAP,
        # beyond the specification, for honest reading
        sample=TEXT,  # which copy of the dataset was read, such as cifar10-jpeg
        synthetic=FLAG,  # no real image was read: throughput only
        extension=FLAG,  # the paper has no such net
        eval_protocol=TEXT,  # which pixels of a test image are seen; errors compare within one protocol only
        ranks_per_node=INT, lr=REAL, weight_decay=REAL,
        epochs=INT,  # planned
        steps_cap=INT,  # optimizer steps after which the run was told to stop
        epochs_completed=INT, steps_completed=INT, images_per_epoch=INT,
        warmup_steps=INT,  # leading optimizer steps left out of throughput and percentiles
        bn_span=INT,  # images over which one batch normalisation takes its statistics
        threads_per_rank=INT, loader_threads=INT,
        hardware=TEXT,  # class of system, equal on machines whose timings may be compared
        parameters=INT, multiply_adds=INT, peak_flops_per_s=REAL,
        peak_name=TEXT,  # which peak mfu is a fraction of
        elapsed_s=REAL,  # the clock of tta_s at its last reading
        active_s=REAL,  # elapsed_s without the downtime before a restart
        train_s=REAL,  # the part of it that throughput divides by
        instrumentation_s=REAL,  # spent in measuring, on rank 0
        recovered=FLAG,  # the row was made from the journal of a dead run
        cuda_graph=FLAG,  # the whole step was captured once and replayed
        choices_hash=TEXT,  # of kernels_choices: the first 16 hex digits of its SHA-256
        # What computes each convolution where kernels=triton or auto chose, as JSON with sorted keys: by name an object
        # of "forward" (torch, triton or prologue), "dgrad" and "inference" (torch or triton), and "config", which has
        # for each of the three the tile config, such as 128x64x64/w4/s3, or null where torch computes it or the kernel
        # takes its own. In older rows a sentence stands in place of the object.
        kernels_choices=TEXT,
        benchmark=TEXT,  # what the run was: training; step or micro, which time without training (`engine` is null)
        comparability_parts=TEXT,  # what comparability_key is the hash of, as JSON; see `results.identity`
        files_left_out=INT,  # of the images' folder: no images by their ending
        decoder_warnings=INT,  # decodes of damaged JPEGs, over all ranks, in which libjpeg made up pixels
        resumed_from=TEXT,  # the attempt RUN.RESTART whose checkpoint this one went on from; null: from scratch
        resumed_epoch=INT,  # epochs done in that checkpoint
        lineage=TEXT,  # the attempts that it goes on from as RUN.RESTART@EPOCHS, by blanks, the first one first
        mixed=TEXT,  # in what these were computed differently: JSON of column: values in order, null where not known
        node_shared=FLAG,  # Slurm may have run other jobs on its nodes at the same time; null where nobody asked Slurm
        slurm_gpus=TEXT,  # which GPUs of the first node Slurm gave to the job, by their numbers there
        snapshot=TEXT,  # hash of the code that ran, where it was copied at submission; null: the checkout itself
        experiment=TEXT,  # of the paper, by whose name it was started, such as table6
        scale=TEXT,  # paper: as the paper has it; small: reduced, and never shown under the paper's numbers
        activation_checkpointing=FLAG,  # true: blocks computed in the backward pass what they had not kept; else null
        resumed_step=INT,  # optimizer steps done in that checkpoint: within an epoch more than those of its epochs
    ),
    "epochs": _columns(
        run_id=TEXT, restart=INT,
        epoch=INT,  # 1 is the first
        elapsed_s=REAL,  # clock of tta_s when this epoch's evaluation had ended, before its checkpoint
        loss=REAL, top1=REAL, top5=REAL, lr=REAL,
        images=INT,  # training images of this epoch over all ranks
        eval_s=REAL, checkpoint_s=REAL,
        train_top1=REAL,  # of the training images as they were trained on: augmented, at the weights of each step
    ),
    "steps": _columns(
        run_id=TEXT, restart=INT, rank=INT, step=INT, t_ns=INT,
        step_ms=REAL,  # whole wall time of one optimizer step, the wait for its data included
        data_ms=REAL, compute_ms=REAL, comm_ms=REAL, loss=REAL,
    ),
    "system": _columns(
        system_id=TEXT, cpu_model=TEXT, cpu_cores=INT, memory_bytes=INT, gpu_model=TEXT, gpu_count=INT,
        gpu_uuids=TEXTS, gpu_memory_bytes=INT, sm_clock_max_mhz=INT, memory_clock_max_mhz=INT, power_cap_w=REAL,
        driver=TEXT,
        cuda=TEXT, cudnn=TEXT, nccl=TEXT, torch=TEXT, triton=TEXT, deepspeed=TEXT, dali=TEXT, nic=TEXT, topology=TEXT,
        os=TEXT, container_digest=TEXT,
        # beyond the specification
        run_id=TEXT, restart=INT, hostname=TEXT, hardware=TEXT, python=TEXT,
        versions=TEXT_MAP,  # other packages, by name
    ),
    "kernels": _columns(
        run_id=TEXT, op=TEXT, backend=TEXT, shape=TEXT, dtype=TEXT, layout=TEXT, l2=TEXT, samples_us=REALS, p50=REAL,
        bytes_min=INT, flops=INT,
        max_err=REAL,  # largest relative L2 error of an output, against fp64
        status=TEXT,  # ok, or what is wrong: "failed: ..." (never timed), "unavailable: ..."
        copy_bytes_per_s=REAL,  # peak measured in the same process: bytes read and written by a large copy
        matrix_flops_per_s=REAL,  # likewise: a large matrix product in the dtype
        config=TEXT,  # its tile config, such as 128x64x64/w4/s3
        predicted_us=REAL,  # of a launch in a profiled step: by its machine code; null where that model has no time
    ),
    "baselines": _columns(
        key=TEXT,  # a comparability key
        run_ids=TEXTS, accepted_by=TEXT, reason=TEXT,
        change_marks=TEXTS,  # where a series changed for a known reason: texts such as "2026-11-26 driver 580"
        baseline_id=TEXT,  # of the command that wrote the row: one for all its keys
        kind=TEXT,  # accept: the runs join the last that are accepted; pin: they are held against until another pin;
        # revert: what baseline `reverts` did is undone; retire: the key has no baseline any more
        accepted_at=TIME, reverts=TEXT,
    ),
    "pairs": _columns(
        pairs_id=TEXT,  # of the command that ran them: one for all its pairs
        pair=INT,  # 1 is the first; null, as `side` is, of a run that failed or did not count
        side=TEXT,  # a or b
        position=INT,  # in which order its runs went: 1 or 2 within the pair
        run_id=TEXT, restart=INT,
        commit=TEXT,  # of the checkout that the run was started from, whole
        words=TEXTS,  # of its command line
        allocation=TEXT,  # slurm-JOB, or local-PAIRS_ID for a command on one machine
        started=TIME,
    ),
    "evaluations": _columns(
        evaluation_id=TEXT,  # of the command that evaluated: one for all its rows
        created=TIME,
        member=INT,  # place among weights=, 1 is the first; null: the ensemble of all, whose softmax was averaged
        members=INT,  # nets that were evaluated together
        weights=TEXTS,  # SHA-256 of each file, the member's own, or all in their order
        trained_by=TEXT,  # the attempt RUN.RESTART that saved them; null: no run did, or an ensemble
        epoch=INT,  # epochs that it had done
        # Of the net; null in an ensemble where they differ.
        family=TEXT, depth=INT, shortcut=TEXT, stride=TEXT, num_classes=INT, recipe=TEXT, seed=INT,
        dataset=TEXT, dataset_hash=TEXT, sample=TEXT, image_size=INT,
        split=TEXT,  # train or test
        images=INT,  # that were evaluated
        protocol=TEXT,  # which pixels are seen, as eval_protocol of `runs`
        bn=TEXT,  # running: the momentum average of training; exact: over bn_images training images, after it
        bn_images=INT,
        top1=REAL, top5=REAL, loss=REAL,  # loss: mean cross entropy of the averaged softmax
        images_per_s=REAL, elapsed_s=REAL,  # of the whole pass, shared by its protocols and members
        precision=TEXT, kernels=TEXT, loader=TEXT, world_size=INT,
        git_commit=TEXT, dirty=FLAG, hardware=TEXT, system_id=TEXT,
    ),
    "lesions": _columns(
        evaluation_id=TEXT, created=TIME,  # of the command: one for all its rows
        weights=TEXTS, trained_by=TEXT, epoch=INT,  # as of `evaluations`
        family=TEXT, depth=INT, shortcut=TEXT, stride=TEXT, num_classes=INT, recipe=TEXT, seed=INT,
        dataset=TEXT, dataset_hash=TEXT, sample=TEXT, image_size=INT, split=TEXT, images=INT, protocol=TEXT,
        # whole: the net as it is; response: `value` is the deviation of a layer's BN output; ratio: of |F(x)|/|x| of a
        # block the mean; lesion: without it; truncation: without the last `count` of a stage; deletion: any `count`;
        # activation, output_gradient, weight_gradient: norms of a layer, see `bench.evaluation.flow`
        kind=TEXT, stage=INT, block=INT, layer=TEXT,  # 1 is the first; layer: as modules are named
        count=INT, draws=INT, value=REAL, top1=REAL,  # of a deletion the mean over draws
        cost=REAL, low=REAL, high=REAL,  # what top1 loses, with its 95% interval over images (deletion: draws)
        precision=TEXT, git_commit=TEXT, dirty=FLAG, hardware=TEXT, system_id=TEXT,
    ),
}

# Without these a file is not one of ours.
REQUIRED: dict[str, tuple[str, ...]] = {
    "runs": ("run_id", "schema_version", "restart_count", "status"),
    "epochs": ("run_id", "restart", "epoch"),
    "steps": ("run_id", "restart", "rank", "step"),
    "system": ("system_id",),
    "kernels": ("run_id", "op"),
    "baselines": ("key", "run_ids"),
    "pairs": ("pairs_id", "pair", "side", "run_id"),
    "evaluations": ("evaluation_id", "split", "protocol", "bn", "top1"),
    "lesions": ("evaluation_id", "kind", "stage", "block"),
}
STATUSES = ("completed", "failed", "killed")
# What ended a run that did not complete.
FAILURE_KINDS: dict[str, str] = {
    "data": "the training or test data cannot be read, or are not what they should be",
    "config": "what was asked for cannot be done",
    "diverged": "the training loss is not finite",
    "oom": "no memory, of the device or the host",
    "launch": "its processes could not be started",
    "rank_lost": "a rank is gone (by which signal, where that was seen) or no longer answers",
    "timeout": "a time limit was met, or a wait took too long",
    "preempted": "the cluster took the nodes away",
    "interrupted": "somebody stopped it: a signal, Ctrl-C, a closed terminal, the end of its launcher",
    "network": "ranks cannot reach each other",
    "storage": "a disk refuses",
    "unknown": "none of these: a fault of the suite, or a run that ended without a word",
}
# Of these, what comes from outside and says nothing of the run.
STOPPED_KINDS = ("preempted", "interrupted")
CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    ("runs", "status"): (*STATUSES, "running"),  # running: in journals only
    ("runs", "failure_kind"): tuple(FAILURE_KINDS),
    ("runs", "family"): ("imagenet", "cifar", "one-layer"),
    ("runs", "shortcut"): ("none", "A", "B", "C"),
    ("runs", "stride"): ("v1", "v1.5"),
    ("runs", "benchmark"): ("training", "step", "micro"),
    ("kernels", "l2"): ("warm", "cold"),
    ("baselines", "kind"): ("accept", "pin", "revert", "retire"),
    ("pairs", "side"): ("a", "b"),
    ("runs", "scale"): ("paper", "small"),
    ("evaluations", "split"): ("train", "test"),
    ("lesions", "split"): ("train", "test"),
    ("lesions", "kind"): (
        "whole", "response", "ratio", "lesion", "truncation", "deletion", "activation", "output_gradient",
        "weight_gradient",
    ),
    ("evaluations", "protocol"): ("1-crop", "10-crop", "multi-scale", "whole image"),
    ("evaluations", "bn"): ("running", "exact"),
}
# Null in a run that ended early; each then needs a reason.
FIGURES = (
    "best_top1", "final_top1", "epochs_to_target", "tta_s", "images_per_s", "step_ms_p50", "step_ms_p95",
    "data_wait_frac", "mfu", "peak_mem_bytes", "energy_j", "run_stop", "elapsed_s", "active_s", "train_s",
    "instrumentation_s", "steps_completed",
)
# fmt: on
_INT64 = range(-(2**63), 2**63)


def table_schema(table: str) -> pa.Schema:
    """Return the schema of a table.

    Raises:
        ValueError: there is no such table.
    """
    if table not in SCHEMAS:
        raise ValueError(f"{table}: no such table; did you mean {nearest(table, SCHEMAS)}?")
    return SCHEMAS[table]


def check_column(table: str, column: str) -> pa.DataType:
    """Return the type of a column.

    Raises:
        ValueError: the table or the column does not exist.
    """
    schema = table_schema(table)
    index = schema.get_field_index(column)
    if index < 0:
        near = suggestion(column, schema.names)
        hint = f"did you mean {near}?" if near else "results/store/schema.py lists them all"
        raise ValueError(f"{column}: no such column of {table}; {hint}")
    return schema.field(index).type


def clean_row(table: str, row: Mapping[str, Any]) -> Row:
    """Check one row and give its values their exact Python types (numpy scalars become int and float).

    Args:
        table: name of the table.
        row: values by column; absent columns are null. Timestamps are datetimes with a time zone.

    Returns:
        A new row with the same keys.

    Raises:
        ValueError: unknown column, wrong type, a value outside the column's choices, or a number in `runs` that is
            not finite (there a figure is known or null).
    """
    return {column: clean_value(table, column, value) for column, value in row.items()}


def clean_value(table: str, column: str, value: Any) -> Any:
    """Check one value; see `clean_row`."""
    kind = check_column(table, column)
    if value is None:
        return None
    if kind == REAL:
        cleaned: Any = real(value)
        if cleaned is not None and table == "runs" and not math.isfinite(cleaned):
            raise ValueError(f"{table}.{column}: {cleaned} is not a figure; leave it null and give a null_reason")
    elif kind == INT:
        cleaned = int(value) if is_number(value, numbers.Integral) and int(value) in _INT64 else None
    elif kind == TIME:
        cleaned = value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo is not None else None
    elif kind == FLAG:
        cleaned = value if isinstance(value, bool) else None
    elif kind == TEXT:
        cleaned = str(value) if isinstance(value, str) else None
    elif kind == TEXT_MAP:
        cleaned = text_map(value)
    else:
        cleaned = list_of(value, kind.value_type)
    if cleaned is None:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        raise ValueError(f"{table}.{column}: expected {describe(kind)}, got {shown} ({type(value).__name__})")
    choices = CHOICES.get((table, column))
    if choices and cleaned not in choices:
        raise ValueError(f"{table}.{column}: {cleaned!r} is not one of {', '.join(choices)}")
    if column == "null_reasons":
        for name in cleaned:
            check_column(table, name)
    return cleaned


def clean_column(table: str, column: str, values: list[Any]) -> list[Any]:
    """Check many values of one column; those that have the exact type already cost little."""
    kind = check_column(table, column)
    if kind == REAL and table != "runs" and set(map(type, values)) <= {float, type(None)}:
        return values
    if kind == INT and set(map(type, values)) == {int} and min(values) in _INT64 and max(values) in _INT64:
        return values
    return [clean_value(table, column, value) for value in values]


def merge(table: str, row: Mapping[str, Any], fields: Mapping[str, Any]) -> Row:
    """Return a row with checked fields laid over it; reasons for nulls add up and end when a value comes.

    Raises:
        ValueError: as `clean_row`, or a reason for a column that has a value.
    """
    fields = clean_row(table, fields)
    merged = {**row, **fields}
    new = fields.get("null_reasons") or {}
    for column in new:
        if merged.get(column) is not None:
            raise ValueError(f"{table}.null_reasons: {column} has a value ({merged[column]}), so no reason to be null")
    reasons = {**(row.get("null_reasons") or {}), **new}
    kept = {column: reason for column, reason in reasons.items() if merged.get(column) is None}
    merged["null_reasons"] = kept or None
    return merged


def to_table(table: str, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Build a table with every column of the schema from checked rows."""
    return from_columns(table, {name: [row.get(name) for row in rows] for name in table_schema(table).names}, len(rows))


def from_columns(table: str, columns: Mapping[str, Sequence[Any]], count: int) -> pa.Table:
    """Build a table with every column of the schema from checked values; absent columns are null."""
    arrays = []
    for field in table_schema(table):
        if field.name not in columns:
            arrays.append(pa.nulls(count, field.type))
            continue
        values = columns[field.name]
        if field.type == TEXT_MAP:
            values = [None if value is None else list(value.items()) for value in values]
        arrays.append(pa.array(values, type=field.type))
    return pa.table(arrays, schema=file_schema(table))


def to_rows(table: pa.Table) -> list[Row]:
    """Return a table's rows with maps as dicts."""
    return table.to_pylist(maps_as_pydicts="strict")


def file_schema(table: str) -> pa.Schema:
    """Return the schema as it is written: with the table's name and the schema's version as metadata."""
    return table_schema(table).with_metadata({"table": table, "schema_version": str(SCHEMA_VERSION)})
