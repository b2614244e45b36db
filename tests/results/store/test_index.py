"""The index: the same rows and the same files set aside as without it, whatever becomes of it."""

import errno
import os
import shutil
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from year_of_runs import write_year

from results.recover import recover
from results.store import files, gather, index, schema
from results.store.files import read_file, read_table, table_path
from results.words import RECORD_ROOT

# Each test writes a store of hundreds of files.
pytestmark = pytest.mark.slow

TABLES = ("runs", "epochs", "system", "steps")


@pytest.fixture(scope="module")
def year(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("year")
    write_year(root, 24, 5, 100)
    return root


@pytest.fixture
def store(year, tmp_path, monkeypatch) -> Path:
    """Two dozen runs over twelve months, which an index is kept of, and some files that are set aside."""
    root = tmp_path / "store"
    shutil.copytree(year, root)
    monkeypatch.setattr(files, "INDEXED_FROM", 3)
    bad = sorted((root / "runs").rglob("*.parquet"))[:2]
    bad[0].write_bytes(b"PAR1")
    shutil.copy(bad[1], root / "runs" / "month=2026-11" / bad[1].name)
    return root


def direct(root: Path, table: str, monkeypatch, **how) -> tuple[pa.Table, list]:
    """What is read without an index."""
    with monkeypatch.context() as patch:
        patch.setattr(files, "INDEXED_FROM", 10**9)
        return read_table(root, table, **how)


def opened(monkeypatch) -> list[str]:
    """Names of the store's files that are opened from now on."""
    names: list[str] = []
    real = gather.load_file
    monkeypatch.setattr(gather, "load_file", lambda path: (names.append(path.name), real(path))[1])
    return names


def same(found: tuple[pa.Table, list], expected: tuple[pa.Table, list]) -> bool:
    table, other = found[0], expected[0]
    return table.schema.equals(other.schema) and table.equals(other) and found[1] == expected[1]


@pytest.mark.parametrize("table", TABLES)
def test_it_gives_what_the_files_give(store, table, monkeypatch):
    expected = direct(store, table, monkeypatch)
    assert not (store / index.FOLDER).exists() and expected[0].num_rows > 20
    assert len(expected[1]) == (2 if table == "runs" else 0)
    assert same(read_table(store, table), expected)  # which makes it
    assert list((store / index.FOLDER / table).glob("month=*.index"))
    names = opened(monkeypatch)
    assert same(read_table(store, table), expected)
    assert names == []
    columns = schema.SCHEMAS[table].names[3:0:-1]
    assert same(read_table(store, table, columns=columns), (expected[0].select(columns), expected[1]))
    assert names == []


def test_only_what_changed_is_read_again(store, monkeypatch):
    read_table(store, "runs")
    [first, second] = sorted((store / "runs" / "month=2026-06").glob("*.parquet"))
    gone = next((store / "runs" / "month=2026-07").glob("*.parquet"))
    gone.unlink()
    rows = read_file(first, "runs")
    changed = rows.set_column(rows.schema.get_field_index("depth"), "depth", pa.array([164]))
    pq.write_table(changed, first)
    new = rows.set_column(0, "run_id", pa.array(["new"]))
    pq.write_table(new, table_path(store, "runs", "2026-06", "new", 0))
    os.utime(second, ns=(1, second.stat().st_mtime_ns + 1))
    broken = next((store / "runs" / "month=2026-08").glob("*.parquet"))
    broken.write_bytes(b"x" * broken.stat().st_size)
    expected = direct(store, "runs", monkeypatch)
    names = opened(monkeypatch)
    assert same(read_table(store, "runs"), expected)
    assert sorted(names) == sorted([first.name, second.name, "new.0.parquet", broken.name])
    ids = expected[0]["run_id"].to_pylist()
    assert "new" in ids and gone.name.rpartition(".0.")[0] not in ids
    assert 164 in expected[0]["depth"].to_pylist()


@pytest.mark.parametrize("unindexed", [1, 2])
def test_a_month_of_many_new_files_is_indexed_again(store, unindexed, monkeypatch):
    read_table(store, "runs")
    monkeypatch.setattr(gather, "UNINDEXED", unindexed)
    rows = read_file(next((store / "runs" / "month=2026-06").glob("*.parquet")), "runs")
    pq.write_table(rows.set_column(0, "run_id", pa.array(["0new"])), table_path(store, "runs", "2026-06", "0new", 0))
    expected = direct(store, "runs", monkeypatch)
    # With chosen columns too the index holds them all.
    assert read_table(store, "runs", columns=["run_id"])[0]["run_id"].equals(expected[0]["run_id"])
    names = opened(monkeypatch)
    assert same(read_table(store, "runs"), expected)
    assert names == ([] if unindexed == 1 else ["0new.0.parquet"])


def test_a_file_that_cannot_be_opened_is_tried_again(store, monkeypatch):
    path = next((store / "runs" / "month=2026-06").glob("*.parquet"))
    real = gather.load_file
    with monkeypatch.context() as patch:
        patch.setattr(gather, "load_file", lambda one: gather_closed if one == path else real(one))
        gather_closed = type(real(path))("Permission denied")
        before = read_table(store, "runs")
        assert (path, "Permission denied") in [(bad.path, bad.reason) for bad in before[1]]
    after = read_table(store, "runs")
    assert after[0].num_rows == before[0].num_rows + 1 and len(after[1]) == len(before[1]) - 1


def damaged(path: Path) -> None:
    content = path.read_bytes()
    half = len(content) // 3
    path.write_bytes(content[:half] + bytes(one ^ 0xFF for one in content[half : half + 64]) + content[half + 64 :])


def of_other_code(path: Path) -> None:
    rows = index.load(path, "runs").read()
    rows = rows.set_column(rows.schema.get_field_index("depth"), "depth", pa.array([1] * rows.num_rows))
    entries = index.load(path, "runs").entries
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "VERSION", index.VERSION - 1)
        index.save(path, "runs", entries, rows)


DAMAGES = {
    "deleted": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "flipped": damaged,
    "foreign": lambda path: pq.write_table(pa.table({"a": [1]}), path),
    "older": of_other_code,
    "folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_as_good_as_none(store, damage, monkeypatch):
    expected = read_table(store, "runs")
    for path in (store / index.FOLDER / "runs").iterdir():
        DAMAGES[damage](path)
    assert same(read_table(store, "runs"), expected)
    names = opened(monkeypatch)
    assert same(read_table(store, "runs"), expected)
    assert not names or damage == "folder"  # it was made again


def test_no_flipped_bit_of_an_index_is_read(store):
    expected = read_table(store, "epochs")
    path = max((store / index.FOLDER / "epochs").iterdir(), key=lambda one: one.stat().st_size)
    whole = path.read_bytes()
    for place in range(4, len(whole) - 8, len(whole) // 80):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert same(read_table(store, "epochs"), expected), place


@pytest.mark.parametrize("fault", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_store_that_cannot_be_written_to_is_read_without(store, fault, monkeypatch):
    expected = direct(store, "runs", monkeypatch)

    def refuse(*_):
        raise OSError(fault, os.strerror(fault))

    monkeypatch.setattr(index, "replace_file", refuse)
    assert same(read_table(store, "runs"), expected)
    (store / index.FOLDER).rmdir() if not list((store / index.FOLDER).iterdir()) else shutil.rmtree(
        store / index.FOLDER
    )
    (store / index.FOLDER).write_text("no folder")
    assert same(read_table(store, "runs"), expected)


def test_few_files_get_none(year, tmp_path):
    shutil.copytree(year, tmp_path / "store")
    read_table(tmp_path / "store", "runs")
    read_table(RECORD_ROOT, "steps")
    assert not (tmp_path / "store" / index.FOLDER).exists() and not (RECORD_ROOT / index.FOLDER).exists()
    kept = max(len(files.table_files(RECORD_ROOT, table)) for table in TABLES)
    assert kept < files.INDEXED_FROM / 2


def test_chosen_runs_use_it_and_make_none(store, monkeypatch):
    ids = direct(store, "runs", monkeypatch)[0]["run_id"].to_pylist()[5:20]
    expected = direct(store, "runs", monkeypatch, run_ids=ids)
    assert expected[0]["run_id"].to_pylist() == ids
    assert same(read_table(store, "runs", ids), expected) and not (store / index.FOLDER).exists()
    read_table(store, "runs")
    names = opened(monkeypatch)
    assert same(read_table(store, "runs", ids), expected) and names == []
    assert same(read_table(store, "runs", ids[:2]), direct(store, "runs", monkeypatch, run_ids=ids[:2]))


def test_large_files_are_never_copied_into_it(store, monkeypatch):
    monkeypatch.setattr(gather, "SMALL_BYTES", 1000)
    expected = direct(store, "runs", monkeypatch)
    assert same(read_table(store, "runs"), expected)
    for path in (store / index.FOLDER / "runs").iterdir():
        assert index.load(path, "runs").read().num_rows == 0  # only why small ones are set aside


@pytest.mark.parametrize("kinds", [("string", "string"), ("string", "int64"), ("null", "string")])
def test_columns_of_later_versions_clash_as_without_it(store, kinds, monkeypatch):
    for month, kind in zip(("2026-03", "2026-09"), kinds, strict=True):
        path = next((store / "runs" / f"month={month}").glob("*.parquet"))
        value = {"string": "red", "int64": 1, "null": None}[kind]
        pq.write_table(read_file(path, "runs").append_column("colour", pa.array([value], kind)), path)
    expected = direct(store, "runs", monkeypatch)
    assert len(expected[1]) == 2 + (kinds == ("string", "int64"))
    for _ in range(3):
        assert same(read_table(store, "runs"), expected)
    next(
        path for path in (store / "runs" / "month=2026-03").glob("*.parquet") if "colour" in pq.read_schema(path).names
    ).unlink()
    expected = direct(store, "runs", monkeypatch)
    assert len(expected[1]) == 2  # what clashed with it does so no more
    assert same(read_table(store, "runs"), expected)


def test_an_older_month_brings_another_type_after_the_index_was_made(store, monkeypatch):
    for month, value in (("2026-09", "red"), ("2026-03", 1)):
        path = next((store / "runs" / f"month={month}").glob("*.parquet"))
        pq.write_table(read_file(path, "runs").append_column("colour", pa.array([value])), path)
        expected = direct(store, "runs", monkeypatch)
        for _ in range(2):
            assert same(read_table(store, "runs"), expected)
    assert sum("in other files int64" in bad.reason for bad in expected[1]) == 1


def test_readers_at_once_all_see_the_whole(store, monkeypatch):
    expected = direct(store, "epochs", monkeypatch)
    wrong: list[object] = []

    def reads() -> None:
        for _ in range(3):
            found = read_table(store, "epochs")
            if not same(found, expected):
                wrong.append(found)
            shutil.rmtree(store / index.FOLDER, ignore_errors=True)

    readers = [threading.Thread(target=reads) for _ in range(3)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert wrong == []


def test_what_a_killed_reader_left_is_swept(store):
    read_table(store, "runs")
    path = store / index.FOLDER / "runs" / ".month=2026-06.index.1-a.tmp"
    path.write_text("half an index")
    os.utime(path, (1, 1))
    recover(store)
    assert not path.exists()
