"""The stem's BN, ReLU and max pool, forward and backward, against autograd in fp64 and PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from criterion import DTYPES, both, check, eager, gradients, image, make_norm

from kernels import reference, runtime
from kernels.operands import KernelError, Norm
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce

pytestmark = pytest.mark.interpreted

SHAPES = ((1, 1023, 3, 5), (2, 64, 7, 7), (2, 16, 8, 12), (2, 24, 10, 12), (3, 8, 9, 4), (2, 16, 1, 1), (1, 16, 1, 6))


def _pool(y, weight, bias, **frozen):
    return F.max_pool2d(eager(y, weight, bias, **frozen), 3, 2, 1)


def _winners(z):
    """Positions of the maxima, the first among equals, by comparing the nine pixels of each window in turn."""
    h, w = z.shape[2:]
    padded = F.pad(z.float(), (1, 2, 1, 2), value=float("-inf"))
    best, argmax = None, None
    for position in range(9):
        r, s = divmod(position, 3)
        value = padded[:, :, r : r + h : 2, s : s + w : 2]
        wins = value > best if best is not None else torch.ones_like(value, dtype=torch.bool)
        best = value if best is None else torch.where(wins, value, best)
        argmax = torch.zeros_like(value) if argmax is None else torch.where(wins, float(position), argmax)
    return argmax.to(torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients(shape, dtype, device):
    torch.manual_seed(0)
    y = image(shape, dtype, device, mean=0.3)
    norm = make_norm(y)
    pooled, argmax = stem(y, norm)
    assert pooled.dtype == dtype and argmax.dtype == torch.uint8
    assert pooled.is_contiguous(memory_format=torch.channels_last)
    exact, torchs = both(_pool, y, norm.weight, norm.bias)
    check("pooled", pooled, exact, torchs)

    dp = image(tuple(pooled.shape), dtype, device)
    operands = (y, norm.weight, norm.bias)
    exact, torchs = gradients(lambda *leaves: (_pool(*leaves) * dp.to(leaves[0].dtype)).sum(), *operands)
    sums = stem_backward_reduce(dp, argmax, y, norm)
    dy = stem_backward_apply(dp, argmax, y, norm, sums)
    if dtype == torch.float32:  # elsewhere values that differ in fp64 are equal: see the next test
        check("dy", dy, exact[0], torchs[0])
        check("weight", sums[1], exact[1], torchs[1])
        check("bias", sums[0], exact[2], torchs[2])
    g = reference.stem_backward_reduce(dp.double(), argmax, y.double(), Norm(*(x.double() for x in norm)))
    twin = reference.stem_backward_apply(dp.double(), argmax, y.double(), Norm(*(x.double() for x in norm)), g)
    check("sums from the same winners", sums, g, reference.stem_backward_reduce(dp, argmax, y, norm))
    check("dy from the same winners", dy, twin, reference.stem_backward_apply(dp, argmax, y, norm, sums))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_the_first_of_equal_maxima_wins(shape, dtype, device):
    torch.manual_seed(0)
    # Few distinct values: most windows have ties, many are all zeros after ReLU, and some reach into the padding.
    y = image(shape, torch.float32, device).round().clamp(-1, 2).to(dtype)
    c = shape[1]
    norm = Norm(torch.stack([torch.full((c,), 0.5), torch.ones(c)]).to(device), *torch.ones(2, c, device=device))
    norm = norm._replace(bias=norm.bias - 1)
    z = reference.normalize(y, norm).relu().to(dtype)
    pooled, argmax = stem(y, norm)
    assert torch.equal(pooled, F.max_pool2d(z, 3, 2, 1))
    assert torch.equal(argmax, _winners(z))
    twin, twin_argmax = reference.stem(y, norm)
    assert torch.equal(pooled, twin) and torch.equal(argmax, twin_argmax)


def test_z_is_rounded_before_the_maximum(device):
    # Unrounded, the second pixel is the greater; rounded to bf16 they are equal, and the first wins.
    y = torch.tensor([1.0, 1.0 + 2**-7], device=device).bfloat16().reshape(1, 1, 1, 2)
    y = y.expand(1, 8, 1, 2).contiguous(memory_format=torch.channels_last)
    ones = torch.ones(8, device=device)
    norm = Norm(torch.stack([0 * ones, ones]), ones / 1024, ones)
    _, argmax = stem(y, norm)
    assert (argmax == 4).all()


@pytest.mark.parametrize("shape", [(2, 24, 7, 6)])
def test_frozen_statistics(shape, device):
    torch.manual_seed(0)
    y = image(shape, torch.float32, device)
    mean, var = torch.randn(24, device=device), torch.rand(24, device=device) + 0.5
    norm = make_norm(y)._replace(stats=torch.stack([mean, (var + 1e-5).rsqrt()]))
    pooled, argmax = stem(y, norm)
    dp = image(tuple(pooled.shape), y.dtype, device)

    def function(y, weight, bias):
        return (_pool(y, weight, bias, stats=(mean.to(bias.dtype), var.to(bias.dtype))) * dp.to(y.dtype)).sum()

    exact, torchs = gradients(function, y, norm.weight, norm.bias)
    sums = stem_backward_reduce(dp, argmax, y, norm)
    dy = stem_backward_apply(dp, argmax, y, norm, sums, frozen=True)
    for place, values in enumerate(zip([dy, sums[1], sums[0]], exact, torchs, strict=True)):
        check(f"gradient {place}", *values)


def test_reference_is_right_in_fp64(device):
    torch.manual_seed(0)
    y = image((2, 24, 7, 6), torch.float64, device)
    norm = make_norm(y, wide=True)
    pooled, argmax = reference.stem(y, norm)
    dp = image(tuple(pooled.shape), y.dtype, device)
    exact, _ = gradients(lambda *leaves: (_pool(*leaves) * dp).sum(), y, norm.weight, norm.bias)
    sums = reference.stem_backward_reduce(dp, argmax, y, norm)
    torch.testing.assert_close(pooled, _pool(y, norm.weight, norm.bias))
    torch.testing.assert_close(reference.stem_backward_apply(dp, argmax, y, norm, sums), exact[0])
    torch.testing.assert_close(sums, torch.stack([exact[2], exact[1]]))


def test_nan_wins(device):
    y = image((1, 8, 6, 6), torch.float16, device)
    norm = make_norm(y)
    y[0, 2, 3, 3] = float("nan")
    pooled, argmax = stem(y, norm)
    assert torch.equal(pooled.isnan(), F.max_pool2d(y, 3, 2, 1).isnan())
    assert argmax[0, 2, 1, 1] == 8 and argmax[0, 2, 2, 2] == 0


def test_programs_that_walk_through_many_tiles(device, few_programs):
    torch.manual_seed(0)
    y = image((2, 72, 19, 21), torch.float32, device)
    norm = make_norm(y)
    pooled, argmax = stem(y, norm)
    assert torch.equal(argmax, reference.stem(y, norm)[1])
    dp = image(tuple(pooled.shape), y.dtype, device)
    sums = stem_backward_reduce(dp, argmax, y, norm)
    torch.testing.assert_close(sums, reference.stem_backward_reduce(dp, argmax, y, norm), rtol=1e-5, atol=1e-4)
    dy = stem_backward_apply(dp, argmax, y, norm, sums)
    twin = reference.stem_backward_apply(dp, argmax, y, norm, sums)
    torch.testing.assert_close(dy, twin, rtol=1e-5, atol=1e-5)
    again = stem_backward_reduce(dp, argmax, y, norm)
    assert torch.equal(again, sums) and torch.equal(stem_backward_apply(dp, argmax, y, norm, sums), dy)


def test_operands_that_it_does_not_take(device, no_allocation):
    y = image((2, 16, 6, 6), torch.float32, device)
    norm, dp = make_norm(y), image((2, 16, 3, 3), torch.float32, device)
    argmax = torch.zeros_like(dp, dtype=torch.uint8)
    with pytest.raises(KernelError, match="y: strides"):
        stem(y.contiguous(), norm)
    with pytest.raises(KernelError, match="y: dtype"):
        stem(y.double(), norm)
    with pytest.raises(KernelError, match="y: on meta"):
        stem(y.to("meta"), norm)
    with pytest.raises(KernelError, match="norm.stats: shape"):
        stem(y, norm._replace(stats=norm.stats[:, :8]))
    for function in (stem_backward_reduce, lambda *operands: stem_backward_apply(*operands, norm.stats)):
        with pytest.raises(KernelError, match="dp: shape"):
            function(y, argmax, y, norm)
        with pytest.raises(KernelError, match="dp: dtype"):
            function(dp.half(), argmax, y, norm)
        with pytest.raises(KernelError, match="argmax: torch.int32"):
            function(dp, argmax.int(), y, norm)
        with pytest.raises(KernelError, match="argmax: strides"):
            function(dp, argmax.contiguous(), y, norm)
    with pytest.raises(KernelError, match="sums: shape"):
        stem_backward_apply(dp, argmax, y, norm, norm.stats[:1])


def test_it_is_captured_from_meta_tensors(complete):
    meta = torch.device("meta")
    y = image((64, 64, 112, 112), torch.bfloat16, meta)
    norm = Norm(*(torch.empty(*size, device=meta) for size in ((2, 64), (64,), (64,))))
    with runtime.capture_launches("sm_90") as launches:
        pooled, argmax = stem(y, norm)
        sums = stem_backward_reduce(pooled, argmax, y, norm)
        dy = stem_backward_apply(pooled, argmax, y, norm, sums)
    assert pooled.shape == (64, 64, 56, 56) and dy.shape == y.shape
    complete(launches, ["stem", "stem_backward_reduce", "stem_backward_apply"])
