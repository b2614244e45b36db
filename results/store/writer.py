"""The writer that a run holds, and how a journal becomes files.

A table of which an attempt has no rows gets no file. The file of `runs` comes last: an attempt that has it is whole.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from results.durable import sync_folder
from results.identity import system_id
from results.store import early_end
from results.store.files import (
    attempt_name,
    journal_path,
    table_path,
    write_once,
)
from results.store.journal import Contents, Journal, Owner, encode_steps, read, read_steps
from results.store.row_json import strip_paths, to_json
from results.store.schema import (
    SCHEMA_VERSION,
    STATUSES,
    Row,
    clean_row,
    from_columns,
    merge,
    to_table,
)

__all__ = ["RunWriter", "StoreError", "write_attempt"]

ROWS_PER_GROUP = 65536


class StoreError(ValueError):
    """Rows that cannot be written because the attempt has some already, or has ended."""


def write_attempt(root: Path, contents: Contents, row: Row, file: BinaryIO) -> list[Path]:
    """Write the files of one attempt from its journal and remove the journal.

    Args:
        root: of the store.
        contents: the journal, read.
        row: the row of `runs` to write.
        file: the open journal, for the steps.

    Returns:
        The attempt's files. Those of a writer that died between two files are kept and named with the others.

    Raises:
        FileExistsError: the attempt has its row in `runs` already; its journal is gone then.
    """
    run_id, restart = row["run_id"], row["restart_count"]
    row = clean_row("runs", row)
    sources: dict[str, Iterable[pa.Table]] = {
        "steps": _step_tables(file, run_id, restart),
        "epochs": [to_table("epochs", contents.epochs)],
        "system": [to_table("system", contents.systems)],
        "runs": [to_table("runs", [row])],
    }
    written, exists = [], None
    for table, tables in sources.items():
        path = table_path(root, table, contents.month, run_id, restart)
        try:
            if write_once(path, tables):
                written.append(path)
        except FileExistsError as error:
            written.append(path)
            exists = error if table == "runs" else None
    journal = journal_path(root, run_id, restart)
    journal.unlink(missing_ok=True)
    sync_folder(journal.parent)
    if exists:
        raise exists
    return written


def final_row(contents: Contents, file: BinaryIO) -> Row:
    """Return the row of `runs` of an attempt that has said how it ended, with the figures of an early end."""
    return contents.row if contents.row["status"] == "completed" else early_end.row_of(contents, file)


def _step_tables(file: BinaryIO, run_id: str, restart: int) -> Iterator[pa.Table]:
    """Row groups of bounded size, so that a long run of many ranks never lies in memory whole."""
    pending: list[pa.Table] = []
    count = 0
    for columns in read_steps(file):
        rows = len(next(iter(columns.values()), []))
        whole = {**columns, "run_id": [run_id] * rows, "restart": [restart] * rows}
        pending.append(from_columns("steps", whole, rows))
        count += rows
        if count >= ROWS_PER_GROUP:
            yield pa.concat_tables(pending).combine_chunks()
            pending, count = [], 0
    if pending:
        yield pa.concat_tables(pending).combine_chunks()


class RunWriter:
    """What rank 0 of one attempt of a run writes its rows with.

    Every row is checked when it is given and journalled before the call returns; an epoch also reaches the disk.

    Args:
        root: of the store; it is made.
        run_row: what is known of the row of `runs` at the start; `run_id` is needed, `restart_count` is 0 unless given.
            `nodelist` is this host unless given, `config_json` loses its paths.

    Raises:
        ValueError: a value that does not fit the schema.
        StoreError: the attempt has rows already.
        JournalError: the attempt has a journal already.
    """

    def __init__(self, root: Path | str, run_row: Mapping[str, Any]) -> None:
        self.root = Path(root).absolute()
        defaults = {"restart_count": 0, "nodelist": Owner.of_this_process().hostname}
        given = {key: value for key, value in run_row.items() if value is not None}
        forced = {"schema_version": SCHEMA_VERSION, "status": "running"}
        row = merge("runs", {}, _stripped({**defaults, **given, **forced}))
        if "run_id" not in row:
            raise ValueError("run_id: missing from the row of runs")
        self.run_id: str = row["run_id"]
        self.restart: int = row["restart_count"]
        path = journal_path(self.root, self.run_id, self.restart)
        existing = list((self.root / "runs").glob(f"month=*/{self.name}.parquet"))
        if existing:
            raise StoreError(f"{existing[0]}: exists already, and rows are written once")
        self._row = row
        self._ended = False
        month = (row.get("init_start") or datetime.now(UTC)).strftime("%Y-%m")
        self._journal = Journal(path, row, month)

    @property
    def name(self) -> str:
        """Stem of the attempt's files, RUN.RESTART."""
        return attempt_name(self.run_id, self.restart)

    @property
    def row(self) -> Row:
        """The row of `runs` so far."""
        return dict(self._row)

    def update(self, **fields: Any) -> None:
        """Lay fields over the row of `runs` (reasons in `null_reasons` add up)."""
        for column in ("run_id", "restart_count", "schema_version", "status"):
            if column in fields:
                raise ValueError(f"runs.{column}: not to be updated")
        self._merge("update", _stripped(fields))

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Add a row of `epochs` and sync the journal; run_id and restart are filled in."""
        self._append("epoch", {"row": to_json("epochs", clean_row("epochs", self._named("epochs", row)))}, sync=True)

    def checkpoint(self, epoch: int, seconds: float) -> None:
        """Say what the checkpoint after an epoch, which has its row, took, and sync the journal."""
        row = self._named("epochs", {"epoch": epoch, "checkpoint_s": seconds})
        self._append("checkpoint", {"row": to_json("epochs", clean_row("epochs", row))}, sync=True)

    def steps(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows of `steps` of any ranks, best some fifty at a time; run_id and restart are filled in."""
        if rows:
            bare = [{key: row[key] for key in row if key not in ("run_id", "restart")} for row in rows]
            for row in rows:
                self._check_own("steps", row)
            self._append("steps", encode_steps(bare), sync=False)

    def system(self, row: Mapping[str, Any]) -> str:
        """Add a row of `system` and return its system_id, computed from the row unless given."""
        cleaned = clean_row("system", self._named("system", row))
        cleaned["system_id"] = cleaned.get("system_id") or system_id(cleaned)
        self._append("system", {"row": to_json("system", cleaned)}, sync=False)
        if self._row.get("system_id") is None:
            self.update(system_id=cleaned["system_id"])
        return cleaned["system_id"]

    def finish(
        self, status: str, *, failure_kind: str | None = None, failure_message: str | None = None, **fields: Any
    ) -> list[Path]:
        """End the attempt: write its files and remove the journal.

        Where it did not complete, its figures are those of `results.store.early_end`.

        Should writing fail, the journal stays and says how the run ended: call again, or leave it to `recover`.

        Args:
            status: one of `results.store.schema.STATUSES`.
            failure_kind: needed unless completed; one of `results.store.schema.FAILURE_KINDS`.
            failure_message: what happened, for a person.
            **fields: columns of `runs`.

        Returns:
            The files of the attempt, `runs` last.

        Raises:
            ValueError: a value that does not fit.
            StoreError: the attempt had ended, or was taken for dead and recovered by another process.
            OSError: the files cannot be written.
        """
        check_status(status, failure_kind)
        outcome = {"status": status, "failure_kind": failure_kind, "failure_message": failure_message}
        self._merge("finish", {**outcome, **_stripped(fields)})
        path = self._journal.path
        try:
            with path.open("rb") as file:
                contents = read(file, str(path))
                files = write_attempt(self.root, contents, final_row(contents, file), file)
        except (FileNotFoundError, FileExistsError) as error:
            raise StoreError(f"{self.name}: recovered as dead while it ran; those rows stay ({error})") from None
        self._ended = True
        self._journal.close()
        return files

    def _merge(self, kind: str, fields: Mapping[str, Any]) -> None:
        merged = merge("runs", self._row, fields)
        self._append(kind, {"row": to_json("runs", clean_row("runs", fields))}, sync=True)
        self._row = merged

    def _append(self, kind: str, payload: Mapping[str, Any], *, sync: bool) -> None:
        if self._ended:
            raise StoreError(f"{self.name}: has ended, its rows are written")
        self._journal.append(kind, payload, sync=sync)

    def _named(self, table: str, row: Mapping[str, Any]) -> Row:
        self._check_own(table, row)
        return {**row, "run_id": self.run_id, "restart": self.restart}

    def _check_own(self, table: str, row: Mapping[str, Any]) -> None:
        for column, own in (("run_id", self.run_id), ("restart", self.restart)):
            if row.get(column) not in (None, own):
                raise ValueError(f"{table}.{column}: {row[column]!r} is not this attempt's {own!r}")


def check_status(status: str, failure_kind: str | None) -> None:
    """Check how a run ended.

    Raises:
        ValueError: no such status, a failure without a kind, or a completed run with one.
    """
    if status not in STATUSES:
        raise ValueError(f"runs.status: {status!r} is not one of {', '.join(STATUSES)}")
    if (failure_kind is None) != (status == "completed"):
        wanted = "no failure_kind" if status == "completed" else "a failure_kind"
        raise ValueError(f"runs.failure_kind: expected {wanted} with status {status}, got {failure_kind!r}")


def _stripped(fields: Mapping[str, Any]) -> dict[str, Any]:
    config = fields.get("config_json")
    return {**fields, "config_json": strip_paths(config)} if isinstance(config, str) else dict(fields)
