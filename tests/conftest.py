"""Says before any import how kernels run, and holds every test to its markers (pyproject.toml lists them).

Without a GPU the fused kernels run in Triton's interpreter, which has to be chosen before anything imports Triton.
"""

import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import numpy
import pytest
import torch
import torch.distributed

from kernels.interpreter import fault

INTERPRETED = not torch.cuda.is_available()
if INTERPRETED:
    os.environ["TRITON_INTERPRET"] = "1"

import triton  # noqa: E402

LONG = ("ranks", "interpreted", "slurm", "slow", "soak")
# Processor time, since wall time is the load's: what an unmarked test and its children may take on each core. Whatever
# a child process does unseen (a run of the launcher, the interpreter, a compiler) takes more on the two cores of CI.
CORE_S = 4.0

STARTED = pytest.StashKey[float]()

_item: pytest.Item | None = None  # the test that runs


def pytest_configure(config: pytest.Config) -> None:
    """Stand guard at the doors through which every rank and every interpreted kernel goes."""
    _guard(torch.distributed, "init_process_group", "ranks", "makes a process group")
    _guard(subprocess.Popen, "__init__", "ranks", "starts a rank", _is_rank)
    if INTERPRETED:
        from triton.runtime.interpreter import GridExecutor

        _guard(GridExecutor, "__call__", "interpreted", "runs a kernel in Triton's interpreter")


def _guard(
    owner: Any, name: str, marker: str, what: str, concerns: Callable[..., bool] = lambda *_, **__: True
) -> None:
    whole = getattr(owner, name)

    def guarded(*arguments: Any, **keywords: Any) -> Any:
        if _item and not _item.get_closest_marker(marker) and concerns(*arguments, **keywords):
            # Not an Exception: code that goes on after a failed kernel must not hide it.
            pytest.fail(f"{_item.nodeid} {what}, and is not marked @pytest.mark.{marker}", pytrace=False)
        return whole(*arguments, **keywords)

    setattr(owner, name, guarded)


def _is_rank(*_: Any, env: dict[str, str] | None = None, **__: Any) -> bool:
    """Whether a process that is about to start is told that it is a rank, or submitit's controller of ranks."""
    return env is not None and not {"WORLD_SIZE", "SUBMITIT_LOCAL_NTASKS"}.isdisjoint(env.keys() - os.environ.keys())


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give up in one line, in place of hundreds, where this Triton cannot interpret beside this NumPy."""
    if INTERPRETED and (reason := fault(triton.__version__, numpy.__version__)):
        left = [item for item in items if not item.get_closest_marker("interpreted")]
        if len(left) < len(items):
            items[:] = [*left, _Refused.from_parent(items[0].session, name="interpreter", reason=reason)]


class _Refused(pytest.Item):
    """Fails in the place of all tests that need the interpreter."""

    def __init__(self, *, reason: str, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.reason = reason

    def runtest(self) -> None:
        pytest.fail(self.reason, pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _item
    _item, before = item, _item
    item.stash[STARTED] = _cpu_s()
    yield
    _item = before


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    yield
    spent_s, limit_s = _cpu_s() - item.stash[STARTED], CORE_S * max(2, len(os.sched_getaffinity(0)))
    # A machine with a GPU has none of this to save, and its first use of the device takes seconds.
    if INTERPRETED and spent_s > limit_s and not any(item.get_closest_marker(marker) for marker in LONG):
        pytest.fail(
            f"{item.nodeid} took {spent_s:.1f} s of processor time, and is marked with none of {', '.join(LONG)}, "
            f"which may take more than {limit_s:g} s",
            pytrace=False,
        )


def _cpu_s() -> float:
    """Processor time of this process and of its children that ended, and theirs."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)
