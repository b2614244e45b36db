"""Convolution with folded BN, residual and ReLU, against fp64 and PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F
from criterion import DTYPES, check, image

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError
from kernels.ops.conv_inference import conv_inference, fold

pytestmark = pytest.mark.interpreted

# N, C, K, H, W, window, stride.
SHAPES = (
    (1, 64, 256, 9, 7, 1, 1),
    (2, 64, 64, 7, 7, 3, 1),
    (2, 32, 64, 8, 9, 1, 2),
    (1, 16, 32, 9, 8, 3, 2),
    (3, 24, 40, 5, 7, 3, 1),
)
RESIDUALS = ("none", "identity", "option A")


@pytest.fixture(autouse=True)
def no_tf32(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def _operands(shape, dtype, device, residuals="none"):
    torch.manual_seed(0)
    n, c, k, h, w, r, stride = shape
    weight = (torch.randn(k, c, r, r, device=device) / (c * r * r) ** 0.5).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    out = (-(-h // stride), -(-w // stride))
    keywords = {"stride": stride}
    if residuals == "identity":
        keywords["residual"] = image((n, k, *out), dtype, device)
    elif residuals == "option A":
        keywords |= {"residual": image((n, k // 2, 2 * out[0] - 1, 2 * out[1]), dtype, device), "residual_stride": 2}
    return image((n, c, h, w), dtype, device), weight, torch.randn(k, device=device), keywords


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("residuals", RESIDUALS)
@pytest.mark.parametrize("shape", SHAPES)
def test_value(shape, residuals, dtype, device):
    x, weight, bias, keywords = _operands(shape, dtype, device, residuals)
    keywords["relu"] = residuals != "none"
    z = conv_inference(x, weight, bias, **keywords)
    wide = {name: v.double() if isinstance(v, torch.Tensor) else v for name, v in keywords.items()}
    exact = reference.conv_inference(x.double(), weight.double(), bias.double(), **wide)
    assert z.dtype == dtype and z.is_contiguous(memory_format=torch.channels_last)
    check("z", z, exact, reference.conv_inference(x, weight, bias, **keywords))


def test_fold_is_bn_in_eval_mode(device):
    x, weight, bias, _ = _operands((2, 16, 24, 5, 7, 3, 1), torch.float64, device)
    gamma, mean, var = torch.randn(24, device=device), torch.randn(24, device=device), torch.rand(24, device=device)
    bn = gamma.double(), bias.double(), mean.double(), var.double()
    y = F.batch_norm(F.conv2d(x, weight, padding=1), bn[2], bn[3], bn[0], bn[1], eps=0.1)
    folded, folded_bias = fold(weight, *bn, eps=0.1)
    assert folded.dtype == torch.float64 and folded_bias.dtype == torch.float32
    torch.testing.assert_close(F.conv2d(x, folded, folded_bias.double(), padding=1), y, rtol=1e-6, atol=1e-6)
    half, _ = fold(weight.float(), gamma, bias, mean, var, dtype=torch.float16)
    assert half.dtype == torch.float16 and half.is_contiguous(memory_format=torch.channels_last)


def test_twice_the_same(device):
    x, weight, bias, keywords = _operands(SHAPES[1], torch.float16, device, "identity")
    assert torch.equal(conv_inference(x, weight, bias, **keywords), conv_inference(x, weight, bias, **keywords))


def test_bad_operands_raise_before_anything_is_allocated(device, monkeypatch):
    x, weight, bias, _ = _operands((2, 16, 24, 4, 4, 3, 1), torch.float32, device)
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    for arguments, message in (
        ({"bias": bias[:8]}, "bias: shape"),
        ({"bias": bias.half()}, "bias: dtype"),
        ({"weight": weight[:20]}, "K = 20 is not a multiple of 8; nearest is 16"),
        ({"stride": 4}, "nearest is 2"),
        ({"residual": x[:1]}, "residual: shape"),
        ({"residual_stride": 2}, "nearest is 1"),
        ({"residual": x, "residual_stride": 0}, "nearest is 1"),
        ({"residual": x, "residual_stride": 2}, r"nearest is \(2, 16, 8, 8\)"),
    ):
        with pytest.raises(KernelError, match=message):
            conv_inference(**{"x": x, "weight": weight, "bias": bias, **arguments})


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    meta = torch.device("meta")
    x, weight = image((256, 64, 56, 56), torch.bfloat16, meta), image((64, 64, 3, 3), torch.bfloat16, meta)
    with runtime.capture_launches(chip) as launches:
        z = conv_inference(x, weight, torch.empty(64, device=meta), residual=x)
    assert z.shape == x.shape
    (launch,) = launches
    assert launch.kernel == "conv_inference" and set(launch.arguments) == set(launch.function.arg_names)
