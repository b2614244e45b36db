"""BN, addition and ReLU in one pass, against fp64 and PyTorch's own."""

import pytest
import torch
from criterion import DTYPES, SHAPES, both, check, eager, image, make_norm

from kernels import reference, runtime
from kernels.operands import KernelError, Norm
from kernels.ops.bn_act import bn_act

pytestmark = pytest.mark.interpreted


def _operands(shape, dtype, device, form):
    """y, its norm, and the shortcut's keywords of a form."""
    torch.manual_seed(0)
    y = image(shape, dtype, device, mean=0.3)
    n, c, h, w = shape
    if form == "plain":
        shortcut = {}
    elif form == "identity":
        shortcut = {"shortcut": image(shape, dtype, device)}
    elif form == "projection":
        x = image(shape, dtype, device, mean=-2)
        shortcut = {"shortcut": x, "shortcut_norm": make_norm(x)}
    elif form == "narrower":
        shortcut = {"shortcut": image((n, c - 5, h, w), dtype, device)}
    else:  # "strided": at an odd size the last pixel is one of the grid, at an even one it is not
        size = (2 * h - 1, 2 * w) if form == "strided" else (3 * h - 2, 3 * w)
        stride = 2 if form == "strided" else 3
        shortcut = {"shortcut": image((n, c // 2, *size), dtype, device), "shortcut_stride": stride}
    return y, make_norm(y), shortcut


FORMS = ("plain", "identity", "projection", "narrower", "strided", "strided by 3")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_bits(shape, form, dtype, device):
    y, norm, shortcut = _operands(shape, dtype, device, form)
    join = shortcut.get("shortcut_norm")

    def function(y, weight, bias, x, x_weight, x_bias):
        return eager(y, weight, bias, x, x_weight, x_bias, stride=shortcut.get("shortcut_stride", 1))

    operands = (y, norm.weight, norm.bias, shortcut.get("shortcut"), join and join.weight, join and join.bias)
    exact, torchs = both(function, *operands)
    z, mask = bn_act(y, norm, **shortcut, keep_mask=True)
    assert z.dtype == dtype and z.is_contiguous(memory_format=torch.channels_last)
    check("z", z, exact, torchs)
    assert torch.equal(mask, reference.pack(z > 0))
    assert torch.equal(reference.unpack(mask, shape), z > 0)


@pytest.mark.parametrize("form", FORMS)
def test_reference_is_right_in_fp64(form, device):
    shape = (2, 24, 9, 5)
    y, _, shortcut = _operands(shape, torch.float64, device, form)
    norm = make_norm(y, wide=True)
    if "shortcut_norm" in shortcut:
        shortcut["shortcut_norm"] = make_norm(shortcut["shortcut"], wide=True)
    join = shortcut.get("shortcut_norm")
    arguments = (shortcut.get("shortcut"), join and join.weight, join and join.bias)
    exact = eager(y, norm.weight, norm.bias, *arguments, stride=shortcut.get("shortcut_stride", 1))
    z, mask = reference.bn_act(y, norm, **shortcut, keep_mask=True)
    torch.testing.assert_close(z, exact)
    assert torch.equal(reference.unpack(mask, shape), exact > 0)


def test_without_relu_and_without_bits(device):
    y, norm, shortcut = _operands((2, 24, 9, 5), torch.float16, device, "identity")
    exact, torchs = both(
        lambda y, weight, bias, x: eager(y, weight, bias, x, relu=False),
        y,
        norm.weight,
        norm.bias,
        shortcut["shortcut"],
    )
    z, mask = bn_act(y, norm, **shortcut, relu=False)
    assert mask is None
    check("z", z, exact, torchs)
    # With the bits they still say where the sum is positive.
    assert torch.equal(bn_act(y, norm, **shortcut, relu=False, keep_mask=True)[1], reference.pack(z > 0))


def test_frozen_statistics(device):
    y, norm, _ = _operands((2, 24, 9, 5), torch.float16, device, "plain")
    mean, var = torch.randn(24, device=device), torch.rand(24, device=device) + 0.5
    norm = norm._replace(stats=torch.stack([mean, (var + 1e-5).rsqrt()]))
    exact, torchs = both(
        lambda y, weight, bias, mean, var: eager(y, weight, bias, stats=(mean, var)),
        y,
        norm.weight,
        norm.bias,
        mean,
        var,
    )
    check("z", bn_act(y, norm)[0], exact, torchs)


@pytest.mark.parametrize("form", ["projection", "strided"])
def test_programs_that_walk_through_many_tiles(form, device, few_programs):
    y, norm, shortcut = _operands((2, 72, 10, 11), torch.float32, device, form)
    z, mask = bn_act(y, norm, **shortcut, keep_mask=True)
    twin, twin_mask = reference.bn_act(y, norm, **shortcut, keep_mask=True)
    torch.testing.assert_close(z, twin, rtol=1e-6, atol=1e-5)
    assert torch.equal(mask, twin_mask)


def test_nan_stays_nan(device):
    y, norm, _ = _operands((2, 24, 9, 5), torch.float16, device, "plain")
    y[0, 3, 2, 1] = float("nan")
    z, _ = bn_act(y, norm)
    assert z[0, 3, 2, 1].isnan() and z.isnan().sum() == 1


def test_runs_agree_bit_for_bit(device):
    y, norm, shortcut = _operands((2, 24, 9, 5), torch.bfloat16, device, "projection")
    one, two = (bn_act(y, norm, **shortcut, keep_mask=True) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"y": torch.randn(2, 16, 4, 4)}, "y: strides"),
        ({"y": torch.randn(2, 4, 4, 16, device="meta").permute(0, 3, 1, 2)}, "y: on meta"),
        ({"y": torch.randn(2, 4, 4, 16, dtype=torch.float64).permute(0, 3, 1, 2)}, "y: dtype"),
        ({"norm": Norm(torch.ones(2, 8), torch.ones(8), torch.ones(8))}, "norm.stats: shape"),
        ({"norm": Norm(torch.ones(2, 16), torch.ones(16).half(), torch.ones(16))}, "norm.weight: dtype"),
        ({"shortcut": torch.randn(2, 16, 4, 4)}, "shortcut: strides"),
        ({"shortcut": torch.randn(2, 4, 4, 16).half().permute(0, 3, 1, 2)}, "shortcut: dtype"),
        ({"shortcut": torch.randn(2, 4, 4, 24).permute(0, 3, 1, 2)}, "shortcut: shape"),
        ({"shortcut": torch.randn(2, 8, 8, 16).permute(0, 3, 1, 2)}, "shortcut: shape"),
        ({"shortcut": torch.randn(2, 4, 4, 16).permute(0, 3, 1, 2), "shortcut_stride": 0}, "shortcut_stride: 0"),
        ({"shortcut_stride": 2}, "shortcut: None"),
    ],
)
def test_operands_that_it_does_not_take(change, word, device, no_allocation):
    def move(x):
        if isinstance(x, Norm):
            return Norm(*map(move, x))
        return x.to(device) if isinstance(x, torch.Tensor) and not x.is_meta else x

    given = {
        "y": torch.randn(2, 4, 4, 16).permute(0, 3, 1, 2),
        "norm": Norm(torch.ones(2, 16), torch.ones(16), torch.ones(16)),
    } | change
    with pytest.raises(KernelError, match=word):
        bn_act(**{name: move(x) for name, x in given.items()})


def test_projections_that_it_does_not_take(device, no_allocation):
    y, norm, shortcut = _operands((2, 24, 9, 5), torch.float32, device, "projection")
    with pytest.raises(KernelError, match="shortcut: shape"):
        bn_act(y, norm, shortcut=image((2, 24, 9, 6), y.dtype, device), shortcut_norm=norm)
    with pytest.raises(KernelError, match="shortcut_stride: 2"):
        bn_act(y, norm, **shortcut, shortcut_stride=2)


def test_it_is_captured_from_meta_tensors(complete):
    meta = torch.device("meta")
    y = image((64, 256, 56, 56), torch.bfloat16, meta)
    norm = Norm(*(torch.empty(*shape, device=meta) for shape in ((2, 256), (256,), (256,))))
    with runtime.capture_launches("sm_90") as launches:
        bn_act(y, norm)
        bn_act(y, norm, shortcut=image((64, 128, 111, 112), y.dtype, meta), shortcut_stride=2, keep_mask=True)
        z, mask = bn_act(y, norm, shortcut=y, shortcut_norm=norm, keep_mask=True)
    assert z.shape == y.shape and mask.shape == (64 * 56 * 56, 32)
    complete(launches, ["bn_act"] * 3)
