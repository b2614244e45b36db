"""Two sides held against one another: what differs, what is compared, its figures, and what is refused."""

import csv
import io
import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.compare import cells, command, render, sides


@pytest.fixture
def stores(tmp_path, add):
    """Two folders, three runs each: B is a tenth faster, on another driver."""
    a, b = tmp_path / "before", tmp_path / "after"
    for number, rate in enumerate((990.0, 1000.0, 1010.0)):
        add(a, f"a{number}", images_per_s=rate, config={"seed": number}, seed=number)
    for number, rate in enumerate((1089.0, 1100.0, 1111.0)):
        add(b, f"b{number}", images_per_s=rate, system={"driver": "580.2"}, config={"seed": number}, seed=number)
    return a, b


@pytest.fixture
def compared():
    """Compare as the command does with format=json, without the time that it takes to read words."""

    def call(*words: Any, **keys: Any) -> dict[str, Any]:
        a, b = (
            sides.read(name, str(word), keys.get("results", Path())) for name, word in zip("AB", words, strict=True)
        )
        return json.loads(render.json_text(cells.compare(a, b, keys.get("without", ()))))

    return call


def figure(found: dict[str, Any], name: str, cell: int = 0) -> dict[str, Any]:
    return next(one for one in found["cells"][cell]["figures"] if one["name"] == name)


def names(differences: list[dict[str, Any]]) -> list[str]:
    return [one["name"] for one in differences]


def test_each_figure_has_medians_ratio_and_the_interval_that_its_runs_allow(stores, compared):
    found = compared(*stores)
    rate = figure(found, "images_per_s")
    assert (rate["a"]["median"], rate["a"]["n"], rate["b"]["median"], rate["b"]["n"]) == (1000.0, 3, 1100.0, 3)
    assert (rate["ratio"], rate["low"], rate["high"]) == pytest.approx((1.1, 1089 / 1010, 1111 / 990))
    assert rate["level"] == pytest.approx(0.9) and rate["note"] == ""
    assert (rate["a"]["runs"], rate["b"]["runs"]) == (["a0", "a1", "a2"], ["b0", "b1", "b2"])
    expected = {
        "step_ms_p50": 64, "step_ms_p95": 80, "data_wait_frac": 0.02, "tta_s": 20, "epochs_to_target": 10,
        "final_top1": 0.98, "best_top1": 0.985, "peak_mem_bytes": 2**30, "images_per_s": 1000, "mfu": None,
        "energy_j": None,
    }  # fmt: skip
    assert {one["name"]: one["a"]["median"] for one in found["cells"][0]["figures"]} == expected
    assert figure(found, "step_ms_p50")["ratio"] == 1.0
    assert figure(found, "energy_j")["note"] == "no energy counter (3 of 3 in A, 3 of 3 in B)"


def test_the_table_shows_systems_first_and_every_interval_with_its_level(stores, run):
    status, out, err = run(*stores)
    assert (status, err) == (0, "")
    assert out.index("Systems differ") < out.index("resnet20A digits dali torch deepspeed bf16 x8\nfigure")
    assert re.search(r"^driver +570.1 +580.2$", out, flags=re.MULTILINE)
    assert re.search(r"^images_per_s +1,000 +3 +1,100 +3 +1.100 +1.078 to 1.122 +90%$", out, flags=re.MULTILINE)
    assert re.search(r"^peak_mem_bytes +1,073,741,824 +3 ", out, flags=re.MULTILINE)
    assert re.search(r"^mfu +- +0 +- +0 +- +the peak of this CPU is not known", out, flags=re.MULTILINE)
    assert not any(line != line.rstrip() for line in out.splitlines())


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


def test_cells_are_of_one_configuration_and_those_of_one_side_are_listed(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    add(a, "a20"), add(a, "a32", config={"depth": 32}), add(a, "a20lr", config={"lr": 0.2}, images_per_s=500.0)
    add(b, "b20", hardware="8xH200;torch2.14,deepspeed0.19,dali2.4;python3.11"), add(b, "b44", config={"depth": 44})
    add(b, "b20lr", config={"lr": 0.2}, images_per_s=600.0)
    found = compared(a, b)
    assert [(cell["a_runs"], cell["b_runs"]) for cell in found["cells"]] == [(["a20"], ["b20"]), (["a20lr"], ["b20lr"])]
    assert [cell["cell"].rpartition(" ")[2] for cell in found["cells"]] == ["lr=0.1", "lr=0.2"]
    assert names(found["cells"][0]["differs"]) == ["processors", "software.torch"]
    assert figure(found, "images_per_s", 1)["ratio"] == pytest.approx(1.2)
    sides = [(one["side"], one["runs"]) for one in found["one_sided"]]
    assert sides == [("A", ["a32"]), ("B", ["b44"])]
    out = run(a, b)[1]
    assert "only in A: resnet32A digits" in out and "only in B: resnet44A digits" in out
    assert "software.torch 2.13 against 2.14" in out


def test_other_data_is_another_cell(tmp_path, add, run):
    add(tmp_path, "one"), add(tmp_path, "two", dataset_hash="d2")
    status, out, err = run("one", "two", f"results={tmp_path}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "differ in data.hash d1 against d2; to compare them all the same: without=data" in err
    assert run("one", "two", f"results={tmp_path}", "without=data")[0] == 0


def test_keys_can_be_left_out_by_name(tmp_path, add, run, compared):
    add(tmp_path, "one"), add(tmp_path, "two", config={"lr": 0.2, "depth": 32, "recipe": {"anneal": "cosine"}})
    where = f"results={tmp_path}"
    status, out, err = run("one", "two", where)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "resnet20A digits" in err and "resnet32A digits" in err and "lr 0.1 against 0.2" in err
    assert err.endswith("to compare them all the same: without=depth,lr,recipe\n")
    assert run("one", "two", where, "without=depth,lr")[0] == 2
    cell = compared("one", "two", results=tmp_path, without=("depth", "lr", "recipe"))["cells"][0]
    assert names(cell["differs"]) == ["configuration.depth", "configuration.lr", "configuration.recipe.anneal"]
    assert cell["cell"].startswith("resnet20A ") and " against resnet32A " in cell["cell"]
    status, _, err = run("one", "two", where, "without=learning_rate")
    assert status == 2 and "without=learning_rate: no such key" in err


def test_synthetic_images_are_said(tmp_path, add, run):
    for name in ("one", "two"):
        add(tmp_path, name, synthetic=True, loader="synthetic", final_top1=None, target_top1=None)
    assert "SYNTHETIC" in run("one", "two", f"results={tmp_path}")[1]
    add(tmp_path, "three"), add(tmp_path, "four")
    assert "SYNTHETIC" not in run("three", "four", f"results={tmp_path}")[1]


def test_a_target_that_was_not_reached_is_the_worst_and_leaves_no_interval(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    for number, seconds in enumerate((20.0, 22.0, 24.0)):
        add(a, f"a{number}", tta_s=seconds)
        add(b, f"b{number}", tta_s=None if number == 2 else 2 * seconds, epochs_to_target=None if number else 9)
    found = compared(a, b)
    time, epochs = figure(found, "tta_s"), figure(found, "epochs_to_target")
    assert (time["a"]["median"], time["b"]["median"], time["ratio"], time["low"]) == (22.0, 44.0, 2.0, None)
    assert time["note"] == "target not reached (1 of 3 in B); ratio of medians, no interval"
    assert (epochs["b"]["median"], epochs["b"]["not_reached"], epochs["ratio"]) == (None, 2, None)
    assert re.search(r"^epochs_to_target +10 +3 +target not reached +3 +- ", run(a, b)[1], flags=re.MULTILINE)


def test_runs_that_did_not_complete_do_not_count_and_are_said(stores, add, compared):
    a, b = stores
    add(b, "dead", status="failed", failure_kind="oom", failure_message="out of\nmemory", images_per_s=1.0)
    found = compared(a, b)
    assert figure(found, "images_per_s")["b"]["n"] == 3
    assert found["cells"][0]["notes"] == ["B: run=dead does not count: failed (oom): out of memory"]


def test_the_last_attempt_of_a_run_counts(stores, add, compared):
    a, b = stores
    add(b, "b9", images_per_s=1.0, status="killed")
    add(b, "b9", images_per_s=1105.0, restart_count=1)
    assert figure(compared(a, b), "images_per_s")["b"]["values"] == [1089.0, 1100.0, 1111.0, 1105.0]


def test_allocations_that_runs_share_are_said(stores, add, compared):
    a, b = stores
    for number in range(3):
        add(b, f"c{number}", slurm_job_id="77")
    assert compared(a, "77", results=b)["cells"][0]["notes"][0].startswith("B: 3 runs in 1 allocation: ")


def test_kernels_of_micro_runs_are_compared_one_by_one(tmp_path, add, kernels, compared, run):
    usual = {"benchmark": "micro", "engine": None, "synthetic": True, "images_per_s": None}
    slow = {"op": "bn_act", "p50": 30.0}
    for name, factor in (("a", 1.0), ("b", 1.5)):
        for number in range(3):
            run_id = add(tmp_path, f"{name}{number}", **usual, git_commit=name * 40)
            rows = [{"op": "conv1x1", "p50": factor * (10 + number)}, {"op": "conv1x1", "l2": "warm", "p50": 5.0}]
            rows += [slow] if name == "a" else [slow | {"p50": None, "status": "failed: wrong result"}]
            kernels(tmp_path, run_id, *rows)
    found = compared("aaaaaaa", "bbbbbbb", results=tmp_path)["cells"][0]["figures"]
    assert [one["kernel"][0] + " " + one["kernel"][5] for one in found] == [
        "bn_act cold",
        "conv1x1 cold",
        "conv1x1 warm",
    ]
    assert found[1]["kernel"] == ["conv1x1", "triton", "64x56", "bf16", "nhwc", "cold"]
    assert (found[1]["a"]["median"], found[1]["b"]["median"], found[1]["ratio"]) == (11.0, 16.5, 1.5)
    assert (found[1]["low"], found[1]["high"]) == pytest.approx((15 / 12, 18 / 10))
    assert found[2]["ratio"] == 1.0
    assert (found[0]["ratio"], found[0]["note"]) == (None, "failed: wrong result (3 of 3 in B)")
    out = run("aaaaaaa", "bbbbbbb", f"results={tmp_path}")[1]
    assert "p50 (us) conv1x1 triton 64x56 bf16 nhwc cold" in out and "images_per_s" not in out


def test_runs_of_the_step_benchmark_are_compared_by_their_figures(tmp_path, add, compared):
    usual = {"benchmark": "step", "engine": None, "loader": "synthetic", "synthetic": True, "tta_s": None}
    usual |= {"epochs_to_target": None, "target_top1": None, "final_top1": None, "data_wait_frac": None}
    add(tmp_path, "one", **usual), add(tmp_path, "two", **usual | {"step_ms_p50": 32.0})
    found = compared("one", "two", results=tmp_path)
    assert figure(found, "step_ms_p50")["ratio"] == 0.5
    assert found["cells"][0]["cell"] == "resnet20A step torch bf16 x8 SYNTHETIC"


def test_benchmarks_are_never_compared_with_one_another(tmp_path, add, run):
    add(tmp_path, "one"), add(tmp_path, "two", benchmark="step", engine=None)
    status, out, err = run("one", "two", f"results={tmp_path}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "benchmark training against step; figures of different benchmarks are never compared" in err


def test_the_same_runs_on_both_sides_are_said(stores, compared, tmp_path):
    a, b = stores
    found = compared(a, a)
    assert found["notes"] == ["A and B are the same 3 runs: nothing can differ"]
    rate = figure(found, "images_per_s")
    assert (rate["ratio"], rate["low"], rate["note"]) == (1.0, None, "no interval: 3 on both sides")
    found = compared("a0,a1", "a1,a2", results=a)
    assert found["notes"] == ["1 run on both sides, such as a1: without an interval where it counts"]
    assert figure(found, "images_per_s")["level"] is None
    found = compared(f"{a},{b}", b)
    assert figure(found, "images_per_s")["level"] is None and len(found["a"]["runs"]) == 6


def test_figures_that_are_no_numbers_or_zero(tmp_path, add, compared, run):
    a, b = tmp_path / "a", tmp_path / "b"
    add(a, "a0", images_per_s=math.nan, data_wait_frac=0.0, step_ms_p50=-1.0, peak_mem_bytes=None)
    add(b, "b0")
    found = compared(a, b)
    assert figure(found, "images_per_s")["note"] == "images_per_s is nan (1 of 1 in A)"
    assert figure(found, "step_ms_p50")["note"] == "step_ms_p50 is -1 (1 of 1 in A)"
    assert figure(found, "peak_mem_bytes")["note"] == "no value, and no reason (1 of 1 in A)"
    assert (figure(found, "data_wait_frac")["ratio"], figure(found, "data_wait_frac")["note"]) == (
        None,
        "no ratio to 0",
    )
    everything: dict[str, Any] = dict.fromkeys(
        ("images_per_s", "step_ms_p50", "step_ms_p95", "data_wait_frac", "tta_s"), math.nan
    )
    everything |= {"final_top1": math.nan, "best_top1": math.nan, "peak_mem_bytes": None, "epochs_to_target": None}
    c = tmp_path / "c"
    add(c, "c0", **everything)
    status, out, err = run(c, b)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "no figure has a value on both sides; images_per_s is nan (1 of 1 in A)" in err


def test_rows_that_cannot_be_used_are_left_out_and_said(stores, add, run, compared):
    a, b = stores
    broken = next((b / "runs").rglob("b2*"))
    broken.write_bytes(broken.read_bytes()[:100])
    early = datetime(2026, 11, 1, tzinfo=UTC)
    add(b, "back", run_start=early, init_start=early, run_stop=early - timedelta(hours=1))
    add(b, "bare", config_json=None)
    found = compared(a, b)
    assert found["b"]["runs"] == ["b0", "b1"]
    notes = "\n".join(found["notes"])
    for said in (str(broken), "run=back: left out, its clock goes backwards", "run bare: has no configuration"):
        assert said in notes
    assert len(found["notes"]) == 3
    assert str(broken) in run(a, b)[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["before"], "expected two words, A and B"),
        ([], "got none"),
        (["before", "after", "after"], "got 3"),
        (["before", "nowhere"], "B=nowhere: no such run"),
        (["before", "no/such/folder"], "B=no/such/folder: no folder of results"),
        (["before", "empty"], "B="),
        (["before", ","], "B=,: names no run"),
        (["before", "broken"], "1 files cannot be read, the first is"),
        (
            ["before", "backwards"],
            "none of its runs can be used; B: run=x: left out, its clock goes",
        ),
        (["before", "after", "format=xml"], "choose from table, json, csv"),
        (["before", "after", "formt=csv"], "did you mean format=csv"),
        (["before", "after", "results=nowhere"], "results=nowhere: no such folder"),
    ],
)
def test_bad_words_are_one_line_and_status_2(stores, add, run, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    path = tmp_path / "broken" / "runs" / "month=2026-11" / "x.0.parquet"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"PAR1")
    late = datetime(2026, 11, 2, tzinfo=UTC)
    add(tmp_path / "backwards", "x", run_start=late, run_stop=late - timedelta(hours=1), init_start=late)
    where = [] if any(word.startswith("results=") for word in words) else ["results=before"]
    status, out, err = run(*words, *where)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err and err.startswith("results.compare: ")


def test_json_is_printed_whole(stores, run, compared):
    status, out, err = run(*stores, "format=json")
    assert (status, err, json.loads(out)) == (0, "", compared(*stores))


def test_csv_has_every_kind_of_row(stores, add, run):
    a, b = stores
    add(a, "a32", config={"depth": 32})
    status, out, err = run(a, b, "format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, err) == (0, "") and {row["kind"] for row in rows} == {"system", "setting", "figure", "one_sided"}
    rate = next(row for row in rows if row["name"] == "images_per_s")
    assert (rate["a"], rate["a_n"], rate["b"], rate["a_runs"]) == ("1000.0", "3", "1100.0", "a0 a1 a2")
    assert (float(rate["ratio"]), float(rate["level"])) == pytest.approx((1.1, 0.9))
    driver = next(row for row in rows if row["name"] == "driver")
    assert (driver["kind"], driver["a"], driver["b"]) == ("system", "570.1", "580.2")
    assert next(row["a_runs"] for row in rows if row["kind"] == "one_sided") == "a32"


def test_text_of_rows_is_not_markup(tmp_path, add, run):
    add(tmp_path, "one"), add(tmp_path, "two", system={"nic": "[red]mlx5[/red]"})
    assert "[red]mlx5[/red]" in run("one", "two", f"results={tmp_path}")[1]


@pytest.mark.slow
def test_as_a_command_with_a_reader_that_stops_early(stores):
    root = Path(command.__file__).resolve().parents[2]
    shell = f"'{sys.executable}' -m results.compare '{stores[0]}' '{stores[1]}' | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", shell], cwd=root, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("A: ")
