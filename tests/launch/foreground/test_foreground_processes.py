"""What the launcher sees of its ranks' processes: which they are, and what ended them."""

import os
import subprocess
import time
from types import SimpleNamespace

import psutil
import pytest

from launch import foreground


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ({0: "kill -9 $$"}, "rank 0 was killed by signal 9 (SIGKILL)"),
        ({1: "kill -9 $$", 0: "exit 1"}, "rank 1 was killed by signal 9 (SIGKILL)"),
        ({1: "ulimit -c 0; kill -SEGV $$"}, "rank 1 was killed by signal 11 (SIGSEGV)"),
        ({0: "kill -9 $$", 1: "kill -9 $$"}, "ranks 0, 1 were killed by signal 9 (SIGKILL)"),
        ({1: "kill -40 $$"}, "rank 1 was killed by signal 40"),
        ({1: "exit 9"}, "rank 1 is gone"),
        ({1: "exit 137"}, "rank 1 is gone"),
    ],
)
def test_a_signal_that_killed_a_rank_is_named(monkeypatch: pytest.MonkeyPatch, ends: dict[int, str], said: str) -> None:
    started = [
        subprocess.Popen(["bash", "-c", f"read; {ends.get(rank, 'sleep 60')}"], stdin=subprocess.PIPE)
        for rank in (0, 1)
    ]
    monkeypatch.setattr(foreground.Ranks, "_succeeded", lambda self, rank: False)
    ranks = foreground.Ranks(SimpleNamespace(job_id=os.getpid()), 2)  # type: ignore[arg-type]
    ranks.processes = {rank: psutil.Process(process.pid) for rank, process in enumerate(started)}
    try:
        ranks.wait(0)
        assert ranks.lost() is None
        for process in started:
            assert process.stdin
            process.stdin.write(b"\n")
            process.stdin.close()
        deadline = time.monotonic() + 60
        while any(ranks.processes[rank].status() != psutil.STATUS_ZOMBIE for rank in ends):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        began = time.monotonic()
        ranks.wait(60)
        assert time.monotonic() - began < 30  # it waits no longer than until an end
        lost = ranks.lost()
        assert lost and (lost.kind, lost.message) == ("rank_lost", said)
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_rank_whose_environment_may_not_be_seen_hides_no_other() -> None:
    """Of a process that has ended and is not waited for only root may see it."""

    def denied() -> dict[str, str]:
        raise psutil.AccessDenied(1)

    living = SimpleNamespace(environ=lambda: {"SUBMITIT_LOCAL_GLOBALID": "1"})
    ranks = object.__new__(foreground.Ranks)
    ranks.processes = {}
    ranks.controller = SimpleNamespace(children=lambda: [SimpleNamespace(environ=denied), living])  # type: ignore[assignment]
    ranks._find()
    assert ranks.processes == {1: living}
