"""The history of each cell: its points, its segments, what is known of a change, and what is refused."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from results.check.runs import load
from results.history import command, series
from results.history.render import json_text
from results.store.files import table_path, write_once
from results.store.schema import to_table
from results.words import Range

# Each test writes a file a run.
pytestmark = pytest.mark.slow

START = datetime(2026, 10, 1, 2, 0, tzinfo=UTC)
OLD, NEW = "8xH100;torch2.12,deepspeed0.19,dali2.4;python3.11", "8xH100;torch2.13,deepspeed0.19,dali2.4;python3.11"
# A night's rates, in no order of size: 1,000 on average.
NIGHTS = [1004.0, 997.0, 1001.0, 994.0, 1006.0, 999.0, 1003.0, 998.0, 1002.0, 996.0]
Add = Callable[..., None]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Write runs of one cell, a night apart, that have these values of `images_per_s`."""
    count = 0

    def write(rates: Sequence[float | None], *, lr: float = 0.1, first: int | None = None, **columns: Any) -> None:
        nonlocal count
        count += 1
        for night, rate in enumerate(rates, first or 0):
            start = START + timedelta(days=night)
            config = {"depth": 20, "lr": lr, "seed": night}
            row = {
                "run_id": f"{start:%Y%m%dT%H%M%S}-{count}", "schema_version": 1, "restart_count": 0,
                "status": "completed", "benchmark": "training", "config_json": json.dumps(config), "depth": 20,
                "shortcut": "A", "sample": "digits", "loader": "dali", "kernels": "torch", "engine": "deepspeed",
                "precision": "bf16", "world_size": 8, "git_commit": "a" * 40, "dirty": False, "hardware": OLD,
                "init_start": start, "run_start": start, "run_stop": start + timedelta(minutes=1),
                "images_per_s": rate, "null_reasons": {"mfu": "no peak"}, **columns,
            }  # fmt: skip
            write_once(table_path(tmp_path, "runs", "2026-10", row["run_id"], 0), [to_table("runs", [row])])

    return write


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; returns its status and what it printed."""

    def call(*words: str) -> tuple[int, str, str]:
        status = command.main([*words, f"results={tmp_path}"])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def found(root: Path, metric: str = "images_per_s", **filters: list[Any]) -> list[dict[str, Any]]:
    one = command.find(root, metric, filters)
    return json.loads(json_text(metric, one.histories, one.notes))["cells"]


def test_a_drop_parts_the_history_where_it_came(tmp_path: Path, add: Add) -> None:
    add([*NIGHTS, *(0.93 * rate for rate in NIGHTS[:6])])
    (cell,) = found(tmp_path)
    assert cell["cell"] == "resnet20A digits dali torch deepspeed bf16 x8"
    before, after = cell["segments"]
    assert (before["n"], before["median"], before["change"]) == (10, 1000.0, None)
    assert (after["n"], after["median"]) == (6, pytest.approx(0.93 * 1000.0))
    assert after["change"] == pytest.approx(-0.07)
    assert after["points"][0]["started"] == "2026-10-11T02:00:00+00:00"
    assert [point["value"] for point in before["points"]] == NIGHTS
    assert before["points"][0]["run_id"] == "20261001T020000-1" and before["points"][0]["commit"] == "a" * 40


def test_the_table_has_segments_then_points(add: Add, run: Run) -> None:
    add([*NIGHTS, *(0.93 * rate for rate in NIGHTS[:6])])
    status, out, err = run()
    assert (status, err) == (0, "")
    assert "x8: images_per_s, 16 points, 1 change" in out
    assert re.search(r"^ +1 +2026-10-01 +2026-10-10 +10 +1,000$", out, flags=re.MULTILINE)
    assert re.search(r"^ +2 +2026-10-11 +2026-10-16 +6 +930 +-7.0%$", out, flags=re.MULTILINE)
    assert re.search(r"^ +2 +2026-10-11 02:00 +20261011T020000-1 +a{12} +933.7 +930$", out, flags=re.MULTILINE)
    assert "They are no verdict" in out
    assert not any(line != line.rstrip() for line in out.splitlines())


def test_a_quiet_history_has_one_segment(tmp_path: Path, add: Add, run: Run) -> None:
    add(NIGHTS)
    assert [segment["n"] for segment in found(tmp_path)[0]["segments"]] == [10]
    assert "10 points, no change" in run()[1]


def test_points_are_in_the_order_of_time_whatever_the_files_are(tmp_path: Path, add: Add) -> None:
    add([0.93 * rate for rate in NIGHTS[:6]], first=10)
    add(NIGHTS)
    assert [segment["n"] for segment in found(tmp_path)[0]["segments"]] == [10, 6]


def test_runs_of_one_night_are_points_of_their_own(tmp_path: Path, add: Add) -> None:
    for _ in range(3):
        add(NIGHTS[:2])
    assert found(tmp_path)[0]["segments"][0]["n"] == 6


def test_what_came_with_a_change_and_known_reasons_stand_beside_it(tmp_path: Path, add: Add, run: Run) -> None:
    add(NIGHTS)
    add([1.1 * rate for rate in NIGHTS], first=10, hardware=NEW, git_commit="b" * 40, dirty=True)
    keys = sorted({run.key for run in load(tmp_path).by_id.values()})
    assert len(keys) == 2
    late = START + timedelta(days=17)
    usual = {"run_ids": ["1"], "kind": "accept", "accepted_at": late, "baseline_id": "one"}
    usual |= {"accepted_by": "me", "reason": "r", "change_marks": []}
    marks = (["2026-10-11 driver 580"], ["2026-10-11 driver 580", "fans replaced"])
    rows = [{**usual, "key": key, "change_marks": those} for key, those in zip(keys, marks, strict=True)]
    rows.append(rows[0] | {"key": "of another cell", "change_marks": ["2026-10-11 not ours"]})
    rows.append(
        rows[0]
        | {
            "change_marks": [
                "2026-10-02 before it",
                "2026-10-10 its last day",
                "2026-12-24 after all",
                "2026-02-30 no day",
            ]
        }
    )
    rows.append(rows[0] | {"baseline_id": "two", "change_marks": ["2026-10-11 taken back"]})
    rows.append(usual | {"key": keys[0], "baseline_id": "three", "kind": "revert", "reverts": "two"})
    rows.append(rows[0] | {"baseline_id": "odd", "change_marks": ["2026-10-11 of no run"], "run_ids": []})
    write_once(table_path(tmp_path, "baselines", "2026-10", "one", 0), [to_table("baselines", rows)])
    before, after = found(tmp_path)[0]["segments"]
    assert before["marks"] == ["2026-10-02 before it", "2026-10-10 its last day"]
    assert after["marks"] == ["2026-10-11 driver 580", "fans replaced", "2026-12-24 after all", "2026-02-30 no day"]
    assert after["differs"] == [
        {"part": "commit", "before": "a" * 12, "after": "b" * 12},
        {"part": "software.torch", "before": "2.12", "after": "2.13"},
    ]
    out = run()[1]
    assert f"with segment 2: commit from {'a' * 12} to {'b' * 12}; torch from 2.12 to 2.13\n" in out
    assert re.search(r"\+10.0% +2026-10-11 driver 580; ", out) and "bbbbbbbbbbbb+" in out


def test_cells_are_apart_and_named(tmp_path: Path, add: Add) -> None:
    add(NIGHTS)
    add([2 * rate for rate in NIGHTS], lr=0.2)
    add(NIGHTS[:2], hardware=OLD.replace("H100", "H200"))
    add(NIGHTS[:2], synthetic=True, loader="synthetic", sample=None, dataset="digits")
    cells = found(tmp_path)
    assert [len(cell["segments"]) for cell in cells] == [1, 1, 1, 1]
    words = [cell["cell"] for cell in cells]
    assert len(set(words)) == 4
    assert any("lr=0.2" in word for word in words) and any("processors=8xH200" in word for word in words)
    assert sum(word.endswith("SYNTHETIC") for word in words) == 1


def test_runs_without_a_value_are_counted_by_reason(tmp_path: Path, add: Add, run: Run) -> None:
    add([*NIGHTS, None, math.nan])
    add([5000.0], status="failed", failure_kind="oom")
    add([None], first=20, null_reasons={"images_per_s": "no longer than\nits warm-up"})
    (cell,) = found(tmp_path)
    assert cell["without"] == {
        "failed (oom)": 1,
        "no value, and no reason": 1,
        "images_per_s is nan": 1,
        "no longer than its warm-up": 1,
    }
    assert cell["segments"][0]["n"] == 10
    assert "1 without a value: no longer than its warm-up" in run()[1]


def test_kernels_have_histories_of_their_own(tmp_path: Path, add: Add) -> None:
    for number in range(8):
        add([None], first=number, benchmark="micro")
        run_id = f"{START + timedelta(days=number):%Y%m%dT%H%M%S}-{number + 1}"
        usual = {"run_id": run_id, "backend": "triton", "shape": "s", "dtype": "bf16", "layout": "nhwc", "l2": "cold"}
        rows = [{**usual, "op": "conv", "p50": 10.0 + (number >= 4), "status": "ok"}]
        rows += [{**usual, "op": "stem", "p50": 5.0, "status": "ok" if number else "failed: wrong"}]
        write_once(table_path(tmp_path, "kernels", "2026-10", run_id, 0), [to_table("kernels", rows)])
    conv, stem = found(tmp_path, "p50")
    assert conv["kernel"] == ["conv", "triton", "s", "bf16", "nhwc", "cold"]
    assert [(one["n"], one["median"]) for one in conv["segments"]] == [(4, 10.0), (4, 11.0)]
    assert [one["n"] for one in stem["segments"]] == [7] and stem["without"] == {"failed: wrong": 1}


def test_runs_of_pairs_are_no_points(add: Add, run: Run, tmp_path: Path) -> None:
    add([*NIGHTS, *NIGHTS])
    add([500.0, 500.0, 500.0], first=30)
    for night in (30, 31, 32):
        run_id = f"{START + timedelta(days=night):%Y%m%dT%H%M%S}-2"
        row = {"pairs_id": "p", "pair": 1, "side": "a", "run_id": run_id}
        write_once(table_path(tmp_path, "pairs", "2026-10", f"p-{night}", 0), [to_table("pairs", [row])])
    status, out, err = run()
    assert status == 0 and "20 points, no change" in out and "3 runs of interleaved pairs left out" in out + err


def test_change_points_of_a_long_history_are_looked_for_at_its_end(add: Add, run: Run, monkeypatch) -> None:
    add([*NIGHTS, *(0.9 * rate for rate in NIGHTS), *NIGHTS])
    monkeypatch.setattr(series, "MOST_POINTS", 20)
    status, out, _ = run()
    assert status == 0 and "30 points, 1 change" in out and re.search(r"^ +2 +2026-10-21 ", out, flags=re.MULTILINE)


def test_filters_and_metrics(tmp_path: Path, add: Add) -> None:
    add(NIGHTS, step_ms_p95=70.0)
    add(NIGHTS, depth=32, lr=0.2)
    assert len(found(tmp_path)) == 2
    assert len(found(tmp_path, depth=[32])) == 1
    assert found(tmp_path, depth=[Range(20, None, False, False, ">20")]) == found(tmp_path, depth=[32])
    segment = found(tmp_path, "step_ms_p95", depth=[20])[0]["segments"][0]
    assert (segment["n"], segment["median"]) == (10, 70.0)


def test_csv_has_every_point(add: Add, run: Run) -> None:
    add([*NIGHTS, *(0.93 * rate for rate in NIGHTS[:6])])
    status, out, err = run("format=csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (status, err, len(rows)) == (0, "", 16)
    last = rows[-1]
    assert (last["segment"], last["segment_n"], last["run_id"]) == ("2", "6", "20261016T020000-1")
    assert (float(last["value"]), float(last["segment_median"])) == pytest.approx((0.93 * 999, 930.0))
    assert float(last["segment_change"]) == pytest.approx(-0.07) and rows[0]["segment_change"] == ""


def test_json_is_printed_whole(add: Add, run: Run, tmp_path: Path) -> None:
    add(NIGHTS)
    status, out, err = run("format=json")
    assert (status, err, json.loads(out)["cells"]) == (0, "", found(tmp_path))


def test_what_is_left_out_is_said(tmp_path: Path, add: Add, run: Run) -> None:
    add(NIGHTS)
    add([7.0], run_stop=START - timedelta(days=1))
    broken = tmp_path / "runs" / "month=2026-10" / "broken.0.parquet"
    broken.write_bytes(b"PAR1")
    status, out, err = run()
    assert status == 0 and "10 points" in out
    assert str(broken) in err and "its clock goes backwards" in err


def test_few_points_are_shown_and_cannot_change(add: Add, run: Run) -> None:
    add([1000.0, 1.0, 1000.0])
    status, out, _ = run()
    assert status == 0 and "too few points for a change: 3 of 6" in out


@pytest.mark.parametrize(
    ("rates", "words", "said"),
    [
        ([], [], "no runs in "),
        ([1000.0] * 9, ["depth=>20"], "no run with depth=>20; the nearest there is depth=20"),
        ([1000.0], [], "one point in each cell, such as 1,000 in run=20261001T020000-1 of 2026-10-01"),
        ([math.nan] * 9, [], "none of 9 runs has a value: images_per_s is nan"),
        ([1000.0] * 9, ["metric=mfu"], "metric=mfu: none of 9 runs has a value: no peak"),
        ([1000.0] * 9, ["metric=p50"], "no kernel was timed"),
        ([1000.0] * 9, ["metric=image_per_s"], "nearest: metric=images_per_s"),
        ([1000.0] * 9, ["depth=21"], "no run with depth=21; the nearest there is depth=20"),
        ([1000.0] * 9, ["depth=20", "dirty=true"], "no run with dirty=true; the nearest there is dirty=false"),
        ([1000.0] * 9, ["dept=20"], "did you mean depth=20?"),
    ],
)
def test_what_is_no_history_is_one_line_and_status_2(
    add: Add, run: Run, rates: list[float], words: list[str], said: str
) -> None:
    if rates:
        add(rates)
    status, out, err = run(*words)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err and err.startswith("results.history: ")
