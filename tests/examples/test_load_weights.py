"""The example that loads weights, run as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import resnet

ROOT = Path(__file__).resolve().parents[2]


def run(*words):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, ROOT / "examples" / "load_weights.py", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env=env)


@pytest.mark.slow
@pytest.mark.parametrize(
    "net",
    [
        {"family": "cifar", "depth": 8, "shortcut": "A", "num_classes": 10},
        {"family": "imagenet", "depth": 18, "shortcut": "B", "num_classes": 7},
    ],
)
def test_it_classifies_with_the_weights_of_the_file(tmp_path, net):
    torch.manual_seed(1)
    model = resnet.build(**net)
    path = tmp_path / "weights.safetensors"
    resnet.save_weights(model, path)
    done = run(path)
    assert (done.returncode, done.stderr) == (0, "")
    torch.manual_seed(0)
    side = 32 if net["family"] == "cifar" else 224
    with torch.inference_mode():
        probabilities = model.eval()(torch.rand(1, 3, side, side)).softmax(dim=1)[0]
    pattern = r"ResNet-(\d+) of (.+): class (\d+) of (\d+), probability ([\d.]+)\n"
    depth, name, best, classes, probability = re.fullmatch(pattern, done.stdout).groups()
    assert (int(depth), name, int(classes)) == (net["depth"], str(path), net["num_classes"])
    assert int(best) == int(probabilities.argmax())
    assert float(probability) == pytest.approx(float(probabilities.max()), abs=1e-3)


@pytest.mark.slow
def test_what_cannot_be_loaded_is_one_line(tmp_path):
    (tmp_path / "text").write_text("weights")
    save_file({"fc.bias": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    for words, said in [
        ((), "usage: python "),
        ((tmp_path / "missing",), "missing: not a readable safetensors file"),
        ((tmp_path / "text",), "text: not a readable safetensors file"),
        ((tmp_path / "foreign.safetensors",), "its metadata does not say which net it is of"),
    ]:
        done = run(*words)
        assert (done.returncode, done.stdout) == (1, "") and said in done.stderr and done.stderr.count("\n") == 1
