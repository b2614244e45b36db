"""A database in memory with a table for each of the store's, in which one SELECT is run and nothing else."""

import re
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from results.store.files import BadFile, read_table
from results.store.schema import FLAG, INT, REAL, REALS, SCHEMAS, TEXT, TEXT_MAP, TEXTS, TIME, to_table
from results.words import nearest, suggestion

__all__ = ["SQL_TYPES", "ask"]

SQL_TYPES = {
    TEXT: "VARCHAR", INT: "BIGINT", REAL: "DOUBLE", FLAG: "BOOLEAN", TIME: "TIMESTAMP WITH TIME ZONE",
    TEXTS: "VARCHAR[]", REALS: "DOUBLE[]", TEXT_MAP: "MAP(VARCHAR, VARCHAR)",
}  # fmt: skip
# Nothing but the rows that it is given: no file, no network, no extension, no variable of this process.
CLOSED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
# MULTI is a PIVOT, which becomes several.
ANSWERS = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN, duckdb.StatementType.MULTI)


def ask(root: Path, sql: str) -> tuple[pa.Table, list[BadFile]]:
    """Run one statement over the tables of a store.

    Args:
        root: of the store.
        sql: in DuckDB's dialect; a table that it names is read, all of its files whatever their age.

    Returns:
        The rows that it gives, names of columns made unique, and the files of these tables that were set aside.

    Raises:
        ValueError: it is not one SELECT, or fails; one line, with the nearest name where a name is wrong.
    """
    try:
        sql.encode()
    except UnicodeEncodeError as error:  # bytes of a command line that are no UTF-8
        raise ValueError(f"{sql}: {sql[error.start]!r} is no character; expected SQL as UTF-8") from None
    with duckdb.connect(":memory:", config=CLOSED) as database:
        database.execute("SET TimeZone = 'UTC'")
        _check(database, sql)
        tables, bad = {}, []
        for table in SCHEMAS:
            # A table that is used stands in the text as a word; the others are there to be listed, without rows.
            if re.search(rf"\b{table}\b", sql, re.IGNORECASE):
                tables[table], aside = read_table(root, table)
                bad += aside
            else:
                tables[table] = to_table(table, [])
            database.register(table, tables[table])
        database.execute("SET lock_configuration = true")
        try:
            answer = database.sql(sql)
            rows = answer.to_arrow_table() if answer is not None else pa.table({})
        except duckdb.Error as error:
            raise ValueError(_explained(str(error), tables)) from None
    return rows.rename_columns(_unique(rows.column_names)), bad


def _check(database: duckdb.DuckDBPyConnection, sql: str) -> None:
    try:
        statements = database.extract_statements(sql)
    except duckdb.Error as error:
        raise ValueError(_explained(str(error), {})) from None
    if len(statements) != 1:
        raise ValueError(f"{len(statements)} statements; expected one SELECT")
    if statements[0].type not in ANSWERS:
        raise ValueError(f"{statements[0].type.name} is not allowed, rows are only read; expected a SELECT")


def _explained(message: str, tables: dict[str, pa.Table]) -> str:
    """DuckDB's message in one line; a wrong name with what is nearest to it here."""
    first = " ".join(message.partition("\n\nLINE ")[0].split())
    if wrong := re.search(r'Table with name "?(.+?)"? does not exist', first):
        return f"{wrong[1]}: no such table; nearest is {nearest(wrong[1], SCHEMAS)} (there are {', '.join(SCHEMAS)})"
    column = re.search(r'Referenced column "(.+?)" not found|does not have a column named "(.+?)"', first)
    if column:
        name = column[1] or column[2]
        used = [column for table in tables.values() if table.num_rows for column in table.column_names]
        known = used or [column for table in tables.values() for column in table.column_names]
        return f"{name}: no such column; nearest is {suggestion(name, known) or nearest(name, known)}"
    return first


def _unique(names: Sequence[str]) -> list[str]:
    """Names with a number where one stands more than once, so that no column of an answer hides another."""
    taken: list[str] = []
    for name in names:
        number, one = 1, name
        while one in taken or (one != name and one in names):
            number += 1
            one = f"{name}_{number}"
        taken.append(one)
    return taken
