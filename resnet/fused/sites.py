"""The convolutions of a network as conv sites: where each stands."""

from typing import Any

import torch
from torch import nn

from kernels.choose.sites import ConvSite
from resnet.layers import Block, Projection, StridedIdentity


def skip_of(block: Block) -> tuple[str, int]:
    """Kind of a block's shortcut, and its stride."""
    if not block.residual:
        return "none", 1
    if isinstance(block.downsample, StridedIdentity):
        return "padded", block.downsample.stride
    if isinstance(block.downsample, Projection):
        conv = block.downsample[0]
        assert isinstance(conv, nn.Conv2d)
        return "projection", conv.stride[0]
    return "identity", 1


def conv_sites(model: Any, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype) -> list[tuple[str, ConvSite]]:
    """Every convolution of the blocks as a conv site, by name; the stem's is cuDNN's always.

    Args:
        model: a `ResNet`.
        shape: of the images, [N, 3, H, W].
        dtype: that the network computes in.
    """
    n, _, h, w = shape
    found: list[tuple[str, ConvSite]] = []
    h, w = -(-h // model.conv1.stride[0]), -(-w // model.conv1.stride[0])
    if model.maxpool is not None:
        h, w = -(-h // 2), -(-w // 2)
    join = False
    for block in model.residual_blocks():
        c_in = block.branch_layers()[0].conv.in_channels
        found += block_sites(block, (n, c_in, h, w), dtype, join=join)
        for _, conv, _ in block.branch_layers():
            h, w = -(-h // conv.stride[0]), -(-w // conv.stride[0])
        join = block.residual
    return found


def block_sites(
    block: Block, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, *, join: bool
) -> list[tuple[str, ConvSite]]:
    """The sites of one block whose input has `shape`; see `conv_sites`."""
    n, _, h, w = shape
    skip, skip_stride = skip_of(block)
    found = []
    for i, (name, conv, _) in enumerate(block.branch_layers()):
        at = (n, conv.in_channels, h, w)
        place = (
            {"role": "first", "skip": skip, "join": join, "skip_stride": skip_stride} if i == 0 else {"role": "inner"}
        )
        found.append((name, _site(conv, at, dtype, **place)))
        h, w = -(-h // conv.stride[0]), -(-w // conv.stride[0])
    if skip == "projection":
        name, conv, _ = block.conv_layers()[-1]
        found.append((name, _site(conv, tuple(shape), dtype, role="shortcut")))
    return found


def _site(conv: nn.Conv2d, shape: tuple[int, ...], dtype: torch.dtype, **place: Any) -> ConvSite:
    n, _, h, w = shape
    return ConvSite(
        kernel=conv.kernel_size[0], stride=conv.stride[0], c_in=conv.in_channels, c_out=conv.out_channels,
        n=n, h=h, w=w, dtype=str(dtype).removeprefix("torch."), **place,
    )  # fmt: skip
