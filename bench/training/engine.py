"""Engines that turn a loss into an optimizer step on every rank: DeepSpeed, and DDP as the baseline beside it."""

import contextlib
import logging
import os
import sys
import warnings
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from bench.config.run_config import RunConfig
from kernels.dtypes import PRECISIONS
from resnet.recipe import decay_groups

COMM_DTYPE = "fp32"  # of gradients, in both engines


class Engine(Protocol):
    """What the training loop needs of an engine. One optimizer step is `grad_accum` pairs of forward and backward."""

    model: nn.Module
    optimizer: torch.optim.Optimizer

    def forward(self, images: Tensor) -> Tensor:
        """Logits of one micro-batch, under the configured autocast. images: [N, 3, H, W] float32, channels_last."""

    def backward(self, loss: Tensor) -> None:
        """Backward of one micro-batch's mean loss; the last one of a step also reduces and updates."""


def autocast(precision: str, device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """The autocast context of a precision: none for fp32, else bf16 or fp16 compute over fp32 master weights."""
    return torch.autocast(device.type, PRECISIONS[precision].torch_dtype, enabled=precision != "fp32")


def sgd(model: nn.Module, config: RunConfig) -> torch.optim.SGD:
    """SGD with momentum as the recipe has it, in torch's fused implementation."""
    recipe = config.recipe
    return torch.optim.SGD(
        decay_groups(model.named_parameters(), recipe, config.weight_decay),
        lr=config.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,
    )


def set_lr(engine: Engine, lr: float) -> None:
    """Set the learning rate of the next optimizer step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr


def build(config: RunConfig, model: nn.Module, device: torch.device) -> Engine:
    """Wrap `model` (already on `device`) in the configured engine.

    Raises:
        ValueError: an engine that does not exist.
    """
    if config.engine == "deepspeed":
        return DeepSpeedEngine(config, model)
    if config.engine == "ddp":
        return DdpEngine(config, model, device)
    raise ValueError(f"engine={config.engine} is unknown: choose deepspeed or ddp")


class DdpEngine:
    """torch's DistributedDataParallel; the plain module where there is one rank."""

    def __init__(self, config: RunConfig, model: nn.Module, device: torch.device) -> None:
        self.model = model
        self.device = device
        self.precision = config.precision
        self.grad_accum = config.grad_accum
        self.micro_step = 0
        if device.type == "cuda":
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer: torch.optim.Optimizer = sgd(model, config)
        # BN buffers stay a rank's own during training, as under DeepSpeed; evaluation averages them. The option has a
        # newer name in some of the versions of torch that are supported, and those warn.
        warnings.filterwarnings("ignore", message="`broadcast_buffers` is deprecated", category=FutureWarning)
        self.wrapped = (
            nn.parallel.DistributedDataParallel(
                model,
                device_ids=[device.index] if device.type == "cuda" else None,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )
            if config.world_size > 1
            else model
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")

    def forward(self, images: Tensor) -> Tensor:
        last = self.micro_step + 1 == self.grad_accum
        # DDP decides in forward whether this backward will reduce.
        if not last and isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            self.wrapped.require_backward_grad_sync = False
        with autocast(self.precision, self.device):
            return self.wrapped(images)

    def backward(self, loss: Tensor) -> None:
        self.scaler.scale(loss / self.grad_accum).backward()
        if isinstance(self.wrapped, nn.parallel.DistributedDataParallel):
            self.wrapped.require_backward_grad_sync = True
        self.micro_step += 1
        if self.micro_step == self.grad_accum:
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad(set_to_none=True)
            self.micro_step = 0


class DeepSpeedEngine:
    """DeepSpeed with ZeRO 0, 1 or 2, torch autocast over fp32 master weights and gradients reduced in fp32."""

    def __init__(self, config: RunConfig, model: nn.Module) -> None:
        deepspeed = load_deepspeed()
        self.model = model
        settings = {
            "train_micro_batch_size_per_gpu": config.batch,
            "gradient_accumulation_steps": config.grad_accum,
            "zero_optimization": {"stage": config.zero_stage},
            "zero_allow_untested_optimizer": True,
            "communication_data_type": COMM_DTYPE,
            "gradient_clipping": 0.0,  # by default DeepSpeed clips at a norm of 1, which no recipe here asks for
            "steps_per_print": sys.maxsize,
            "torch_autocast": {
                "enabled": config.precision != "fp32",
                "dtype": PRECISIONS[config.precision].torch_name,
                # By default gradients of Conv2d and Linear would travel in the low precision; none is to.
                "lower_precision_safe_modules": [],
            },
        }
        # Within a module of its own: DeepSpeed hooks itself on to what it is given, and what is compiled as one graph
        # (kernels=compile) may have no hooks, which read the clock.
        self.engine, self.optimizer, _, _ = deepspeed.initialize(
            model=nn.Sequential(model), optimizer=sgd(model, config), config=settings, dist_init_required=False
        )
        if config.zero_stage:
            self._link_momentum()

    def _link_momentum(self) -> None:
        """Make the momentum of ZeRO's partitions, zero as it begins, and let its parameters find it.

        DeepSpeed does the latter itself, but after the first parameter group's step, when the others have none yet.
        """
        zero: Any = self.optimizer
        for partition in zero.single_partition_of_fp32_groups:
            zero.optimizer.state[partition]["momentum_buffer"] = torch.zeros_like(partition)
        zero._lazy_init_hp_params_optimizer_state()

    def forward(self, images: Tensor) -> Tensor:
        return self.engine(images)

    def backward(self, loss: Tensor) -> None:
        self.engine.backward(loss)
        self.engine.step()


def load_deepspeed() -> Any:
    """Import DeepSpeed quietly and let it use torch's process group, which must be there."""
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    import deepspeed

    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    # On a CPU it would compile collectives of its own over shared memory. They spin while they wait, which takes the
    # loader's cycles, and wait for ever for a rank that is gone; gloo does neither, and is what DDP uses.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    if not deepspeed.comm.is_initialized():
        deepspeed.init_distributed(dist_backend=dist.get_backend(), verbose=False)
    return deepspeed


def get_momentum(engine: Engine, parameter: nn.Parameter) -> Tensor | None:
    """Momentum of a parameter in its shape, None before it exists; under ZeRO a collective that gathers it."""
    if isinstance(engine, DeepSpeedEngine) and engine.engine.zero_optimization():
        from deepspeed.utils import safe_get_full_optimizer_state

        return safe_get_full_optimizer_state(parameter, "momentum_buffer")
    return engine.optimizer.state.get(parameter, {}).get("momentum_buffer")


def set_momentum(engine: Engine, parameter: nn.Parameter, value: Tensor) -> None:
    """Set what `get_momentum` gives; on every rank."""
    if isinstance(engine, DeepSpeedEngine) and engine.engine.zero_optimization():
        from deepspeed.utils import safe_set_full_optimizer_state

        safe_set_full_optimizer_state(parameter, value, "momentum_buffer")
    else:
        engine.optimizer.state[parameter]["momentum_buffer"] = value.to(parameter).clone()


def loss_scaler(engine: Engine) -> torch.amp.GradScaler | None:
    """What scales the loss of fp16, in either engine and under each stage of ZeRO; None where nothing does."""
    if isinstance(engine, DeepSpeedEngine):
        found = getattr(engine.engine, "torch_autocast_z0_gradscaler", None)
        found = found or getattr(engine.optimizer, "torch_autocast_gradscaler", None)
    else:
        found = getattr(engine, "scaler", None)
    return found if found is not None and found.is_enabled() else None
