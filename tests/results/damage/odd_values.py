"""Values that a column allows and nobody writes, and values of types that no column of the store has."""

from datetime import datetime

import pyarrow as pa

DEEP = 100_000  # brackets: more than any parser goes down
NUMBERS = (0, -1, 2**62, -(2**63), 2**53 + 1, 1, 10**6)
REALS = (float("nan"), float("inf"), -float("inf"), -1.0, 0.0, -0.0, 1e308, 1e-308, 5e-324)
TEXTS = (
    "", " ", "a\nb", "\x1b[31m", "\x00", "é\u202e", "x" * 300_000, "[" * DEEP, "{" + '"a":{' * 5000,
    "[" * 900 + "]" * 900, '{"a":' * 500 + "1" + "}" * 500, '{"a":' * 90 + "1" + "}" * 90,
    "null", "[]", "{}", "1", "NaN",
    '{"depth": NaN}', '{"depth": [1, {"a": null}]}', '{"a": ' + "9" * 5000 + "}", '{"\\ud800": "\\udc00"}',
    "completed", "2026-13-45",
    '{"recipe": {"a": 1e999}}', "running", "-", "'", '"', "[bold]x[/bold]", "[/]", "%s", "/etc/passwd", "../x",
    "1e999", "a;b;c;d", ";;",
)  # fmt: skip
TIMES = (-62135596800000000 + 86400000000, 253402214400000000, 0, -1, 2**62, 1_800_000_000_000_000)
REASONS = (
    [],
    [("images_per_s", "a\nb")],
    [("no such", "x")],
    [("", "")],
    [("mfu", None)],
    [("mfu", "a"), ("mfu", "b")],
    [("tta_s", "[/x]")],
)
LISTS = ([], [None], [""], ["a\nb"], ["x"] * 3000)
KINDS = (
    pa.string(), pa.large_string(), pa.binary(), pa.int8(), pa.int32(), pa.uint64(), pa.float16(), pa.float32(),
    pa.bool_(),
    pa.timestamp("ns"), pa.timestamp("s", "Asia/Tokyo"), pa.date32(), pa.time64("us"), pa.duration("s"),
    pa.decimal128(38, 9),
    pa.list_(pa.string()), pa.list_(pa.list_(pa.int64())),
    pa.struct([("a", pa.string()), ("b", pa.struct([("c", pa.int64())]))]),
    pa.map_(pa.string(), pa.list_(pa.string())), pa.dictionary(pa.int32(), pa.string()), pa.null(),
    pa.list_(pa.string(), 2),
    pa.map_(pa.int64(), pa.string()), pa.list_(pa.struct([("a", pa.string())])),
)  # fmt: skip
VALUES = (
    "x", b"\xff", 1, 2**40, 1.5, True, datetime(2026, 1, 1), ["x"], [[1]], {"a": "x", "b": {"c": 1}}, [("k", ["v"])],
    [(1, "v")], None,
    [{"a": "x"}], ["a", "b"], "9" * 40,
)  # fmt: skip


def made(kind: pa.DataType, number: int, rows: int) -> pa.Array:
    """Values of a type, such as there are."""
    for step in range(len(VALUES)):
        try:
            return pa.array([VALUES[(number + step) % len(VALUES)]] * rows, kind)
        except (pa.ArrowException, ValueError, TypeError, OverflowError, AttributeError):
            continue
    return pa.nulls(rows, kind)
