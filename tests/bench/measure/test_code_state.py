"""Which code a row says that it is of."""

import subprocess
from pathlib import Path

import pytest

from bench.measure import code_state
from bench.measure.code_state import SNAPSHOT, Code
from results.words import ConfigError


def git(root: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b", "-C", str(root)]
    return subprocess.run(["git", *named, *words], check=True, capture_output=True, text=True).stdout.strip()


def test_the_state_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_state, "ROOT", tmp_path)
    assert code_state.running() == Code(commit=None, dirty=None)
    git(tmp_path, "init", "-q")
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-q", "-m", "a")
    assert code_state.running() == Code(commit=git(tmp_path, "rev-parse", "HEAD"), dirty=False)
    (tmp_path / "b").write_text("new")
    assert code_state.running() == Code(commit=git(tmp_path, "rev-parse", "HEAD"), dirty=True)
    git(tmp_path, "add", "b")
    git(tmp_path, "commit", "-q", "-m", "b")
    (tmp_path / "a").write_text("changed")
    assert code_state.running() == Code(commit=git(tmp_path, "rev-parse", "HEAD"), dirty=True)


def test_a_folder_of_another_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "not ours")
    (tmp_path / "unpacked").mkdir()
    monkeypatch.setattr(code_state, "ROOT", tmp_path / "unpacked")
    assert code_state.running() == Code(commit=None, dirty=None)


def test_a_copy_says_of_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "around it")
    copy = tmp_path / "copy"
    copy.mkdir()
    monkeypatch.setattr(code_state, "ROOT", copy)
    known = Code(commit="c0ffee", dirty=True, snapshot="0123456789abcdef")
    known.write(copy)
    assert code_state.running() == known
    (copy / SNAPSHOT).write_text("{")
    with pytest.raises(ConfigError, match=f"{SNAPSHOT}: does not say of which code"):
        code_state.running()
