"""What makes two runs comparable, what names them, and what must change neither."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from results import identity
from results.store.files import read_rows
from results.words import RECORD_ROOT, ConfigError

CONFIG = {
    "depth": 20, "dataset": "cifar10", "batch": 64, "lr": 0.1, "seed": 1, "kernels": "auto", "nodes": 2,
    "recipe": {"name": "fast", "label_smoothing": 0.1}, "data": "/d", "results": "/r", "save": None, "resume": None,
}  # fmt: skip
SYSTEM = {
    "gpu_count": 8, "gpu_model": "NVIDIA H100", "cpu_cores": 16, "cpu_model": "EPYC", "torch": "2.13.0+cpu",
    "deepspeed": "0.19.8", "dali": "2.4.0", "python": "3.11.7", "hostname": "node1", "driver": "570",
}  # fmt: skip
ROW: dict[str, Any] = {
    "run_id": "r1", "config_json": json.dumps(CONFIG), "hardware": identity.system_class(SYSTEM),
    "dataset_hash": "d1", "sample": "cifar10", "choices_hash": "c1", "threads_per_rank": 4, "loader_threads": 4,
    "engine": "deepspeed", "benchmark": "training", "images_per_s": 10.0, "git_commit": "a", "restart_count": 0,
    "nodelist": "node[1-2]", "status": "completed",
}  # fmt: skip


def configured(**changes: Any) -> dict[str, Any]:
    return {**ROW, "config_json": json.dumps({**CONFIG, **changes})}


def on(**changes: Any) -> dict[str, Any]:
    return {**ROW, "hardware": identity.system_class({**SYSTEM, **changes})}


# A row that may not be compared with ROW, and the part that says why.
OTHERS = {
    "a key": (configured(depth=32), "configuration.depth", "depth 20 against 32"),
    "a key of the recipe": (
        configured(recipe={"name": "fast", "label_smoothing": 0.0}),
        "configuration.recipe.label_smoothing",
        "label_smoothing 0.1 against 0.0",
    ),
    "a further key": (configured(extra=1), "configuration.extra", "extra nothing against 1"),
    "content of the data": ({**ROW, "dataset_hash": "d2"}, "data.hash", "data hash d1 against d2"),
    "copy of the data": ({**ROW, "sample": "cifar10-jpeg"}, "data.sample", "data sample cifar10 against cifar10-jpeg"),
    "GPU": (on(gpu_model="NVIDIA A100"), "processors", "processors 8xNVIDIA H100 against 8xNVIDIA A100"),
    "number of GPUs": (on(gpu_count=4), "processors", "processors 8xNVIDIA H100 against 4xNVIDIA H100"),
    "no GPU": (on(gpu_count=0), "processors", "processors 8xNVIDIA H100 against 16xEPYC"),
    "torch": (on(torch="2.14.1"), "software.torch", "torch 2.13 against 2.14"),
    "DeepSpeed": (on(deepspeed="0.20.0"), "software.deepspeed", "deepspeed 0.19 against 0.20"),
    "no DeepSpeed": (on(deepspeed=None), "software.deepspeed", "deepspeed 0.19 against None"),
    "DALI": (on(dali="3.0"), "software.dali", "dali 2.4 against 3.0"),
    "Python": (on(python="3.12.1"), "software.python", "python 3.11 against 3.12"),
    "threads of a rank": ({**ROW, "threads_per_rank": 1}, "threads.per_rank", "threads per_rank 4 against 1"),
    "threads of the loader": ({**ROW, "loader_threads": 2}, "threads.loader", "threads loader 4 against 2"),
    "kernels chosen": ({**ROW, "choices_hash": "c2"}, "kernels", "kernels c1 against c2"),
    "no kernels chosen": ({**ROW, "choices_hash": None}, "kernels", "kernels c1 against nothing"),
    "nodes with others": ({**ROW, "node_shared": True}, "node_shared", "node_shared nothing against true"),
    "benchmark": ({**ROW, "benchmark": "step"}, "benchmark", "benchmark training against step"),
}
SAME = {
    "seed": configured(seed=2),
    "no seed": configured(seed=None),
    "paths": configured(data="/e", results="/s", save="/w", resume="/w"),
    "order of keys": {**ROW, "config_json": json.dumps(dict(reversed(CONFIG.items())), indent=1)},
    "patch releases": on(torch="2.13.1", deepspeed="0.19.9", dali="2.4.7", python="3.11.9"),
    "host and driver": on(hostname="node2", driver="580"),
    "processor beside GPUs": on(cpu_model="Xeon", cpu_cores=64),
    "figures": {**ROW, "images_per_s": 99.0, "status": "killed", "restart_count": 3},
    "commit and place": {**ROW, "git_commit": "b", "nodelist": "node3", "run_id": "r2"},
    "nodes of its own": {**ROW, "node_shared": False},
    "nodes that nobody asked about": {**ROW, "node_shared": None, "slurm_gpus": "0-3"},
    "threads asked for": configured(loader_threads=4),
    "an older row": {key: value for key, value in ROW.items() if key != "benchmark"},
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_changes_comparability_and_which_part_says_so(name: str) -> None:
    row, part, shown = OTHERS[name]
    mine, other = identity.parts_of(ROW), identity.parts_of(row)
    assert identity.key_of(mine) != identity.key_of(other)
    found = identity.first_difference(mine, other)
    assert found is not None and (found.part, str(found)) == (part, shown)


@pytest.mark.parametrize("name", SAME)
def test_what_must_not_change_comparability(name: str) -> None:
    assert identity.comparability(SAME[name]) == identity.comparability(ROW)
    assert identity.first_difference(identity.parts_of(ROW), identity.parts_of(SAME[name])) is None


def test_keys_differ_from_one_another() -> None:
    keys = [identity.key_of(identity.parts_of(row)) for row, _, _ in OTHERS.values()]
    assert len(set(keys)) == len(keys)


def test_the_first_part_in_their_order_is_named() -> None:
    other = {**configured(depth=32, lr=1.0), "dataset_hash": "d2", "benchmark": "step"}
    found = identity.first_difference(identity.parts_of(ROW), identity.parts_of(other))
    assert found is not None and found.part == "benchmark"
    other["benchmark"] = "training"
    assert identity.first_difference(identity.parts_of(ROW), identity.parts_of(other)).part == "configuration.depth"  # type: ignore[union-attr]


def test_an_empty_part_differs_from_one_that_has_something() -> None:
    found = identity.first_difference({"software": {}}, {"software": {"torch": "2.13"}})
    assert found is not None and found.part == "software"


def test_the_columns_are_the_parts_and_their_hash() -> None:
    found = identity.comparability(ROW)
    parts = json.loads(found["comparability_parts"])
    assert parts == identity.parts_of(ROW) and parts["version"] == identity.PARTS_VERSION == 2
    assert found["comparability_key"] == identity.key_of(parts) and len(found["comparability_key"]) == 16
    assert "/d" not in found["comparability_parts"] and "seed" not in parts["configuration"]


@pytest.mark.parametrize(
    ("config_json", "said"), [(None, "has no configuration"), ("[]", "list, expected an object"), ("{", "is not JSON")]
)
def test_a_row_without_a_configuration_is_refused_by_name(config_json: str | None, said: str) -> None:
    with pytest.raises(ValueError, match=f"^run r1: .*{said}"):
        identity.parts_of({**ROW, "config_json": config_json})


def test_a_class_of_system_in_other_words_is_one_part() -> None:
    parts = identity.parts_of({**ROW, "hardware": "a cluster"})
    assert (parts["processors"], parts["software"]) == ("a cluster", {})
    assert identity.parts_of({**ROW, "hardware": None})["processors"] is None


def test_the_system_class_names_processors_and_versions() -> None:
    assert identity.system_class(SYSTEM) == "8xNVIDIA H100;torch2.13,deepspeed0.19,dali2.4;python3.11"
    assert identity.system_class({**SYSTEM, "gpu_count": 0}).startswith("16xEPYC;")
    assert identity.parts_of(ROW)["software"] == {
        "torch": "2.13", "deepspeed": "0.19", "dali": "2.4", "python": "3.11"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("row", "benchmark"),
    [
        ({"benchmark": "micro", "engine": None}, "micro"),
        ({"benchmark": "training", "engine": "ddp"}, "training"),
        ({"engine": "step"}, "step"),
        ({"engine": "micro", "benchmark": None}, "micro"),
        ({"engine": "deepspeed"}, "training"),
        ({}, "training"),
    ],
)
def test_what_a_run_was(row: dict[str, Any], benchmark: str) -> None:
    assert identity.benchmark_of(row) == benchmark


def test_recorded_rows_have_parts_although_they_lack_the_column() -> None:
    rows, bad = read_rows(RECORD_ROOT, "runs")
    assert rows and not bad
    for row in rows:
        parts = identity.parts_of(row)
        assert parts["data"]["hash"] == row["dataset_hash"] and parts["software"]["torch"]
        named = next((kind for kind in ("step", "micro") if f"-{kind}-" in row["run_id"]), "training")
        assert parts["configuration"]["depth"] == row["depth"] and parts["benchmark"] == named


def test_the_configuration_s_hash_has_the_seed_and_no_paths() -> None:
    base = identity.config_hash(CONFIG)
    assert len(base) == 16 and int(base, 16) >= 0
    # Launchers leave out what has a completed row with this hash: it is the same in rows of all ages.
    assert base == "75930b89023a080b"
    assert identity.config_hash({**CONFIG, "data": "/e", "results": "/s", "save": "/w", "resume": "/w"}) == base
    for change in ({"seed": 2}, {"depth": 32}, {"extra": None}, {"recipe": {"name": "paper"}}):
        assert identity.config_hash({**CONFIG, **change}) != base


def test_system_id_is_of_the_content_alone() -> None:
    row = {"cpu_model": "x", "gpu_uuids": ["GPU-1"]}
    assert identity.system_id(row) == identity.system_id({"run_id": "a", "restart": 1, "system_id": "s", **row})
    assert identity.system_id(row) == identity.system_id(dict(reversed(row.items())))
    assert identity.system_id(row) != identity.system_id({**row, "torch": "2"})
    assert identity.system_id(row) == "6757d96ef0b4d0d2"  # as rows of all ages have it


def test_run_ids_are_unique_and_sort_by_time() -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    first, second = identity.new_run_id("resnet20A", "step"), identity.new_run_id("resnet20A", "step")
    assert first != second and first[15:-8] == "-resnet20A-step-"
    made = datetime.strptime(first[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    assert before <= made <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("environment", "job"),
    [
        ({"SLURM_JOB_ID": "77"}, "77"),
        ({"SLURM_JOB_ID": "71", "SLURM_ARRAY_JOB_ID": "70", "SLURM_ARRAY_TASK_ID": "2"}, "70_2"),
    ],
)
def test_a_job_names_its_run_the_same_on_every_rank(environment: dict[str, str], job: str) -> None:
    assert identity.slurm_run_id("resnet20A-digits", "0123456789abcdef", environment) == (
        f"resnet20A-digits-01234567-job{job}"
    )


def test_a_process_outside_of_slurm_has_no_job() -> None:
    with pytest.raises(ConfigError, match="^SLURM_JOB_ID is missing"):
        identity.slurm_run_id("resnet20A-digits", "0123456789abcdef", {})
