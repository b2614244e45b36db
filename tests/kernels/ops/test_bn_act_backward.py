"""Backward pass of BN, addition and ReLU against autograd in fp64 and PyTorch's own."""

import pytest
import torch
from criterion import DTYPES, SHAPES, check, eager, gradients, image, make_norm

from kernels import reference, runtime
from kernels.operands import KernelError, Norm, Producer
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce

pytestmark = pytest.mark.interpreted

# What made z, and how its gradient comes: dz's stride (0: expanded over the image), skip's (0: none).
FORMS = {
    "plain": ("sign", 1, 0),
    "plain, expanded": ("sign", 0, 0),
    "plain, two": ("sign", 1, 1),
    "identity": ("identity", 1, 1),
    "identity, expanded": ("identity", 0, 0),
    "identity, wider skip": ("identity", 1, 2),
    "identity, both strided": ("identity", 2, 3),
    "projection": ("projection", 1, 1),
    "projection, expanded": ("projection", 0, 0),
    "projection, strided": ("projection", 2, 0),
}


def _ceil(shape, stride, more=0):
    n, c, h, w = shape
    return n, c + more, -(-h // stride), -(-w // stride)


def _operands(shape, dtype, device, form):
    """Operands of a form: y and shortcut with their norms, dz and skip as the kernel takes them, and their keywords."""
    torch.manual_seed(0)
    kind, dz_stride, skip_stride = FORMS[form]
    y = image(shape, dtype, device, mean=0.3)
    x = image(shape, dtype, device, mean=-1) if kind != "sign" else None
    if dz_stride:
        dz = image(_ceil(shape, dz_stride), dtype, device)
    else:
        dz = torch.randn(shape[:2], device=device).to(dtype)[:, :, None, None].expand(shape)
    keywords = {"dz_stride": dz_stride} if dz_stride > 1 else {}
    if skip_stride:
        keywords["skip"] = image(_ceil(shape, skip_stride, 9 * (skip_stride > 1)), dtype, device)
        keywords["skip_stride"] = skip_stride
    return y, make_norm(y), x, make_norm(x) if kind == "projection" else None, dz, keywords


def _loss(dz, keywords, **frozen):
    """A scalar function of y, weight, bias, shortcut and its weight and bias, in which z has the gradient dz + skip."""
    dz_stride, skip, skip_stride = (keywords.get(key) for key in ("dz_stride", "skip", "skip_stride"))

    def function(*operands):
        z = eager(*operands, **frozen)
        loss = (z[:, :, :: dz_stride or 1, :: dz_stride or 1] * dz.to(z.dtype)).sum()
        if skip is not None:
            loss = loss + (z[:, :, ::skip_stride, ::skip_stride] * skip[:, : z.shape[1]].to(z.dtype)).sum()
        return loss

    return function


def _producer(y, norm, x, x_norm):
    if x is None:
        return Producer(y, norm)
    mask = bn_act(y, norm, shortcut=x, shortcut_norm=x_norm, keep_mask=True)[1]
    return Producer(y, norm, mask, *((x, x_norm) if x_norm else ()))


CASES = [
    *((SHAPES[0], form, dtype) for form in ("plain", "identity", "projection, expanded") for dtype in DTYPES),
    *((shape, form, torch.float32) for shape in SHAPES[1:] for form in FORMS),
    *((shape, form, dtype) for shape, dtype in zip(SHAPES[1:], DTYPES[1:], strict=True) for form in FORMS),
]


@pytest.mark.parametrize(("shape", "form", "dtype"), CASES)
def test_gradients(shape, form, dtype, device):
    y, norm, x, x_norm, dz, keywords = _operands(shape, dtype, device, form)
    operands = [y, norm.weight, norm.bias, x, x_norm and x_norm.weight, x_norm and x_norm.bias]
    exact, torchs = gradients(_loss(dz, keywords), *operands)
    producer = _producer(y, norm, x, x_norm)
    plain = "skip" not in keywords and "dz_stride" not in keywords
    for written in (True, False) if plain else (True,):
        g, sums = bn_act_backward_reduce(dz, producer, **keywords, write_gradient=written)
        assert (g is not None) == written and sums.dtype == torch.float32
        out = bn_act_backward_apply(g if written else dz, producer, sums, masked=written)
        named = {"dy": out[0] if x_norm else out, "weight": sums[1], "bias": sums[0]}
        if x is not None:
            named["shortcut"] = out[1] if x_norm else g
        if x_norm:
            named |= {"shortcut weight": sums[2], "shortcut bias": sums[0]}
        for (name, actual), *values in zip(named.items(), exact, torchs, strict=True):
            if actual is not None:
                check(f"{name}, g written: {written}", actual, *values)


@pytest.mark.parametrize("form", FORMS)
def test_reference_is_right_in_fp64(form, device):
    y, _, x, x_norm, dz, keywords = _operands((2, 24, 9, 5), torch.float64, device, form)
    norm, x_norm = make_norm(y, wide=True), x_norm and make_norm(x, wide=True)
    operands = [y, norm.weight, norm.bias, x, x_norm and x_norm.weight, x_norm and x_norm.bias]
    exact, _ = gradients(_loss(dz, keywords), *operands)
    mask = reference.bn_act(y, norm, shortcut=x, shortcut_norm=x_norm, keep_mask=True)[1]
    producer = Producer(y, norm, mask if x is not None else None, *((x, x_norm) if x_norm else ()))
    g, sums = reference.bn_act_backward_reduce(dz, producer, **keywords, write_gradient=True)
    out = reference.bn_act_backward_apply(g, producer, sums, masked=True)
    actual = [out[0] if x_norm else out, sums[1], sums[0]]
    if x is not None:
        actual += [out[1], sums[2], sums[0]] if x_norm else [g]
    for ours, theirs in zip(actual, exact, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("form", ["plain", "projection"])
def test_frozen_statistics(form, device):
    y, norm, x, x_norm, dz, _ = _operands((2, 24, 9, 5), torch.float16, device, form)
    mean, var = torch.randn(24, device=device), torch.rand(24, device=device) + 0.5
    stats = torch.stack([mean, (var + 1e-5).rsqrt()])
    norm, x_norm = norm._replace(stats=stats), x_norm and x_norm._replace(stats=stats)

    def function(*operands):
        z = eager(*operands, stats=(mean.to(operands[1].dtype), var.to(operands[1].dtype)))
        return (z * dz.to(z.dtype)).sum()

    operands = [y, norm.weight, norm.bias, x, x_norm and x_norm.weight, x_norm and x_norm.bias]
    exact, torchs = gradients(function, *operands)
    producer = _producer(y, norm, x, x_norm)
    _, sums = bn_act_backward_reduce(dz, producer)
    out = bn_act_backward_apply(dz, producer, sums, masked=False, frozen=True)
    actual = [out[0], sums[1], sums[0], out[1], sums[2], sums[0]] if x_norm else [out, sums[1], sums[0]]
    for place, values in enumerate(zip(actual, exact, torchs, strict=True)):
        check(f"gradient {place}", *values)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_expanded_gradients_of_a_line_and_of_a_pixel(size, device):
    shape = (2, 24, *size)
    y = image(shape, torch.float32, device)
    producer = Producer(y, make_norm(y))
    dz = torch.randn(2, 24, device=device)[:, :, None, None].expand(shape)
    _, sums = bn_act_backward_reduce(dz, producer)
    torch.testing.assert_close(sums, reference.bn_act_backward_reduce(dz, producer)[1], rtol=1e-5, atol=1e-5)
    dy = bn_act_backward_apply(dz, producer, sums, masked=False)
    twin = reference.bn_act_backward_apply(dz, producer, sums, masked=False)
    torch.testing.assert_close(dy, twin, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", ["identity, both strided", "projection, expanded"])
def test_programs_that_walk_through_many_tiles(form, device, few_programs):
    y, norm, x, x_norm, dz, keywords = _operands((2, 72, 10, 11), torch.float32, device, form)
    producer = _producer(y, norm, x, x_norm)
    g, sums = bn_act_backward_reduce(dz, producer, **keywords, write_gradient=True)
    twin, twin_sums = reference.bn_act_backward_reduce(dz, producer, **keywords, write_gradient=True)
    torch.testing.assert_close(g, twin)
    torch.testing.assert_close(sums, twin_sums, rtol=1e-5, atol=1e-4)
    out = bn_act_backward_apply(g, producer, sums, masked=True)
    torch.testing.assert_close(
        out, reference.bn_act_backward_apply(g, producer, sums, masked=True), rtol=1e-5, atol=1e-5
    )


def test_runs_agree_bit_for_bit(device):
    y, norm, x, x_norm, dz, keywords = _operands((2, 72, 20, 16), torch.bfloat16, device, "projection")
    producer = _producer(y, norm, x, x_norm)
    one, two = (bn_act_backward_reduce(dz, producer, **keywords, write_gradient=True) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    one, two = (bn_act_backward_apply(one[0], producer, one[1], masked=True) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def _given(device):
    y = image((2, 16, 4, 4), torch.float32, device)
    return y, Producer(y, make_norm(y))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dz": torch.randn(2, 16, 4, 4)}, "dz: strides"),
        ({"dz": torch.randn(2, 4, 4, 16).half().permute(0, 3, 1, 2)}, "dz: dtype"),
        ({"dz": torch.randn(2, 4, 4, 16, device="meta").permute(0, 3, 1, 2)}, "dz: on meta"),
        ({"dz": torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2)}, "dz: shape"),
        ({"dz": torch.randn(2, 32)[:, ::2, None, None].expand(2, 16, 4, 4)}, r"dz\[:, :, :1, :1\]: strides"),
        ({"dz": torch.randn(2, 8, 1, 1).expand(2, 8, 4, 4)}, "dz: shape"),
        ({"dz_stride": 2}, "dz: shape"),
        ({"dz_stride": 0}, "dz_stride: 0"),
        ({"skip_stride": 2}, "skip: None"),
        ({"skip": torch.randn(2, 4, 4, 8).permute(0, 3, 1, 2)}, "skip: shape"),
        ({"skip": torch.randn(2, 4, 4, 16).permute(0, 3, 1, 2), "skip_stride": 2}, "skip: shape"),
        ({"skip": torch.randn(2, 4, 4, 16).half().permute(0, 3, 1, 2)}, "skip: dtype"),
        ({"mask": torch.zeros(32, 1, dtype=torch.uint8)}, "producer.mask: uint8"),
        ({"shortcut_y": torch.randn(2, 4, 4, 16).permute(0, 3, 1, 2)}, "go together"),
        ({"norm": Norm(torch.ones(2, 8), torch.ones(8), torch.ones(8))}, "producer.norm.stats: shape"),
        ({"y": torch.randn(2, 16, 4, 4)}, "producer.y: strides"),
    ],
)
def test_operands_that_reduce_does_not_take(change, word, device, no_allocation):
    def move(x):
        if isinstance(x, Norm):
            return Norm(*map(move, x))
        if not isinstance(x, torch.Tensor) or x.is_meta:
            return x
        # Between two devices `to` makes an expanded tensor dense: its memory goes, and is looked at in the same way.
        memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).to(device)
        return memory.as_strided(x.shape, x.stride(), x.storage_offset())

    y, producer = _given(device)
    change = {name: move(x) for name, x in change.items()}
    producer = producer._replace(**{name: x for name, x in change.items() if name in Producer._fields})
    keywords = {"dz": y} | {name: x for name, x in change.items() if name not in Producer._fields}
    with pytest.raises(KernelError, match=word):
        bn_act_backward_reduce(producer=producer, **keywords)


def test_operands_that_apply_does_not_take(device, no_allocation):
    y, producer = _given(device)
    with pytest.raises(KernelError, match="sums: shape"):
        bn_act_backward_apply(y, producer, torch.zeros(3, 16, device=device), masked=False)
    with pytest.raises(KernelError, match="dz: shape"):
        bn_act_backward_apply(y[:, :, :2].contiguous(memory_format=torch.channels_last), producer, y, masked=False)
    with pytest.raises(KernelError, match="producer.mask: None"):
        projection = producer._replace(shortcut_y=y, shortcut_norm=producer.norm)
        bn_act_backward_apply(y, projection, torch.zeros(3, 16, device=device), masked=True)


def test_they_are_captured_from_meta_tensors(complete):
    meta = torch.device("meta")
    shape = (64, 256, 56, 56)
    y = image(shape, torch.bfloat16, meta)
    norm = Norm(*(torch.empty(*size, device=meta) for size in ((2, 256), (256,), (256,))))
    projection = Producer(y, norm, torch.empty(64 * 56 * 56, 32, dtype=torch.uint8, device=meta), y, norm)
    expanded = torch.empty(64, 256, 1, 1, dtype=torch.bfloat16, device=meta).expand(shape)
    skip = image((64, 512, 28, 28), torch.bfloat16, meta)
    with runtime.capture_launches("sm_90") as launches:
        assert bn_act_backward_reduce(expanded, Producer(y, norm))[0] is None
        g, sums = bn_act_backward_reduce(y, projection, skip=skip, skip_stride=2, write_gradient=True)
        assert bn_act_backward_apply(g, projection, sums, masked=True)[1].shape == shape
    complete(launches, ["bn_act_backward_reduce", "bn_act_backward_reduce", "bn_act_backward_apply"])
