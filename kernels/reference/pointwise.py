"""Plain-PyTorch twins of the pointwise kernels: same arguments, any device, any floating dtype with fp64 too.

They are written to be read and to be right in fp64; in a lower dtype they round where PyTorch's own operations do.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.operands import Norm, Producer, Running


def bn_stats(y: Tensor, eps: float = 1e-5, running: Running | None = None) -> Tensor:
    """See `kernels.ops.bn_stats.bn_stats`."""
    n, _, h, w = y.shape
    m = n * h * w
    if m < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got input size {y.shape}")
    wide = _wide(y)
    var, mean = torch.var_mean(wide, (0, 2, 3), correction=0)
    if running is not None:
        for kept, new in ((running.mean, mean), (running.var, var * (m / (m - 1)))):
            old = _wide(kept)
            kept.copy_(old.lerp(new.to(old.dtype), running.momentum))
    return torch.stack([mean, (var + eps).rsqrt()])


def bn_act(
    y: Tensor,
    norm: Norm,
    *,
    shortcut: Tensor | None = None,
    shortcut_norm: Norm | None = None,
    shortcut_stride: int = 1,
    keep_mask: bool = False,
    relu: bool = True,
) -> tuple[Tensor, Tensor | None]:
    """See `kernels.ops.bn_act.bn_act`."""
    z = normalize(y, norm)
    if shortcut is not None:
        shortcut = shortcut[:, :, ::shortcut_stride, ::shortcut_stride]
        shortcut = _wide(shortcut) if shortcut_norm is None else normalize(shortcut, shortcut_norm)
        z = z + F.pad(shortcut, (0, 0, 0, 0, 0, y.shape[1] - shortcut.shape[1]))
    mask = pack(~(z <= 0)) if keep_mask else None
    return _image((z.relu() if relu else z).to(y.dtype)), mask


def bn_act_backward_reduce(
    dz: Tensor,
    producer: Producer,
    *,
    skip: Tensor | None = None,
    skip_stride: int = 1,
    dz_stride: int = 1,
    write_gradient: bool = False,
) -> tuple[Tensor | None, Tensor]:
    """See `kernels.ops.bn_act_backward_reduce.bn_act_backward_reduce`."""
    y = producer.y
    g = _join(dz, skip, y.shape, skip_stride, dz_stride).where(_positive(producer), 0.0)
    written = _image(g.to(y.dtype)) if write_gradient else None
    if written is not None:
        g = _wide(written)
    sums = [g.sum((0, 2, 3)), (g * _xhat(y, producer.norm)).sum((0, 2, 3))]
    if producer.shortcut_y is not None and producer.shortcut_norm is not None:
        sums.append((g * _xhat(producer.shortcut_y, producer.shortcut_norm)).sum((0, 2, 3)))
    return written, torch.stack(sums)


def join_gradient(
    dz: Tensor, skip: Tensor, *, shape: Sequence[int], skip_stride: int = 1, dz_stride: int = 1
) -> Tensor:
    """See `kernels.ops.join_gradient.join_gradient`."""
    return _image(_join(dz, skip, shape, skip_stride, dz_stride).to(dz.dtype))


def bn_act_backward_apply(
    dz: Tensor, producer: Producer, sums: Tensor, *, masked: bool, frozen: bool = False
) -> Tensor | tuple[Tensor, Tensor]:
    """See `kernels.ops.bn_act_backward_apply.bn_act_backward_apply`."""
    g = _wide(dz) if masked else _wide(dz).where(_positive(producer), 0.0)
    dy = _apply(g, producer.y, producer.norm, sums[0], sums[1], frozen)
    if producer.shortcut_y is None or producer.shortcut_norm is None:
        return dy
    return dy, _apply(g, producer.shortcut_y, producer.shortcut_norm, sums[0], sums[2], frozen)


def stem(y: Tensor, norm: Norm) -> tuple[Tensor, Tensor]:
    """See `kernels.ops.stem.stem`."""
    h, w = y.shape[2:]
    # max_pool2d gives positions in the image; -inf as padding would do, but the first among equals must win.
    z = normalize(y, norm).relu().to(y.dtype)
    pooled, flat = F.max_pool2d(z.contiguous(), 3, 2, 1, return_indices=True)
    rows = torch.arange(pooled.shape[2], device=y.device)[:, None]
    columns = torch.arange(pooled.shape[3], device=y.device)
    r, s = flat // w - (2 * rows - 1), flat % w - (2 * columns - 1)
    return _image(pooled), _image((3 * r + s).to(torch.uint8))


def stem_backward_reduce(dp: Tensor, argmax: Tensor, y: Tensor, norm: Norm) -> Tensor:
    """See `kernels.ops.stem_backward_reduce.stem_backward_reduce`."""
    return bn_act_backward_reduce(_unpool(dp, argmax, y), Producer(y, norm))[1]


def stem_backward_apply(
    dp: Tensor, argmax: Tensor, y: Tensor, norm: Norm, sums: Tensor, *, frozen: bool = False
) -> Tensor:
    """See `kernels.ops.stem_backward_apply.stem_backward_apply`."""
    dy = bn_act_backward_apply(_unpool(dp, argmax, y), Producer(y, norm), sums, masked=False, frozen=frozen)
    assert isinstance(dy, Tensor)
    return dy


def normalize(y: Tensor, norm: Norm) -> Tensor:
    """scale * y + shift, in fp32 or wider."""
    scale = norm.weight * norm.stats[1]
    return _wide(y) * _channels(scale) + _channels(norm.bias - norm.stats[0] * scale)


def pack(positive: Tensor) -> Tensor:
    """Booleans [N, C, H, W] as the join's bits: uint8 [N*H*W, ceil(C / 8)]."""
    rows = positive.permute(0, 2, 3, 1).flatten(0, 2)
    bits = F.pad(rows, (0, -rows.shape[1] % 8)).unflatten(1, (-1, 8))
    return (bits << torch.arange(8, device=positive.device)).sum(2).to(torch.uint8)


def unpack(mask: Tensor, shape: Sequence[int]) -> Tensor:
    """Booleans [N, C, H, W] of the join's bits."""
    n, c, h, w = shape
    bits = (mask[:, :, None] >> torch.arange(8, device=mask.device)) & 1
    return bits.flatten(1)[:, :c].bool().reshape(n, h, w, c).permute(0, 3, 1, 2)


def _positive(producer: Producer) -> Tensor:
    if producer.mask is not None:
        return unpack(producer.mask, producer.y.shape)
    return ~(normalize(producer.y, producer.norm) <= 0)  # NaN passes, as through PyTorch's ReLU


def _join(dz: Tensor, skip: Tensor | None, shape: Sequence[int], skip_stride: int, dz_stride: int) -> Tensor:
    d = _spread(dz, shape, dz_stride)
    return d if skip is None else d + _spread(skip, shape, skip_stride)


def _spread(gradient: Tensor, shape: Sequence[int], stride: int) -> Tensor:
    wide = _wide(gradient)
    out = wide.new_zeros(tuple(shape))
    out[:, :, ::stride, ::stride] = wide[:, : shape[1]]
    return out


def _xhat(y: Tensor, norm: Norm) -> Tensor:
    return (_wide(y) - _channels(norm.stats[0])) * _channels(norm.stats[1])


def _apply(g: Tensor, y: Tensor, norm: Norm, sum_g: Tensor, sum_gx: Tensor, frozen: bool) -> Tensor:
    if not frozen:
        m = y.numel() // y.shape[1]
        g = g - _channels(sum_g / m) - _xhat(y, norm) * _channels(sum_gx / m)
    return _image((_channels(norm.weight * norm.stats[1]) * g).to(y.dtype))


def _unpool(dp: Tensor, argmax: Tensor, y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    rows = torch.arange(dp.shape[2], device=y.device)[:, None]
    columns = torch.arange(dp.shape[3], device=y.device)
    position = argmax.long()
    flat = (2 * rows - 1 + position // 3) * w + (2 * columns - 1 + position % 3)
    wide = _wide(dp)
    dz = wide.new_zeros(n, c, h * w).scatter_add(2, flat.flatten(2), wide.flatten(2))
    return dz.reshape(n, c, h, w)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _channels(vector: Tensor) -> Tensor:
    return vector[:, None, None]


def _image(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last)
