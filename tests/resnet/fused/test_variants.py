"""A batch of another size, such as an epoch's last one, compiles nothing again in the middle of an epoch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("net", ["ResNet-20", "ResNet-18", "ResNet-50 v1", "ResNet-50 v1.5"])
def test_each_kernel_is_compiled_once_for_its_channels_and_tile_config(net):
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("compiled_variants.py")), net],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(set(found["launches"].values())) == 1 and len(found["launches"]) == 4
    kernels = {key.partition(" ")[0] for key in found["variants"]}
    passes = {"bn_stats_kernel", "bn_act_kernel", "bn_act_backward_reduce_kernel", "bn_act_backward_apply_kernel"}
    assert kernels >= passes | {"conv_inference_kernel"}
    if net != "ResNet-18":  # whose convolutions are all cuDNN's in training, but a projection's
        assert kernels >= {"conv_kernel", "conv_dgrad_kernel"}
    again = {key: times for key, times in found["variants"].items() if times != 1}
    assert not again, f"{len(again)} of {len(found['variants'])}: {again}"
