"""Asks a store of rows two questions with DuckDB: images/s by net, and seconds to each accuracy of each run.

    .venv/bin/python examples/query_duckdb.py [STORE]    # without STORE the rows that are kept, results/record

Needs duckdb alone, and nothing of this suite: `pip install duckdb` and a copy of the store will do.

Rows lie in STORE/TABLE/month=YYYY-MM/RUN.RESTART.parquet, a row of `runs` for each attempt; what the columns mean is in
results/store/schema.py.
"""

import sys
from pathlib import Path

import duckdb

store = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "results" / "record"
if not (store / "runs").is_dir():
    sys.exit(f"{store}: no store of rows, it has no folder runs")

# Files of other versions may lack columns: union_by_name makes them null. The folder's month becomes a column.
for table in ("runs", "epochs"):
    duckdb.read_parquet(
        f"{store}/{table}/month=*/*.parquet",
        hive_partitioning=True,
        union_by_name=True,
    ).create_view(table)

print("images/s by net, of completed runs:")
duckdb.sql("""
    SELECT family, depth, shortcut, hardware, precision, world_size AS ranks,
           count(*) AS runs, round(median(images_per_s), 1) AS images_per_s, max(month) AS latest
    FROM runs
    WHERE status = 'completed' AND images_per_s IS NOT NULL
    GROUP BY ALL
    ORDER BY family, depth, shortcut, images_per_s DESC
""").show(max_width=200)

# An epoch's elapsed_s is the clock when its evaluation had ended: from before the first training data, evaluation and
# downtime inside, over all attempts. (A row of `runs` has an elapsed_s of its own: the clock at the run's end.)
print("seconds to each accuracy:")
duckdb.sql("""
    SELECT r.run_id, r.depth, r.dataset, target.top1 AS target,
           round(min(e.elapsed_s), 1) AS seconds, min(e.epoch) AS epoch
    FROM runs r
    JOIN epochs e ON e.run_id = r.run_id AND e.restart = r.restart_count
    JOIN (VALUES (0.6), (0.7), (0.8), (0.85), (0.9)) AS target(top1) ON e.top1 >= target.top1
    GROUP BY ALL
    ORDER BY r.run_id, target
""").show(max_width=200, max_rows=1000)
