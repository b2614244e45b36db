"""Failures get the names that the results tables know."""

import errno

import pytest
import torch

from bench.failure import KINDS, Diverged, Failure, RankLost, Stopped, classify
from resnet.data import DataError
from results.schema import FAILURE_KINDS


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (DataError("cat.jpg: truncated"), "failed", "data"),
        (Diverged("loss is nan at step 3"), "failed", "diverged"),
        (RankLost("rank 1 is gone"), "failed", "rank_lost"),
        (RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer [127.0.0.1]"), "failed", "rank_lost"),
        (torch.OutOfMemoryError("CUDA out of memory"), "failed", "oom"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), "failed", "oom"),
        (OSError(errno.ENOSPC, "No space left on device"), "failed", "storage"),
        (TimeoutError("waited"), "failed", "timeout"),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), "failed", "network"),
        (ValueError("batch=0"), "failed", "config"),
        (KeyError("x"), "failed", "unknown"),
        (Stopped("signal SIGTERM"), "killed", "unknown"),
        (KeyboardInterrupt(), "killed", "unknown"),
    ],
)
def test_kind_of_an_error(error: BaseException, status: str, kind: str) -> None:
    failure = classify(error, rank=3)
    assert (failure.status, failure.kind, failure.rank) == (status, kind, 3)
    assert "\n" not in failure.message and failure.message
    assert Failure.from_json(failure.to_json()) == failure


def test_kinds_are_those_of_the_tables() -> None:
    assert set(KINDS) == set(FAILURE_KINDS)


def test_the_message_is_the_first_line_that_says_something() -> None:
    assert classify(DataError("a\nb.jpg: truncated"), 0).message == "a b.jpg: truncated"
    assert classify(DataError("\udcff.jpg: truncated"), 0).message == "\\udcff.jpg: truncated"
    assert classify(RuntimeError("boom\nmore"), 0).message == "RuntimeError: boom"
