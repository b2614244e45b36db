"""Runs that an experiment starts say so in their rows."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.config.paths import ROOT
from results.store.files import read_rows


@pytest.mark.ranks
def test_rows_have_the_experiment_and_its_scale(tmp_path: Path, write_own: Any) -> None:
    """Two ranks, two steps: from the file to the row."""
    own = write_own("tiny", text="shows: two steps\nsource: none\npaper: [dataset=digits depth=8 steps=2]\n")
    with own.open("a") as file:
        file.write("small: [dataset=digits depth=8 steps=1]\n")
    for words in (["experiment=tiny"], ["experiment=tiny", "scale=small"], ["experiment=tiny", "steps=3"]):
        command = [sys.executable, str(ROOT / "launch" / "local.py"), *words, f"results={tmp_path}/rows"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ))
        assert done.returncode == 0, done.stderr
        scale = "small" if "scale=small" in words else "paper"
        assert done.stderr.startswith(f"launch: experiment=tiny scale={scale}, 1 run: two steps (none)")
    rows, bad = read_rows(tmp_path / "rows", "runs")
    assert not bad and [row["status"] for row in rows] == ["completed"] * 3
    found = [(row["steps_completed"], row["experiment"], row["scale"]) for row in rows]
    assert sorted(found) == [(1, "tiny", "small"), (2, "tiny", "paper"), (3, "tiny", None)]
    assert not any("experiment" in row["config_json"] for row in rows)
    epochs, _ = read_rows(tmp_path / "rows", "epochs")
    assert all(0 <= epoch["train_top1"] <= 1 for epoch in epochs) and len(epochs) == 3
