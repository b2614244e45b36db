"""What only a GPU can show: DALI's decoding there gives the CPU pipeline's pixels, and training steps run."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bench.config.paths import ROOT
from resnet.data import make_loader, open_dataset, unpack_archive
from results.store.files import read_rows

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

# nvJPEG's inverse transform and the GPU's resize round otherwise than the CPU's; in levels of 255.
MEAN_LEVELS, WORST_SHARE = 1.5, 0.01
STD = 255 * 0.226


@pytest.mark.parametrize("train", [False, True])
def test_mixed_decoding_gives_the_cpu_pipeline_s_pixels(train: bool) -> None:
    try:
        folder = unpack_archive("imagenette-128")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    splits = open_dataset("imagefolder", str(folder), image_size=112)
    images = {}
    for device in (torch.device("cpu"), torch.device("cuda", 0)):
        loader = make_loader(
            "dali", splits.train if train else splits.test, train=train, batch=64, rank=0, world_size=1, seed=3,
            augment="fast", image_size=112, device=device, threads=2,
        )  # fmt: skip
        try:
            batch = next(iter(loader.epoch(0)))
            assert batch.images.device == device
            assert batch.images.is_contiguous(memory_format=torch.channels_last)
            images[device.type] = batch.images.float().cpu().clone(), batch.labels.cpu()
        finally:
            loader.close()
    assert torch.equal(images["cpu"][1], images["cuda"][1])
    levels = (images["cpu"][0] - images["cuda"][0]).abs() * STD
    assert float(levels.mean()) < MEAN_LEVELS
    assert float((levels > 16).float().mean()) < WORST_SHARE


@pytest.mark.ranks
@pytest.mark.parametrize("engine", ["deepspeed", "ddp"])
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_run_on_the_gpu_learns(tmp_path: Path, engine: str, precision: str) -> None:
    words = ["depth=20", "dataset=digits", "ranks_per_node=1", "batch=64", f"engine={engine}", f"precision={precision}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch" / "local.py"), *words, f"results={tmp_path}"],
        capture_output=True,
        text=True,
        timeout=900,  # kernels are chosen before the first step
    )
    assert done.returncode == 0, done.stderr
    (row,), _ = read_rows(tmp_path, "runs")
    assert row["final_top1"] > 0.95 and row["images_per_s"] > 0 and row["peak_mem_bytes"] > 0
