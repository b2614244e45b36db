"""Files appear whole or not at all: after a failed write, a killed writer, a race, and without hard links."""

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from results import durable
from results.durable import create_file, replace_file, sync_folder
from results.store.files import read_table

ROOT = Path(durable.__file__).resolve().parents[1]
KINDS = pytest.mark.parametrize("write_file", [replace_file, create_file])


def no_links(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@KINDS
@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_what_was_written(tmp_path, monkeypatch, write_file, links):
    if not links:
        no_links(monkeypatch)
    write_file(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new" and names(tmp_path) == ["a"]


def test_one_replaces_and_the_other_does_not(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"old" and names(tmp_path) == ["a"]
    replace_file(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new" and names(tmp_path) == ["a"]


@KINDS
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), KeyboardInterrupt(), ValueError("no such row")])
def test_a_failed_write_leaves_what_was_there(tmp_path, write_file, error):
    (tmp_path / "old").write_bytes(b"old")

    def fail(file):
        file.write(b"half")
        raise error

    for name in ("old", "new"):
        with pytest.raises(type(error)):
            write_file(tmp_path / name, fail)
    assert (tmp_path / "old").read_bytes() == b"old" and names(tmp_path) == ["old"]


@pytest.mark.parametrize(
    ("write_file", "call"),
    [(replace_file, "fsync"), (replace_file, "replace"), (create_file, "fsync"), (create_file, "link")],
)
def test_a_disk_that_refuses_late_leaves_what_was_there(tmp_path, monkeypatch, write_file, call):
    (tmp_path / "old").write_bytes(b"old")

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, call, refuse)
    for name in ("old", "new"):
        with pytest.raises(OSError, match="Input/output error"):
            write_file(tmp_path / name, lambda file: file.write(b"new"))
    assert (tmp_path / "old").read_bytes() == b"old" and names(tmp_path) == ["old"]


def test_without_hard_links_a_name_is_taken_once(tmp_path, monkeypatch):
    no_links(monkeypatch)
    create_file(tmp_path / "a", lambda file: file.write(b"first"))
    with pytest.raises(FileExistsError):
        create_file(tmp_path / "a", lambda file: file.write(b"second"))
    assert (tmp_path / "a").read_bytes() == b"first" and names(tmp_path) == ["a"]


def test_without_hard_links_a_claimed_name_is_given_back(tmp_path, monkeypatch):
    no_links(monkeypatch)

    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        create_file(tmp_path / "a", lambda file: file.write(b"new"))
    assert names(tmp_path) == []


@KINDS
@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_who_may_read_a_file_is_for_the_umask_to_say(tmp_path, write_file, mask):
    before = os.umask(mask)
    try:
        write_file(tmp_path / "a", lambda file: file.write(b"new"))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


@KINDS
def test_the_content_is_synced_before_the_name_and_the_folder_after_it(tmp_path, monkeypatch, write_file):
    calls = []
    for call in ("fsync", "replace", "link"):
        real = getattr(os, call)

        def noted(*arguments, call=call, real=real):
            of = os.readlink(f"/proc/self/fd/{arguments[0]}") if call == "fsync" else str(arguments[1])
            calls.append((call, "folder" if of == str(tmp_path) else "file"))
            return real(*arguments)

        monkeypatch.setattr(os, call, noted)
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc to name what is synced")
    write_file(tmp_path / "a", lambda file: file.write(b"new"))
    naming = "replace" if write_file is replace_file else "link"
    assert calls == [("fsync", "file"), (naming, "file"), ("fsync", "folder")]


@pytest.mark.parametrize(("number", "tolerated"), [(errno.EINVAL, True), (errno.EIO, False), (errno.ENOSPC, False)])
def test_a_filesystem_that_syncs_no_folders_is_put_up_with(tmp_path, monkeypatch, number, tolerated):
    def refuse(fd):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    if tolerated:
        sync_folder(tmp_path)
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            sync_folder(tmp_path)


CHILD = """
import os, sys
from pathlib import Path
from results import durable

def write(file):
    file.write(b"half")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()
    file.write(b" and half")

try:
    getattr(durable, sys.argv[1])(Path(sys.argv[2]), write)
except FileExistsError:
    sys.exit(17)
"""


def writer(kind, path):
    """A process in the middle of writing a file; a line on its stdin lets it end."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, kind, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout.readline() == "writing\n"
    return child


@pytest.mark.parametrize("kind", ["replace_file", "create_file"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_killed_writer_leaves_no_half_file_and_no_row(tmp_path, kind, old):
    path = tmp_path / "runs" / "month=2026-11" / "r.0.parquet"
    path.parent.mkdir(parents=True)
    if old is not None:
        path.write_bytes(old)
    with writer(kind, path) as child:
        child.send_signal(signal.SIGKILL)
    assert (path.read_bytes() if path.exists() else None) == old
    (left,) = set(path.parent.iterdir()) - {path}
    assert left.name.startswith(".r.0.parquet.") and left.name.endswith(".tmp")
    rows, bad = read_table(tmp_path, "runs")
    assert rows.num_rows == 0 and [file.path for file in bad] == ([path] if old else [])
    # What a dead process left behind is in nobody's way, and nobody's to take away here.
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new" and left.read_bytes() == b"half"


def test_of_two_that_create_a_file_one_wins(tmp_path):
    path = tmp_path / "a"
    children = [writer("create_file", path) for _ in range(2)]
    for child in children:
        child.communicate("\n")
    assert sorted(child.returncode for child in children) == [0, 17]
    assert path.read_bytes() == b"half and half" and names(tmp_path) == ["a"]


def test_what_is_no_file_is_written_to_and_stays_what_it_is(tmp_path):
    null, pipe = tmp_path / "null", tmp_path / "pipe"
    null.symlink_to(os.devnull)
    os.mkfifo(pipe)
    replace_file(null, lambda file: file.write(b"new"))
    assert null.is_symlink() and Path(os.devnull).is_char_device()
    reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)

    def write(file):
        file.write(b"old" * 50_000)  # more than a pipe takes at once
        file.seek(0)
        file.write(b"new")

    replace_file(pipe, write)
    assert reader.communicate(timeout=60)[0] == b"new" + b"old" * 49_999
    assert stat.S_ISFIFO(pipe.lstat().st_mode) and names(tmp_path) == ["null", "pipe"]


def test_what_cannot_be_written_whole_leaves_a_pipe_without_a_byte(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write(file):
        file.write(b"half")
        raise ValueError("no more")

    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ValueError, match="no more"):
            replace_file(pipe, write)
        assert os.read(descriptor, 10) == b"" and stat.S_ISFIFO(pipe.lstat().st_mode)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("linked", [True, False])
def test_the_name_of_an_open_file_stays_and_what_it_had_is_kept(tmp_path, linked):
    out, name = tmp_path / "out", tmp_path / "stdout"
    with out.open("ab") as file:
        file.write(b"before ")
        file.flush()
        known = Path(f"/proc/self/fd/{file.fileno()}")
        name.symlink_to(known)
        replace_file(name if linked else known, lambda opened: opened.write(b"new"))
    assert (
        out.read_bytes() == b"before new" and os.readlink(name) == str(known) and names(tmp_path) == ["out", "stdout"]
    )


def test_a_link_to_a_file_is_replaced_and_the_file_is_as_it_was(tmp_path):
    (tmp_path / "kept").write_bytes(b"old")
    (tmp_path / "link").symlink_to("kept")
    replace_file(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "kept").read_bytes() == b"old" and (tmp_path / "link").read_bytes() == b"new"
