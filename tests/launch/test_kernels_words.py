"""`kernels=` on a machine without a GPU: refused in one line, or interpreted for whoever insists, and recorded."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.config.paths import ROOT
from launch.gpus import gpus_here
from results.store.files import read_rows

pytestmark = pytest.mark.skipif(gpus_here() > 0, reason="there is a GPU, on which these kernels run")


def local(*words: str, interpret: bool) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    command = [sys.executable, str(ROOT / "launch" / "local.py"), *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize(
    ("word", "interpret", "way_out"),
    [
        ("triton", False, "TRITON_INTERPRET=1 in the environment"),
        ("auto", False, "nearest is kernels=torch"),
        ("auto", True, "nearest is kernels=torch"),
    ],
)
def test_one_line_and_nothing_written(tmp_path: Path, word: str, interpret: bool, way_out: str) -> None:
    done = local("depth=20", "dataset=digits", f"kernels={word}", f"results={tmp_path}", interpret=interpret)
    assert done.returncode == 2 and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"launch: kernels={word}: ") and way_out in line
    assert not list(tmp_path.iterdir())


@pytest.mark.ranks
@pytest.mark.interpreted
def test_the_interpreter_for_whoever_insists(tmp_path: Path) -> None:
    words = "depth=8 dataset=digits image_size=8 batch=4 steps=1 loader=synthetic precision=fp32 ranks_per_node=1"
    done = local(*words.split(), "kernels=triton", f"results={tmp_path}", interpret=True)
    assert done.returncode == 0, done.stderr
    # The stem and the two convolutions of stride 2 are cuDNN's.
    assert "kernels=triton: in training fused kernels compute 4 of 7 convolutions, cuDNN the others" in done.stdout
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["kernels"] == "triton" and row["status"] == "completed" and row["images_per_s"] is None
    layers = json.loads(row["kernels_choices"])
    own = {"forward": None, "dgrad": None, "inference": None}  # by the fixed rule the kernels choose their tiles
    assert layers["conv1"] == {"forward": "torch", "dgrad": "torch", "inference": "torch", "config": own}
    assert layers["layer1.0.conv2"] == {"forward": "prologue", "dgrad": "triton", "inference": "triton", "config": own}
    assert row["choices_hash"] == hashlib.sha256(row["kernels_choices"].encode()).hexdigest()[:16]
    table = done.stdout[done.stdout.index("cuDNN the others") :]  # whose cells wrap where a time has a digit more
    assert " triton" in table and row["run_id"][-8:] in table
