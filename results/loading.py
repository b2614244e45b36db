"""What a command does about Ctrl-C while its modules load, which may take seconds: torch alone does."""

import signal

__all__ = ["end_at_interrupt"]


def end_at_interrupt() -> None:
    """Lets SIGINT end this process at once, without a traceback, unless it is ignored or handled already."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
