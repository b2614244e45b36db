"""Plans of experiments without their images: folders that hold nothing stand in for them."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from launch.plan import Plan, Program, make_plan

MakePlan = Callable[..., Plan]
WriteOwn = Callable[..., Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes."""
    for name in ("one", "two"):
        for split in ("train", "val"):
            (tmp_path / "images" / split / name).mkdir(parents=True)
    return tmp_path / "images"


@pytest.fixture
def plan(monkeypatch: pytest.MonkeyPatch) -> MakePlan:
    """The plan of a line, on a machine without GPUs; what folders hold is not looked at."""
    monkeypatch.delenv("RESNET_BENCH_DATA", raising=False)
    monkeypatch.setattr("launch.plan.gpus_here", lambda: 0)
    monkeypatch.setattr("launch.plan.check_data", lambda *_, **__: None)

    def make(line: str, program: Program = "local") -> Plan:
        return make_plan(program, shlex.split(line))

    return make


@pytest.fixture
def write_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteOwn:
    """Writes an experiment of one's own, as text or with these words at the paper's scale; returns its path."""
    folder = tmp_path / "own"
    folder.mkdir()
    monkeypatch.setenv("RESNET_BENCH_EXPERIMENTS", str(folder))

    def write(name: str, *groups: str, text: str = "") -> Path:
        lines = [f"  - {group}" for group in groups]
        path = folder / f"{name}.yaml"
        path.write_text(text or "\n".join([f"shows: what {name} is about", "source: a test", "paper:", *lines, ""]))
        return path

    return write
