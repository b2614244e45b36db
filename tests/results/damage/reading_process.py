"""Reads stores in a process of its own, which a damaged file might crash: a line of JSON each, asked and answered."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bench")]

from any_input import called  # noqa: E402
from every_command import main_of  # noqa: E402

from results.store import files  # noqa: E402
from results.store.files import read_rows, table_files  # noqa: E402
from results.store.schema import SCHEMAS  # noqa: E402

SQL = "SELECT (SELECT count(*) FROM {}), (SELECT any_value(run_id) FROM runs)"


def commands(asked: dict[str, Any]) -> list[tuple[str, list[str]]]:
    """What reads rows, or a part of that, and at last what writes beside them."""
    root, to, run_id = asked["root"], asked["to"], asked["run"]
    found = [
        ("results.report", []), ("results.report", ["format=json"]),
        ("results.report", ["format=csv", "repeats=summary"]),
        ("results.report", [f"run={run_id}"]), ("results.report", ["sort=-images_per_s", "depth=>1"]),
        ("results.check", ["format=json"]), ("results.check", [f"candidate={run_id}", "baseline=2026", "details=true"]),
        ("results.query", ["SELECT * FROM runs", "format=json"]), ("results.query", []),
        *(("results.query", [f"SELECT * FROM {table}", "format=csv"]) for table in SCHEMAS),
        ("results.query", ["SELECT count(*) AS n FROM steps"]),
        ("results.compare", [root, root]), ("results.compare", [run_id, root, "format=json"]),
        ("results.history", []), ("results.history", ["metric=p50", "format=csv"]),
        ("results.baseline", ["list"]), ("results.export", [f"run={run_id}", f"to={to}"]), ("results.recover", []),
    ]  # fmt: skip
    if asked["draws"]:
        found += [("results.plot", [f"to={to}"]), ("results.plot", [f"to={to}", f"run={run_id}"])]
    found = found[asked["part"] :: asked["parts"]]
    return found + [
        ("results.baseline", ["pin", "reason=x"]),
        ("results.baseline", ["accept", "reason=x", f"run={run_id}"]),
    ]


def answer(asked: dict[str, Any]) -> dict[str, Any]:
    root = Path(asked["root"])
    files.INDEXED_FROM = 1 if asked["indexed"] else 10_000
    found: dict[str, Any] = {"tables": {}, "said": []}
    for table in SCHEMAS:
        reads = [
            read_rows(root, table) for _ in range(3 if asked["indexed"] else 1)
        ]  # without an index, with it, again
        shown = [(repr(rows), list(map(str, bad))) for rows, bad in reads]
        rows, bad = reads[0]
        column = "baseline_id" if table == "baselines" else "run_id"
        found["tables"][table] = {
            "same": len(set(map(repr, shown))) == 1,
            "listed": [str(path.relative_to(root)) for path in table_files(root, table)],
            "ids": sorted({str(row[column]) for row in rows}),
            "bad": [[str(one.path), one.reason, str(one)] for one in bad],
        }
    for name, words in commands(asked):
        said = called(main_of(name), [*words, f"results={root}"])
        found["said"].append([name, words, said.status, said.out, said.err, said.fault])
    return found


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)
