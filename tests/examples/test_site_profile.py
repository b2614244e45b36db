"""The example of a site profile, used as a site would use it."""

import dataclasses
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from launch.cluster import ClusterConfig

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "examples" / "site_profile.yaml"


@pytest.mark.slow
def test_a_batch_script_is_made_of_it(tmp_path):
    shutil.copy(PROFILE, tmp_path / "oursite.yaml")
    done = subprocess.run(
        [sys.executable, ROOT / "launch" / "slurm.py", "depth=50", "nodes=2", "cluster=oursite", "mode=print"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "RESNET_BENCH_CLUSTERS": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    options = {}
    for line in done.stdout.splitlines():
        if line.startswith("#SBATCH --"):
            name, _, value = line.removeprefix("#SBATCH --").partition("=")
            options[name] = "".join(shlex.split(value))
    profile = yaml.safe_load(PROFILE.read_text())
    for name in ("account", "partition", "qos", "constraint"):
        assert options[name] == profile[name], name
    assert (options["nodes"], options["gpus-per-node"], options["ntasks-per-node"]) == ("2", "4", "4")
    assert (options["cpus-per-task"], options["time"], options["signal"]) == ("16", "720", "USR2@300")
    assert not {"exclude", "reservation"} & options.keys()
    for line in [*profile["setup"], "export OMP_NUM_THREADS=16", "export NCCL_SOCKET_IFNAME=ib0"]:
        assert line in done.stdout.splitlines()
    for words in (f"apptainer exec --nv --no-home --bind {ROOT},",
                  f",/etc/ssl/certs:/etc/ssl/certs {profile['image']} ",
                  f"data={profile['data']['imagenet']} ", f"results={profile['results']}\n"):  # fmt: skip
        assert words in done.stdout, words


def test_it_is_complete():
    keys = {option.name for option in dataclasses.fields(ClusterConfig)} - {"name"}
    assert set(yaml.safe_load(PROFILE.read_text())) == keys
