"""Filters, ranges, order and limits, and what is said of words that choose nothing."""

import re
import shutil
import time
from datetime import UTC, datetime

import pytest

from bench.config import ranges
from results.listing import filters
from results.store.schema import INT, REAL, SCHEMAS, TIME, to_table
from results.words import NAMES_ONE

START = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def written(add_in, tmp_path_factory):
    root = tmp_path_factory.mktemp("four")
    add = add_in(root)
    add("20261122-aaaaaaaa", depth=8, figures={"images_per_s": 500.0}, lr=0.1)
    add("20261123-bbbbbbbb", depth=20, figures={"images_per_s": 999.5}, lr=0.2, dirty=True)
    add("20261124-cccccccc", depth=56, figures={"images_per_s": 1000.0}, lr=None, run_start=None)
    add("20261125-dddddddd", depth=110, lr=0.3, figures={}, run_start=START.replace(month=12))
    return root


@pytest.fixture
def four(written, tmp_path):
    """Four runs, where `report` looks for them."""
    shutil.copytree(written, tmp_path, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["depth=>20"], "cd"),
        (["depth=>=20"], "bcd"),
        (["depth=<20"], "a"),
        (["depth=<=20"], "ab"),
        (["depth=20..56"], "bc"),
        (["depth=8,>=56"], "acd"),
        (["images_per_s=<1000"], "ab"),
        (["images_per_s=>999.5"], "c"),
        (["lr=0.1..0.2"], "ab"),
        (["run_start=2026-11"], "ab"),
        (["run_start=2026-11-22"], "ab"),
        (["run_start=>2026-11-30"], "d"),
        (["run_start=<=2026-11-22T20:00"], "a"),
        (["run_start=2026-11-22T20:01..2026-12-31", "depth=<100"], "b"),
        (["run=2026112"], "abcd"),
        (["run=aaaaaaaa,20261125"], "ad"),
        (["run=20261122-aaaaaaaa", "depth=>100,8"], "a"),
        (["sort=-lr"], "dbac"),
        (["sort=lr"], "abdc"),
        (["sort=-dirty,run_id"], "bacd"),
        (["sort=-run_start"], "dbac"),
    ],
)
def test_what_is_found_and_in_which_order(four, tmp_path, words, shown):
    """Typed here: the command's own reading of 70 keys takes a while."""
    wanted = dict(word.split("=", 1) for word in words)
    sort, run = wanted.pop("sort", None), wanted.pop("run", None)
    kinds = {INT: int, REAL: float, TIME: ranges.moment}
    typed = {}
    for column, text in wanted.items():
        kind = kinds[SCHEMAS["runs"].field(column).type]
        typed[column] = [ranges.joined(one, [kind(bound) for bound in one.bounds]) for one in ranges.pieces(text)]
    found = filters.find(tmp_path, sort.split(",") if sort else filters.SORT, typed, run.split(",") if run else ())
    assert "".join(run_id[-1] for run_id in found.table["run_id"].to_pylist()) == shown


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["depth=8,>=56", "images_per_s=500..1000"], "ac"),
        (["run_start=>=2026-11", "sort=-depth"], "dba"),
        (["sort=-depth", "limit=2"], "dc"),
        (["limit=2"], "bd"),  # the latest, in the usual order
    ],
)
def test_what_is_shown_and_in_which_order(four, report, words, shown):
    status, out, err = report(*words, "repeats=list")
    assert (status, err) == (0, "")
    assert "".join(re.findall(r"^([abcd])\1{7} +cifar", out, re.M)) == shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["depth=>200"], "no run with depth=>200; the nearest there is depth=110"),
        (["depth=21..50"], "the nearest there is depth=20"),
        (["depth=57"], "the nearest there is depth=56"),
        (["images_per_s=>1e4"], "no run with images_per_s=>1e4; the nearest there is images_per_s=1000.0"),
        (["run_start=2025"], "run_start takes a time such as"),
        (
            ["run_start=2025-01-01"],
            "no run with run_start=2025-01-01; the nearest there is run_start=2026-11-22T20:00:00Z",
        ),
        (["run=aaaaaaab"], f"no run with run=aaaaaaab; {NAMES_ONE}; nearest is run=aaaaaaaa"),
        (["run=aaaaaaaa,nobody"], f"no run with run=nobody; {NAMES_ONE}\n"),
        (["run_id=aaaaaaaa"], "run_id=aaaaaaaa: the key is now run; nearest is run=aaaaaaaa"),
        (["depth>=20"], "did you mean depth=>=20?"),
        (["columns=image_per_s"], "columns=image_per_s: no such column of runs; did you mean images_per_s?"),
        (["columns=run_id", "repeats=summary"], "leave columns out, or repeats"),
        (["format=xml"], "choose from table, csv, json"),
        (["limit=0"], "limit takes a whole number, at least 1"),
        (["repeats=all"], "choose from summary, list"),
        (["sort=null_reasons"], "no such column of runs"),
        (["depth=<20", "lr=>0.25"], "no runs with depth=<20 lr=>0.25 in"),
    ],
)
def test_what_chooses_nothing_is_one_line(four, report, words, said):
    status, out, err = report(*words)
    assert (status, out, err.count("\n")) == (2, "", 1) and said in err, err


def test_help_says_that_ranges_stand_in_quotes(report):
    _, out, _ = report("--help")
    assert "'depth=20..56'" in out and "quotes" in out and "or a range: >V" in out


def test_control_characters_do_not_reach_the_terminal(add, report):
    add(
        "a-11111111",
        status="failed",
        sample="x\x1b]0;t\x07",
        nodelist="n\x9b",
        git_commit="\x1b[2J" + "1" * 30,
        figures={
            "failure_kind": "data",
            "failure_message": "\x1b[31mred\x07\r\nmore",
            "null_reasons": {"mfu": "\x1b[1m"},
        },
    )
    add("b-22222222")
    for words in (
        [],
        ["columns=sample,failure_message,mfu,null_reasons"],
        ["format=csv"],
        ["sample=y"],
        ["repeats=summary"],
    ):
        _, out, err = report(*words)
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", out + err), words
    assert "\\x1b[31mred\\x07 more" in report()[1]


def test_rows_of_other_benchmarks_stand_beside_runs(add, report):
    add("a-11111111")
    add(
        "b-22222222",
        benchmark="step",
        engine=None,
        dataset=None,
        target_top1=None,
        epochs=None,
        figures={"images_per_s": 9.0},
    )
    add("c-33333333", benchmark="micro", engine=None, dataset=None, target_top1=None, epochs=None, figures={})
    status, out, err = report()
    assert (status, err) == (0, "")
    for benchmark, run in (("deepspeed", "1" * 8), ("step", "2" * 8), ("micro", "3" * 8)):
        assert benchmark in next(line for line in out.splitlines() if line.startswith(run))
    assert report("repeats=summary")[0] == 0 and report("format=json", "repeats=summary")[0] == 0


def test_twenty_thousand_runs_answer_soon(report, monkeypatch):
    rows = [
        {"run_id": f"{number:08x}-{number:08x}", "schema_version": 1, "restart_count": 0, "status": "completed",
         "depth": 20, "run_start": START.replace(microsecond=number), "config_json": '{"depth": 20}', "tta_s": 1.0,
         "target_top1": 0.5, "epochs_to_target": 1}
        for number in range(20_000)
    ]  # fmt: skip
    many = to_table("runs", rows)
    monkeypatch.setattr(filters, "read_table", lambda root, table: (many, []))  # how long that takes, its tests say
    start = time.process_time()
    _, out, _ = report()
    assert time.process_time() - start < 5
    assert len(re.findall(r"^0000\w{4} ", out, re.M)) == 101  # a hundred runs, and their one configuration
    assert "19,900 older runs: add limit=NUMBER, or filters" in out and "19998/20000" in out
    assert out.index("00004dbc") < out.index("00004e1f") and "00004dbb" not in out, (
        "the latest hundred, in the usual order"
    )


def test_two_rows_of_one_attempt_are_shown_and_said(report, monkeypatch):
    row = {"run_id": "x-11111111", "schema_version": 1, "restart_count": 0, "status": "completed", "depth": 20}
    rows = [row, {**row, "depth": 56}]
    double = to_table("runs", rows)  # which no file of a store has, or else it is set aside
    monkeypatch.setattr(filters, "read_table", lambda root, table: (double, []))
    status, out, err = report()
    assert (status, err) == (0, "") and " 20 " in out and " 56 " in out
    said = "1 runs have two rows of one attempt and are in no mean: x-11111111"
    assert said in out
    for words in (["repeats=summary"], ["repeats=summary", "format=json"], ["repeats=summary", "format=csv"]):
        line = f"results.report: repeats=summary: there is nothing to average; {said}\n"
        assert report(*words) == (2, "", line)
