"""When ranks ask one another whether they stop: often enough, at the same steps, and for what any of them was asked."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from bench.measure.failure import Failure
from bench.training.group import agreement, stop_request
from bench.training.group.agreement import AGREE_S, MOST_STEPS, Agreement
from bench.training.group.stop_request import PATIENCE_S, StopRequest

WHY = Failure("killed", "interrupted", "rank 0 was stopped", 0)


class Ranks:
    """Two ranks, of which the other one answers what it is told to."""

    size = 2

    def __init__(self) -> None:
        self.other = [0.0, 0.0]
        self.asked: list[list[float]] = []

    def all_reduce(self, values: list[float]) -> list[float]:
        self.asked.append(values)
        return [mine + other for mine, other in zip(values, self.other, strict=True)]


@pytest.fixture
def request_of_mine(monkeypatch: pytest.MonkeyPatch) -> StopRequest:
    mine = StopRequest()
    monkeypatch.setattr(agreement, "REQUEST", mine)
    return mine


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    now = [0.0]
    monkeypatch.setattr(agreement, "now_s", lambda: now[0])
    yield now


def test_it_asks_twice_a_second_whatever_a_step_takes(request_of_mine: StopRequest, clock: list[float]) -> None:
    for step_s, every in ((0.01, 50), (0.1, 5), (2.0, 1), (1e-6, MOST_STEPS)):
        ranks: Any = Ranks()
        one = Agreement(ranks)
        ranks.other = [0.0, 1e6 * step_s]  # which counts the same steps
        clock[0] += step_s
        assert not one.stops() and one.every == every, step_s
        asked = len(ranks.asked)
        for _ in range(every - 1):
            clock[0] += step_s
            assert not one.stops()
        assert len(ranks.asked) == asked
        clock[0] += step_s
        ranks.other = [0.0, 1e6 * step_s * every]
        one.stops()
        assert len(ranks.asked) == asked + 1
    assert AGREE_S == 0.5


def test_the_time_of_all_ranks_decides_so_that_all_ask_at_the_same_step(
    request_of_mine: StopRequest, clock: list[float]
) -> None:
    both = []
    for mine, other in ((0.1, 0.3), (0.3, 0.1)):
        ranks: Any = Ranks()
        one = Agreement(ranks)
        ranks.other = [0.0, 1e6 * other]
        clock[0] += mine
        one.stops()
        both.append(one.every)
    assert both == [2, 2]  # half a second of steps of 0.2 s: 2.5, to the even one


@pytest.mark.parametrize("who", ["this one", "the other", "nobody"])
def test_all_stop_where_any_was_asked(who: str, request_of_mine: StopRequest, clock: list[float]) -> None:
    ranks: Any = Ranks()
    one = Agreement(ranks)
    ranks.other = [float(who == "the other"), 1e6]
    if who == "this one":
        request_of_mine.ask(WHY)
    clock[0] += 1.0
    assert one.stops() == (who != "nobody")


def test_one_rank_asks_nobody(request_of_mine: StopRequest) -> None:
    alone: Any = type("Alone", (), {"size": 1})()
    one = Agreement(alone)
    assert not one.stops() and not one.stops()
    request_of_mine.ask(WHY)
    assert one.stops()


def test_who_heeds_a_request_has_the_patience_that_comes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(stop_request.time, "monotonic", lambda: now[0])
    unheeded = StopRequest()
    assert unheeded.ask(WHY, 50.0) is False and unheeded.asked() == WHY
    heeded = StopRequest()
    with heeded.heeded():
        assert heeded.ask(WHY, 50.0) is True
        assert heeded.ask(Failure("killed", "timeout", "later", 1), 90.0) is True  # the first reason stands
    assert heeded.asked() == WHY
    for one, patience_s in ((unheeded, PATIENCE_S), (heeded, 50.0)):
        now[0] = 100.0 + patience_s - 0.01
        assert one.overdue() is None
        now[0] = 100.0 + patience_s
        assert one.overdue() == WHY
    now[0] = 100.0
    assert heeded.ask(WHY) is False  # which is over with the block, and leaves less time than what came first
    now[0] = 100.0 + PATIENCE_S
    assert heeded.overdue() == WHY


def test_one_rank_alone_is_hurried_once_its_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(stop_request.os, "kill", lambda pid, number: sent.append(number))
    one = StopRequest()
    with one.heeded(alone=True):
        assert one.ask(WHY, 0.05) is True
        time.sleep(0.3)
        assert sent == [signal.SIGTERM] and one.ask(WHY) is False  # now the main thread ends it
    many = StopRequest()
    with many.heeded():
        many.ask(WHY, 0.05)
        time.sleep(0.2)
    assert sent == [signal.SIGTERM]  # of several ranks the watchdog ends them


@pytest.mark.parametrize(("save", "said"), [(None, ""), ("/a", "; saved after step 7: resume=/a goes on")])
def test_what_ends_a_run_says_where_it_goes_on_only_if_it_saved(
    save: str | None, said: str, request_of_mine: StopRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "ECHO_S", 0.0)
    ended = agreement.stopped(7, save)
    assert (str(ended), ended.kind) == (f"another rank was asked to stop{said}", "interrupted")
    request_of_mine.ask(Failure("killed", "timeout", "rank 0 was stopped", 0))
    ended = agreement.stopped(7, save)
    assert (str(ended), ended.kind) == (f"rank 0 was stopped{said}", "timeout")
