"""Reads a table of a store with pyarrow, DuckDB, Polars and pandas: the same rows from each, whatever the files' age.

    .venv/bin/python examples/read_tables.py [STORE] [TABLE]    # without words the runs that are kept, results/record

Each function needs its library alone (pandas also pyarrow) and nothing of this suite: `pip install pyarrow` or another,
and a copy of the store will do. Files of older versions lack columns; each function makes these null. What another tool
wrote again with other types (large or dictionary texts, times in ns) is read with the rest. A file that is damaged ends
all of them: `python -m results.query "SELECT ..." format=parquet` sets it aside, and checks what others hold as well.
"""

import sys
from pathlib import Path


def with_pyarrow(store, table):
    """A pyarrow.Table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted(Path(store).glob(f"{table}/month=*/*.parquet"))
    # Not read_table, which makes a column of the folder's month=.
    parts = [pq.ParquetFile(file).read() for file in files]
    for number, part in enumerate(parts):  # a text that another tool wrote as a dictionary is a text
        texts = [one.with_type(one.type.value_type) if pa.types.is_dictionary(one.type) else one for one in part.schema]
        parts[number] = part.cast(pa.schema(texts))
    return pa.concat_tables(parts, promote_options="permissive")


def with_duckdb(store, table):
    """A relation of DuckDB, which can be asked on: `.filter("depth = 20")`, `.df()`."""
    import duckdb

    # In UTC, as the store is: a session shows times in the zone of its machine.
    session = duckdb.connect()
    session.execute("SET TimeZone = 'UTC'")
    files = f"{store}/{table}/month=*/*.parquet"
    return session.read_parquet(files, union_by_name=True, hive_partitioning=False)


def with_polars(store, table):
    """A polars.DataFrame; a map is a list of structs of key and value."""
    import polars as pl

    files = sorted(Path(store).glob(f"{table}/month=*/*.parquet"))
    # One by one: a scan takes the columns of the first file for those of all.
    return pl.concat([pl.read_parquet(file, hive_partitioning=False) for file in files], how="diagonal_relaxed")


def with_pandas(store, table):
    """A pandas.DataFrame; its columns are of Arrow's types, since NumPy's whole numbers and texts have no null."""
    import pandas as pd

    files = sorted(Path(store).glob(f"{table}/month=*/*.parquet"))
    # pandas reads with pyarrow. What has one type in all files is put together as it is, with nulls that are no NaN.
    schema = with_pyarrow(store, table).schema
    frames = [pd.read_parquet(file, dtype_backend="pyarrow", partitioning=None, schema=schema) for file in files]
    return pd.concat(frames, ignore_index=True)


if __name__ == "__main__":
    kept = Path(__file__).resolve().parents[1] / "results" / "record"
    store, table = [*sys.argv[1:], *(kept, "runs")[len(sys.argv) - 1 :]][:2]
    if not list(Path(store).glob(f"{table}/month=*/*.parquet")):
        sys.exit(f"{store}: no files of {table} there")
    for read in (with_pyarrow, with_duckdb, with_polars, with_pandas):
        print(f"{read.__name__}: {read(store, table).shape[0]} rows of {table}")
