"""Leaving the process group: the threads of gloo are waited for, but not for ever."""

import threading
import time
from pathlib import Path

from bench.training.process_group import wait_for_idle


def busy(name: str | bytes, seconds: float) -> tuple[threading.Thread, threading.Event]:
    """A thread that has this name in the system's eyes, computes that long, then sleeps; an event set meanwhile."""
    computing = threading.Event()

    def compute() -> None:
        written = name if isinstance(name, bytes) else name.encode()
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_bytes(written)
        computing.set()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            sum(range(10_000))
        computing.clear()
        time.sleep(1.0)

    thread = threading.Thread(target=compute)
    thread.start()
    computing.wait()
    return thread, computing


def test_a_thread_that_still_computes_is_waited_for() -> None:
    thread, computing = busy("test (busy) a", 0.5)
    assert wait_for_idle("test (busy) a")
    assert not computing.is_set()
    assert thread.is_alive()
    thread.join()


def test_a_thread_s_name_need_not_be_text() -> None:
    thread, _ = busy(b"\xff\xfetest c", 0.3)
    assert wait_for_idle("nobody's name")
    assert wait_for_idle("\ufffd\ufffdtest c")
    thread.join()


def test_waiting_for_a_thread_has_an_end() -> None:
    thread, _ = busy("test busy b", 2.0)
    start = time.monotonic()
    assert not wait_for_idle("test busy b", patience_s=0.1)
    assert time.monotonic() - start < 1.5
    assert wait_for_idle("nobody's name")
    thread.join()
