"""Files as other tools, other times and accidents leave them: what fits is read, the rest is set aside in one line."""

import errno
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.store import load, schema
from results.store.files import BadFile, read_file, read_rows, read_table, table_path, write_once
from results.store.schema import TEXT_MAP

AT = datetime(2026, 11, 22, 20, 1, 2, 345678, tzinfo=UTC)
RUN = {
    "run_id": "r", "schema_version": 1, "restart_count": 0, "status": "completed", "depth": 20, "dirty": False,
    "images_per_s": 1234.5, "run_start": AT, "null_reasons": {"mfu": "no peak", "tta_s": "not reached"},
}  # fmt: skip
ROWS = {
    "runs": [RUN],
    "epochs": [{"run_id": "r", "restart": 0, "epoch": 1, "loss": float("nan"), "top1": None}],
    "steps": [{"run_id": "r", "restart": 0, "rank": rank, "step": 0, "t_ns": 2**60 + 1} for rank in (0, 1)],
    "system": [{"system_id": "s", "run_id": "r", "restart": 0, "gpu_uuids": ["a", "b"], "versions": {"numpy": "2"}}],
    "kernels": [{"run_id": "r", "op": "bn", "samples_us": samples} for samples in ([1.0, 2.5], [], None)],
    "baselines": [{"key": "k", "run_ids": ["a", "b"], "baseline_id": "base"}],
    "pairs": [{"pairs_id": "p", "pair": 1, "side": "a", "run_id": "a", "restart": 2}],
    "evaluations": [
        {"evaluation_id": "e", "split": "test", "protocol": "1-crop", "bn": "running", "weights": ["a"], "top1": 0.5},
    ],
    "lesions": [{"evaluation_id": "e", "kind": "lesion", "stage": 1, "block": 2, "cost": 0.5}],
}


def path_of(root: Path, table: str, run_id: str = "r", restart: int = 0, month: str = "2026-11") -> Path:
    path = table_path(root, table, month, run_id, restart)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def put(root: Path, run_id: str, change=lambda rows: rows, table: str = "runs", **names) -> Path:
    """A file whose rows were changed by somebody; its rows are of `run_id` beforehand."""
    path = path_of(root, table, run_id, **names)
    rows = [{**row, "run_id": run_id} if "run_id" in row else row for row in ROWS[table]]
    pq.write_table(change(schema.to_table(table, rows)), path)
    return path


def with_column(name: str, values: pa.Array, of: pa.Table) -> pa.Table:
    return of.set_column(of.schema.get_field_index(name), name, values)


def rewritten(name: str, values: pa.Array, table: str = "runs"):
    return lambda rows: with_column(name, values, rows)


def set_aside(root: Path, table: str = "runs") -> dict[str, str]:
    """Reasons by name of file; each is one printable line, and the other files are read."""
    _, bad = read_table(root, table)
    assert all(one.reason.isprintable() and str(one).isprintable() and len(one.reason) <= 200 for one in bad)
    return {one.path.name: one.reason for one in bad}


def as_pandas(index: bool = False, **how):
    pandas = pytest.importorskip("pandas")
    return lambda path: pandas.read_parquet(path, **how).to_parquet(path, index=index or None)


def as_polars(hive: bool):
    polars = pytest.importorskip("polars")
    return lambda path: polars.scan_parquet(str(path), hive_partitioning=hive).collect().write_parquet(path)


def as_duckdb(hive: bool):
    duckdb = pytest.importorskip("duckdb")

    def rewrite(path: Path) -> None:
        rows = duckdb.connect().read_parquet(str(path), hive_partitioning=hive).to_arrow_table()
        duckdb.connect().from_arrow(rows).write_parquet(str(path))

    return rewrite


TOOLS = {
    "pandas": lambda: as_pandas(),
    "pandas-index": lambda: as_pandas(index=True),
    "pandas-arrow": lambda: as_pandas(dtype_backend="pyarrow"),
    "pandas-nullable": lambda: as_pandas(dtype_backend="numpy_nullable"),
    "polars": lambda: as_polars(False),
    "polars-hive": lambda: as_polars(True),
    "duckdb": lambda: as_duckdb(False),
    "duckdb-hive": lambda: as_duckdb(True),
    "pyarrow": lambda: lambda path: pq.write_table(pq.read_table(path), path),
}
PANDAS_LOSES = {("epochs", "loss")}  # NaN and null are one to it


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("table", ROWS)
def test_a_file_that_another_tool_wrote_again_reads_the_same(tool, table, tmp_path):
    path = put(tmp_path, "r", table=table)
    before = read_file(path, table)
    TOOLS[tool]()(path)
    after = read_file(path, table)
    assert after.schema.equals(before.schema)
    for name in before.column_names:
        if not (tool.startswith("pandas") and (table, name) in PANDAS_LOSES):
            assert repr(after[name].to_pylist()) == repr(before[name].to_pylist()), name


@pytest.mark.parametrize(
    ("table", "name", "values"),
    [
        ("runs", "run_id", pa.array(["r"], pa.large_string())),
        ("runs", "run_id", pa.array(["r"], pa.string_view())),
        ("runs", "run_id", pa.array([b"r"], pa.large_binary())),
        ("runs", "run_id", pa.array(["r"]).dictionary_encode()),
        ("runs", "depth", pa.array([20], pa.int32())),
        ("runs", "depth", pa.array([20], pa.uint64())),
        ("runs", "depth", pa.array([20.0])),
        ("runs", "depth", pa.array([20]).dictionary_encode()),
        ("runs", "depth", pa.array(["20.00"]).cast(pa.decimal128(9, 2))),
        ("runs", "images_per_s", pa.array([1234.5], pa.float32())),
        ("runs", "run_start", pa.array([AT], pa.timestamp("ns", "UTC"))),
        ("runs", "run_start", pa.array([AT], pa.timestamp("us", "Asia/Tokyo"))),
        ("runs", "run_start", pa.array([AT.replace(tzinfo=None)], pa.timestamp("us"))),
        ("runs", "null_reasons", pa.array([[*RUN["null_reasons"].items()]], pa.map_(pa.large_string(), pa.string()))),
        ("runs", "null_reasons", pa.array([[{"a": key, "b": why} for key, why in RUN["null_reasons"].items()]])),
        ("runs", "null_reasons", pa.array([[[key, why] for key, why in RUN["null_reasons"].items()]])),
        ("runs", "null_reasons", pa.array([{**RUN["null_reasons"], "energy_j": None}])),
        ("system", "gpu_uuids", pa.array([["a", "b"]], pa.large_list(pa.large_string()))),
        ("system", "gpu_uuids", pa.array([["a", "b"]], pa.list_(pa.string_view(), 2))),
        ("kernels", "samples_us", pa.array([[1.0, 2.5], [], None], pa.large_list(pa.float32()))),
    ],
)
def test_what_was_rewritten_without_loss_is_cast(table, name, values, tmp_path):
    expected = schema.to_rows(read_file(put(tmp_path, "r", table=table), table))
    path = put(tmp_path, "r", lambda rows: with_column(name, values, rows), table=table)
    found = read_file(path, table)
    assert found.schema.field(name).type == schema.SCHEMAS[table].field(name).type
    assert schema.to_rows(found) == expected


@pytest.mark.parametrize("kind", [pa.null(), pa.int32(), pa.bool_(), pa.string(), pa.list_(pa.null())])
def test_a_column_of_nulls_is_one_whatever_its_type(kind, tmp_path):
    names = [field.name for field in schema.SCHEMAS["runs"] if field.name not in schema.REQUIRED["runs"]]

    def emptied(rows: pa.Table) -> pa.Table:
        for name in names:
            rows = with_column(name, pa.nulls(1, kind), rows)
        return rows

    [row] = schema.to_rows(read_file(put(tmp_path, "r", emptied), "runs"))
    assert [row[name] for name in names] == [None] * len(names) and row["run_id"] == "r"


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_every_unit_and_none_that_would_change(unit, tmp_path):
    whole = AT.replace(microsecond=0)
    put(tmp_path, "r", rewritten("run_start", pa.array([whole], pa.timestamp(unit))))
    assert read_rows(tmp_path, "runs")[0][0]["run_start"] == whole
    put(tmp_path, "r", rewritten("run_start", pa.array([10**18 + 1], pa.timestamp("ns", "UTC"))))
    assert "column run_start is timestamp[ns" in set_aside(tmp_path)["r.0.parquet"]


LOSSES = {
    "depth": [pa.array([20.5]), pa.array([2.0**60]), pa.array([float("nan")]), pa.array(["20"]), pa.array([True]),
              pa.array([2**64 - 1], pa.uint64())],
    "images_per_s": [pa.array([2**53 + 1]), pa.array(["1"])],
    "dirty": [pa.array([1]), pa.array(["true"])],
    "family": [pa.array([b"\xff"]), pa.array([1]), pa.array([["cifar"]])],
    "run_start": [pa.array(["2026-11-22"]), pa.array([AT.date()]), pa.array([2**62], pa.timestamp("us", "UTC")),
                  pa.array([1])],
    "null_reasons": [pa.array(["{}"]), pa.array([[("mfu", "a"), ("mfu", "b")]], TEXT_MAP), pa.array([["mfu", "a"]]),
                     pa.array([[("mfu", 1)]], pa.map_(pa.string(), pa.int64())), pa.array([[[None, "a"]]])],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values"),
    [(name, one) for name, values in LOSSES.items() for one in values],
    ids=lambda value: value if isinstance(value, str) else str(value.type),
)
def test_what_has_no_equal_here_names_its_column(name, values, tmp_path):
    put(tmp_path, "good")
    put(tmp_path, "odd", lambda rows: with_column(name, values, rows))
    assert f"column {name} " in set_aside(tmp_path)["odd.0.parquet"]
    assert [row["run_id"] for row in read_rows(tmp_path, "runs")[0]] == ["good"]


def test_lists_of_another_kind_name_their_column(tmp_path):
    for table, name, values in (
        ("system", "gpu_uuids", pa.array([[1, 2]])),
        ("system", "gpu_uuids", pa.array(["a"])),
        ("kernels", "samples_us", pa.array([["1"], None, None])),
    ):
        put(tmp_path, "r", lambda rows, name=name, values=values: with_column(name, values, rows), table=table)
        assert f"column {name} is " in set_aside(tmp_path, table)["r.0.parquet"]


def ids(name: str, value: str | None):
    return rewritten(name, pa.array([value], pa.string()))


def test_ids_and_versions_that_nobody_writes(tmp_path):
    put(tmp_path, "good")
    put(tmp_path, "null", ids("run_id", None))
    put(tmp_path, "empty", ids("run_id", ""))
    put(tmp_path, "newline", ids("run_id", "new\nline"))
    put(tmp_path, "control", ids("run_id", "con\x1b[31mtrol"))
    put(tmp_path, "later", lambda rows: rows.replace_schema_metadata({"schema_version": "2"}))
    put(tmp_path, "row", rewritten("schema_version", pa.array([7])))
    put(tmp_path, "twice", lambda rows: pa.concat_tables([rows, rows]))
    put(tmp_path, "double", lambda rows: rows.append_column("depth", pa.array([20])))
    put(tmp_path, "other").rename(path_of(tmp_path, "runs", "renamed"))
    put(tmp_path, "again").rename(path_of(tmp_path, "runs", "again", restart=1))
    put(tmp_path, "spaced").rename(path_of(tmp_path, "runs").with_name("spaced.0 (1).parquet"))
    put(tmp_path, "plain").rename(path_of(tmp_path, "runs").with_name("plain.parquet"))
    put(tmp_path, "steps", table="steps").rename(path_of(tmp_path, "runs", "steps"))
    odd = path_of(tmp_path, "runs").with_name("new\nline.0.parquet")
    shutil.copy(path_of(tmp_path, "runs", "newline"), odd)
    reasons = set_aside(tmp_path)
    assert {name: reason for name, reason in reasons.items() if name != odd.name} == {
        "null.0.parquet": "a row has no run_id",
        "empty.0.parquet": "run_id '': expected up to 128 letters, digits, '.', '_' or '-', no other first",
        "newline.0.parquet": "run_id 'new\\nline': expected up to 128 letters, digits, '.', '_' or '-', no other first",
        "control.0.parquet": "run_id 'con\\x1b[31mtrol': expected up to 128 letters, digits, '.', '_' or '-', no other "
        "first",
        "later.0.parquet": "schema version 2; this reader knows 1",
        "row.0.parquet": "schema version 7; this reader knows 1",
        "twice.0.parquet": "2 rows of one attempt, expected one",
        "double.0.parquet": "two columns of one name",
        "renamed.0.parquet": "a copy: its rows are of other, by its name of renamed",
        "again.1.parquet": "a copy: its rows are of again.0, by its name of again.1",
        "spaced.0 (1).parquet": "not named RUN.RESTART.parquet",
        "plain.parquet": "not named RUN.RESTART.parquet",
        "steps.0.parquet": "a file of steps, not of runs",
    }
    assert reasons[odd.name] == "not named RUN.RESTART.parquet"
    assert [row["run_id"] for row in read_rows(tmp_path, "runs")[0]] == ["good"]


def test_an_attempt_that_lies_in_two_months_is_read_once(tmp_path):
    for month in ("2026-10", "2026-11", "2026-12"):
        put(tmp_path, "r", month=month)
        put(tmp_path, "r", month=month, table="steps")
    table_path(tmp_path, "runs", "2026-10", "r", 0).write_bytes(b"PAR1")
    rows, bad = read_rows(tmp_path, "runs")
    assert [row["run_id"] for row in rows] == ["r"]
    assert [one.path.parent.name for one in bad] == ["month=2026-10", "month=2026-12"]
    assert bad[1].reason == "a copy: this attempt lies in month=2026-11 too, which is read"
    assert read_table(tmp_path, "steps")[0]["rank"].to_pylist() == [0, 1]


def test_files_of_commands_need_no_name_of_a_run(tmp_path):
    path = put(tmp_path, "a", table="pairs")
    path.rename(path.with_name("p-p03.0.parquet"))
    path = put(tmp_path, "base", table="baselines")
    assert not set_aside(tmp_path, "pairs") and not set_aside(tmp_path, "baselines")
    assert read_table(tmp_path, "pairs")[0]["run_id"].to_pylist() == ["a"]
    assert read_table(tmp_path, "baselines")[0]["run_ids"].to_pylist() == [["a", "b"]]
    put(tmp_path, "q", ids("pairs_id", "p\n"), table="pairs")
    assert "pairs_id 'p\\n'" in set_aside(tmp_path, "pairs")["q.0.parquet"]


def test_what_is_no_whole_file(tmp_path, monkeypatch):
    folder = put(tmp_path, "good").parent
    torn = put(tmp_path, "torn")
    torn.write_bytes(torn.read_bytes()[:-100])
    (folder / "empty.0.parquet").touch()
    (folder / "text.0.parquet").write_text("not parquet\n" * 100)
    (folder / "folder.0.parquet").mkdir()
    (folder / "nothing.0.parquet").symlink_to(folder / "nowhere")
    (folder / "itself.0.parquet").symlink_to(folder / "itself.0.parquet")
    os.mkfifo(folder / "pipe.0.parquet")
    shutil.copy(put(tmp_path, "closed"), folder / "gone.0.parquet")
    pq.write_table(pa.table({"a": [1]}), folder / "foreign.0.parquet")
    (folder / ".good.0.parquet.1-a.tmp").write_text("a temporary file")
    (folder / ".hidden.0.parquet").write_text("a temporary file")
    (tmp_path / "runs" / "month=2026-12").write_text("no folder")
    real = os.stat

    def stat(path, *more, **how):
        if Path(path).name == "gone.0.parquet":  # deleted between listing and reading
            raise FileNotFoundError(errno.ENOENT, "No such file or directory")
        if Path(path).name == "closed.0.parquet":  # the tests may run as root, to whom no file is closed
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path, *more, **how)

    monkeypatch.setattr(load.os, "stat", stat)
    reasons = set_aside(tmp_path)
    assert {name: reasons.pop(name) for name in sorted(reasons) if name[:2] not in ("to", "em", "te")} == {
        "closed.0.parquet": "Permission denied",
        "folder.0.parquet": "not a file",
        "foreign.0.parquet": "no column run_id: not a file of runs",
        "gone.0.parquet": "gone since it was listed",
        "itself.0.parquet": "Too many levels of symbolic links",
        "month=2026-12": "Not a directory",
        "nothing.0.parquet": "a link to nothing",
        "pipe.0.parquet": "not a file",
    }
    assert set(reasons) == {"torn.0.parquet", "empty.0.parquet", "text.0.parquet"}
    assert [row["run_id"] for row in read_rows(tmp_path, "runs")[0]] == ["good"]
    assert torn.exists() and (folder / "text.0.parquet").exists()  # set aside, not moved


def test_damage_inside_a_file_is_found(tmp_path):
    path = put(tmp_path, "r")
    whole = path.read_bytes()
    for place in range(4, len(whole), len(whole) // 60):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        rows, bad = read_rows(tmp_path, "runs")  # neither a crash nor an error that names no file
        assert len(rows) + len(bad) == 1


def test_columns_of_other_times_are_unified_by_name(tmp_path):
    put(tmp_path, "now")
    put(tmp_path, "then", lambda rows: rows.drop_columns(["mfu", "null_reasons"]))
    put(tmp_path, "zero", lambda rows: rows.append_column("colour", pa.nulls(1)))

    def later(rows: pa.Table) -> pa.Table:
        rows = rows.append_column("month", pa.array(["2026-11"])).select(["month", *rows.column_names[::-1]])
        return rows.add_column(0, "colour", pa.array(["red"], pa.large_string()))

    put(tmp_path, "zlater", later)
    put(tmp_path, "zzclash", lambda rows: rows.append_column("colour", pa.array([1])))
    rows, bad = read_rows(tmp_path, "runs")
    assert [(row["run_id"], row["depth"], row["mfu"], row["colour"]) for row in rows] == [
        ("now", 20, None, None), ("then", 20, None, None), ("zero", 20, None, None), ("zlater", 20, None, "red"),
    ]  # fmt: skip
    assert [(one.path.name, one.reason) for one in bad] == [
        ("zzclash.0.parquet", "column colour is int64, in other files string")
    ]
    assert "month" not in rows[0]


def test_chosen_columns_in_their_order(tmp_path):
    put(tmp_path, "r", lambda rows: rows.append_column("colour", pa.array(["red"])))
    found, _ = read_table(tmp_path, "runs", columns=["status", "run_id"])
    assert found.to_pylist() == [{"status": "completed", "run_id": "r"}]
    assert read_rows(tmp_path, "runs", ["r"], ["depth"])[0] == [{"depth": 20}]
    assert read_table(tmp_path / "none", "runs", columns=["status"])[0].column_names == ["status"]
    with pytest.raises(ValueError, match="dept: no such column of runs; did you mean depth"):
        read_table(tmp_path, "runs", columns=["dept"])
    with pytest.raises(ValueError, match="did you mean runs"):
        read_table(tmp_path, "run", columns=["depth"])


def test_what_the_writer_writes_is_as_it_was(tmp_path):
    for table, rows in ROWS.items():
        write_once(path_of(tmp_path, table), [schema.to_table(table, rows)])
        found = read_table(tmp_path, table)[0]
        assert found.schema.equals(schema.SCHEMAS[table])
        for row, written in zip(schema.to_rows(found), rows, strict=True):
            row = {key: row[key] for key in written}
            assert row == written or (table == "epochs" and repr(row) == repr(written))


def test_a_bad_file_is_one_line():
    bad = BadFile(Path("a\nb"), "\n  first \x1b[0m\nsecond")
    assert (bad.reason, str(bad)) == ("first \\x1b[0m", "a\\nb: first \\x1b[0m")


def test_text_and_times_of_a_file_of_today_are_checked_as_those_of_an_older_one(tmp_path):
    """A file that has the schema as it is goes a shorter way, past whatever brings columns into order."""
    row = {"run_id": "r", "schema_version": 1, "restart_count": 0, "status": "completed", "null_reasons": {"mfu": "x"}}
    good = schema.to_table("runs", [row])
    ends, letters = pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
    bad_text = pa.Array.from_buffers(pa.string(), 1, [None, ends, letters])
    far = pa.array([2**62], pa.timestamp("us", tz="UTC"))
    twice = pa.array([[("mfu", "x"), ("mfu", "y")]], pa.map_(pa.string(), pa.string()))
    changes = {
        "recipe": bad_text, "run_start": far, "null_reasons": twice,
        "schema_version": pa.array([7], pa.int64()),
    }  # fmt: skip
    for number, (column, values) in enumerate(changes.items()):
        place = good.schema.get_field_index(column)
        table = good.set_column(place, good.schema.field(column), values)
        assert table.schema.equals(good.schema)
        path = tmp_path / column / "runs" / "month=2026-11" / "r.0.parquet"
        path.parent.mkdir(parents=True)
        pq.write_table(table, path)
        rows, bad = read_rows(tmp_path / column, "runs")
        assert rows == [] and len(bad) == 1, (number, column)
    path = tmp_path / "good" / "runs" / "month=2026-11" / "r.0.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(good, path)
    rows, bad = read_rows(tmp_path / "good", "runs")
    assert not bad and rows[0]["null_reasons"] == {"mfu": "x"}
