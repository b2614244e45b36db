"""The gradient at a join that needs no sums: one addition, whatever the strides of its parts."""

import pytest
import torch
from criterion import DTYPES, image

from kernels import reference, runtime
from kernels.operands import KernelError
from kernels.ops.join_gradient import join_gradient

pytestmark = pytest.mark.interpreted


def _ceil(shape, stride, more=0):
    n, c, h, w = shape
    return n, c + more, -(-h // stride), -(-w // stride)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("dz_stride", "skip_stride", "more"), [(1, 1, 0), (2, 1, 0), (1, 2, 7), (2, 3, 7), (1, 1, 7)])
def test_join_gradient(dz_stride, skip_stride, more, dtype, device):
    torch.manual_seed(0)
    shape = (3, 24, 9, 5)
    dz = image(_ceil(shape, dz_stride), dtype, device)
    skip = image(_ceil(shape, skip_stride, more), dtype, device)
    arguments = {"shape": shape, "dz_stride": dz_stride, "skip_stride": skip_stride}
    exact = torch.zeros(shape, dtype=torch.float64, device=device)
    exact[:, :, ::dz_stride, ::dz_stride] += dz
    exact[:, :, ::skip_stride, ::skip_stride] += skip[:, :24]
    actual = join_gradient(dz, skip, **arguments)
    assert actual.dtype == dtype and actual.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(actual, exact.to(dtype))  # one addition, rounded once
    torch.testing.assert_close(reference.join_gradient(dz.double(), skip.double(), **arguments), exact)


def test_operands_that_it_does_not_take(device, no_allocation):
    y = image((2, 16, 5, 7), torch.float32, device)
    with pytest.raises(KernelError, match="skip: shape"):
        join_gradient(y, y, shape=y.shape, skip_stride=2)
    with pytest.raises(KernelError, match="dz: shape"):
        join_gradient(y, y, shape=(2, 16, 8, 8))


def test_it_is_captured_from_meta_tensors(complete):
    meta = torch.device("meta")
    shape = (64, 256, 56, 56)
    skip = image((64, 512, 28, 28), torch.bfloat16, meta)
    with runtime.capture_launches("sm_90") as launches:
        gradient = join_gradient(image(shape, torch.bfloat16, meta), skip, shape=shape, skip_stride=2)
        assert gradient.shape == shape
    complete(launches, ["join_gradient"])
