"""What other programs read: CSV and JSON with exact values, and nothing else on stdout."""

import csv
import io
import json
import math
from datetime import UTC, datetime, timedelta, timezone

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.listing import formats
from results.listing.terminal import NOT_FINITE
from results.store.files import read_file


def records(out):
    return list(csv.DictReader(io.StringIO(out)))


@pytest.fixture
def two(add):
    rate = 1234.567890123456789
    add("a-11111111", lr=0.30000000000000004, figures={"images_per_s": rate, "null_reasons": {"tta_s": 'no, "none"'}})
    add("b-22222222", seed=1, status="failed", figures={"failure_kind": "data", "failure_message": "a\x1b[31m,\nb"})
    return rate


def test_json_is_exact_and_has_reasons(two, report):
    status, out, err = report("format=json")
    first, second = json.loads(out)
    assert (status, err) == (0, "")
    assert first["images_per_s"] == two and first["lr"] == 0.30000000000000004
    assert first["run_start"] == "2026-11-22T20:00:00.000000+00:00"
    assert first["tta_s"] is None and first["null_reasons"] == {"tta_s": 'no, "none"'}
    assert first["dataset"] == "digits" and first["synthetic"] is None and first["status"] == "completed"
    assert second["failure_message"] == "a\x1b[31m,\nb" and "\x1b" not in out
    assert (
        second["seed"] == 1
        and second["null_reasons"]["images_per_s"] == "failed before a whole epoch after the warm-up"
    )
    assert list(first) == list(second)


def test_csv_is_exact_and_has_reasons(two, report):
    status, out, err = report("format=csv")
    first, second = records(out)
    assert (status, err) == (0, "")
    assert float(first["images_per_s"]) == two and first["lr"] == "0.30000000000000004"
    assert first["run_start"] == "2026-11-22T20:00:00.000000+00:00" and first["tta_s"] == ""
    assert json.loads(first["null_reasons"]) == {"tta_s": 'no, "none"'}
    assert second["failure_message"] == "a\\x1b[31m,\nb" and second["seed"] == "1"


@pytest.mark.parametrize("form", ["csv", "json"])
def test_columns_are_those_that_were_asked_for_in_their_order(two, report, form):
    _, out, _ = report("columns=tta_s,run_id,dirty", f"format={form}")
    rows = json.loads(out) if form == "json" else records(out)
    assert [list(row) for row in rows] == [["tta_s", "run_id", "dirty", "null_reasons"]] * 2
    assert [row["run_id"] for row in rows] == ["a-11111111", "b-22222222"]
    assert rows[0]["dirty"] is False if form == "json" else rows[0]["dirty"] == "false"


def test_columns_in_a_table(two, report):
    status, out, err = report("columns=run_id,images_per_s,run_start,tta_s", "run=11111111")
    head, _, line, reason = out.splitlines()
    assert (status, err) == (0, "") and head.split() == ["run_id", "images_per_s", "run_start", "tta_s"]
    assert line.split() == ["a-11111111", "1234.57", "2026-11-22T20:00:00Z", "-[1]"] and reason == '[1] no, "none"'


def test_notes_go_to_stderr(two, report, tmp_path):
    bad = tmp_path / "runs" / "month=2026-11" / "x\x1b[31m.0.parquet"
    bad.write_text("no parquet")
    _, out, err = report("format=json", "limit=1")
    assert len(json.loads(out)) == 1
    assert "cannot be read: " in err and "1 older runs: add limit=NUMBER" in err
    assert "\x1b" not in err and "\\x1b[31m" in err


def test_what_is_no_number_is_null_with_a_reason(two, add, report, tmp_path):
    path = next((tmp_path / "runs").rglob("a-11111111*"))
    table = read_file(path, "runs")
    for name, value in (("images_per_s", math.inf), ("mfu", math.nan)):
        table = table.set_column(table.column_names.index(name), name, pa.array([value]))
    path.unlink()
    pq.write_table(table, path)
    _, out, _ = report("format=json", "columns=images_per_s,mfu", "run=11111111")
    assert json.loads(out) == [
        {"images_per_s": None, "mfu": None, "null_reasons": dict.fromkeys(("images_per_s", "mfu"), NOT_FINITE)}
    ]
    assert NOT_FINITE in report("run=11111111")[1] and "nan" not in report()[1]
    add("c-33333333", figures={"images_per_s": 1.0})
    for words, ids in (([], "cab"), (["images_per_s=>0"], "c"), (["images_per_s=<1e9"], "c")):
        _, out, _ = report("sort=-images_per_s", "format=csv", "columns=run_id", *words)
        assert [row["run_id"][0] for row in records(out)] == list(ids)


def test_times_of_any_zone_are_utc_and_empty_is_valid():
    moment = datetime(2026, 11, 22, 21, 0, 0, 5, tzinfo=timezone(timedelta(hours=1)))
    assert formats.exact({"run_start": moment}, ["run_start"])["run_start"] == "2026-11-22T20:00:00.000005+00:00"
    assert formats.exact({"run_start": moment.astimezone(UTC)}, ["run_start"])["null_reasons"] == {}
    stream = io.StringIO()
    formats.write_json([], stream)
    assert json.loads(stream.getvalue()) == []
