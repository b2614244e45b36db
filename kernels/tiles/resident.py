"""How many programs of a convolution a multiprocessor has room for at once, as its compiled kernels told."""

import csv
import functools
import io
import re
from pathlib import Path

TABLE = Path(__file__).with_name("resident.csv")
COLUMNS = ("chip", "op", "tile_config", "regs", "shared_bytes", "resident")


def read(path: Path) -> tuple[str, str, dict[tuple[str, str, str], dict[str, int]]]:
    """The version of Triton and the digest that a table is of, and its numbers by chip, op and tile config.

    Raises:
        ValueError: it is no such table; one line.
    """
    first, _, rest = path.read_text(encoding="utf-8").partition("\n")
    header = re.match(r"# Triton (\S+), sources ([0-9a-f]{16}); ", first)
    rows = list(csv.DictReader(io.StringIO(rest)))
    if header is None or any(tuple(row) != COLUMNS for row in rows):
        raise ValueError(f"{path}: no table of resident programs")
    found = {
        (row["chip"], row["op"], row["tile_config"]): {name: int(row[name]) for name in COLUMNS[3:]} for row in rows
    }
    return header[1], header[2], found


@functools.cache
def resident_programs(chip: str, op: str, tile_config: str) -> int | None:
    """Programs of a tile config that a multiprocessor has at once, in bf16; None where none was compiled.

    Of all forms of the op the one that takes the most is told.
    """
    known = _table().get((chip, op, tile_config))
    return known["resident"] if known else None


@functools.cache
def _table() -> dict[tuple[str, str, str], dict[str, int]]:
    return read(TABLE)[2]
