"""Child processes that do not outlive the one that started them, whatever ends it."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with_parent(parent: int | None = None) -> None:
    """In a child just started: have the kernel kill this process when its parent is gone.

    Args:
        parent: id of the parent, which may be gone already; None where it starts this process under its own eyes.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os._exit(1)
