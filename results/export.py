"""Copies the rows of chosen runs to the tracked record, without what names a machine.

    python -m results.export run=ID[,ID] [results=PATH] [to=PATH]
    python -m results.export run=3f0c2a1b to=results/record
    python -m results.export evaluation=ID[,ID]

With a run go the rows of `evaluations` and `lesions` that are of its net; of a run that was exported already, those
that are not there yet. evaluation= names rows of these tables by their id, such as those of weights that no run saved.
Host names, device serials and paths are dropped. Nothing is overwritten.
"""

import itertools
import json
import re
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from results.store.files import read_file, read_rows, table_files, table_path, write_once
from results.store.load import stem
from results.store.schema import REALS, Row, file_schema, to_rows
from results.words import PATH_KEYS, RECORD_ROOT, chosen_ids, counted, parse_json, root_from

TABLES = ("steps", "epochs", "system", "kernels", "runs")  # runs last: an attempt that has it is whole
EXAMINED = ("evaluations", "lesions")  # whose files are named by the command that wrote them
DROPPED = {"runs": ("nodelist",), "system": ("hostname", "gpu_uuids")}
# Ids that link rows, and words from fixed lists: a host may be called like one of them.
KEPT = (
    "run_id", "system_id", "config_hash", "comparability_key", "comparability_parts", "dataset_hash", "git_commit",
    "family", "shortcut", "stride", "recipe", "dataset", "sample", "kernels", "loader", "engine", "benchmark",
    "precision", "comm_dtype", "status", "failure_kind", "op", "backend", "dtype", "layout", "l2",
    "experiment", "scale", "eval_protocol", "evaluation_id", "trained_by", "weights", "split", "protocol", "bn", "kind",
    "layer",
)  # fmt: skip

_QUOTED = re.compile(r"""(['"`])(?:~|[A-Za-z]:|file:/)?[\\/].*?\1""")
_URL = re.compile(r"\b[a-z][a-z0-9+.]*://\S+", re.IGNORECASE)
_ABSOLUTE = re.compile(  # with what follows a blank, should it hold a slash: folder names may have blanks
    r"(?<![\w.)/\\])(?:~|[A-Za-z]:)?[\\/][\w.~@+-][^\s'\"`,;:()\[\]{}<>|]*(?: +[^\s/]*/[^\s'\"`,;]+)*"
)
_RELATIVE = re.compile(r"(?<![\w/.])[\w.@+-]+(?:/[\w.@+-]+)+\.[A-Za-z][A-Za-z0-9]{0,4}\b")
_SERIAL = re.compile(r"\b(?:GPU-|MIG-)?[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", re.IGNORECASE)
_ADDRESS = re.compile(  # IPv4, MAC, and GUID or full IPv6
    r"\b\d{1,3}(?:\.\d{1,3}){3}\b|\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b|\b(?:[0-9a-f]{4}:){3,7}[0-9a-f]{4}\b",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Scrubber:
    """Takes out of texts what names a machine.

    Attributes:
        hosts: host names to take out wherever they stand, with their domain.
    """

    hosts: frozenset[str]

    def text(self, text: str) -> str:
        """Return a text with paths, URLs, addresses, serials and host names replaced by <path>, <host> and so on."""
        text = _URL.sub("<url>", text)
        text = _QUOTED.sub(r"\1<path>\1", text)
        text = _ABSOLUTE.sub("<path>", text)
        text = _RELATIVE.sub("<path>", text)
        text = _SERIAL.sub("<serial>", text)
        text = _ADDRESS.sub("<address>", text)
        for host in sorted(self.hosts, key=len, reverse=True):
            text = re.sub(rf"(?<![\w-]){re.escape(host)}(?:\.[\w-]+)*(?![\w-])", "<host>", text, flags=re.IGNORECASE)
        return text

    def value(self, value: Any) -> Any:
        """Return a value with every text in it, at any depth, taken through `text`."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {key: self.value(item) for key, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list) else value

    def row(self, table: str, row: Row) -> Row:
        """Return a row of a table fit to be published."""
        scrubbed = {column: value if column in KEPT else self.value(value) for column, value in row.items()}
        if row.get("config_json") is not None:  # as JSON, so that its strings are whole and it stays readable
            try:
                config = parse_json(row["config_json"])
            except ValueError as error:
                raise ValueError(f"run={row.get('run_id')}: config_json is not JSON ({error})") from None
            if not isinstance(config, dict):
                kind = type(config).__name__
                raise ValueError(f"run={row.get('run_id')}: config_json is {kind}, expected an object")
            kept = {key: value for key, value in config.items() if key not in PATH_KEYS}
            scrubbed["config_json"] = json.dumps(self.value(kept), sort_keys=True)
        return {**scrubbed, **dict.fromkeys(DROPPED.get(table, ()))}


def expand_hosts(nodelist: str) -> set[str]:
    """Return the host names of a node list such as "gpu[01-03,7],login" (Slurm's form), at most 4096 of a range."""
    hosts: set[str] = set()
    for part in re.findall(r"[^,\[\]]*(?:\[[^\]]*\][^,\[\]]*)*", nodelist):
        names = [""]
        for fixed, ranges in re.findall(r"([^\[\]]*)(?:\[([^\]]*)\])?", part):
            numbers = [number for span in ranges.split(",") for number in _span(span)] if ranges else [""]
            names = [name + fixed + number for name in names for number in numbers]
        hosts.update(name for name in names if name.strip())
    return hosts


def _span(span: str) -> list[str]:
    low, dash, high = span.partition("-")
    if not dash or not (low.isdecimal() and high.isdecimal()):
        return [span]
    return [str(number).zfill(len(low)) for number in range(int(low), min(int(high), int(low) + 4095) + 1)]


def export(
    root: Path,
    run_ids: Sequence[str],
    to: Path,
    evaluation_ids: Sequence[str] = (),
    say: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Copy runs and what was found out about their weights, scrubbed, to another store.

    Args:
        root: store to copy from.
        run_ids: whole ids.
        to: store to copy to; it is made.
        evaluation_ids: whole ids of commands whose rows of `evaluations` and `lesions` are copied, whatever saved the
            weights.
        say: takes a line on what was copied of such rows, and on what was left out.

    Returns:
        The files written.

    Raises:
        ValueError: a run or an evaluation has no rows, or all of them are there already, or has a file that cannot be
            read, or an id that names a host. Nothing is written then.
        OSError: the copies cannot be written.
    """
    plan: list[tuple[Path, pa.Table]] = []
    exported: dict[str, Path] = {}
    for run_id in run_ids:
        if not table_files(root, "runs", [run_id]):
            raise ValueError(f"run={run_id}: has no rows in {root}")
        if there := table_files(to, "runs", [run_id]):
            exported[run_id] = there[0]
            continue
        scrubber = Scrubber(_hosts(root, [run_id]))
        _check_id("run", run_id, scrubber)
        for table in TABLES:
            for path in table_files(root, table, [run_id]):
                target = to / path.relative_to(root)
                if not target.exists():  # else left by an export that ended before its rows of runs
                    plan.append((target, _scrubbed(table, _read(table, path), scrubber)))
    plan.sort(key=lambda item: TABLES.index(item[0].parent.parent.name))
    examined = _examined(root, run_ids, to, evaluation_ids, say)
    ids = {one for _, rows in examined for one in _values(rows, "evaluation_id")}
    runs = {_run_of(one) for _, rows in examined for one in _values(rows, "trained_by")}
    for run_id, first in exported.items():
        if run_id not in runs:
            raise ValueError(f"run={run_id}: exported already, and rows are written once ({first})")
    for one in evaluation_ids:
        if one not in ids:
            raise ValueError(f"evaluation={one}: exported already, and rows are written once")
    written = [path for path, table in [*examined, *plan] if write_once(path, [table])]
    for table in EXAMINED:
        if copied := [rows for path, rows in examined if path.parent.parent.name == table]:
            late = {_run_of(one) for rows in copied for one in _values(rows, "trained_by")} & set(exported)
            already = f"; exported already: run={','.join(sorted(late))}" if late else ""
            say(f"{table}: copied {counted(sum(rows.num_rows for rows in copied), 'row')}{already}")
    return written


def _examined(
    root: Path, run_ids: Sequence[str], to: Path, evaluation_ids: Sequence[str], say: Callable[[str], None]
) -> list[tuple[Path, pa.Table]]:
    """What is to be written of the tables `EXAMINED`: rows of these runs' weights, and of these commands.

    All rows of a command and an attempt are copied at once, so those of an attempt that has any there are all there.
    Rows that are added later lie in a file of their own, as none is written over.
    """
    plan: list[tuple[Path, pa.Table]] = []
    known: set[str] = set()
    scrubber: Scrubber | None = None
    for table in EXAMINED:
        rows, bad = read_rows(root, table, columns=["evaluation_id", "trained_by"])
        for file in bad:
            if stem(file.path.name)[0] in evaluation_ids:
                raise ValueError(f"{file.path}: cannot be read: {file.reason}")
            say(f"left out, whosever rows it has: {file}")
        wanted: dict[str, set[str | None]] = {}
        for row in rows:
            if row["evaluation_id"] in evaluation_ids or _run_of(row["trained_by"]) in run_ids:
                wanted.setdefault(row["evaluation_id"], set()).add(row["trained_by"])
        for one, attempts in wanted.items():
            # One host may have evaluated what another trained: all that the store knows are taken out.
            scrubber = scrubber or Scrubber(_hosts(root, None))
            _check_id("evaluation", one, scrubber)
            for run_id in sorted({_run_of(attempt) for attempt in attempts} - {""}):
                _check_id(f"evaluation={one}: run", run_id, scrubber)
            if not (files := table_files(root, table, [one])):
                raise ValueError(f"evaluation={one}: the file of its rows in {root / table} has another name")
            there = table_files(to, table, [one])
            attempts -= {
                attempt for path in there for attempt in _values(_read(table, path), "trained_by", null=True)
            }  # fmt: skip
            # Readers take files of one name in two months for copies.
            free = (number for number in itertools.count() if str(number) not in {stem(path.name)[1] for path in there})
            for path in files:
                found = _read(table, path)
                own = found.filter(pa.array([row in attempts for row in found["trained_by"].to_pylist()], pa.bool_()))
                if own.num_rows:
                    month = path.parent.name.removeprefix("month=")
                    plan.append((table_path(to, table, month, one, next(free)), _scrubbed(table, own, scrubber)))
        known |= set(wanted)
    if lacking := [one for one in evaluation_ids if one not in known]:
        raise ValueError(f"evaluation={lacking[0]}: has no rows in {root}")
    return plan


def _values(rows: pa.Table, column: str, *, null: bool = False) -> set[Any]:
    return {one for one in pc.unique(rows[column]).to_pylist() if null or one is not None}


def _run_of(attempt: str | None) -> str:
    """The run of an attempt RUN.RESTART; "" where there is none."""
    return (attempt or "").rpartition(".")[0]


def _check_id(kind: str, one: str, scrubber: Scrubber) -> None:
    if scrubber.text(one) != one:
        raise ValueError(f"{kind}={one}: the id itself names its host or a path")


def _read(table: str, path: Path) -> pa.Table:
    try:
        return read_file(path, table)
    except ValueError as error:
        raise ValueError(f"{path}: cannot be read: {error}") from None


def _hosts(root: Path, run_ids: Iterable[str] | None) -> frozenset[str]:
    """This host, and those that runs were on; None: all runs."""
    hosts = {socket.gethostname()}
    for table, column in (("runs", "nodelist"), ("system", "hostname")):
        for row in read_rows(root, table, run_ids, columns=[column])[0]:
            hosts |= expand_hosts(row.get(column) or "")
    hosts |= {host.partition(".")[0] for host in hosts}
    return frozenset(host for host in hosts - {"", "localhost"} if not host.isdecimal())


def _scrubbed(table: str, found: pa.Table, scrubber: Scrubber) -> pa.Table:
    if all(name in KEPT or not _has_text(found.schema.field(name).type) for name in found.column_names):
        return found.cast(found.schema.with_metadata(file_schema(table).metadata))
    rows = [scrubber.row(table, row) for row in to_rows(found)]
    columns = {
        field.name: pa.array(
            [list(row[field.name].items()) if isinstance(row[field.name], dict) else row[field.name] for row in rows],
            type=field.type,
        )
        for field in found.schema
    }
    return pa.table(columns, schema=found.schema.with_metadata(file_schema(table).metadata))


def _has_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or (pa.types.is_nested(kind) and kind != REALS)


@dataclass(frozen=True)
class Task:
    """What the command is to copy: whole ids, from where, and to where."""

    root: Path
    run_ids: list[str]
    evaluation_ids: list[str]
    to: Path


def main(words: Sequence[str] | None = None) -> int:
    """Run the command, see `bench.config.command.run`."""
    from bench.config import command
    from bench.config.grammar import WordError, key, values
    from bench.config.paths import check_folder

    @dataclass
    class Keys:
        run: str | None = key(
            "runs to copy, all their attempts; the start or the end of an id will do",
            "this or evaluation= is required",
            text="an id",
        )
        evaluation: str | None = key(
            "evaluations to copy, all their rows of the tables evaluations and lesions; as of run=",
            "those of the weights of run=",
            text="an id",
        )
        results: str | None = key("where they are", "results/v1 of the checkout", path=True, one=True)
        to: str | None = key("where they go", "results/record of the checkout", path=True, one=True)

    def read(typed: list[str]) -> Task:
        given = values(typed, Keys)
        if "run" not in given and "evaluation" not in given:
            raise WordError("run is missing: add run=ID[,ID], the runs to export, or evaluation=ID[,ID]")
        root = root_from(given)
        to = check_folder("to", given["to"][0] if "to" in given else str(RECORD_ROOT))
        ids = sorted({row["run_id"] for row in read_rows(root, "runs")[0]})
        examined = sorted({stem(path.name)[0] for table in EXAMINED for path in table_files(root, table)})
        runs = chosen_ids(given.get("run", []), ids)
        return Task(root, runs, chosen_ids(given.get("evaluation", []), examined, "evaluation"), to)

    def do(task: Task) -> int:
        try:
            written = export(
                task.root, task.run_ids, task.to, task.evaluation_ids, lambda line: print(line, file=sys.stderr)
            )
        except ValueError as error:
            raise WordError(str(error)) from None
        for path in written:
            print(path)
        return 0

    return command.run("results.export", __doc__, Keys, read, do, words, goes_on=True)


if __name__ == "__main__":
    sys.exit(main())
