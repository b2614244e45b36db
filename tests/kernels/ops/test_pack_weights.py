"""All weights of a net cast and reordered in one launch."""

import pytest
import torch
from criterion import DTYPES

from kernels import reference, runtime
from kernels.chips import CHIPS
from kernels.operands import KernelError
from kernels.ops.pack_weights import ALIGNMENT, _tables, pack_weights


def _weights(device):
    torch.manual_seed(0)
    plain = [torch.randn(size, device=device) for size in ((64, 3, 7, 7), (24, 16, 3, 3), (32, 24, 1, 1), (1, 1, 1, 1))]
    whole = torch.randn(16, 8, 6, 6, device=device)
    return [
        *plain,
        plain[1].contiguous(memory_format=torch.channels_last),
        whole[:, ::2, 1::2, ::2],
        whole.transpose(0, 1)[:, :, :3, :3],
        torch.randn(9 * 8 * 16 + 1, device=device)[1:].view(16, 8, 3, 3),  # a view into a flat buffer, at an odd place
    ]


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_stride(dtype, device):
    weights = _weights(device)
    with runtime.record_launches() as launches:
        copies = pack_weights(weights, dtype)
    assert len(launches) == 1
    for copy, expected in zip(copies, reference.pack_weights(weights, dtype), strict=True):
        assert copy.dtype == dtype and torch.equal(copy, expected)
        assert copy.permute(0, 2, 3, 1).is_contiguous()
        assert (copy.data_ptr() - copies[0].data_ptr()) % ALIGNMENT == 0


@pytest.mark.interpreted
def test_changed_parameters_are_read_again(device):
    weights = _weights(device)
    pack_weights(weights, torch.float16)
    before = _tables.cache_info()
    weights[0].add_(1)
    copies = pack_weights(weights, torch.float16)
    assert torch.equal(copies[0], weights[0].half())
    after = _tables.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    weights[1] = weights[1].clone()
    assert torch.equal(pack_weights(weights, torch.float16)[1], weights[1].half())
    assert _tables.cache_info().misses == before.misses + 1


def test_of_nothing():
    assert pack_weights([], torch.float16) == []


def test_bad_operands_raise_before_anything_is_allocated(device, monkeypatch):
    monkeypatch.setattr(runtime, "empty", lambda *_: pytest.fail("allocated"))
    good = torch.randn(8, 8, 1, 1, device=device)
    for weights, dtype, message in (
        ([good, good.half()], torch.float16, r"weights\[1\]: dtype torch.float16"),
        ([good[0]], torch.float16, r"weights\[0\]: shape"),
        ([good[:0]], torch.float16, r"weights\[0\]: shape"),
        ([good], torch.float64, "dtype: torch.float64"),
        ([good, torch.empty(8, 8, 1, 1, device="meta")], torch.float16, r"weights\[1\]: on meta"),
    ):
        with pytest.raises(KernelError, match=message):
            pack_weights(weights, dtype)


@pytest.mark.parametrize("chip", CHIPS)
def test_captured_on_meta_tensors(chip):
    with runtime.capture_launches(chip) as launches:
        (copy,) = pack_weights([torch.empty(64, 64, 3, 3, device="meta")], torch.bfloat16)
    assert copy.shape == (64, 64, 3, 3) and copy.is_contiguous(memory_format=torch.channels_last)
    (launch,) = launches
    assert launch.kernel == "pack_weights" and set(launch.arguments) == set(launch.function.arg_names)
