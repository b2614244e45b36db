"""One rank that trains a few steps with every engine asked for and prints the losses; run by the engines' tests."""

import contextlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

from bench.config.run_config import RunConfig
from bench.training import engine as engines
from bench.training.model import build_model
from bench.training.process_group import start_process_group


def losses(
    config: RunConfig, rank: int, frozen: bool, steps: int, images: torch.Tensor, labels: torch.Tensor
) -> list[float]:
    """Global mean loss of each step on fixed images; sample order as the loaders have it."""
    torch.manual_seed(config.seed)
    model = build_model(config)
    if frozen:  # at statistics that fit: the same ones on any number of ranks
        with torch.no_grad():
            for _ in range(30):
                model.train()(images[:64])
    engine = engines.build(config, model, torch.device("cpu"))
    model.train()
    if frozen:
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    found = []
    for step in range(steps):
        engines.set_lr(engine, config.lr)
        total = torch.zeros(())
        for micro in range(config.grad_accum):
            start = (step * config.global_batch + micro * config.batch * config.world_size + rank * config.batch) % len(
                labels
            )
            batch = slice(start, start + config.batch)
            loss = functional.cross_entropy(engine.forward(images[batch]).float(), labels[batch])
            engine.backward(loss)
            total += loss.detach() / config.grad_accum
        if config.world_size > 1:
            dist.all_reduce(total)
        found.append(float(total) / config.world_size)
    return found


def exact_interpreter() -> contextlib.AbstractContextManager[None]:
    """bf16 as a GPU rounds it, where fused kernels are interpreted."""
    if os.environ.get("TRITON_INTERPRET") != "1":
        return contextlib.nullcontext()
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "kernels"))
    from interpreter_bf16 import exact_bf16

    return exact_bf16()


def main() -> None:
    cases = json.loads(sys.argv[1])
    world = start_process_group(lambda failure: None)
    generator = np.random.Generator(np.random.PCG64(7))
    images = torch.from_numpy(generator.standard_normal((320, 3, 32, 32), dtype=np.float32))
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.from_numpy(generator.integers(0, 10, 320))
    found = {}
    for name, case in cases.items():
        config = RunConfig.from_json(json.dumps(case["config"]))
        side = slice(config.image_size)
        shown = images[:, :, side, side].contiguous(memory_format=torch.channels_last)
        with exact_interpreter():
            found[name] = losses(config, world.rank, case["frozen"], case["steps"], shown, labels)
    if world.rank == 0:
        print("FOUND " + json.dumps(found), flush=True)
    world.barrier()
    world.close()


if __name__ == "__main__":
    main()
