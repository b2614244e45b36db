"""The watchdog: a failure on one rank reaches all, silence counts as loss, rank 0 has the last word."""

import threading
import time

import pytest
import torch.distributed as dist

from bench.config.environment import RankEnvironment
from bench.measure.failure import Failure
from bench.training.group import cuts, stop_request, watchdog
from bench.training.group.watchdog import Watchdog


class Ended(list[tuple[int, int]]):
    """Exits that were asked for, as (rank, status)."""

    def of(self, rank: int):  # noqa: ANN201 (a callable for Watchdog)
        return lambda status: self.append((rank, status))


def place(rank: int, size: int) -> RankEnvironment:
    hosts = tuple(f"n{number}" for number in range(1, size + 1))
    return RankEnvironment(rank=rank, world_size=size, local_rank=0, local_world_size=1, hosts=hosts)


def watchdogs(
    size: int, silent: set[int], handled: list[Failure], ended: Ended, **options: float
) -> dict[int, Watchdog]:
    store = dist.HashStore()
    return {
        rank: Watchdog(store, place(rank, size), handled.append, interval_s=0.05, exit=ended.of(rank), **options)
        for rank in range(size)
        if rank not in silent
    }


def wait(condition, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_failure_on_one_rank_ends_the_others_and_is_written_once() -> None:
    handled: list[Failure] = []
    ended = Ended()
    dogs = watchdogs(3, set(), handled, ended)
    failure = Failure("failed", "data", "cat.jpg: truncated", 2)
    assert dogs[2].report(failure) == failure
    assert wait(lambda: sorted(ended) == [(0, 1), (1, 1)])
    assert handled == [failure]


def test_the_first_failure_is_the_one_that_counts() -> None:
    handled: list[Failure] = []
    ended = Ended()
    dogs = watchdogs(3, set(), handled, ended)
    first = Failure("failed", "data", "cat.jpg: truncated", 1)
    echo = Failure("failed", "rank_lost", "Connection closed by peer", 2)
    found: list[Failure] = []
    later = threading.Thread(target=lambda: found.append(dogs[2].report(echo)))
    later.start()  # an echo waits for its cause
    dogs[1].report(first)
    later.join()
    assert found == [first]
    assert handled == [first]


def test_silence_is_loss() -> None:
    handled: list[Failure] = []
    ended = Ended()
    watchdogs(3, {2}, handled, ended, stale_s=0.5)
    assert wait(lambda: sorted(ended) == [(0, 1), (1, 1)])
    assert handled[0].kind == "rank_lost" and handled[0].message.startswith("rank 2 (n3) has been silent")


def test_a_rank_that_left_in_order_is_not_lost() -> None:
    handled: list[Failure] = []
    ended = Ended()
    dogs = watchdogs(2, set(), handled, ended, stale_s=0.3)
    dogs[1].close()
    time.sleep(1.0)
    dogs[0].close()
    assert handled == [] and ended == []


@pytest.mark.parametrize("stuck", [0, 1])
def test_a_stop_that_the_main_thread_does_not_hear_of_ends_the_run(stuck: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Failure] = []
    ended = Ended()
    request = stop_request.StopRequest()
    asked = Failure("killed", "interrupted", f"rank {stuck} was stopped by SIGTERM", stuck)
    monkeypatch.setattr(stop_request, "PATIENCE_S", 0.4)
    dogs = watchdogs(2, set(), handled, ended)
    monkeypatch.setattr(watchdog, "REQUEST", request)  # of both, as where each rank gets the signal
    request.ask(asked)
    request.ask(Failure("killed", "unknown", "later", 0))
    time.sleep(0.2)
    assert ended == []  # the main thread has its time first
    assert wait(lambda: sorted(ended) == [(0, 1), (1, 1)])
    assert handled == [asked] and len(dogs) == 2


def test_ranks_that_were_suspended_together_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    handled: list[Failure] = []
    ended = Ended()
    ahead_s, monotonic = [0.0], time.monotonic
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: monotonic() + ahead_s[0])
    dogs = watchdogs(2, {1}, handled, ended, stale_s=60.0)  # the other rank has not beaten again yet
    for _ in range(3):
        ahead_s[0] += 100.0  # a Ctrl-Z, and `fg` much later
        time.sleep(0.3)
    monkeypatch.undo()
    for dog in dogs.values():
        dog.close()
    assert handled == [] and ended == []


def test_what_takes_longer_than_it_may_ends_the_run_and_what_does_not_leaves_it() -> None:
    handled: list[Failure] = []
    ended = Ended()
    dogs = watchdogs(2, set(), handled, ended)
    failure = Failure("failed", "network", "rank 1 could not reach all other ranks", 1)
    with dogs[1].within(0.3, failure):
        pass
    time.sleep(0.6)
    assert handled == [] and ended == []
    with dogs[1].within(0.3, failure):
        assert wait(lambda: sorted(ended) == [(0, 1), (1, 1)])
    assert handled == [failure]


def test_a_store_that_no_longer_answers_ends_the_rank() -> None:
    stuck = threading.Event()

    class Stopped(dist.HashStore):  # as that of a rank 0 which was stopped, not killed
        def add(self, key: str, amount: int) -> int:
            stuck.wait()
            return 0

    ended = Ended()
    Watchdog(Stopped(), place(1, 2), lambda failure: None, interval_s=0.05, stale_s=0.5, exit=ended.of(1))
    try:
        assert wait(lambda: ended == [(1, 1)])
    finally:
        stuck.set()


class Lost:
    """Links of a node that lost others."""

    def __init__(self, *nodes: int) -> None:
        self.nodes = list(nodes)

    def lost(self) -> list[int]:
        return [self.nodes.pop()] if self.nodes else []

    def close(self) -> None:
        pass


def test_a_cut_between_two_other_ranks_ends_the_run_and_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuts, "SETTLE_S", 0.2)
    handled: list[Failure] = []
    ended = Ended()
    store = dist.HashStore()
    links = [Lost(), Lost(2), Lost(1), Lost()]
    for rank in range(4):
        Watchdog(
            store,
            place(rank, 4),
            handled.append,
            interval_s=0.05,
            exit=ended.of(rank),
            links=links[rank],  # type: ignore[arg-type]
        )
    assert wait(lambda: sorted(ended) == [(rank, 1) for rank in range(4)])
    (failure,) = handled
    assert failure.kind == "network"
    assert failure.message.startswith("rank 1 (n2) and rank 2 (n3) cannot reach one another")


def test_a_rank_that_ended_without_a_word_is_found() -> None:
    ended = Ended()
    dogs = watchdogs(4, {2}, [], ended, stale_s=60.0)
    time.sleep(0.2)
    dogs[3].report(Failure("failed", "data", "cat.jpg: truncated", 3), patience_s=0.1)
    assert wait(lambda: sorted(ended) == [(0, 1), (1, 1)])
    assert dogs[0].gone() == [2]
