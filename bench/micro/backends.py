"""The operands of each case of the microbenchmarks, and what every backend computes of them.

`maths` is written in PyTorch's own operations: in fp64 it is what results are checked against, in the case's dtype what
torch.compile is given. `eager` is the same as PyTorch's modules would run it, with their own kernels for statistics and
backward passes; `fused` is ours.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import kernels
from bench.micro.cases import Case
from kernels import reference
from kernels.operands import Norm, Producer, TileConfig
from resnet.layers import StridedIdentity

Tensors = dict[str, Tensor]
Run = Callable[[Tensors], Tensors]
EPS = 1e-5
aten = torch.ops.aten


def operands(case: Case, dtype: torch.dtype, device: torch.device, seed: int = 0) -> Tensors:
    """Random operands of a case: images in channels_last, BN's values in fp32, and what follows from them."""
    generator = torch.Generator(device).manual_seed(seed)
    shape = case.shape

    def normal(*sizes: int) -> Tensor:
        return torch.randn(sizes, generator=generator, device=device)

    def image(c: int, h: int, w: int) -> Tensor:
        values = torch.randn((shape.batch, h, w, c), generator=generator, device=device, dtype=dtype)
        return values.permute(0, 3, 1, 2)

    def norm(y: Tensor, prefix: str) -> Tensors:
        var, mean = torch.var_mean(y.float(), (0, 2, 3), correction=0)
        stats = torch.stack([mean, (var + EPS).rsqrt()])
        weight, bias = 1 + 0.2 * normal(y.shape[1]), 0.3 * normal(y.shape[1])
        return {f"{prefix}{key}": value for key, value in
                {"stats": stats, "var": var, "weight": weight, "bias": bias}.items()}  # fmt: skip

    h, w = shape.height, shape.width
    found: Tensors = {"y": image(shape.c_in, h, w)}
    found |= norm(found["y"], "")
    if case.form == "dual":
        found["y2"] = image(shape.c_in, h, w)
        found |= norm(found["y2"], "2_")
    if case.form in ("add", "join", "narrow"):
        found["shortcut"] = image(shape.c_in, h, w)
    if case.form == "padded":
        found["shortcut"] = image(_identity_channels(case), h * shape.stride, w * shape.stride)
    if case.conv:
        fan_in = shape.c_in * shape.kernel**2
        weight = normal(shape.c_out, shape.kernel, shape.kernel, shape.c_in) / math.sqrt(fan_in)
        found["filter"] = weight.to(dtype).permute(0, 3, 1, 2)
        found["filter_bias"] = 0.3 * normal(shape.c_out)
        out = image(shape.c_out, -(-h // shape.stride), -(-w // shape.stride))
        found["dy"], found["residual"] = out, out
    if case.op in ("bn_act_backward", "conv_dgrad"):
        found["dz"], found["skip"] = image(shape.c_in, h, w), image(shape.c_in, h, w)
        if case.form == "narrow":
            found["skip"] = image(2 * shape.c_in, -(-h // shape.stride), -(-w // shape.stride))
        z = _affine(found["y"].float(), found)
        if case.form == "dual":
            z = z + _affine(found["y2"].float(), found, "2_")
        if case.form in ("join", "narrow"):
            z = z + found["shortcut"].float()
        found["z"] = z.relu().to(dtype)
        if case.form in ("join", "narrow", "dual"):
            found["mask"] = reference.pack(z > 0)
    if case.op == "stem":
        z = _affine(found["y"].float(), found).relu().to(dtype)
        found["z"] = z
        pooled, found["indices"] = F.max_pool2d(z, 3, 2, 1, return_indices=True)
        found["dp"] = image(shape.c_in, *pooled.shape[2:])
        rows = torch.arange(pooled.shape[2], device=device)[:, None]
        columns = torch.arange(pooled.shape[3], device=device)
        flat = found["indices"]
        argmax = 3 * (flat // w - (2 * rows - 1)) + flat % w - (2 * columns - 1)
        found["argmax"] = argmax.to(torch.uint8).contiguous(memory_format=torch.channels_last)
    return found


def wide(found: Mapping[str, Tensor]) -> Tensors:
    """The same operands in fp64."""
    return {key: value.double() if value.is_floating_point() else value for key, value in found.items()}


def maths(case: Case, *, rewrite: bool = False) -> Run:
    """A case in PyTorch's operations, fit for fp64 and for torch.compile.

    Args:
        rewrite: make what conv_dgrad writes again for wgrad. PyTorch kept it in the forward pass, so it is not timed.
    """
    return _run(case, _statistics, _sums, _bn_backward, rewrite)


def eager(case: Case, found: Tensors) -> Run:
    """A case as PyTorch runs it: the kernels of BN that it chooses for these operands."""
    y = found["y"]
    if not y.is_cuda:
        return maths(case)
    chosen: dict[str, tuple[Tensor, Tensor, Tensor, int]] = {}
    for name, prefix in (("y", ""), ("y2", "2_")):
        if case.op in ("bn_act_backward", "stem") and name in found:
            weight, bias = found[f"{prefix}weight"], found[f"{prefix}bias"]
            chosen[prefix] = aten._batch_norm_impl_index(
                found[name], weight, bias, None, None, True, 0.0, EPS, torch.backends.cudnn.enabled
            )[1:]

    def backward(t: Tensors, g: Tensor, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
        mean, invstd, reserve, index = chosen[prefix]
        y = t["y2" if prefix else "y"]
        return aten._batch_norm_impl_index_backward(
            index, y, g, t[f"{prefix}weight"], None, None, mean, invstd, True, EPS, [True, True, True], reserve
        )

    return _run(case, lambda y: torch.batch_norm_stats(y, EPS), _reduce, backward)


def cudnn_fused(case: Case) -> Run | None:
    """A case in one call of cuDNN's fusions, None where PyTorch reaches none."""
    if case.op != "conv_inference":
        return None
    stride, padding = [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    def run(t: Tensors) -> Tensors:
        bias = t["filter_bias"].to(t["y"].dtype)
        if case.form == "add":
            z = torch.cudnn_convolution_add_relu(
                t["y"], t["filter"], t["residual"], 1.0, bias, stride, padding, [1, 1], 1
            )
        else:
            z = torch.cudnn_convolution_relu(t["y"], t["filter"], bias, stride, padding, [1, 1], 1)
        return {"z": z}

    return run


def fused(case: Case, cut: TileConfig | None = None) -> Run:
    """A case by our kernels.

    Args:
        cut: of a convolution; None leaves it to the shape.
    """
    op, form, stride = case.op, case.form, case.shape.stride

    def norm(t: Tensors, prefix: str = "") -> Norm:
        return Norm(t[f"{prefix}stats"], t[f"{prefix}weight"], t[f"{prefix}bias"])

    def producer(t: Tensors) -> Producer:
        if form == "dual":
            return Producer(t["y"], norm(t), t["mask"], t["y2"], norm(t, "2_"))
        return Producer(t["y"], norm(t), t.get("mask"))

    def bn_stats(t: Tensors) -> Tensors:
        stats = kernels.bn_stats(t["y"], EPS)
        return {"mean": stats[0], "invstd": stats[1]}

    def bn_act(t: Tensors) -> Tensors:
        if form == "training":
            stats = kernels.bn_stats(t["y"], EPS)
            return {"z": kernels.bn_act(t["y"], Norm(stats, t["weight"], t["bias"]))[0]}
        if form == "dual":
            z, _ = kernels.bn_act(t["y"], norm(t), shortcut=t["y2"], shortcut_norm=norm(t, "2_"), keep_mask=True)
        elif form in ("add", "padded"):
            z, _ = kernels.bn_act(t["y"], norm(t), shortcut=t["shortcut"], shortcut_stride=stride, keep_mask=True)
        else:
            z, _ = kernels.bn_act(t["y"], norm(t))
        return {"z": z}

    def bn_act_backward(t: Tensors) -> Tensors:
        made = producer(t)
        if form == "relu":
            g, sums = kernels.bn_act_backward_reduce(t["dz"], made)
            dy = cast(Tensor, kernels.bn_act_backward_apply(t["dz"], made, sums, masked=False))
            return {"dy": dy, "d_bias": sums[0], "d_weight": sums[1]}
        g, sums = kernels.bn_act_backward_reduce(t["dz"], made, skip=t["skip"], skip_stride=stride, write_gradient=True)
        applied: Any = kernels.bn_act_backward_apply(cast(Tensor, g), made, sums, masked=True)
        found: dict[str, Any] = {"d_bias": sums[0], "d_weight": sums[1], "g": g}
        if form == "dual":
            return found | {"dy": applied[0], "dy2": applied[1], "d_weight2": sums[2]}
        return found | {"dy": applied}

    def stem(t: Tensors) -> Tensors:
        if form == "forward":
            return {"p": kernels.stem(t["y"], norm(t))[0]}
        sums = kernels.stem_backward_reduce(t["dp"], t["argmax"], t["y"], norm(t))
        dy = kernels.stem_backward_apply(t["dp"], t["argmax"], t["y"], norm(t), sums)
        return {"dy": dy, "d_bias": sums[0], "d_weight": sums[1]}

    def conv(t: Tensors) -> Tensors:
        convolve = kernels.conv1x1 if op == "conv1x1" else kernels.conv3x3
        prologue = norm(t) if form == "prologue" else None
        y, stats = convolve(t["y"], t["filter"], stride=stride, prologue=prologue, eps=EPS, tile_config=cut)
        assert stats is not None
        return {"y": y, "mean": stats[0], "invstd": stats[1]}

    def conv_dgrad(t: Tensors) -> Tensors:
        if form == "plain":
            return {"g": kernels.conv_dgrad(t["dy"], t["filter"], tile_config=cut)[0]}
        skip = t["skip"] if form == "join" else None
        g, sums, z = kernels.conv_dgrad(
            t["dy"],
            t["filter"],
            skip=skip,
            producer=producer(t),
            write_activation=form == "inner+z",
            tile_config=cut,
        )
        assert sums is not None
        return {"g": g, "d_bias": sums[0], "d_weight": sums[1]} | ({} if z is None else {"z": z})

    def conv_inference(t: Tensors) -> Tensors:
        residual = t["residual"] if form == "add" else None
        z = kernels.conv_inference(
            t["y"], t["filter"], t["filter_bias"], stride=stride, residual=residual, tile_config=cut
        )
        return {"z": z}

    runs: dict[str, Run] = {
        "bn_stats": bn_stats, "bn_act": bn_act, "bn_act_backward": bn_act_backward, "stem": stem, "conv1x1": conv,
        "conv3x3": conv, "conv_dgrad": conv_dgrad, "conv_inference": conv_inference,
    }  # fmt: skip
    return runs[op]


def _run(
    case: Case,
    statistics: Callable[[Tensor], tuple[Tensor, Tensor]],
    sums: Callable[[Tensors, Tensor], tuple[Tensor, Tensor]],
    bn_backward: Callable[[Tensors, Tensor, str], tuple[Tensor, Tensor, Tensor]],
    rewrite: bool = False,
) -> Run:
    op, form = case.op, case.form
    stride, padding = [case.shape.stride] * 2, [case.shape.kernel // 2] * 2

    shortcut: nn.Module = nn.Identity()
    if form == "padded":
        shortcut = StridedIdentity(_identity_channels(case), case.shape.c_in, case.shape.stride)

    def bn_stats(t: Tensors) -> Tensors:
        mean, invstd = statistics(t["y"])
        return {"mean": mean, "invstd": invstd}

    def bn_act(t: Tensors) -> Tensors:
        if form == "training":
            return {"z": F.relu_(F.batch_norm(t["y"], None, None, t["weight"], t["bias"], True, 0.0, EPS))}
        z = _normalized(t)
        if form == "dual":
            z = z + _normalized(t, "y2", "2_")
        if form in ("add", "padded"):
            z = z + shortcut(t["shortcut"])
        return {"z": F.relu_(z)}

    def bn_act_backward(t: Tensors) -> Tensors:
        d = t["dz"]
        if form == "narrow":  # as option A's backward pass has it
            skip = torch.zeros_like(d)
            skip[:, :, :: stride[0], :: stride[1]] = t["skip"][:, : d.shape[1]]
            d = d + skip
        elif form != "relu":
            d = d + t["skip"]
        g = aten.threshold_backward(d, t["z"], 0)
        dy, d_weight, d_bias = bn_backward(t, g, "")
        found = {"dy": dy, "d_bias": d_bias, "d_weight": d_weight}
        if form != "relu":
            found["g"] = g
        if form == "dual":
            found["dy2"], found["d_weight2"], _ = bn_backward(t, g, "2_")
        return found

    def stem(t: Tensors) -> Tensors:
        if form == "forward":
            return {"p": F.max_pool2d(F.relu_(_normalized(t)), 3, 2, 1)}
        dz = aten.max_pool2d_with_indices_backward(t["dp"], t["z"], [3, 3], [2, 2], [1, 1], [1, 1], False, t["indices"])
        dy, d_weight, d_bias = bn_backward(t, aten.threshold_backward(dz, t["z"], 0), "")
        return {"dy": dy, "d_bias": d_bias, "d_weight": d_weight}

    def conv(t: Tensors) -> Tensors:
        x = F.relu_(_normalized(t)) if form == "prologue" else t["y"]
        y = F.conv2d(x, t["filter"], None, stride, padding)
        mean, invstd = statistics(y)
        return {"y": y, "mean": mean, "invstd": invstd}

    def conv_dgrad(t: Tensors) -> Tensors:
        d = aten.convolution_backward(
            t["dy"], t["y"], t["filter"], None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False]
        )[0]
        if form == "plain":
            return {"g": d}
        if form == "join":
            d = d + t["skip"]
        g = aten.threshold_backward(d, t["z"], 0)
        d_bias, d_weight = sums(t, g)
        found = {"g": g, "d_bias": d_bias, "d_weight": d_weight}
        return found | {"z": F.relu_(_normalized(t))} if rewrite and form == "inner+z" else found

    def conv_inference(t: Tensors) -> Tensors:
        z = F.conv2d(t["y"], t["filter"], t["filter_bias"].to(t["y"].dtype), stride, padding)
        return {"z": F.relu_(z + t["residual"] if form == "add" else z)}

    runs: dict[str, Run] = {
        "bn_stats": bn_stats, "bn_act": bn_act, "bn_act_backward": bn_act_backward, "stem": stem, "conv1x1": conv,
        "conv3x3": conv, "conv_dgrad": conv_dgrad, "conv_inference": conv_inference,
    }  # fmt: skip
    return runs[op]


def _identity_channels(case: Case) -> int:
    """Channels of option A's shortcut; those that y has more are zeros."""
    return min(dict(case.parts[0][1])["identity_channels"], case.shape.c_in // 2)


def _affine(y: Tensor, t: Tensors, prefix: str = "") -> Tensor:
    mean, invstd = t[f"{prefix}stats"]
    scale = t[f"{prefix}weight"] * invstd
    return y * scale[:, None, None] + (t[f"{prefix}bias"] - mean * scale)[:, None, None]


def _normalized(t: Tensors, name: str = "y", prefix: str = "") -> Tensor:
    """BN with known statistics, by PyTorch's own kernel."""
    weight, bias = t[f"{prefix}weight"], t[f"{prefix}bias"]
    return F.batch_norm(t[name], t[f"{prefix}stats"][0], t[f"{prefix}var"], weight, bias, False, 0.0, EPS)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _statistics(y: Tensor) -> tuple[Tensor, Tensor]:
    var, mean = torch.var_mean(_wide(y), (0, 2, 3), correction=0)
    return mean, (var + EPS).rsqrt()


def _sums(t: Tensors, g: Tensor) -> tuple[Tensor, Tensor]:
    mean, invstd = t["stats"]
    xhat = (_wide(t["y"]) - mean[:, None, None]) * invstd[:, None, None]
    return _wide(g).sum((0, 2, 3)), (_wide(g) * xhat).sum((0, 2, 3))


def _reduce(t: Tensors, g: Tensor) -> tuple[Tensor, Tensor]:
    """The sums by the kernel that PyTorch has for SyncBatchNorm."""
    mean, invstd = t["stats"]
    _, _, d_weight, d_bias = torch.batch_norm_backward_reduce(g, t["y"], mean, invstd, t["weight"], True, True, True)
    return d_bias, d_weight


def _bn_backward(t: Tensors, g: Tensor, prefix: str) -> tuple[Tensor, Tensor, Tensor]:
    mean, invstd = t[f"{prefix}stats"]
    y = t["y2" if prefix else "y"]
    return aten.native_batch_norm_backward(
        g, y, t[f"{prefix}weight"], None, None, mean, invstd, True, EPS, [True, True, True]
    )
