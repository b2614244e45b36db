"""The words that begin a command about a sweep, in place of one that submits one."""

from collections.abc import Sequence

from results.words import suggestion

__all__ = ["VERBS", "first", "slip"]

VERBS = ("status", "wait", "tail", "cancel", "retry")


def first(words: Sequence[str]) -> str:
    """Return the first word that is neither key=value nor an option; empty where there is none."""
    return next((word for word in words if "=" not in word and not word.startswith("-")), "")


def slip(words: Sequence[str]) -> str:
    """Return the verb that the first such word may be a slip of; empty where it is like none."""
    return suggestion(first(words), VERBS) if first(words) else ""
