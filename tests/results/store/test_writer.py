"""The writer, the write-once files and the reader."""

import errno
import os

import pyarrow.parquet as pq
import pytest

from results import durable
from results.identity import system_id
from results.store import files, schema
from results.store.files import journals, read_rows, read_table
from results.store.journal import JournalError, read
from results.store.writer import RunWriter, StoreError

EPOCH = {"epoch": 1, "elapsed_s": 2.0, "loss": 1.5, "top1": 0.5, "images": 1408}
STEP = {"rank": 0, "step": 0, "t_ns": 1, "step_ms": 10.0, "data_ms": 0.1, "loss": float("nan")}


def whole_run(root, run_id="r1", **row):
    writer = RunWriter(root, {"run_id": run_id, "depth": 20, **row})
    writer.system({"cpu_model": "some cpu"})
    writer.steps([STEP, {**STEP, "step": 1, "loss": 2.5}])
    writer.epoch(EPOCH)
    return writer.finish("completed", images_per_s=100.0)


def test_a_run_leaves_four_files_and_no_journal(tmp_path):
    written = whole_run(tmp_path)
    assert [path.parent.parent.name for path in written] == ["steps", "epochs", "system", "runs"]
    assert all(path.name == "r1.0.parquet" and path.parent.name.startswith("month=") for path in written)
    assert journals(tmp_path) == []
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)
    for path in written:
        metadata = pq.ParquetFile(path).metadata
        assert metadata.row_group(0).column(0).compression == "ZSTD"
        assert pq.read_schema(path).metadata[b"schema_version"] == b"1"
        assert pq.read_schema(path).names == schema.SCHEMAS[path.parent.parent.name].names


def test_rows_come_back(tmp_path):
    whole_run(tmp_path, restart_count=2)
    [run], bad = read_rows(tmp_path, "runs")
    assert bad == []
    assert (run["status"], run["images_per_s"]) == ("completed", 100.0)
    assert (run["restart_count"], run["schema_version"]) == (2, 1)
    [system], _ = read_rows(tmp_path, "system")
    assert run["system_id"] == system["system_id"] == system_id({"cpu_model": "some cpu"})
    [epoch], _ = read_rows(tmp_path, "epochs")
    assert {key: epoch[key] for key in EPOCH} == EPOCH
    assert (epoch["run_id"], epoch["restart"]) == ("r1", 2)
    steps, _ = read_rows(tmp_path, "steps")
    assert [step["step"] for step in steps] == [0, 1]
    assert steps[0]["loss"] != steps[0]["loss"] and steps[1]["loss"] == 2.5
    assert {step["run_id"] for step in steps} == {"r1"}


def test_a_failed_run_without_rows_has_only_its_row_and_reasons(tmp_path):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    [path] = writer.finish(
        "failed",
        failure_kind="data",
        failure_message="empty class",
        peak_mem_bytes=7,
        null_reasons={"mfu": "no peak known"},
    )
    assert path.parent.parent.name == "runs"
    [run], _ = read_rows(tmp_path, "runs")
    assert run["null_reasons"]["energy_j"] == "failed (data) before it was measured"
    assert run["null_reasons"]["images_per_s"] == "failed before a whole epoch after the warm-up"
    assert run["null_reasons"]["mfu"] == "no peak known"
    assert "peak_mem_bytes" not in run["null_reasons"]
    assert read_table(tmp_path, "steps")[0].num_rows == 0


def test_steps_of_many_groups_come_back_in_order(tmp_path, monkeypatch):
    monkeypatch.setattr("results.store.writer.ROWS_PER_GROUP", 100)
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    for first in range(0, 1000, 50):
        writer.steps([{**STEP, "step": first + index} for index in range(50)])
    steps_path = writer.finish("completed")[0]
    assert pq.ParquetFile(steps_path).num_row_groups == 10
    assert read_table(tmp_path, "steps")[0]["step"].to_pylist() == list(range(1000))


def test_an_attempt_is_written_once(tmp_path):
    before = {path: path.read_bytes() for path in whole_run(tmp_path)}
    with pytest.raises(StoreError, match="exists already"):
        RunWriter(tmp_path, {"run_id": "r1"})
    for path in before:
        with pytest.raises(FileExistsError, match="exists already"):
            files.write_once(path, [schema.to_table("runs", [{"run_id": "other"}])])
    assert {path: path.read_bytes() for path in before} == before
    assert whole_run(tmp_path, restart_count=1)  # another attempt has files of its own
    assert read_table(tmp_path, "runs")[0].num_rows == 2


@pytest.mark.parametrize("links", [True, False])
def test_a_name_taken_at_the_last_moment_stays(tmp_path, monkeypatch, links):
    path = tmp_path / "t" / "month=2026-11" / "r.0.parquet"
    if not links:

        def refuse(*_):
            raise OSError(errno.EPERM, "no hard links here")

        monkeypatch.setattr(os, "link", refuse)
    real = durable.publish
    monkeypatch.setattr(durable, "publish", lambda temporary, name: (name.write_text("first"), real(temporary, name)))
    with pytest.raises(FileExistsError):
        files.write_once(path, [schema.to_table("runs", [{"run_id": "r"}])])
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.setattr(durable, "publish", real)
    assert files.write_once(path.with_name("s.0.parquet"), [schema.to_table("runs", [{"run_id": "s"}])])
    assert pq.ParquetFile(path.with_name("s.0.parquet")).metadata.num_rows == 1


def test_a_second_writer_of_an_attempt_is_refused(tmp_path):
    RunWriter(tmp_path, {"run_id": "r1"})
    with pytest.raises(JournalError, match="results.recover"):
        RunWriter(tmp_path, {"run_id": "r1"})
    assert [path.name for path in (tmp_path / "journal").iterdir()] == ["r1.0.jsonl"]


def test_what_does_not_fit_leaves_the_journal_as_it_was(tmp_path):
    with pytest.raises(ValueError, match="depth"):
        RunWriter(tmp_path, {"run_id": "r1", "dept": 20})
    with pytest.raises(ValueError, match="run_id"):
        RunWriter(tmp_path, {"depth": 20})
    with pytest.raises(ValueError, match="run_id '../x'"):
        RunWriter(tmp_path, {"run_id": "../x"})
    assert not list(tmp_path.iterdir())
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    before = journals(tmp_path)[0].read_bytes()
    for call in (
        lambda: writer.update(status="completed"),
        lambda: writer.update(mfu="high"),
        lambda: writer.epoch({**EPOCH, "run_id": "r2"}),
        lambda: writer.epoch({"loss": "x"}),
        lambda: writer.steps([{**STEP, "restart": 1}]),
        lambda: writer.steps([{**STEP, "step": "x"}]),
        lambda: writer.steps([{**STEP, "stepp": 1}]),
        lambda: writer.system({"gpu": 1}),
        lambda: writer.finish("done"),
        lambda: writer.finish("failed"),
        lambda: writer.finish("completed", failure_kind="data"),
        lambda: writer.finish("completed", mfu=float("nan")),
    ):
        with pytest.raises(ValueError):
            call()
    assert journals(tmp_path)[0].read_bytes() == before
    writer.finish("completed")
    with pytest.raises(StoreError, match="has ended"):
        writer.epoch(EPOCH)
    with pytest.raises(StoreError, match="has ended"):
        writer.finish("completed")


def test_finish_can_be_called_again_after_a_full_disk(tmp_path, monkeypatch):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    writer.epoch(EPOCH)
    real, calls = os.link, []

    def full(temporary, path):
        calls.append(path)
        if "runs" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(temporary, path)

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(OSError, match="No space"):
        writer.finish("completed", mfu=0.5)
    assert len(calls) == 2 and len(journals(tmp_path)) == 1
    monkeypatch.setattr(os, "link", real)
    assert len(writer.finish("completed", mfu=0.5)) == 2
    assert read_rows(tmp_path, "runs")[0][0]["mfu"] == 0.5
    assert not list(tmp_path.rglob("*.tmp"))


def test_paths_and_host(tmp_path):
    writer = RunWriter(tmp_path, {"run_id": "r1", "config_json": '{"data": "/d", "depth": 20}'})
    assert writer.row["config_json"] == '{"depth": 20}'
    assert writer.row["nodelist"] == os.uname().nodename
    writer.update(config_json='{"save": "/d", "depth": 32}')
    assert writer.row["config_json"] == '{"depth": 32}'
    writer.finish("completed")


def test_reading_chosen_runs_or_nothing(tmp_path):
    whole_run(tmp_path, "a")
    whole_run(tmp_path, "a.b")
    assert read_table(tmp_path, "runs", ["a"])[0]["run_id"].to_pylist() == ["a"]
    empty, bad = read_table(tmp_path / "none", "runs")
    assert (empty.num_rows, empty.column_names, bad) == (0, schema.SCHEMAS["runs"].names, [])
    with pytest.raises(ValueError, match="runs"):
        read_table(tmp_path, "run")


def test_what_reaches_the_disk_when(tmp_path, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to name what is synced")
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    journal = str(journals(tmp_path)[0])
    synced.clear()
    writer.steps([STEP])
    assert synced == []
    assert b'"steps"' in journals(tmp_path)[0].read_bytes()  # handed to the kernel all the same: kill -9 loses nothing
    writer.epoch(EPOCH)
    assert len(synced) == 1 and "r1.0.jsonl" in synced[0]  # its name is still the temporary one to some kernels
    synced.clear()
    paths = writer.finish("completed")
    for path in paths:
        assert any(
            os.path.basename(name).startswith(f".{path.name}.") and name.startswith(str(path.parent)) for name in synced
        )
        assert str(path.parent) in synced
    assert os.path.dirname(journal) in synced


def test_a_checkpoint_s_time_is_laid_over_its_epoch(tmp_path):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    for epoch in (1, 2, 3):
        writer.epoch({**EPOCH, "epoch": epoch})
        if epoch != 3:
            writer.checkpoint(epoch, epoch / 2)
    writer.finish("completed")
    epochs, _ = read_rows(tmp_path, "epochs")
    assert [(each["epoch"], each["top1"], each["checkpoint_s"]) for each in epochs] == [
        (1, 0.5, 0.5), (2, 0.5, 1.0), (3, 0.5, None),
    ]  # fmt: skip


def test_a_checkpoint_of_no_epoch_is_a_line_that_cannot_be_read(tmp_path):
    writer = RunWriter(tmp_path, {"run_id": "r1"})
    writer.checkpoint(1, 2.0)
    with files.journal_path(tmp_path, "r1", 0).open("rb") as file:
        contents = read(file, "j")
    assert contents.unreadable == 1 and contents.epochs == []
