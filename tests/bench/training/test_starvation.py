"""A main thread that is blocked while it waits for data ends the run; one that gets on, or waits for another, not."""

import os
import threading
import time

import pytest

from bench.measure.failure import Failure
from bench.training.starvation import LIMIT_S, Starvation
from resnet.data import LOOK_S, STALL_S, waiting

SOON_S = 0.4


class Guard:
    """A guard whose end of a run lets the main thread go on."""

    def __init__(self) -> None:
        self.seen: list[Failure] = []
        self.blocked, self.free = os.pipe()
        self.guard = Starvation(self.end, 3, limit_s=SOON_S, interval_s=0.02)

    def end(self, failure: Failure) -> None:
        self.seen.append(failure)
        os.write(self.free, b"x")

    def block(self, seconds: float) -> None:
        """Block the main thread in one call to the system, until it is to end or for so long."""
        timer = threading.Timer(seconds, os.write, (self.free, b"x"))
        timer.start()
        os.read(self.blocked, 1)
        timer.cancel()


@pytest.fixture
def guard():
    made = Guard()
    yield made
    assert made.seen or made.guard.thread.is_alive()
    made.guard.close()
    assert not made.guard.thread.is_alive()
    os.close(made.blocked)
    os.close(made.free)


def test_a_wait_for_data_that_nothing_ends_ends_the_run(guard):
    with waiting(lambda: "outer"), waiting(lambda: "reading /images/1.jpg"):
        guard.block(20)
    (failure,) = guard.seen
    assert (failure.status, failure.kind, failure.rank) == ("failed", "data", 3)
    assert failure.message.startswith("waiting for data has been stuck for ")
    assert failure.message.endswith(" s; reading /images/1.jpg")


def test_another_wait_is_as_long_as_it_is(guard):
    guard.block(3 * SOON_S)  # as in a collective
    with waiting(lambda: "before"):
        pass
    guard.block(3 * SOON_S)
    assert guard.seen == []


def test_a_main_thread_that_gets_on_is_not_blocked(guard):
    end_s = time.monotonic() + 4 * SOON_S
    with waiting(lambda: "a slow disk"):
        while time.monotonic() < end_s:
            time.sleep(SOON_S / 4)
    assert guard.seen == []


def test_it_begins_to_count_with_the_wait(guard):
    for _ in range(4):
        with waiting(lambda: "a batch"):
            guard.block(0.6 * SOON_S)
    assert guard.seen == []


def test_loaders_come_first_and_all_ends_within_90_s():
    assert STALL_S + LOOK_S < LIMIT_S <= 60
