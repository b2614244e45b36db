"""Asks a store of rows two questions with Polars: images/s by net, and seconds to each accuracy of each run.

    .venv/bin/python examples/query_polars.py [STORE]    # without STORE the rows that are kept, results/record

Needs polars alone, and nothing of this suite: `pip install polars` and a copy of the store will do.

Rows lie in STORE/TABLE/month=YYYY-MM/RUN.RESTART.parquet, a row of `runs` for each attempt; what the columns mean is in
results/store/schema.py.
"""

import sys
from pathlib import Path

import polars as pl

store = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "results" / "record"
if not (store / "runs").is_dir():
    sys.exit(f"{store}: no store of rows, it has no folder runs")


def scan(table: str) -> pl.LazyFrame:
    """A table of the store; columns that a file of another version lacks are null."""
    return pl.scan_parquet(
        f"{store}/{table}/month=*/*.parquet",
        hive_schema={"month": pl.String},
        missing_columns="insert",
        extra_columns="ignore",
    )


runs, epochs = scan("runs"), scan("epochs")
pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=80, tbl_hide_dataframe_shape=True)

print("images/s by net, of completed runs:")
net = ["family", "depth", "shortcut", "hardware", "precision", "world_size"]
print(
    runs.filter(pl.col("status") == "completed", pl.col("images_per_s").is_not_null())
    .group_by(net)
    .agg(pl.len().alias("runs"), pl.col("images_per_s").median().round(1), pl.col("month").max().alias("latest"))
    .sort("family", "depth", "shortcut", "images_per_s", descending=[False, False, False, True])
    .collect()
)

# An epoch's elapsed_s is the clock when its evaluation had ended: from before the first training data, evaluation and
# downtime inside, over all attempts. A row of `runs` has an elapsed_s of its own, the clock at the run's end, which
# must not get in its way.
print("seconds to each accuracy:")
targets = pl.LazyFrame({"target": [0.6, 0.7, 0.8, 0.85, 0.9]})
print(
    runs.select("run_id", "restart_count", "depth", "dataset")
    .join(epochs, left_on=["run_id", "restart_count"], right_on=["run_id", "restart"])
    .join(targets, how="cross")
    .filter(pl.col("top1") >= pl.col("target"))
    .group_by("run_id", "depth", "dataset", "target")
    .agg(pl.col("elapsed_s").min().round(1).alias("seconds"), pl.col("epoch").min())
    .sort("run_id", "target")
    .collect()
)
