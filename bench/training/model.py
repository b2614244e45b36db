"""The network of a run: built from the configuration, and warmed up before the clock starts."""

from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from torch import nn

import resnet
from bench.config.run_config import RunConfig
from bench.measure.clock import synchronize
from bench.training.engine import autocast
from kernels.dtypes import PRECISIONS
from resnet.fused.layer_choices import LayerChoices


def build_model(config: RunConfig) -> nn.Module:
    """The configured network, initialized under torch's current seed."""
    return resnet.build(
        family=config.family,
        depth=config.depth,
        shortcut=config.shortcut,
        stride=config.stride,
        num_classes=config.num_classes,
        kernels=config.kernels,
        # Zero gammas would kill a plain net, which has nothing beside the branch.
        zero_init_residual=config.recipe.zero_init_residual and config.shortcut != "none",
        activation_checkpointing=bool(config.activation_checkpointing),
    )


def describe_choices(fused: Any) -> tuple[LayerChoices, str]:
    """What computes each layer of a fused network, and the table that it was chosen from, as text."""
    text = ""
    if fused.table is not None:
        console = Console(width=140, highlight=False)
        with console.capture() as capture:
            console.print(fused.table.render())
        text = capture.get()
    return fused.describe(), text


def warm_up(
    model: nn.Module, config: RunConfig, device: torch.device, announce: Callable[[str], None] | None = None
) -> None:
    """Compile and choose kernels on random images before the clock starts; the network and the RNG stay as they were.

    MLPerf Training allows it likewise: initialization may run on data that is not the dataset's.

    Args:
        announce: takes a line for each layer whose kernels are measured.
    """
    if config.kernels == "auto":
        from resnet.fused.checks import check_device
        from resnet.fused.network import choose_kernels  # imports Triton

        check_device(config.kernels, device)
        shape = (config.batch, 3, config.image_size, config.image_size)
        choose_kernels(model, shape, PRECISIONS[config.precision].torch_dtype, device, announce=announce)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        shape = (config.batch, 3, config.image_size, config.image_size)
        images = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
        model.train()
        for _ in range(2):
            with autocast(config.precision, device):
                logits = model(images)
            logits.float().logsumexp(1).mean().backward()
            model.zero_grad(set_to_none=True)
        model.eval()
        with torch.no_grad(), autocast(config.precision, device):
            model(images)
    model.load_state_dict(state)
    synchronize(device)
