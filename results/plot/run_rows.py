"""One run's rows, and which runs have any."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from results.store.files import read_table, table_files
from results.store.schema import Row, to_rows

_ANCESTOR = re.compile(r"(?P<run_id>.+)\.(?P<restart>\d{1,9})@(?P<epoch>\d{1,9})", re.ASCII)  # of column `lineage`


@dataclass(frozen=True)
class RunRows:
    """The rows of one run over all its attempts; a file that cannot be read is left out, with a line on stderr."""

    store: Path
    run_id: str

    def table(self, name: str) -> pa.Table:
        """Its rows of a table, in no order; none where the run has no such file."""
        found, bad = read_table(self.store, name, [self.run_id])
        for file in bad:
            print(f"left out {file.path}: {file.reason}", file=sys.stderr)
        own = found.filter(pc.equal(found["run_id"], self.run_id))
        if strange := found.num_rows - own.num_rows:
            print(f"left out {strange} rows of {name} of another run or none in the files of {self.run_id}",
                  file=sys.stderr)  # fmt: skip
        return own

    def rows(self, name: str) -> list[Row]:
        """As `table`, as one dict a row."""
        return to_rows(self.table(name))

    @cached_property
    def attempts(self) -> list[Row]:
        """Its rows of `runs`, the first attempt first."""
        return sorted(self.rows("runs"), key=lambda row: row["restart_count"] or 0)

    @cached_property
    def systems(self) -> list[Row]:
        """Its rows of `system`, that of the first attempt first."""
        return sorted(self.rows("system"), key=lambda row: row.get("restart") or 0)

    @cached_property
    def lineage(self) -> list[tuple[str, int, int]]:
        """The attempts of other runs that this one goes on from, as run, restart and epochs done, the first first."""
        found = []
        for word in (self.about.get("lineage") or "").split():
            match = _ANCESTOR.fullmatch(word)
            if match and match["run_id"] != self.run_id:
                found.append((match["run_id"], int(match["restart"]), int(match["epoch"])))
        return found

    def before(self, name: str) -> list[Row]:
        """The rows of a table that the attempts of `lineage` have, up to where the next one went on."""
        found = []
        for run_id, restart, epoch in self.lineage:
            for row in RunRows(self.store, run_id).rows(name):
                own = row["restart_count" if name == "runs" else "restart"]
                if (own or 0) == restart and (name != "epochs" or (row["epoch"] or 0) <= epoch):
                    found.append(row)
        return found

    @property
    def about(self) -> Row:
        """What its last attempt says of the run; empty where no attempt has left a row."""
        return self.attempts[-1] if self.attempts else {}


def run_ids(store: Path, tables: Iterable[str]) -> list[str]:
    """Ids of the runs that have a file in any of these tables, the latest last."""
    found = {_run_id(path) for table in tables for path in table_files(store, table)}
    return sorted(found - {""})  # they begin with their time


def unnamed_files(store: Path, tables: Iterable[str]) -> list[Path]:
    """Files in these tables whose names say of no run that they are its."""
    return [path for table in tables for path in table_files(store, table) if not _run_id(path)]


def _run_id(path: Path) -> str:
    return path.name.removesuffix(".parquet").rpartition(".")[0]
