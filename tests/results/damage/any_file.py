"""A small store, and everything that can become of its files."""

import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from made_up import recent
from odd_values import KINDS, LISTS, NUMBERS, REALS, REASONS, TEXTS, TIMES, made

from results.store.schema import REQUIRED, SCHEMAS

TABLES = tuple(SCHEMAS)


def write_store(root: Path) -> None:
    """Write runs of two cells, one of kernels, pairs and a baseline."""
    store = recent(root)
    ids = [store.run(1000.0 + place) for place in range(4)]
    ids.append(store.run(None, status="failed", failure_kind="oom", failure_message="no memory"))
    ids.append(store.run(500.0, benchmark="micro", engine=None))
    for run_id in ids:
        own = {"run_id": run_id, "restart": 0}
        store.write(
            "epochs",
            [{**own, "epoch": one, "elapsed_s": 2.0 * one, "top1": 0.5, "loss": 1.0} for one in (1, 2)],
            run_id,
        )
        store.write(
            "steps",
            [{**own, "rank": 0, "step": one, "t_ns": one, "step_ms": 1.0, "loss": 1.0} for one in range(20)],
            run_id,
        )
        store.write(
            "system",
            [{**own, "system_id": "s", "cpu_model": "CPU", "hostname": "n", "versions": {"numpy": "2"}}],
            run_id,
        )
    timed = {"backend": "triton", "shape": "64x56", "dtype": "bf16", "layout": "nhwc", "l2": "cold", "status": "ok"}
    rows = [
        {"run_id": ids[-1], "op": op, "samples_us": [1.0, 2.0], "p50": 1.5, **timed} for op in ("bn_act", "conv1x1")
    ]
    store.write("kernels", rows, ids[-1])
    store.pairs([0.01, 0.02])
    event = {"reason": "r", "accepted_by": "u", "accepted_at": datetime(2026, 11, 2, tzinfo=UTC), "change_marks": ["m"]}
    store.write("baselines", [{"key": "k", "run_ids": ids[:2], "baseline_id": "b", "kind": "accept", **event}], "b")


@dataclass
class Store:
    """A store that is damaged again and again.

    Attributes:
        root: where it lies.
        files: content by path within it, as it was written.
        touched: paths of files that are not as they were, or are new.
    """

    root: Path
    files: dict[str, bytes]
    touched: set[str] = field(default_factory=set)

    def restore(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        for name, data in self.files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.touched.clear()

    def file(self, index: int, table: str = "") -> Path:
        """One of the files, which then counts as touched.

        Raises:
            OSError: an earlier damage has made something else of it, which would be waited for.
        """
        name = (names := sorted(name for name in self.files if name.startswith(table)))[index % len(names)]
        self.touched.add(name)
        if not stat.S_ISREG(os.lstat(self.root / name).st_mode):
            raise OSError(f"{name} is no file any more")
        return self.root / name

    def beside(self, path: Path, name: str, month: str = "") -> Path:
        """A new path in the folder of a file, or that of another month."""
        new = (path.parent.with_name(month) if month else path.parent) / name
        new.parent.mkdir(exist_ok=True)
        self.touched.add(str(new.relative_to(self.root)))
        return new


Damage = Callable[[Store, int, int, int], None]


def _changed(path: Path, change: Callable[[bytes], bytes]) -> None:
    if data := path.read_bytes():  # an earlier damage may have left nothing
        path.write_bytes(change(data))


def _rewritten(path: Path, change: Callable[[pa.Table], pa.Table], **how: Any) -> None:
    """Change rows; what Arrow itself refuses to make, or cannot read any more, is no damage."""
    try:
        pq.write_table(change(pq.ParquetFile(path).read()), path, **how)
    except (pa.ArrowException, ValueError, TypeError, OverflowError, LookupError):
        return


def flip(store: Store, one: int, two: int, three: int) -> None:
    _changed(
        store.file(one), lambda data: bytes(b ^ (1 << three % 8) * (i == two % len(data)) for i, b in enumerate(data))
    )


def flip_in_the_end(store: Store, one: int, two: int, three: int) -> None:
    """In the footer, which says what is where."""
    _changed(
        store.file(one),
        lambda data: bytes(
            b ^ (1 << three % 8) * (i == len(data) - 1 - two % min(len(data), 3000)) for i, b in enumerate(data)
        ),
    )


def overwrite(store: Store, one: int, two: int, three: int) -> None:
    noise = bytes((three >> shift) & 255 for shift in range(0, 32, 3))
    _changed(store.file(one), lambda data: data[: two % len(data)] + noise + data[two % len(data) + len(noise) :])


def cut(store: Store, one: int, two: int, three: int) -> None:
    _changed(store.file(one), lambda data: data[: two % len(data)])


def cut_and_closed(store: Store, one: int, two: int, three: int) -> None:
    """With the footer behind what is left."""
    _changed(store.file(one), lambda data: data[: two % len(data)] + data[-(8 + three % 4000) :])


def appended(store: Store, one: int, two: int, three: int) -> None:
    _changed(store.file(one), lambda data: data + data[: two % 50])


def zeroed(store: Store, one: int, two: int, three: int) -> None:
    _changed(
        store.file(one),
        lambda data: (
            data[: two % len(data)]
            + bytes(len(data[two % len(data) :][: three % 300]))
            + data[two % len(data) + three % 300 :]
        ),
    )


def other_bytes(store: Store, one: int, two: int, three: int) -> None:
    store.file(one).write_bytes(
        (b"", b"PAR1", b"PAR1PAR1", b"text\n" * 99, b"\0" * 64, b"PAR1\xff\xff\xff\x7fPAR1", b"ARROW1" * 9)[two % 7]
    )


def _column(rows: pa.Table, number: int) -> str:
    return rows.column_names[number % max(1, rows.num_columns)]


def odd_value(store: Store, one: int, two: int, three: int) -> None:
    """A value that its type allows, in one row of one column."""

    def change(rows: pa.Table) -> pa.Table:
        name, place = _column(rows, two), three % max(1, rows.num_rows)
        kind = rows.schema.field(name).type
        choices = {
            pa.int64(): NUMBERS, pa.float64(): REALS, pa.string(): TEXTS, pa.bool_(): (True, False),
            pa.list_(pa.string()): LISTS,
            pa.list_(pa.float64()): ([], [None], list(REALS)), pa.map_(pa.string(), pa.string()): REASONS,
        }.get(kind, TIMES)  # fmt: skip
        values = rows[name].to_pylist()
        value: Any = None if three % 5 == 0 else choices[three % len(choices)]
        values[place] = (
            pa.scalar(value, kind).as_py() if pa.types.is_timestamp(kind) and abs(value or 0) < 2**57 else value
        )
        return rows.set_column(two % max(1, rows.num_columns), name, pa.array(values, kind))

    _rewritten(store.file(one), change)


def odd_text(store: Store, one: int, two: int, three: int) -> None:
    """A text in a column of `runs` that others read as JSON, an id, a status or a name."""
    names = ("config_json", "hardware", "kernels_choices", "mixed", "comparability_parts", "lineage", "status",
    "failure_kind",
             "failure_message", "git_commit", "slurm_job_id", "nodelist", "benchmark", "resumed_from",
             "config_hash")  # fmt: skip

    def change(rows: pa.Table) -> pa.Table:
        at = rows.schema.get_field_index(names[two % len(names)])
        return rows.set_column(
            at, names[two % len(names)], pa.array([TEXTS[three % len(TEXTS)]] * rows.num_rows, pa.string())
        )

    _rewritten(store.file(one, "runs"), change)


def other_type(store: Store, one: int, two: int, three: int) -> None:
    def change(rows: pa.Table) -> pa.Table:
        kind = KINDS[three % len(KINDS)]
        return rows.set_column(
            two % max(1, rows.num_columns), _column(rows, two), made(kind, three // 7, rows.num_rows)
        )

    _rewritten(store.file(one), change)


def other_encoding(store: Store, one: int, two: int, three: int) -> None:
    how: dict[str, Any] = (
        {"compression": "gzip"}, {"compression": "none"}, {"data_page_version": "2.0"}, {"use_dictionary": False},
        {"version": "1.0"}, {"row_group_size": 1}, {"write_statistics": False},
        {"compression": "snappy", "store_schema": False},
        {"compression": "none", "use_dictionary": False, "data_page_size": 1}, {"write_page_checksum": True},
    )[three % 10]  # fmt: skip
    path = store.file(one)
    _rewritten(path, lambda rows: rows, **how)
    if two % 2:
        _changed(path, lambda data: data[: two % len(data)] + bytes([three % 256]) + data[two % len(data) + 1 :])


def without_column(store: Store, one: int, two: int, three: int) -> None:
    path = store.file(one)
    table = path.relative_to(store.root).parts[0]
    names = REQUIRED[table] if three % 2 else SCHEMAS[table].names
    _rewritten(path, lambda rows: rows.drop_columns([names[two % len(names)]]))


def renamed_column(store: Store, one: int, two: int, three: int) -> None:
    names = (
        "",
        " ",
        "RUN_ID",
        "run_id ",
        "a\nb",
        "month",
        "__index_level_0__",
        "é" * 200,
        "depth",
        "run_id",
        "\x1b[31m",
    )
    _rewritten(
        store.file(one),
        lambda rows: rows.rename_columns(
            [
                names[three % len(names)] if place == two % max(1, rows.num_columns) else name
                for place, name in enumerate(rows.column_names)
            ]
        ),
    )


def more_columns(store: Store, one: int, two: int, three: int) -> None:
    """Of a later version, of another tool, or one that is there already."""
    name = ("colour", "month", "a\nb", "", "run_id", "__index_level_0__", "depth", "\x1b[31m", "x" * 10_000)[two % 9]
    kind = KINDS[three % len(KINDS)]
    _rewritten(store.file(one), lambda rows: rows.append_column(name, made(kind, three // 7, rows.num_rows)))


def many_columns(store: Store, one: int, two: int, three: int) -> None:
    _rewritten(
        store.file(one),
        lambda rows: pa.table([pa.nulls(rows.num_rows, pa.string())] * 2000, [f"c{i}" for i in range(2000)]),
    )


def other_metadata(store: Store, one: int, two: int, three: int) -> None:
    table = (*TABLES, "", "x", "\xff")[two % (len(TABLES) + 3)]
    version = ("1", "2", "0", "-1", "", "x", "1.0", "9" * 5000, "\n", "١")[three % 10]
    _rewritten(store.file(one), lambda rows: rows.replace_schema_metadata({"table": table, "schema_version": version}))


def other_rows(store: Store, one: int, two: int, three: int) -> None:
    _rewritten(
        store.file(one),
        lambda rows: (rows.slice(0, 0), pa.concat_tables([rows, rows]), rows.slice(1), rows.slice(0, 1))[two % 4],
    )


def no_columns(store: Store, one: int, two: int, three: int) -> None:
    pq.write_table(pa.table({}) if two % 2 else pa.table({"a": pa.array([1, 2])}), store.file(one))


def odd_id(store: Store, one: int, two: int, three: int) -> None:
    value = (None, "", "a\nb", "../x", "x" * 200, ".hidden", "\x1b[31m", "é", "con", "-x", "a b", "\x00")[three % 12]
    names = ("run_id", "pairs_id", "baseline_id", "system_id", "key", "side")

    def change(rows: pa.Table) -> pa.Table:
        there = [name for name in names if name in rows.column_names]
        name = there[two % len(there)]
        return rows.set_column(rows.schema.get_field_index(name), name, pa.array([value] * rows.num_rows, pa.string()))

    _rewritten(store.file(one), change)


def other_place(store: Store, one: int, two: int, three: int) -> None:
    """A file under another name, or of another table or month; moved or copied."""
    path = store.file(one)
    stem = path.name.removesuffix(".0.parquet")
    names: tuple[str, ...] = (
        path.name, f"{stem}.1.parquet", f"{stem}.parquet", f"{stem}.0 (1).parquet", "a\nb.0.parquet",
        os.fsdecode(b"\xff.0.parquet"),
        "-.0.parquet", f"{stem}.-1.parquet", f"{stem}.{'9' * 120}.parquet", f"{stem}.٣.parquet", "x.0.parquet",
        ".x.0.parquet",
        f"{stem}.0.PARQUET", "\x1b[31m.0.parquet", f"{'x' * 200}.0.parquet", "*.0.parquet", f"{stem}.00.parquet",
    )  # fmt: skip
    months = ("", "month=2026-10", "month=2027-01", "month=", "month=x\ny", "2026-10", "month=2026-11 ")
    name, month = names[two % len(names)], months[three % len(months)]
    if three % 3 == 0:
        target = store.root / TABLES[two % len(TABLES)] / "month=2026-11" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        store.touched.add(str(target.relative_to(store.root)))
    else:
        target = store.beside(path, name, month)
    if target == path or not path.exists():
        return
    shutil.copy(path, target) if two % 2 else os.replace(path, target)


def no_file(store: Store, one: int, two: int, three: int) -> None:
    """What is no file lies under a file's name, or in place of a folder."""
    path = store.file(one)
    if three % 2:
        path = store.beside(path, "odd.0.parquet")
    path.unlink(missing_ok=True)
    match two % 8:
        case 0:
            path.mkdir()
        case 1:
            os.mkfifo(path)
        case 2:
            path.symlink_to(path.name)
        case 3:
            path.symlink_to("nowhere")
        case 4:
            path.symlink_to("/dev/zero")
        case 5:
            path.symlink_to("..")
        case 6:
            path.write_bytes(b"")
            store.beside(path, "no folder", "").parent.with_name("month=2026-12").write_text("no folder")
        case 7:
            path.parent.with_name("month=2026-09").symlink_to("month=2026-09")


DAMAGES: tuple[Damage, ...] = (
    flip, flip_in_the_end, flip_in_the_end, overwrite, cut, cut_and_closed, appended, zeroed, other_bytes, odd_value,
    odd_value,
    odd_value, odd_text, odd_text, other_type, other_type, other_encoding, without_column, renamed_column,
    more_columns, many_columns,
    other_metadata, other_rows, no_columns, odd_id, other_place, other_place, no_file,
)  # fmt: skip
