"""Stdout and stderr of a command: a reader that leaves, closed streams, a full disk, a terminal that closes."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from small_commands import BODIES, ROOT, shell


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "status", "done"),
    [
        # More than a pipe holds: what only prints stops, and what does more is done to its end.
        ('"$PYTHON" -c "$CODE" "$DONE" prints off | head -1', 0, False),
        ('"$PYTHON" -u -c "$CODE" "$DONE" prints off | head -1', 0, False),
        ('"$PYTHON" -c "$CODE" "$DONE" prints on | head -1', 7, True),
        ('"$PYTHON" -u -c "$CODE" "$DONE" prints on | head -1', 7, True),
        # So little that it is written at the end, when nobody is there any more.
        ('(sleep 0.1; "$PYTHON" -c "$CODE" "$DONE" prints_little off) | true', 7, False),
        ('(sleep 0.1; "$PYTHON" -c "$CODE" "$DONE" prints_little on) | true', 7, False),
        ('(sleep 0.1; "$PYTHON" -c "$CODE" "$DONE" says on 2>&1) | true', 7, False),
        # Closed before it began.
        ('"$PYTHON" -c "$CODE" "$DONE" prints off >&-', 7, True),
        ('"$PYTHON" -c "$CODE" "$DONE" says off >&- 2>&-', 7, False),
    ],
)  # fmt: skip
def test_a_reader_that_leaves_is_no_error(script, status, done, made_up) -> None:
    ended = shell(script, **made_up)
    assert (ended.returncode, ended.stderr) == (status, "")
    assert Path(made_up["DONE"]).exists() == done


@pytest.mark.slow
def test_what_libraries_print_to_a_closed_stream_is_in_no_file(made_up) -> None:
    ended = shell('"$PYTHON" -c "$CODE" "$DONE" opens on <&- >&- 2>&-', **made_up)
    assert (ended.returncode, Path(made_up["DONE"]).read_text()) == (7, "done")


@pytest.mark.slow
def test_with_stderr_closed_nothing_of_it_goes_to_stdout(made_up) -> None:
    ended = shell('"$PYTHON" -c "$CODE" "$DONE" says off 2>&-', **made_up, LC_ALL="C.UTF-8", PYTHONIOENCODING="utf-8")
    assert (ended.returncode, ended.stdout, ended.stderr) == (7, "child\n\\udcff ✓ 中\n", "")


@pytest.mark.slow
def test_what_a_stream_cannot_write_is_written_in_escapes(made_up) -> None:
    ended = shell('"$PYTHON" -c "$CODE" "$DONE" says off', **made_up, PYTHONIOENCODING="ascii")
    assert (ended.returncode, ended.stdout) == (7, "child\n\\udcff \\u2713 \\u4e2d\n")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full here")
@pytest.mark.parametrize(
    ("words", "status", "done"),
    [
        ("prints off", 1, False),
        ("prints_little off", 1, False),
        # What does more than print does it to its end, and then says what was lost.
        ("prints on", 7, True),
        ("prints_little on", 7, False),
        ("prints_well on", 1, True),
    ],
)
def test_a_full_disk_is_one_line(words, status, done, made_up) -> None:
    ended = shell(f'"$PYTHON" -c "$CODE" "$DONE" {words} >/dev/full', **made_up)
    kept = "; it went on to its end, only what was printed is lost" if words == "prints_well on" else ""
    assert (ended.returncode, ended.stderr) == (
        status,
        f"made.up: [Errno 28] No space left on device: 'stdout'{kept}\n",
    )
    assert Path(made_up["DONE"]).exists() == done


@pytest.mark.slow
def test_a_terminal_that_closes_ends_nothing_that_goes_on(made_up) -> None:
    """As under nohup: the hang-up is ignored, and what is printed from then on is an error of the terminal."""
    terminal, stream = pty.openpty()
    start = [sys.executable, "-c", BODIES, made_up["DONE"], "waits", "on"]
    process = subprocess.Popen(start, env=os.environ | made_up, cwd=ROOT, stdin=-1, stdout=stream, stderr=stream)
    os.close(stream)
    assert os.read(terminal, 5) == b"ready"
    os.close(terminal)
    process.communicate(b"go on")
    assert process.returncode == 7 and Path(made_up["DONE"]).read_text() == "done"
