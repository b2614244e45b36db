"""Training rates: published beside measured on one GPU model alone, and only where images were read."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from results.paper import command
from results.paper.measured import read
from results.paper.picture_rates import bar_name
from results.paper.throughput import Measured, build
from results.published.figure import READ
from results.published.throughput import RATES, TIMES
from results.store.writer import RunWriter

SOFTWARE = "torch2.11,deepspeed0.19,dali2.4;python3.12"
NET = {
    "family": "imagenet", "depth": 50, "shortcut": "B", "stride": "v1.5", "image_size": 224, "num_classes": 1000,
    "dataset": "imagenet", "loader": "dali", "kernels": "auto", "precision": "bf16", "batch_per_device": 256,
    "world_size": 8, "benchmark": "training", "git_commit": "1" * 40, "dirty": False,
    "hardware": f"8xNVIDIA H200;{SOFTWARE}",
}  # fmt: skip


def write(root: Path, run_id: str, images_per_s: float | None, status: str = "completed", **row: Any) -> None:
    writer = RunWriter(root, {**NET, "run_id": run_id, "restart_count": 0, "schema_version": 1, **row})
    kind = None if status == "completed" else "oom"
    reasons = {} if images_per_s else {"images_per_s": "none"}
    writer.finish(status, failure_kind=kind, images_per_s=images_per_s, null_reasons=reasons)


def measured(root: Path) -> tuple[dict[str, list[Measured]], list[Measured]]:
    found = build(read(root))
    return {name: own for name, (_, _, own) in found.gpus.items()}, found.apart


def test_the_published_ones_are_those_of_the_specification() -> None:
    assert [(one.gpu, one.precision, one.images_per_s) for one in RATES] == [
        ("H100", "fp16", 7160), ("H200", "fp16", 7950), ("A100", "AMP", 2470), ("A100", "AMP", 3411),
        ("A100", "AMP", 2600),
    ]  # fmt: skip
    assert [(one.gpu, one.gpus, one.top1, one.minutes) for one in TIMES] == [("H100", 8, 0.759, 13.5)]
    assert {one.read for one in (*RATES, *TIMES)} <= set(READ) and all(one.source for one in (*RATES, *TIMES))


def test_a_rate_is_of_one_gpu_and_the_median_of_its_runs(tmp_path: Path) -> None:
    for at, rate in enumerate((8000.0, 16000.0, 80000.0)):
        write(tmp_path, f"r{at}", rate, tta_s=600.0 * (at + 1) if at else None, target_top1=0.759)
    own, apart = measured(tmp_path)
    assert not apart and not own["H100"] and not own["A100"]
    (one,) = own["H200"]
    assert (one.images_per_s, one.gpus, one.run_ids) == (2000.0, 8, ("r0", "r1", "r2"))
    assert (one.minutes, one.top1) == (25.0, 0.759)  # of the two that reached it: 20 and 30


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"benchmark": "step", "loader": None}, "a step, no images read"),
        ({"benchmark": "step", "cuda_graph": True}, "a step, no images read, CUDA graph"),
        ({"synthetic": True}, "training on SYNTHETIC images"),
        ({"loader": "synthetic"}, "training on SYNTHETIC images"),
        ({"hardware": f"8xNVIDIA H100 NVL;{SOFTWARE}"}, "training"),
        ({"hardware": f"8xNVIDIA A100-PCIe-40GB;{SOFTWARE}"}, "training"),
        ({"hardware": f"8xNVIDIA H200 MIG 1g.18gb;{SOFTWARE}"}, "training"),
        ({"hardware": f"8xNVIDIA RTX A1000;{SOFTWARE}"}, "training"),
    ],
)
def test_what_is_not_comparable_stands_apart(tmp_path: Path, change: dict[str, Any], what: str) -> None:
    write(tmp_path, "r", 8000.0, **change)
    own, apart = measured(tmp_path)
    assert not any(own.values()) and [(one.what, one.images_per_s) for one in apart] == [(what, 1000.0)]


@pytest.mark.parametrize(
    "change",
    [{"stride": "v1"}, {"depth": 101}, {"image_size": 128}, {"shortcut": "A"}, {"benchmark": "micro"},
     {"hardware": f"2xAMD EPYC;{SOFTWARE}"}, {"hardware": None}, {"family": "cifar"}, {"num_classes": 10}],
)  # fmt: skip
def test_another_net_or_a_machine_without_gpus_is_not_shown(tmp_path: Path, change: dict[str, Any]) -> None:
    write(tmp_path, "r", 8000.0, **change)
    write(tmp_path, "failed", 8000.0, status="failed")
    write(tmp_path, "short", None)
    own, apart = measured(tmp_path)
    assert not any(own.values()) and not apart


def test_runs_that_differ_are_no_repetitions(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {}, {"kernels": "torch"}, {"precision": "fp16"}, {"batch_per_device": 128},
        {"world_size": 1, "hardware": f"1xNVIDIA H200;{SOFTWARE}"}, {"dirty": True},
    ]  # fmt: skip
    for at, change in enumerate(changes):
        write(tmp_path, f"r{at}", 8000.0, **change)
    own, _ = measured(tmp_path)
    groups = {one.run_ids: one for one in own["H200"]}
    assert set(groups) == {("r0", "r5"), ("r1",), ("r2",), ("r3",), ("r4",)}
    assert groups[("r0", "r5")].marks == ("dirty code",) and groups[("r4",)].images_per_s == 8000.0


@pytest.mark.parametrize(
    ("one", "other", "column", "said"),
    [
        ({"target_top1": 0.7, "tta_s": 600.0}, {"target_top1": 0.759, "tta_s": 6000.0}, "top1",
         ("10.0 to 70%", "100.0 to 75.9%")),
        ({"target_top1": 0.7}, {"target_top1": 0.759}, "top1", ("- to 70%", "- to 75.9%")),
        ({"loader": "dali"}, {"loader": "torch"}, "loader", ("auto, batch 256, dali: ", "auto, batch 256, torch: ")),
        ({"engine": "ddp"}, {"engine": "deepspeed"}, "engine", (", dali, ddp: ", ", dali, deepspeed: ")),
        ({"zero_stage": 0}, {"zero_stage": 2}, "zero_stage", (", ZeRO 0: ", ", ZeRO 2: ")),
        ({"recipe": "fast"}, {"recipe": "paper"}, "recipe", (", recipe=fast: ", ", recipe=paper: ")),
    ],
)  # fmt: skip
def test_groups_that_differ_have_lines_that_tell_them_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, one: dict[str, Any],
    other: dict[str, Any], column: str, said: tuple[str, str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "250")
    write(tmp_path, "a", 8000.0, **one)
    write(tmp_path, "b", 4000.0, **other)
    own, _ = measured(tmp_path)
    assert [group.run_ids for group in own["H200"]] == [("a",), ("b",)]
    assert command.main(["table=throughput", f"results={tmp_path}"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " 1 run: " in line]
    assert len(lines) == 2 and all(text in line for text, line in zip(said, lines, strict=True))
    assert command.main(["table=throughput", f"results={tmp_path}", "format=json"]) == 0
    rows = [row for row in json.loads(capsys.readouterr().out)["rows"] if row["status"] == "measured"]
    stored = "target_top1" if column == "top1" else column
    assert [row[column] for row in rows] == [one[stored], other[stored]]
    names = [bar_name(group) for group in own["H200"]]
    assert names[0] != names[1]


def test_it_is_printed_with_what_would_fill_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "r-h200", 61234.0)
    write(tmp_path, "r-step", 8000.0, benchmark="step", world_size=1)
    assert command.main(["table=throughput", f"results={tmp_path}", f"to={tmp_path}/pictures"]) == 0
    out = capsys.readouterr().out
    assert "7,654" in out and "7,950" in out and "not comparable with published training" in out
    assert "depth=50 stride=v1.5 dataset=imagenet data=PATH epochs=1 ranks_per_node=8" in out
    svg = (tmp_path / "pictures" / "table-throughput.svg").read_text()
    assert "7,654" in svg and "published beside the median of 2 runs" in svg
    assert (tmp_path / "pictures" / "table-throughput.png").stat().st_size > 10_000


def test_it_is_rows_of_plain_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "r-h200", 8000.0)
    assert command.main(["table=throughput", f"results={tmp_path}", "format=json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    kinds = [(row["status"], row["gpu"]) for row in rows]
    assert (
        kinds.count(("published", "A100")) == 3 and ("missing", "A100") in kinds and ("measured", "H200") not in kinds
    )
    (mine,) = [row for row in rows if row["status"] == "measured"]
    assert (mine["gpu"], mine["images_per_s"], mine["run_ids"]) == ("NVIDIA H200", 1000.0, ["r-h200"])
    assert command.main(["table=throughput", f"results={tmp_path}", "format=csv"]) == 0
    assert len(list(csv.DictReader(io.StringIO(capsys.readouterr().out)))) == len(rows)
