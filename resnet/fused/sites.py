"""The convolutions of a network as conv sites: where each stands."""

from typing import Any

import torch
from torch import nn

from kernels import Link
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


def links(model: Any, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype) -> list[tuple[str, Link]]:
    """Every convolution of the blocks as a link of the chain of kernels, by name; the stem's is cuDNN's always.

    Args:
        model: a `ResNet`.
        shape: of the images, [N, 3, H, W].
        dtype: that the network computes in.
    """
    n, _, h, w = shape
    found: list[tuple[str, Link]] = []
    h, w = -(-h // model.conv1.stride[0]), -(-w // model.conv1.stride[0])
    if model.maxpool is not None:
        h, w = -(-h // 2), -(-w // 2)
    join = False
    for block in model.residual_blocks():
        c_in = block.branch_layers()[0].conv.in_channels
        found += block_links(block, (n, c_in, h, w), dtype, join=join)
        for _, conv, _ in block.branch_layers():
            h, w = -(-h // conv.stride[0]), -(-w // conv.stride[0])
        join = block.residual
    return found


def block_links(
    block: Block, shape: tuple[int, ...] | torch.Size, dtype: torch.dtype, *, join: bool
) -> list[tuple[str, Link]]:
    """The links of one block whose input has `shape`; see `links`."""
    n, _, h, w = shape
    skip, skip_stride = skip_of(block)
    found = []
    for i, (name, conv, _) in enumerate(block.branch_layers()):
        at = (n, conv.in_channels, h, w)
        place = (
            {"role": "first", "skip": skip, "join": join, "skip_stride": skip_stride} if i == 0 else {"role": "inner"}
        )
        found.append((name, _link(conv, at, dtype, **place)))
        h, w = -(-h // conv.stride[0]), -(-w // conv.stride[0])
    if skip == "projection":
        name, conv, _ = block.conv_layers()[-1]
        found.append((name, _link(conv, tuple(shape), dtype, role="shortcut")))
    return found


def _link(conv: nn.Conv2d, shape: tuple[int, ...], dtype: torch.dtype, **place: Any) -> Link:
    n, _, h, w = shape
    return Link(
        kernel=conv.kernel_size[0], stride=conv.stride[0], c_in=conv.in_channels, c_out=conv.out_channels,
        n=n, h=h, w=w, dtype=str(dtype).removeprefix("torch."), **place,
    )  # fmt: skip
