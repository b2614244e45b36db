"""A Slurm that is none, and a small checkout whose code is copied."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from slurm_stub import PROFILE, SBATCH, SCONTROL, SQUEUE, WORDS, Slurm, git

from bench.measure import revision
from launch.cli import main
from launch.sweep import snapshot


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    """A Slurm of four nodes and the profile `small`."""
    folder, commands = tmp_path / "slurm", tmp_path / "commands"
    for path in (folder, commands, tmp_path / "clusters"):
        path.mkdir()
    for name, text in (("sbatch", SBATCH), ("squeue", SQUEUE), ("scontrol", SCONTROL), ("srun", "#!/bin/sh\nexit 1\n")):
        (commands / name).write_text(text.replace("FOLDER", str(folder)))
        (commands / name).chmod(0o755)
    (tmp_path / "clusters" / "small.yaml").write_text(PROFILE)
    monkeypatch.setenv("RESNET_BENCH_CLUSTERS", str(tmp_path / "clusters"))
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    monkeypatch.setenv("PATH", str(commands), prepend=os.pathsep)
    found = Slurm(folder, tmp_path / "rows")
    found.set("most", 1001)
    found.ends()
    return found


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two files, one commit and no changes, in place of ours."""
    root = tmp_path / "checkout"
    (root / "bench").mkdir(parents=True)
    (root / "bench" / "run.py").write_text("first")
    (root / ".gitignore").write_text("__pycache__/\nresults/v1/\n*.egg-info/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    monkeypatch.setattr(revision, "ROOT", root)
    monkeypatch.setattr(snapshot, "ROOT", root)
    return root


@pytest.fixture
def submit(slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[str, str]]:
    """Submits by these words, and returns what was printed; fails where the exit status is another."""

    def call(words: str, status: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        got = main("slurm", [*f"{WORDS} {words}".split(), f"results={slurm.results}"])
        out, err = capsys.readouterr()
        assert got == status, (out, err)
        return out, err

    return call
