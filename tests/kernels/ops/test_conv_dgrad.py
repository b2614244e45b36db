"""Gradient of a convolution's input with skip, mask and sums, against fp64 and PyTorch's own."""

import pytest
import torch
from criterion import DTYPES, check, image, make_norm

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError, Norm, Producer
from kernels.ops.conv_dgrad import conv_dgrad

pytestmark = pytest.mark.interpreted

# N, C, K, H, W, window.
SHAPES = (
    (1, 64, 64, 8, 9, 3),
    (2, 16, 16, 9, 8, 3),
    (3, 24, 40, 7, 7, 3),
    (1, 256, 64, 9, 11, 1),
    (2, 64, 256, 7, 7, 1),
    (3, 24, 8, 5, 4, 1),
)
DEEP = ((1, 128, 128, 7, 7, 3), (1, 64, 1024, 4, 4, 1), (1, 512, 128, 5, 4, 1))
PRODUCERS = ("none", "inner", "join", "projection")
SKIPS = ("none", "identity", "strided", "option A")


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def _operands(shape, dtype, device, kind="none", skips="none"):
    """dy, weight, and keywords."""
    torch.manual_seed(0)
    n, c, k, h, w, r = shape
    weight = (torch.randn(k, c, r, r, device=device) / (k * r * r) ** 0.5).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    y = image((n, c, h, w), dtype, device, mean=0.5)
    norm = make_norm(y)
    keywords = {}
    if kind == "inner":
        keywords = {"producer": Producer(y, norm), "write_activation": True}
    elif kind != "none":
        bits = reference.pack(torch.rand(n, c, h, w, device=device) > 0.4)
        other = image((n, c, h, w), dtype, device, mean=-1) if kind == "projection" else None
        keywords = {"producer": Producer(y, norm, bits, other, make_norm(other) if kind == "projection" else None)}
    if skips == "identity":
        keywords["skip"] = image((n, c, h, w), dtype, device)
    elif skips != "none":
        channels = 2 * c if skips == "option A" else c
        keywords |= {"skip": image((n, channels, -(-h // 2), -(-w // 2)), dtype, device), "skip_stride": 2}
    return image((n, k, h, w), dtype, device), weight, keywords


def _wide(value):
    if isinstance(value, (Norm, Producer)):
        return type(value)(*(_wide(part) for part in value))
    return value.double() if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def _check(shape, dtype, device, kind, skips):
    dy, weight, keywords = _operands(shape, dtype, device, kind, skips)
    g, sums, z = conv_dgrad(dy, weight, **keywords)
    wide = {name: _wide(value) for name, value in keywords.items()}
    exact, _, exact_z = reference.conv_dgrad(dy.double(), weight.double(), **wide)
    torchs, _, torchs_z = reference.conv_dgrad(dy, weight, **keywords)
    assert g.dtype == dtype and g.is_contiguous(memory_format=torch.channels_last)
    check("g", g, exact, torchs)
    assert (z is None) == (kind != "inner") and (sums is None) == (kind == "none")
    if kind == "inner":
        check("z", z, exact_z, torchs_z)
    if kind != "none":  # of g as it is stored, which is masked already
        check(
            "sums",
            sums,
            reference.bn_act_backward_reduce(g.double(), wide["producer"])[1],
            reference.bn_act_backward_reduce(g, keywords["producer"])[1],
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", PRODUCERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_sums(shape, kind, dtype, device):
    skips = SKIPS[(PRODUCERS.index(kind) + SHAPES.index(shape)) % len(SKIPS)]
    _check(shape, dtype, device, kind, skips)


@pytest.mark.parametrize("skips", SKIPS)
@pytest.mark.parametrize("kind", PRODUCERS)
def test_every_producer_with_every_skip(kind, skips, device):
    _check((2, 24, 16, 5, 7, 1), torch.float16, device, kind, skips)


@pytest.mark.parametrize("shape", DEEP)
def test_many_channels(shape, device):
    _check(shape, torch.float16, device, "inner" if shape[-1] == 3 else "join", "none")


def test_skip_by_three(device):
    dy, weight, _ = _operands((2, 16, 16, 7, 8, 1), torch.float32, device)
    skip = image((2, 16, 3, 3), torch.float32, device)
    g, _, _ = conv_dgrad(dy, weight, skip=skip, skip_stride=3)
    plain, _, _ = conv_dgrad(dy, weight)
    plain[:, :, ::3, ::3] += skip
    torch.testing.assert_close(g, plain)


def test_sums_of_many_tiles(device):
    _check((1, 16, 16, 47, 61, 1), torch.float32, device, "inner", "none")


@pytest.mark.parametrize("kind", ("inner", "projection"))
def test_twice_the_same(kind, device):
    dy, weight, keywords = _operands((2, 64, 64, 9, 9, 1), torch.float16, device, kind, "identity")
    first, second = (conv_dgrad(dy, weight, **keywords) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None)


def _bad(dy, weight, join, inner):
    skip = image((2, 16, 3, 4), dy.dtype, dy.device)
    yield {"weight": weight[:16]}, "does not fit an image of 32 channels"
    yield {"weight": weight[:, :12]}, "C = 12 is not a multiple of 8; nearest is 16"
    yield {"weight": weight.half()}, "nearest is float32"
    yield {"weight": torch.randn(32, 16, 5, 5, device=dy.device)}, "nearest is 3x3"
    yield {"dy": dy.contiguous()}, "dy: strides"
    yield {"skip": skip}, r"nearest is \(2, 16, 4, 4\)"
    yield {"skip": skip[:, :8], "skip_stride": 2}, "skip"
    yield {"skip_stride": 2}, "nearest is 1"
    yield {"skip": skip, "skip_stride": 0}, "nearest is 1"
    yield {"producer": inner._replace(y=inner.y[:1])}, "producer.y"
    yield {"producer": join, "write_activation": True}, "the producer is a join"
    yield {"write_activation": True}, "no producer"


@pytest.mark.parametrize("case", range(12))
def test_bad_operands_raise_before_anything_is_allocated(case, device, monkeypatch):
    shape = (2, 16, 32, 4, 4, 1)
    dy, weight, join = _operands(shape, torch.float32, device, "join")
    _, _, inner = _operands(shape, torch.float32, device, "inner")
    arguments, message = list(_bad(dy, weight, join["producer"], inner["producer"]))[case]
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    with pytest.raises(KernelError, match=message):
        conv_dgrad(**{"dy": dy, "weight": weight, **arguments})


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    meta = torch.device("meta")
    norm = Norm(*(torch.empty(size, device=meta) for size in ((2, 64), (64,), (64,))))
    y, weight = image((256, 64, 56, 56), torch.bfloat16, meta), image((128, 64, 3, 3), torch.bfloat16, meta)
    dy = image((256, 128, 56, 56), torch.bfloat16, meta)
    with runtime.capture_launches(chip) as launches:
        g, sums, z = conv_dgrad(dy, weight, producer=Producer(y, norm), write_activation=True)
    assert g.shape == z.shape == y.shape and sums.shape == (2, 64)
    (launch,) = launches
    assert launch.kernel == "conv_dgrad" and set(launch.arguments) == set(launch.function.arg_names)
