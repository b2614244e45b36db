"""Questions in SQL: what is answered, how it is written, and what is refused in one line."""

import csv
import io
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.query import command, database
from results.query.formats import MOST_ROWS
from results.store.files import read_table, table_path, write_once
from results.store.schema import SCHEMAS, to_table
from results.store.writer import RunWriter

AT = datetime(2026, 11, 22, 20, 1, 2, 345678, tzinfo=UTC)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("written")
    for depth, rate in ((20, 100.5), (56, None)):
        writer = RunWriter(root, {"run_id": f"r{depth}", "depth": depth, "init_start": AT, "run_start": AT})
        writer.epoch({"epoch": 1, "loss": float("nan"), "top1": 0.25})
        writer.steps([{"rank": 0, "step": one, "loss": float("inf")} for one in range(3)])
        writer.finish("completed", images_per_s=rate, null_reasons={} if rate else {"images_per_s": 'no\n"rate", é'})
    kernels = [{"run_id": "r20", "op": "bn", "samples_us": [1.5, 2.0]}, {"run_id": "r20", "op": "", "samples_us": None}]
    write_once(table_path(root, "kernels", "2026-11", "r20", 0), [to_table("kernels", kernels)])
    return root


@pytest.fixture
def store(written, tmp_path) -> Path:
    """Two runs, in a store of one's own."""
    return shutil.copytree(written, tmp_path / "store")


@pytest.fixture
def ask(store, capfd):
    """Run the command; returns its status, stdout and stderr."""

    def run(*words: str) -> tuple[int, str, str]:
        status = command.main([*words, f"results={store}"])
        return status, *capfd.readouterr()

    return run


@pytest.fixture
def refused(ask):
    """The one line of a refusal."""

    def run(*words: str) -> str:
        status, out, err = ask(*words)
        assert (status, out) == (2, "") and err.count("\n") == 1 and err.startswith("results.query: "), err
        return err.removeprefix("results.query: ").rstrip("\n")

    return run


def test_tables_are_joined_and_columns_typed(ask):
    status, out, err = ask(
        "SELECT r.run_id, r.depth, count(*) AS steps FROM runs r JOIN steps s ON s.run_id = r.run_id "
        "AND s.restart=r.restart_count GROUP BY ALL ORDER BY depth DESC",
        "format=json",
    )
    assert (status, err) == (0, "")
    assert json.loads(out) == [{"run_id": "r56", "depth": 56, "steps": 3}, {"run_id": "r20", "depth": 20, "steps": 3}]


@pytest.mark.parametrize("table", SCHEMAS)
def test_every_table_is_there_with_its_types_whether_or_not_it_has_rows(ask, store, table):
    _, out, _ = ask(f"DESCRIBE {table}", "format=json")
    assert [(one["column_name"], one["column_type"]) for one in json.loads(out)] == [
        (field.name, database.SQL_TYPES[field.type]) for field in SCHEMAS[table]
    ]
    rows, _ = database.ask(store, f"SELECT * FROM {table}")
    assert (
        rows.num_rows
        == read_table(store, table)[0].num_rows
        == {"runs": 2, "epochs": 2, "steps": 6, "kernels": 2}.get(table, 0)
    )


def test_files_of_older_schemas_are_in_and_those_set_aside_are_listed(ask, store):
    path = table_path(store, "runs", "2026-11", "r56", 0)
    rows = pq.ParquetFile(path).read()
    pq.write_table(rows.drop_columns(["benchmark", "mfu"]), path)
    torn = table_path(store, "runs", "2026-11", "torn", 0)
    torn.write_bytes(b"PAR1")
    (store / "epochs" / "month=2026-11" / "x.parquet").mkdir()
    files = before(store)
    status, out, err = ask("SELECT run_id, benchmark, mfu FROM runs ORDER BY 1", "format=csv")
    assert (status, out) == (0, "run_id,benchmark,mfu\nr20,,\nr56,,\n")
    assert err.startswith(f"cannot be read: {torn}: ") and err.count("\n") == 1  # epochs are not asked for
    assert before(store) == files


def before(root: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*")}


EVERYTHING = """
    SELECT r.run_id, r.run_id, k.run_id AS run_id_2, run_start, null_reasons, images_per_s, dirty, depth > 50 AS deep,
           op, samples_us, e.loss, s.loss AS far, -s.loss, sum(depth) OVER () AS total, DATE '2026-01-02' AS day,
           TIMESTAMP '2026-01-02 03:04:05' AS naive, 'ab'::BLOB AS bytes, {'a': [1, NULL]} AS struct,
           1.50::DECIMAL(4, 2) AS d
    FROM runs r JOIN epochs e USING (run_id) JOIN steps s ON s.run_id = r.run_id AND s.step = 0, kernels k
    ORDER BY depth, op DESC
"""


def test_json_holds_every_value(ask):
    status, out, _ = ask(EVERYTHING, "format=json")
    first, second, third, _ = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert status == 0 and list(first.values()) == [
        "r20", "r20", "r20", "2026-11-22T20:01:02.345678Z", None, 100.5, None, False, "bn", [1.5, 2.0], "NaN",
        "Infinity", "-Infinity", 152, "2026-01-02", "2026-01-02T03:04:05", "6162", {"a": [1, None]}, 1.5,
    ]  # fmt: skip
    assert list(first)[:3] == ["run_id", "run_id_3", "run_id_2"]
    assert (second["op"], second["samples_us"]) == ("", None)
    assert third["null_reasons"]["images_per_s"] == 'no\n"rate", é' and third["images_per_s"] is None


def test_csv_holds_every_value(ask):
    _, out, _ = ask(EVERYTHING, "format=csv")
    names, first, second, third, _ = csv.reader(io.StringIO(out))
    assert names[:3] == ["run_id", "run_id_3", "run_id_2"]
    assert first[3:] == [
        "2026-11-22T20:01:02.345678Z", "", "100.5", "", "false", "bn", "[1.5, 2.0]", "NaN", "Infinity", "-Infinity",
        "152", "2026-01-02", "2026-01-02T03:04:05", "6162", '{"a": [1, null]}', "1.5",
    ]  # fmt: skip
    assert json.loads(third[4])["images_per_s"] == 'no\n"rate", é'
    _, out, _ = ask("SELECT '' AS a, NULL AS b, 'x,\"y' AS c, 'two\nlines' AS d", "format=csv")
    assert out == 'a,b,c,d\n"",,"x,""y","two\nlines"\n'


def test_parquet_keeps_the_types(store, tmp_path, monkeypatch):
    with (tmp_path / "out").open("w") as file:
        monkeypatch.setattr("sys.stdout", file)
        assert command.main(["SELECT * FROM runs ORDER BY depth", "format=parquet", f"results={store}"]) == 0
    found = pq.ParquetFile(tmp_path / "out").read()
    assert found.cast(SCHEMAS["runs"]).equals(read_table(store, "runs")[0])
    assert found.schema.field("run_start").type == pa.timestamp("us", "UTC")


def test_the_table_for_people(ask):
    _, out, _ = ask("SELECT depth, images_per_s FROM runs ORDER BY depth")
    assert [line.split() for line in out.splitlines()[2:]] == [["20", "100.5"], ["56", "-"], ["2", "rows"]]
    _, out, _ = ask("SELECT * FROM runs LIMIT 1")
    assert ["1", "depth", "20"] in [line.split() for line in out.splitlines()] and out.endswith("1 row\n")
    _, out, _ = ask(f"SELECT * FROM range({MOST_ROWS + 1})")
    assert out.count("\n") == MOST_ROWS + 3 and out.endswith(f"{MOST_ROWS + 1} rows; the first 1000 are shown; "
                                                             "format=csv, json and parquet write all\n")  # fmt: skip
    assert ask("SELECT depth FROM runs WHERE depth = 1", "format=json")[1] == "[]\n"


def test_without_sql_tables_are_listed(ask):
    status, out, err = ask()
    assert (status, err) == (0, "")
    text = " ".join(out.split())
    assert "runs 2 run_id VARCHAR" in text and "steps 2 run_id VARCHAR" in text and "pairs 0 pairs_id" in text
    listed = json.loads(ask("format=json")[1])
    assert {"table": "kernels", "column": "samples_us", "type": "DOUBLE[]"} in listed
    assert len(listed) == sum(map(len, SCHEMAS.values()))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["SELECT 1"], ("SELECT 1", [])),
        (["results=x", "SELECT a=1", "format=csv"], ("SELECT a=1", ["results=x", "format=csv"])),
        (["depth=20 FROM", "format=csv"], ("depth=20 FROM", ["format=csv"])),
        (["SELECT", "depth", "FROM", "runs", "WHERE", "depth=20", "format=csv"],
         ("SELECT depth FROM runs WHERE depth=20", ["format=csv"])),
        (["fromat=csv", "SELECT 1"], ("SELECT 1", ["fromat=csv"])),
        (["SELECT 1", "SELECT 2"], ("SELECT 1", ["SELECT 2"])),
        (["SELECT\t1"], ("SELECT\t1", [])),
        ([], ("", [])),
    ],
)  # fmt: skip
def test_which_words_are_the_sql(words, expected):
    assert command.split(words, ("results", "format")) == expected


@pytest.mark.parametrize(
    ("sql", "line"),
    [
        ("SELECT * FROM run", "run: no such table; nearest is runs (there are runs, epochs, steps, system, kernels, "
         "baselines, pairs, evaluations, lesions)"),
        ("SELECT dept FROM runs", "dept: no such column; nearest is depth"),
        ("SELECT '\udc80'", "SELECT '\\udc80': '\\udc80' is no character; expected SQL as UTF-8"),
        ("SELECT r.imags_per_s FROM runs r", "imags_per_s: no such column; nearest is images_per_s"),
        ("SELECT top FROM epochs", "top: no such column; nearest is top1"),
        ("SELECT run FROM pairs", "run: no such column; nearest is run_id"),
        ("SELEC 1", 'Parser Error: syntax error at or near "SELEC"'),
        ("SELECT nosuch(1)", "Scalar Function with name nosuch does not exist"),
        ("SELECT 'x'::INT", "Conversion Error"),
        ("SELECT 1; SELECT 2", "2 statements; expected one SELECT"),
        ("-- nothing", "0 statements; expected one SELECT"),
        ("SELECT * FROM read_csv('/etc/passwd')", "Permission Error"),
        ("SELECT * FROM '/etc/passwd'", "/etc/passwd: no such table"),
        ("SELECT * FROM tables", "tables: no such table"),  # a variable of the program
        ("SELECT * FROM glob('/*')", "Permission Error"),
        ("COPY (SELECT 1) TO '/nowhere/x.csv'", ""),
        ("CREATE TABLE x AS SELECT 1", "CREATE is not allowed, rows are only read; expected a SELECT"),
        ("DELETE FROM runs", "DELETE is not allowed"),
        ("ATTACH '/nowhere/x.db'", ""),
        ("INSTALL httpfs", "LOAD is not allowed"),
        ("SET enable_external_access = true", "SET is not allowed"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_one_line(refused, store, sql, line):
    files = before(store)
    assert line in refused(sql)
    assert before(store) == files


def test_words_that_are_no_key(refused):
    assert (
        refused("fromat=csv", "SELECT 1")
        == "fromat=csv: no such key; did you mean format=csv? (--help lists every key)"
    )
    assert "nearest: format=csv" in refused("SELECT 1", "format=cvs")
    assert "words are key=value" in refused("SELECT 1", "SELECT 2")


def test_bytes_are_not_for_a_terminal(store):
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        assert command.main(["SELECT 1", "format=parquet", f"results={store}"]) == 2
    os.close(leader)
