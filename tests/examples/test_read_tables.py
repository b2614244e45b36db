"""Four libraries read the same cells from files of two ages and of other tools, and the same as the suite does."""

import importlib.util
import math
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.query.database import ask
from results.store.files import read_table, table_path
from results.store.row_json import EPOCH, MICROSECOND
from results.store.schema import (
    CHOICES,
    FLAG,
    INT,
    REAL,
    REALS,
    SCHEMAS,
    TEXT,
    TEXT_MAP,
    TEXTS,
    TIME,
    file_schema,
    to_table,
)  # fmt: skip
from results.words import RECORD_ROOT

# Four libraries are loaded.
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "examples" / "read_tables.py"
AT = datetime(2026, 11, 22, 20, 1, 2, 345678, tzinfo=UTC)
VALUES = {
    TEXT: ["a", "", 'é\n"x"'], INT: [1, 2**62, -3], REAL: [0.1, float("nan"), float("-inf")], FLAG: [True, False, True],
    TIME: [AT, AT.replace(year=1969), AT.replace(microsecond=1)], TEXTS: [["a", ""], [], ["é"]],
    REALS: [[0.1, float("nan")], [], [-1.0]], TEXT_MAP: [{"a": "b", "c": ""}, {}, {"d": "é"}],
}  # fmt: skip
LATER = {  # what files of an earlier age lack
    "runs": ["benchmark", "comparability_parts", "cuda_graph", "null_reasons", "run_start"],
    "epochs": ["checkpoint_s"], "steps": ["loss", "comm_ms"], "system": ["versions", "gpu_uuids"],
    "kernels": ["config", "samples_us", "matrix_flops_per_s"], "baselines": ["accepted_at", "kind", "reverts"],
    "pairs": ["words"], "evaluations": ["loss", "weights"],
    "lesions": ["value", "draws"],
}  # fmt: skip


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("read_tables", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_up(table: str, run_id: str, turn: int) -> pa.Table:
    """Two rows that have every value of every type somewhere, and a row of nulls."""
    own = {
        "run_id": run_id,
        "restart": 0,
        "restart_count": 0,
        "schema_version": 1,
        "pairs_id": "p",
        "baseline_id": "b",
        "evaluation_id": "e",
    }
    rows = []
    for place in range(1 if table == "runs" else 2):
        row = {}
        for field in SCHEMAS[table]:
            row[field.name] = (CHOICES.get((table, field.name)) or VALUES[field.type])[(turn + place) % 2]
            if field.name not in own and (turn, place) != (2, 0) and field.type not in (TEXT,):
                row[field.name] = VALUES[field.type][(turn + place) % 3]
        rows.append(row)
    if turn == 3:
        rows = [
            {"status": "failed", "epoch": 1, "rank": 0, "step": 0, "system_id": "s", "op": "o", "key": "k", "pair": 1}
        ]
    names = SCHEMAS[table].names
    return to_table(table, [{name: {**row, **own}.get(name) for name in names} for row in rows])


def nulls_alone(field: pa.Field, values: pa.ChunkedArray) -> pa.DataType:
    return pa.null() if values.null_count == len(values) else field.type


# The types that other tools give a column where they write a file again, without loss.
REWRITTEN = {
    "large": lambda field, _: {TEXT: pa.large_string(), TEXTS: pa.large_list(pa.large_string()),
                               REALS: pa.large_list(REAL)}.get(field.type, field.type),
    "dictionary": lambda field, _: pa.dictionary(pa.int32(), TEXT) if field.type == TEXT else field.type,
    "null": nulls_alone,
    "ns": lambda field, _: pa.timestamp("ns", "UTC") if field.type == TIME else field.type,
}  # fmt: skip


def rewritten(rows: pa.Table, kind: str) -> pa.Table:
    """The rows as some tool writes them again."""
    kinds = [REWRITTEN[kind](field, rows[field.name]) for field in rows.schema]
    columns = [
        pa.nulls(rows.num_rows) if one == pa.null() else rows[field.name].cast(one)
        for field, one in zip(rows.schema, kinds, strict=True)
    ]
    return pa.table(columns, names=rows.column_names)


@pytest.fixture(scope="module", params=["as written", *REWRITTEN])
def store(request, tmp_path_factory) -> Path:
    """The rows that are kept, which are of two ages, and made-up ones of two more in two months."""
    root = tmp_path_factory.mktemp("ages") / request.param
    shutil.copytree(RECORD_ROOT, root)
    for table in SCHEMAS:
        for turn in range(4):
            path = table_path(root, table, f"2026-{9 + turn // 2:02}", f"made-{turn}", 0)
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = made_up(table, f"made-{turn}", turn)
            if turn % 2 == 0:
                rows = rows.drop_columns(LATER[table])
            else:  # which columns may be null is said otherwise than in the others
                fields = [field.with_nullable(field.name not in ("run_id", "key")) for field in file_schema(table)]
                rows = rows.cast(pa.schema(fields, metadata=rows.schema.metadata))
                if request.param in REWRITTEN:
                    rows = rewritten(rows, request.param)
            pq.write_table(rows, path)
    return root


def cell(value):
    """A value as every library's is compared: maps as sorted pairs, times as microseconds, NaN equal to itself."""
    if value is None or type(value).__name__ == "NAType":
        return None
    if isinstance(value, datetime):
        assert value.utcoffset() is not None and not value.utcoffset()
        return "time", (value - EPOCH) // MICROSECOND
    if isinstance(value, dict):
        return "map", tuple(sorted(value.items()))
    if isinstance(value, list | tuple) or type(value).__name__ in ("ndarray", "Series"):
        items = list(value)
        if items and isinstance(items[0], dict):
            return "map", tuple(sorted((item["key"], item["value"]) for item in items))
        if items and isinstance(items[0], tuple):
            return "map", tuple(sorted(items))
        return "list", tuple(map(cell, items))
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    return type(value).__name__, value


def cells(columns: dict[str, list], table: str) -> dict[str, list]:
    """Columns of a table, rows in the order of their files, empty maps alike in all."""
    assert set(columns) == set(SCHEMAS[table].names)
    found = {name: [cell(value) for value in values] for name, values in columns.items()}
    for field in SCHEMAS[table]:
        if field.type == TEXT_MAP:
            found[field.name] = [("map", ()) if one == ("list", ()) else one for one in found[field.name]]
    rows = list(zip(*(found[name] for name in SCHEMAS[table].names), strict=True))
    return dict(enumerate(sorted(map(repr, rows))))


def of_library(example, name: str, store: Path, table: str) -> dict[str, list]:
    pytest.importorskip(name)
    found = getattr(example, f"with_{name}")(store, table)
    if name == "pyarrow":
        return {one: found[one].to_pylist(maps_as_pydicts="strict") for one in found.column_names}
    if name == "duckdb":
        return dict(zip(found.columns, map(list, zip(*found.fetchall(), strict=True)), strict=True))
    if name == "polars":
        return {one: found[one].to_list() for one in found.columns}
    return {one: found[one].array.__arrow_array__().to_pylist() for one in found.columns}


@pytest.mark.parametrize("table", SCHEMAS)
@pytest.mark.parametrize("library", ["pyarrow", "duckdb", "polars", "pandas"])
def test_four_libraries_read_equal_tables(example, library, table, store):
    ours, bad = read_table(store, table)
    assert not bad and ours.num_rows > 4
    expected = cells({name: ours[name].to_pylist(maps_as_pydicts="strict") for name in ours.column_names}, table)
    assert cells(of_library(example, library, store, table), table) == expected


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_query_gives_the_same(table, store):
    asked, bad = ask(store, f"SELECT * FROM {table}")
    ours = read_table(store, table)[0]
    assert not bad and asked.column_names == ours.column_names
    assert [cell(value) for name in ours.column_names for value in asked[name].to_pylist(maps_as_pydicts="strict")] == [
        cell(value) for name in ours.column_names for value in ours[name].to_pylist(maps_as_pydicts="strict")
    ]


def test_the_files_are_of_several_ages(store):
    for table in SCHEMAS:
        files = list((store / table).rglob("*.parquet"))
        schemas = [pq.read_schema(file) for file in files]
        assert len({frozenset(schema.names) for schema in schemas}) > 1, table
        if store.name in REWRITTEN and (store.name != "ns" or TIME in SCHEMAS[table].types):
            ours = SCHEMAS[table]
            assert any(schema.field(one).type != ours.field(one).type for schema in schemas for one in schema.names)


def test_it_runs_as_it_stands():
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    count = len(list((ROOT / "results/record/runs").rglob("*.parquet")))
    assert count > 0
    assert done.stdout.splitlines() == [
        f"with_{name}: {count} rows of runs" for name in ("pyarrow", "duckdb", "polars", "pandas")
    ]
