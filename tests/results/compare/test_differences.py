"""In what two sides differ: systems, layers, commits and settings."""

import json
import re
from typing import Any


def names(differences: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in differences]


def test_equal_systems_are_said_to_be_equal_and_nothing_equal_is_listed(tmp_path, add, run, compared):
    add(tmp_path, "one"), add(tmp_path, "two", images_per_s=900.0)
    status, out, _ = run("one", "two", f"results={tmp_path}")
    assert status == 0 and "Systems are equal" in out and "node" not in out
    assert "Commits and settings" not in out and "auto chose" not in out
    found = compared("one", "two", results=tmp_path)
    assert found["systems"] == found["settings"] == found["cells"][0]["differs"] == found["cells"][0]["choices"] == []


def test_every_part_of_a_system_that_differs_is_listed(tmp_path, add, compared):
    changes = {
        "driver": "580", "cuda": "13.0", "cudnn": "9.2", "nccl": "2.29", "torch": "2.14.0", "triton": "3.9",
        "deepspeed": "0.20", "dali": "2.5", "python": "3.12.1", "os": "Linux 7", "container_digest": "sha256:1",
        "sm_clock_max_mhz": 1980, "memory_clock_max_mhz": 2619, "power_cap_w": 650.0, "topology": "NV18", "nic": "mlx5",
        "cpu_model": "Xeon", "cpu_cores": 96, "gpu_model": "H200", "gpu_count": 4, "memory_bytes": 2**39,
        "gpu_memory_bytes": 2**37, "versions": {"numpy": "2.1", "scipy": "1.14"},
    }  # fmt: skip
    add(tmp_path, "one"), add(tmp_path, "two", system=changes | {"hostname": "other", "gpu_uuids": ["GPU-1"]})
    found = compared("one", "two", results=tmp_path)
    assert set(names(found["systems"])) == set(changes) - {"versions"} | {"versions.numpy"}
    by_name = {one["name"]: (one["a"], one["b"]) for one in found["systems"]}
    assert by_name["power_cap_w"] == ({"700.0": 1}, {"650.0": 1})
    assert by_name["nccl"] == ({"unknown": 1}, {"2.29": 1})


def test_a_side_of_several_systems_says_how_many_runs_have_each_value(stores, add, run, compared):
    a, b = stores
    add(b, "b3", system={"driver": "590.0"}, config={"seed": 3})
    assert compared(a, b)["systems"][0]["b"] == {"580.2": 3, "590.0": 1}
    assert re.search(r"^driver +570.1 +580.2 \(3\), 590.0 \(1\)$", run(a, b)[1], flags=re.MULTILINE)


def test_runs_without_a_row_of_system_are_said_and_told_apart_by_their_own_rows(tmp_path, add, run, compared):
    add(tmp_path, "one"), add(tmp_path, "two", hardware="8xH100;torch2.14,deepspeed0.19,dali2.4;python3.11")
    next((tmp_path / "system").rglob("two*")).unlink()
    found = compared("one", "two", results=tmp_path)
    assert found["runs_without_system"] == {"a": [], "b": ["two"]}
    assert {"name": "software.torch", "a": {"2.13": 1}, "b": {"2.14": 1}} in found["settings"]
    out = run("one", "two", f"results={tmp_path}")[1]
    assert "B: 1 of 1 runs have no row of their system" in out and "Systems are unknown" in out


def layer(forward: str, tiles: str | None) -> dict[str, Any]:
    tile_configs = {"forward": tiles, "dgrad": None, "inference": None}
    return {"forward": forward, "dgrad": "torch", "inference": "torch", "config": tile_configs}


def test_layers_for_which_another_kernel_was_chosen_are_listed(tmp_path, add, compared, run):
    before = {"stem": layer("torch", None), "stage2.0": layer("triton", "64x64x64/w4/s3"), "fc": layer("torch", None)}
    after = before | {"stage2.0": layer("triton", "128x64x64/w4/s3"), "fc": layer("prologue", None)}
    add(tmp_path, "one", choices_hash="1", kernels_choices=json.dumps(before))
    add(tmp_path, "two", choices_hash="2", kernels_choices=json.dumps(after))
    cell = compared("one", "two", results=tmp_path)["cells"][0]
    assert cell["choices"] == [
        {
            "name": "stage2.0",
            "a": {"forward triton 64x64x64/w4/s3, dgrad torch, inference torch": 1},
            "b": {"forward triton 128x64x64/w4/s3, dgrad torch, inference torch": 1},
        },
        {
            "name": "fc",
            "a": {"forward torch, dgrad torch, inference torch": 1},
            "b": {"forward prologue, dgrad torch, inference torch": 1},
        },
    ]
    assert names(cell["differs"]) == ["kernels"]
    assert "What auto chose differs in 2 layers" in run("one", "two", f"results={tmp_path}")[1]
    add(tmp_path, "old", kernels_choices="stage2.0 by triton")  # of before there was JSON
    assert compared("old", "two", results=tmp_path)["cells"][0]["choices"] == []


def test_commits_dirty_checkouts_and_settings_that_differ(tmp_path, add, compared):
    add(tmp_path, "one"), add(tmp_path, "two", git_commit="b" * 40, dirty=True, threads_per_rank=4)
    add(tmp_path, "other", config={"depth": 32, "recipe": {"anneal": "cosine"}})
    found = compared("one,other", "two", results=tmp_path)
    by_name = {one["name"]: (one["a"], one["b"]) for one in found["settings"]}
    assert by_name["git_commit"] == ({"a" * 12: 2}, {"b" * 12 + "+": 1})
    assert by_name["configuration.depth"] == ({"20": 1, "32": 1}, {"20": 1})
    assert by_name["configuration.recipe.anneal"] == ({"cosine": 1, "linear": 1}, {"linear": 1})
    assert set(by_name) == {"git_commit", "configuration.depth", "configuration.recipe.anneal", "threads.per_rank"}
    assert names(found["cells"][0]["differs"]) == ["threads.per_rank"]
