"""Rows against the schema: what fits survives unchanged, what does not is named."""

from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pytest

from results.store import row_json, schema
from results.store.files import read_rows, table_path, write_once

ROW = {
    "run_id": "r1",
    "depth": 20,
    "dirty": True,
    "images_per_s": 1234.5,
    "mfu": None,
    "init_start": datetime(2026, 11, 22, 20, 1, 2, 345678, tzinfo=UTC),
    "null_reasons": {"mfu": "no peak known"},
}
SPECIFIED = {
    "runs": """run_id schema_version config_hash comparability_key system_id git_commit dirty family depth shortcut
        stride recipe dataset dataset_hash image_size num_classes kernels loader engine precision comm_dtype zero_stage
        grad_accum batch_per_device global_batch nodes world_size seed config_json slurm_job_id array_task restart_count
        nodelist status failure_kind failure_message init_start init_stop run_start run_stop prepare_s downtime_s
        target_top1 best_top1 final_top1 epochs_to_target tta_s eval_interval images_per_s step_ms_p50 step_ms_p95
        data_wait_frac flops_per_image mfu peak_mem_bytes energy_j null_reasons""",
    "epochs": "run_id restart epoch elapsed_s loss top1 top5 lr images eval_s checkpoint_s",
    "steps": "run_id restart rank step t_ns step_ms data_ms compute_ms comm_ms loss",
    "kernels": "run_id op backend shape dtype layout l2 samples_us p50 bytes_min flops max_err status",
    "system": "system_id gpu_uuids driver cuda cudnn nccl torch triton deepspeed dali nic topology os container_digest",
    "baselines": "key run_ids accepted_by reason",
}


@pytest.mark.parametrize("table", SPECIFIED)
def test_every_specified_column_is_there(table):
    assert set(SPECIFIED[table].split()) <= set(schema.SCHEMAS[table].names)


@pytest.mark.parametrize(
    ("table", "last"),
    [
        (
            "runs",
            [
                "files_left_out",
                "decoder_warnings",
                "resumed_from",
                "resumed_epoch",
                "lineage",
                "mixed",
                "node_shared",
                "slurm_gpus",
                "snapshot",
                "experiment",
                "scale",
                "activation_checkpointing",
                "resumed_step",
            ],
        ),  # fmt: skip
        ("kernels", ["status", "copy_bytes_per_s", "matrix_flops_per_s", "config", "predicted_us"]),
    ],
)
def test_later_columns_come_last_and_older_files_lack_them(table, last, tmp_path):
    assert schema.SCHEMAS[table].names[-len(last) :] == last
    whole = {"run_id": "r", "schema_version": 1, "restart_count": 0, "status": "completed", "op": "bn_stats"}
    row = {name: value for name, value in whole.items() if name in schema.SCHEMAS[table].names}
    older = schema.to_table(table, [row]).select(schema.SCHEMAS[table].names[: -len(last) + 1])
    write_once(table_path(tmp_path, table, "2026-11", "r", 0), [older])
    (read,), bad = read_rows(tmp_path, table)
    assert not bad and [read[name] for name in last[1:]] == [None] * (len(last) - 1)


def test_types_are_fixed_and_wide():
    kinds = {field.type for table in schema.SCHEMAS.values() for field in table}
    assert kinds == {
        schema.TEXT,
        schema.INT,
        schema.REAL,
        schema.FLAG,
        schema.TIME,
        schema.TEXTS,
        schema.REALS,
        schema.TEXT_MAP,
    }
    assert schema.SCHEMAS["runs"].field("null_reasons").type == pa.map_(pa.string(), pa.string())
    assert schema.SCHEMAS["runs"].field("run_start").type == pa.timestamp("us", tz="UTC")


def test_a_row_survives_table_and_json():
    row = schema.clean_row("runs", ROW)
    back = schema.to_rows(schema.to_table("runs", [row]))[0]
    assert {key: back[key] for key in ROW} == ROW
    assert set(back) == set(schema.SCHEMAS["runs"].names)
    assert row_json.from_json("runs", row_json.to_json("runs", row)) == ROW


def test_times_become_utc():
    at = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert schema.clean_row("runs", {"run_start": at})["run_start"] == datetime(2025, 12, 31, 23, 30, tzinfo=UTC)
    assert schema.clean_row("runs", {"run_start": at})["run_start"].tzinfo is UTC


def test_numpy_scalars_become_plain_numbers():
    numpy = pytest.importorskip("numpy")
    row = schema.clean_row("runs", {"depth": numpy.int32(20), "mfu": numpy.float32(0.5)})
    assert (type(row["depth"]), type(row["mfu"])) == (int, float)
    assert row == {"depth": 20, "mfu": 0.5}


@pytest.mark.parametrize(
    ("table", "row", "words"),
    [
        ("runs", {"dept": 20}, ["dept", "runs", "depth"]),
        ("runs", {"depth": "20"}, ["runs.depth", "int", "'20'", "str"]),
        ("runs", {"depth": 20.0}, ["runs.depth", "float"]),
        ("runs", {"depth": True}, ["runs.depth", "bool"]),
        ("runs", {"depth": 2**63}, ["runs.depth", "64 bits"]),
        ("runs", {"mfu": float("nan")}, ["runs.mfu", "null_reason"]),
        ("runs", {"mfu": "x" * 500}, ["runs.mfu", "..."]),
        ("runs", {"dirty": 1}, ["runs.dirty", "bool"]),
        ("runs", {"run_start": datetime(2026, 1, 1)}, ["runs.run_start", "time zone"]),  # noqa: DTZ001
        ("runs", {"shortcut": "D"}, ["runs.shortcut", "'D'", "none, A, B, C"]),
        ("runs", {"failure_kind": "bug"}, ["runs.failure_kind", "unknown"]),
        ("runs", {"null_reasons": {"mfu": 1}}, ["runs.null_reasons", "dict of str"]),
        ("runs", {"null_reasons": {"mfo": "no peak"}}, ["mfo", "mfu"]),
        ("system", {"gpu_uuids": "GPU-1"}, ["system.gpu_uuids", "list of str"]),
        ("kernels", {"samples_us": [1.0, "2"]}, ["kernels.samples_us", "list of floats"]),
        ("epoch", {}, ["epoch", "epochs"]),
    ],
)
def test_what_does_not_fit_is_named_in_one_line(table, row, words):
    with pytest.raises(ValueError) as caught:
        schema.clean_row(table, row)
        schema.table_schema(table)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 200
    for word in words:
        assert word in message


def test_losses_may_be_infinite_where_they_are_raw_samples():
    assert schema.clean_row("epochs", {"loss": float("inf")}) == {"loss": float("inf")}


def test_merge_adds_reasons_up_and_ends_them_with_a_value():
    row = schema.merge("runs", {}, {"null_reasons": {"mfu": "no peak known", "tta_s": "not reached"}})
    row = schema.merge("runs", row, {"tta_s": 20.0, "null_reasons": {"energy_j": "no counter"}})
    assert row["null_reasons"] == {"mfu": "no peak known", "energy_j": "no counter"}
    with pytest.raises(ValueError, match="tta_s has a value"):
        schema.merge("runs", row, {"null_reasons": {"tta_s": "not reached"}})


def test_columns_are_checked_like_rows():
    assert schema.clean_column("steps", "step_ms", [1.0, None, 2]) == [1.0, None, 2.0]
    with pytest.raises(ValueError, match="steps.step"):
        schema.clean_column("steps", "step", [1, 2**63])
    with pytest.raises(ValueError, match="steps.step_ms"):
        schema.clean_column("steps", "step_ms", [1.0, "2"])


def test_paths_leave_the_configuration():
    config = '{"depth": 20, "data": "/d", "results": "/r", "save": null, "resume": "/x"}'
    assert row_json.strip_paths(config) == '{"depth": 20}'
    with pytest.raises(ValueError, match="not JSON"):
        row_json.strip_paths("{")
    with pytest.raises(ValueError, match="list"):
        row_json.strip_paths("[]")
