"""Networks over the fused kernels: the same modules and parameters, computed a block at a time.

`kernels=triton` uses the fused kernels by a fixed rule, `kernels=auto` by what was measured for every layer. Modules
keep the parameters and do not run themselves, so a hook on one of them would never fire: it is refused.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kernels import runtime
from kernels.aten_conv import convolution
from kernels.choose.choice import TORCH, Choice, static_choice
from kernels.choose.decide import measure_choices
from kernels.choose.table import Table, agree
from kernels.ops.bn_act import bn_act
from kernels.ops.conv_inference import conv_inference, fold
from kernels.ops.pack_weights import pack_weights
from resnet.fused.autograd_node import PerParameter, flatten, without_autocast
from resnet.fused.block import BlockFunction, BlockPlan, forward_block
from resnet.fused.checks import check_device, check_dtypes, check_images, check_modules, classifier_of
from resnet.fused.empty import empty_block, empty_stem
from resnet.fused.layer_choices import LayerChoices
from resnet.fused.plans import Plans, Structure, frozen_norm, is_frozen
from resnet.fused.sites import block_sites, conv_sites, skip_of
from resnet.fused.stem import StemFunction, StemPlan, forward_stem
from resnet.layers import Block, ConvBn, Projection, global_average

NOTHING_CHOSEN = "kernels=auto: nothing chosen yet; run the whole network once, or choose_kernels"

_passes = threading.local()


class Fused:
    """How one network uses the fused kernels; shared by the network and its blocks.

    Args:
        kernels_word: "triton" or "auto".

    Attributes:
        choices: what computes each layer, by the convolution's name, in the dtype of the last pass; empty before it.
        table: the measured choices of "auto", None before they are made and for "triton".
    """

    def __init__(self, kernels_word: str) -> None:
        self.word = kernels_word
        self.choices: dict[str, Choice] = {}
        self.table: Table | None = None
        self.chosen: dict[torch.dtype, tuple[dict[str, Choice], Table | None]] = {}
        self.plans = Plans()

    @property
    def _packed(self) -> tuple[dict[str, Tensor], Structure] | None:
        """Packed weights by name, and of which modules, while a pass of this thread goes on."""
        return getattr(_passes, "packed", {}).get(id(self))

    @_packed.setter
    def _packed(self, packed: tuple[dict[str, Tensor], Structure] | None) -> None:
        others = {key: value for key, value in getattr(_passes, "packed", {}).items() if key != id(self)}
        _passes.packed = others if packed is None else {**others, id(self): packed}

    def describe(self) -> LayerChoices:
        """What computes each layer, by the convolution's name; empty before the first pass."""
        return LayerChoices.of(self.choices)

    @torch.compiler.disable
    def network(self, model: Any, images: Tensor) -> Tensor:
        """`ResNet.forward`: class scores of [N, 3, H, W]."""
        structure = self.plans.structure(model)
        dtype = self._checked(images, structure, structure.layers, classifier_of(model))
        self._choose(model, images, dtype)
        with self._opened(structure, structure.layers, images, dtype):
            x = self._stem(model, images.to(dtype).contiguous(memory_format=torch.channels_last))
            for stage in model.stages():
                x = stage(x)
        return model.fc(global_average(x))

    @torch.compiler.disable
    def stem(self, model: Any, images: Tensor) -> Tensor:
        """`ResNet.stem`, alone."""
        structure = self.plans.structure(model)
        dtype = self._checked(images, structure, structure.layers[:1], None)
        self._choose(model, images, dtype)
        with self._opened(structure, structure.layers[:1], images, dtype):
            return self._stem(model, images.to(dtype).contiguous(memory_format=torch.channels_last))

    @torch.compiler.disable
    def block(self, block: Block, x: Tensor) -> Tensor:
        """`Block.forward`."""
        if self._packed is None:  # a block alone
            structure = self.plans.structure(block)
            dtype = self._checked(x, structure, structure.layers, None)
            if dtype in self.chosen:
                self.choices, self.table = self.chosen[dtype]
            elif len(x) and self.word == "auto":
                raise RuntimeError(NOTHING_CHOSEN)
            elif len(x):
                chip, found = runtime.chip(x.device), block_sites(block, x.shape, dtype, join=True)
                self.choices = {name: static_choice(site, chip) for name, site in found}
            with self._opened(structure, structure.layers, x, dtype):
                return self.block(block, x.to(dtype).contiguous(memory_format=torch.channels_last))
        packed, parts = self._packed[0], self._packed[1].blocks[block]
        if not len(x):
            return empty_block(block, x, flatten(map(_parameters, parts)))
        keep = torch.is_grad_enabled()
        if not keep and all(is_frozen(part.bn) for part in parts):
            return self._infer(block, x)
        layers = [self.plans.layer(part, self.choices[part.name]) for part in parts]
        projection = layers.pop() if isinstance(block.downsample, Projection) else None
        skip, skip_stride = skip_of(block)
        plan = BlockPlan(tuple(layers), projection, skip, skip_stride, keep)
        weights = [packed[part.name] for part in parts]
        parameters = [_parameters(part) for part in parts]
        if keep:
            return BlockFunction.apply(x, plan, weights, *flatten(parameters))
        return without_autocast(x.device.type, forward_block, x, plan, weights, parameters)[0]

    def _stem(self, model: Any, x: Tensor) -> Tensor:
        assert self._packed is not None
        part = ConvBn("conv1", model.conv1, model.bn1)
        parameters = _parameters(part)
        if not len(x):
            return empty_stem(model, x, parameters)
        layer = self.plans.layer(part, self.choices["conv1"])
        plan, weight = StemPlan(layer, model.maxpool is not None), self._packed[0]["conv1"]
        if torch.is_grad_enabled():
            return StemFunction.apply(x, plan, weight, *flatten([parameters]))
        return without_autocast(x.device.type, forward_stem, x, plan, weight, parameters)[0]

    def _infer(self, block: Block, x: Tensor) -> Tensor:
        """A block in evaluation: BN folded into the convolutions, ReLU and addition in their epilogues."""
        assert self._packed is not None
        parts = list(self._packed[1].blocks[block])
        skip, skip_stride = skip_of(block)
        residual: Tensor | None = None if skip == "none" else x
        if skip == "projection":
            residual, skip_stride = self._infer_layer(parts.pop(), x, None, 1, relu=False), 1
        for part in parts[:-1]:
            x = self._infer_layer(part, x, None, 1, relu=True)
        return self._infer_layer(parts[-1], x, residual, skip_stride, relu=True)

    def _infer_layer(self, part: ConvBn, x: Tensor, residual: Tensor | None, stride: int, relu: bool) -> Tensor:
        runtime.set_layer(part.name)
        run = self._folded if self.choices[part.name].inference == "triton" else self._normalized
        return without_autocast(x.device.type, run, part, x, residual, stride, relu)

    def _folded(self, part: ConvBn, x: Tensor, residual: Tensor | None, stride: int, relu: bool) -> Tensor:
        """A layer by a kernel of ours. BN is folded each time: what changes parameters cannot always be seen."""
        name, conv, bn = part
        mean, var = bn.running_mean, bn.running_var
        assert mean is not None and var is not None
        weight, bias = fold(conv.weight, bn.weight, bn.bias, mean, var, bn.eps, x.dtype)
        return conv_inference(
            x, weight, bias, stride=conv.stride[0], residual=residual, residual_stride=stride, relu=relu,
            tile_config=self.choices[name].inference_config,
        )  # fmt: skip

    def _normalized(self, part: ConvBn, x: Tensor, residual: Tensor | None, stride: int, relu: bool) -> Tensor:
        """A layer by cuDNN's convolution and our pass behind it."""
        assert self._packed is not None
        name, conv, bn = part
        y = convolution(x, self._packed[0][name], conv.stride[0], int(conv.padding[0]))
        return bn_act(y, frozen_norm(bn), shortcut=residual, shortcut_stride=stride, relu=relu)[0]

    @contextlib.contextmanager
    def _opened(self, structure: Structure, parts: list[ConvBn], x: Tensor, dtype: torch.dtype) -> Iterator[None]:
        """Convolution weights in the kernels' dtype and layout, in one launch, and batches counted.

        Args:
            x: what the pass reads; where it is empty, nothing reads weights.
        """
        read = parts if len(x) else []
        runtime.set_layer("weights")
        with torch.no_grad():
            packed = pack_weights([part.conv.weight for part in read], dtype)
        counting = [part.bn._buffers for part in parts if part.bn.training and part.bn.track_running_stats]
        counted = [own for own in counting if own["running_mean"] is not None]
        if counted:
            counts = [own["num_batches_tracked"] for own in counted]
            with torch.no_grad():
                torch._foreach_add_([count for count in counts if count is not None], 1)
            # Kernels write where autograd does not see it.
            written = [own[name] for own in counted for name in ("running_mean", "running_var")]
            torch.autograd.graph.increment_version([buffer for buffer in written if buffer is not None])
        self._packed = dict(zip((part.name for part in read), packed, strict=True)), structure
        try:
            yield
        finally:
            self._packed = None

    def _checked(
        self, x: Tensor, structure: Structure, layers: Sequence[ConvBn], classifier: nn.Module | None
    ) -> torch.dtype:
        """See that a pass through some layers can run, before it changes anything; the dtype that it computes in.

        Args:
            x: what the first of the layers reads.
            classifier: see `check_dtypes`.
        """
        check_device(self.word, x.device)
        check_modules(structure.inside)
        check_images(x, layers[0].conv.in_channels)
        dtype, autocast = compute_dtype(x), _autocast(x)
        check_dtypes(self.word, layers, dtype, classifier, autocast=autocast)
        return dtype

    def _choose(self, model: Any, images: Tensor, dtype: torch.dtype) -> None:
        """See to it that every layer has a choice; of no images none is asked."""
        if dtype not in self.chosen:
            if not len(images):
                if self.word == "auto" and torch.distributed.is_initialized():
                    raise RuntimeError(NOTHING_CHOSEN)  # the other ranks may have images, and wait for this one
                return
            if self.word == "auto":
                choose_kernels(model, tuple(images.shape), dtype, images.device)
            else:
                chip, found = runtime.chip(images.device), conv_sites(model, images.shape, dtype)
                static = {name: static_choice(site, chip) for name, site in found}
                self.chosen[dtype] = {"conv1": TORCH, **static}, None
        self.choices, self.table = self.chosen[dtype]


def _parameters(part: ConvBn) -> PerParameter[Tensor]:
    """Those of a layer."""
    return PerParameter(part.conv.weight, part.bn.weight, part.bn.bias)


def _autocast(x: Tensor) -> bool:
    """Whether autocast is on where a tensor is."""
    kind = x.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def compute_dtype(x: Tensor) -> torch.dtype:
    """Autocast's dtype where it is on, else that of `x`."""
    return torch.get_autocast_dtype(x.device.type) if _autocast(x) else x.dtype


def choose_kernels(
    model: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    device: torch.device,
    *,
    timer: Any = None,
    cache: Any = None,
    announce: Callable[[str], None] | None = None,
) -> Table | None:
    """Measure what computes each layer fastest, on rank 0, and tell all ranks; a collective where there are several.

    Args:
        model: a `ResNet` built with kernels="auto"; with other kernels nothing happens.
        shape: of a micro-batch of images, [N, 3, H, W].
        dtype: that the network computes in.
        device: where it runs.
        timer, cache, announce: see `kernels.choose.decide.measure_choices`.

    Returns:
        The choices, None where there are none to make.

    Raises:
        ValueError: there is no GPU to measure on.
        RuntimeError: called while a CUDA graph is captured.
    """
    fused: Fused | None = getattr(model, "fused", None)
    if fused is None or fused.word != "auto":
        return None
    named = conv_sites(model, shape, dtype)
    table, failure = None, None
    try:
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            found = [site for _, site in named]
            table = measure_choices(found, device, timer=timer, cache=cache, announce=announce)
    except Exception as error:
        failure = error
    if failure is not None and not torch.distributed.is_initialized():
        raise failure
    try:
        # Also where measuring failed: the other ranks wait for a table.
        fused.table = table = agree(table)
    except ValueError:
        raise failure or RuntimeError("kernels=auto: rank 0 could not choose; its reason is in its log") from None
    fused.choices = {name: table[site] for name, site in named} | {"conv1": TORCH}
    fused.chosen[dtype] = fused.choices, table
    return table
