"""Rows as JSON, as journals hold them, and the configuration that a row holds as JSON."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from results.store.schema import TIME, Row, check_column, clean_row
from results.words import PATH_KEYS, parse_json

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def to_json(table: str, row: Mapping[str, Any]) -> Row:
    """Return a checked row as JSON values (timestamps as microseconds since 1970, UTC)."""
    return {
        column: (value - EPOCH) // MICROSECOND if isinstance(value, datetime) else value
        for column, value in row.items()
    }


def from_json(table: str, row: Mapping[str, Any]) -> Row:
    """Inverse of `to_json`; checks the row as `clean_row` does."""
    decoded = {
        column: EPOCH + value * MICROSECOND if isinstance(value, int) and check_column(table, column) == TIME else value
        for column, value in row.items()
    }
    return clean_row(table, decoded)


def strip_paths(config_json: str) -> str:
    """Return a configuration's JSON without the keys that hold paths.

    Raises:
        ValueError: it is not a JSON object.
    """
    try:
        config = parse_json(config_json)
    except ValueError as error:
        raise ValueError(f"runs.config_json: not JSON ({error})") from None
    if not isinstance(config, dict):
        raise ValueError(f"runs.config_json: expected an object, got {type(config).__name__}")
    return json.dumps({key: value for key, value in config.items() if key not in PATH_KEYS}, sort_keys=True)
