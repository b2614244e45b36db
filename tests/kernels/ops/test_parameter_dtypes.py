"""BN's parameters and running statistics in the image's dtype: read as the fp32 values that they are, rounded once."""

import pytest
import torch
from criterion import image

from kernels import reference
from kernels.operands import KernelError, Norm, Producer, Running
from kernels.ops.bn_act import bn_act
from kernels.ops.bn_act_backward_apply import bn_act_backward_apply
from kernels.ops.bn_act_backward_reduce import bn_act_backward_reduce
from kernels.ops.bn_stats import bn_stats
from kernels.ops.conv1x1 import conv1x1
from kernels.ops.conv3x3 import conv3x3
from kernels.ops.conv_dgrad import conv_dgrad
from kernels.ops.stem import stem
from kernels.ops.stem_backward_apply import stem_backward_apply
from kernels.ops.stem_backward_reduce import stem_backward_reduce

HALVES = (torch.float16, torch.bfloat16)
SHAPE = (2, 24, 5, 3)


class Operands:
    """Random operands of the ops in a half precision, always the same; BNs' parameters are exact in it.

    Args:
        dtype: of images.
        parameters: of gamma and beta.
    """

    def __init__(self, dtype, parameters, device):
        torch.manual_seed(0)
        n, c, h, w = SHAPE
        self.y, self.z, self.dz = (image(SHAPE, dtype, device) for _ in range(3))
        self.narrow = image((n, c, (h + 1) // 2, (w + 1) // 2), dtype, device)
        self.w1, self.w3 = image((16, c, 1, 1), dtype, device), image((16, c, 3, 3), dtype, device)
        self.back = image((c, c, 1, 1), dtype, device)
        self.stats = reference.bn_stats(self.y)
        self.norm, self.other = (
            Norm(self.stats, *torch.randn(2, c, device=device).to(dtype).to(parameters)) for _ in range(2)
        )
        self.mask = bn_act(self.y, Norm(self.stats, *torch.randn(2, c, device=device)), keep_mask=True)[1]
        self.argmax = reference.stem(self.y.float(), Norm(*(x.float() for x in self.norm)))[1]
        self.sums = torch.randn(3, c, device=device)

    @property
    def plain(self):
        return Producer(self.y, self.norm)

    @property
    def join(self):
        return Producer(self.y, self.norm, self.mask, self.z, self.other)


READS = {
    "bn_act": lambda o: bn_act(o.y, o.norm, keep_mask=True),
    "bn_act, projection": lambda o: bn_act(o.y, o.norm, shortcut=o.z, shortcut_norm=o.other),
    "conv1x1, prologue": lambda o: conv1x1(o.y, o.w1, prologue=o.norm),
    "conv3x3, prologue": lambda o: conv3x3(o.y, o.w3, prologue=o.norm, stride=2),
    "stem": lambda o: stem(o.y, o.norm),
    "reduce": lambda o: bn_act_backward_reduce(o.dz, o.plain, write_gradient=True),
    "reduce, join": lambda o: bn_act_backward_reduce(o.dz, o.join),
    "apply": lambda o: bn_act_backward_apply(o.dz, o.plain, o.sums[:2], masked=False),
    "apply, frozen": lambda o: bn_act_backward_apply(o.dz, o.plain, o.sums[:2], masked=False, frozen=True),
    "apply, join": lambda o: bn_act_backward_apply(o.dz, o.join, o.sums, masked=True),
    "conv_dgrad": lambda o: conv_dgrad(o.dz, o.back, producer=o.plain, write_activation=True),
    "stem, reduce": lambda o: stem_backward_reduce(o.narrow, o.argmax, o.y, o.norm),
    "stem, apply": lambda o: stem_backward_apply(o.narrow, o.argmax, o.y, o.norm, o.sums[:2]),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", READS)
def test_the_result_is_that_of_the_same_values_in_fp32(op, dtype, device):
    results = [READS[op](Operands(dtype, parameters, device)) for parameters in (torch.float32, dtype)]
    single, half = ((one,) if isinstance(one, torch.Tensor) else one for one in results)
    for expected, found in zip(single, half, strict=True):
        if expected is None:
            assert found is None
        else:
            assert found.dtype == expected.dtype and torch.equal(found, expected)


UPDATES = {
    "bn_stats": lambda o, running: bn_stats(o.y, running=running),
    "conv1x1": lambda o, running: conv1x1(o.y, o.back, running=running),
}


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("op", UPDATES)
def test_running_statistics_are_updated_in_fp32_and_rounded_once(op, dtype, device):
    values = torch.rand(2, SHAPE[1], device=device).add(0.5).to(dtype)
    made = []
    for own in (torch.float32, dtype):
        running = Running(*values.to(own, copy=True), 0.3)
        stats = UPDATES[op](Operands(dtype, own, device), running)
        made.append((running, stats if op == "bn_stats" else stats[1]))
    (single, expected), (half, found) = made
    assert torch.equal(found, expected), "statistics of the batch are in fp32 whatever the running ones are"
    for now, exact, before in zip(half[:2], single[:2], values, strict=True):
        assert now.dtype == dtype and torch.equal(now, exact.to(dtype)) and not torch.equal(now, before)


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", HALVES)
def test_the_reference_updates_them_likewise(dtype, device):
    y, values = image(SHAPE, dtype, device), torch.rand(2, SHAPE[1], device=device).add(0.5).to(dtype)
    ours, theirs = (Running(*values.clone(), 0.3) for _ in range(2))
    bn_stats(y, running=ours)
    reference.bn_stats(y, running=theirs)
    for one, other in zip(ours[:2], theirs[:2], strict=True):
        assert one.dtype == other.dtype == dtype
        torch.testing.assert_close(one, other, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(
    ("images", "parameters", "line"),
    [
        (
            torch.float16,
            torch.bfloat16,
            "bfloat16, but BN's values are float32 or the image's float16; nearest is float32",
        ),
        (torch.bfloat16, torch.float64, "float64, but BN's values are float32 or the image's bfloat16; nearest is "),
        (torch.float32, torch.bfloat16, "bfloat16, but BN's values are float32; nearest is float32"),
    ],
)
def test_other_dtypes_are_refused(images, parameters, line, device, no_allocation):
    y, vector = image(SHAPE, images, device), torch.ones(SHAPE[1], device=device)
    stats, other = torch.ones(2, SHAPE[1], device=device), vector.to(parameters)
    for name, call in {
        "norm.weight": lambda: bn_act(y, Norm(stats, other, vector)),
        "norm.bias": lambda: bn_act(y, Norm(stats, vector, other)),
        "running.mean": lambda: bn_stats(y, running=Running(other, vector, 0.1)),
        "running.var": lambda: bn_stats(y, running=Running(vector, other, 0.1)),
    }.items():
        with pytest.raises(KernelError, match=f"^{name}: dtype {line}"):
            call()
    with pytest.raises(KernelError, match=r"^norm\.stats: dtype \w+, but BN's values are float32; nearest is float32$"):
        bn_act(y, Norm(stats.to(parameters), vector, vector))  # which kernels make, in fp32 always
