"""Ctrl-C while a command is still being imported."""

import signal
import sys

__all__ = ["end_quietly", "end_quietly_as_command"]


def end_quietly() -> None:
    """Let SIGINT end this process as it ends any other: no traceback of half an import.

    A command sets its own handlers once it has its words. A SIGINT that is ignored or handled already stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_quietly_as_command() -> None:
    """The same where a package is imported because `python -m` looks for a module in it, and by nobody else."""
    if sys.argv[:1] == ["-m"]:  # until the module is found
        end_quietly()
