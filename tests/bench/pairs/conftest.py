"""A small repository with a launcher that trains nothing, from which pairs are run."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.pairs import checkouts

PROJECT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Repository:
    """A repository.

    Attributes:
        root: its checkout.
        results: a store, not made.
        log: a line for each run.
    """

    root: Path
    results: Path
    log: Path

    def git(self, *words: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
        command = ["git", *identity, "-C", str(self.root), *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def plan(self, **does: Any) -> None:
        """Say what runs from this checkout do, by seed (s0, s1, ...), `first` or else `other`."""
        named = {"other": "else", "first": "first"}
        whole = {named.get(name, name.removeprefix("s")): value for name, value in does.items()}
        (self.root / "plan.json").write_text(json.dumps(whole))

    def commit(self, **does: Any) -> str:
        """Commit a plan; the hash."""
        self.plan(**does)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message=plan")
        return self.git("rev-parse", "HEAD")

    def runs(self) -> list[dict[str, Any]]:
        """What was run, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def words(self, *more: str) -> Sequence[str]:
        return ["depth=8", "dataset=digits", f"results={self.results}", *more]

    def worktrees(self) -> list[str]:
        return [
            line for line in self.git("worktree", "list", "--porcelain").splitlines() if line.startswith("worktree")
        ]


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    found = Repository(tmp_path / "checkout", tmp_path / "rows", tmp_path / "log")
    (found.root / "launch").mkdir(parents=True)
    (tmp_path / "tmp").mkdir()
    for name in ("local.py", "slurm.py"):
        shutil.copy(HERE / "fake_launcher.py", found.root / "launch" / name)
    found.git("init", "--quiet", "--initial-branch=main")
    monkeypatch.setattr(checkouts, "ROOT", found.root)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("FAKE_LOG", str(found.log))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    return found
