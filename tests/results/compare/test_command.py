"""The command: what it prints in each format, and what it refuses."""

import csv
import io
import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from results.compare import command


def test_the_table_shows_systems_first_and_every_interval_with_its_level(stores, run):
    status, out, err = run(*stores)
    assert (status, err) == (0, "")
    assert out.index("Systems differ") < out.index("resnet20A digits dali torch deepspeed bf16 x8\nfigure")
    assert re.search(r"^driver +570.1 +580.2$", out, flags=re.MULTILINE)
    assert re.search(r"^images_per_s +1,000 +3 +1,100 +3 +1.100 +1.078 to 1.122 +90%$", out, flags=re.MULTILINE)
    assert re.search(r"^peak_mem_bytes +1,073,741,824 +3 ", out, flags=re.MULTILINE)
    assert re.search(r"^mfu +- +0 +- +0 +- +the peak of this CPU is not known", out, flags=re.MULTILINE)
    assert not any(line != line.rstrip() for line in out.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["before"], "expected two words, A and B"),
        ([], "got none"),
        (["before", "after", "after"], "got 3"),
        (["before", "nowhere"], "B=nowhere: no such run"),
        (["HEAD", "before"], "A=HEAD: a commit is its hash here, 7 digits or more; nearest is $(git rev-parse HEAD)"),
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


def test_control_characters_of_rows_are_written_out(tmp_path, add, run):
    a, b = tmp_path / "a", tmp_path / "b"
    add(a, "one", status="failed", failure_message="\x1b[2Jgone"), add(a, "two")
    add(b, "three", system={"nic": "mlx\x1b[31m5"}, config={"recipe": {"anneal": "linear"}}, git_commit="\x1b]0;x")
    add(b, "four", config={"depth": 32, "note": "\x07bell"})
    for form in ("table", "csv", "json"):
        status, out, _ = run(a, b, f"format={form}")
        assert status == 0 and not {"\x1b", "\x07"} & set(out)
    assert r"\x1b[2Jgone" in out.replace("\\\\", "\\") and r"mlx\x1b[31m5" in out.replace("\\\\", "\\")
