"""A store of made-up runs."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from made_up import Memory, Store  # noqa: E402


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    """As `store`; only what is accepted and pinned is in files, since hundreds of runs are made up here."""
    made_up = Memory(tmp_path / "store")
    for module in ("results.check.runs", "results.selection"):
        monkeypatch.setattr(f"{module}.read_table", made_up.read_table)
    return made_up
