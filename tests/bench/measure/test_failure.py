"""Failures get the names that the results tables know."""

import errno
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import resnet
from bench.config.grammar import WordError
from bench.config.keys import RunKeys
from bench.config.resolve import Host, resolve
from bench.measure.failure import Diverged, Failure, RankLost, Stopped, classify
from bench.training.checkpoint.folder import CheckpointError
from bench.training.ranks import free_port, rank_environment
from kernels.operands import KernelError
from resnet.data import DataError
from results.store.files import read_rows
from results.store.schema import FAILURE_KINDS
from results.store.writer import StoreError
from results.words import ConfigError


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


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
        (ConfigError("batch=0"), "failed", "config"),
        (WordError("batch=0"), "failed", "config"),
        (CheckpointError("resume=w: no such checkpoint"), "failed", "config"),
        (resnet.WeightsError("w: does not fit"), "failed", "config"),
        (caused(resnet.WeightsError("w: cannot be written"), OSError(errno.ENOSPC, "full")), "failed", "storage"),
        (caused(CheckpointError("w: cannot be read"), OSError(errno.EIO, "bad")), "failed", "storage"),
        (StoreError("r.0: has ended"), "failed", "storage"),
        # Faults of ours, whatever they say.
        (ValueError("invalid literal for int() with base 10: 'x'"), "failed", "unknown"),
        (KernelError("x: 3 axes"), "failed", "unknown"),
        (ValueError("bad timeout value"), "failed", "unknown"),
        (TypeError("connection reset"), "failed", "unknown"),
        (RuntimeError("Timed out after 5 minutes"), "failed", "timeout"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), "failed", "network"),
        (KeyError("x"), "failed", "unknown"),
        (Stopped("rank 3 was stopped by SIGTERM"), "killed", "interrupted"),
        (Stopped("rank 1 is gone", "rank_lost"), "killed", "rank_lost"),
        (Stopped("the time limit", "timeout"), "killed", "timeout"),
        (KeyboardInterrupt(), "killed", "interrupted"),
    ],
)
def test_kind_of_an_error(error: BaseException, status: str, kind: str) -> None:
    failure = classify(error, rank=3)
    assert (failure.status, failure.kind, failure.rank) == (status, kind, 3)
    assert "\n" not in failure.message and failure.message
    assert Failure.from_json(failure.to_json()) == failure


def test_a_kind_that_the_tables_do_not_know_is_a_fault() -> None:
    for kind in FAILURE_KINDS:
        assert Failure("failed", kind, "x", 0).kind == kind
    with pytest.raises(AssertionError):
        Failure("failed", "cosmic ray", "x", 0)


def test_the_message_is_the_first_line_that_says_something() -> None:
    assert classify(DataError("a\nb.jpg: truncated"), 0).message == "a b.jpg: truncated"
    assert classify(DataError("\udcff.jpg: truncated"), 0).message == "\\udcff.jpg: truncated"
    assert classify(RuntimeError("boom\nmore"), 0).message == "RuntimeError: boom"
    assert classify(ConfigError("batch=0: expected\n1"), 0).message == "batch=0: expected 1"
    assert classify(ValueError("bad\nmore"), 0).message == "ValueError: bad"
    assert classify(KeyError(), 0).message == "KeyError"
    assert classify(Stopped("the launcher (process 7) is gone"), 0).message == "the launcher (process 7) is gone"
    assert classify(KeyboardInterrupt(), 2).message == "rank 2 was stopped by SIGINT, as Ctrl-C sends it"


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        ("ours", "unknown", "ValueError: invalid literal for int() with base 10: 'x'"),
        ("data", "data", "cat.jpg: truncated"),
        ("config", "config", "batch=0: expected 1 or more"),
    ],
)
def test_a_run_s_row_names_its_failure_and_its_log_keeps_the_cause(
    tmp_path: Path, fault: str, kind: str, message: str
) -> None:
    keys = RunKeys(depth=8, dataset="digits", steps=2, ranks_per_node=1, engine="ddp", results=str(tmp_path))
    config, _ = resolve(keys, Host(ranks_per_node=1))
    script = Path(__file__).with_name("planted_rank.py")
    done = subprocess.run(
        [sys.executable, str(script), fault, config.to_json()],
        env=rank_environment(0, 1, free_port(), 1),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "planted_rank.py" in done.stderr
    assert done.stderr.splitlines()[-1] == f"rank 0: run failed ({kind}, rank 0): {message}"
    (row,), bad = read_rows(tmp_path, "runs")
    assert not bad and (row["status"], row["failure_kind"], row["failure_message"]) == ("failed", kind, message)


def test_a_worker_s_death_is_the_data_s_wherever_it_is_heard_of() -> None:
    error = RuntimeError("DataLoader worker (pid 4711) is killed by signal: Killed. ")
    said = "loader=torch: DataLoader worker (pid 4711) is killed by signal: Killed."  # of no loader that is known here
    assert classify(error, 2) == Failure("failed", "data", said, 2)
