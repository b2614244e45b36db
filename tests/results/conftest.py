"""Tables are as wide as they are in a pipe, whatever terminal the tests were started from; no disk is waited for."""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "check"), str(HERE / "damage"), str(HERE.parent / "bench")]


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here outlives the machine; where syncing is the subject, a test stands in for it itself."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
