"""The gradient of the input of a block where no BN is reduced: the branch's and the shortcut's, added."""

from collections.abc import Sequence

from torch import Tensor

from kernels.ops.bn_act_backward_reduce import (
    bn_act_backward_reduce_kernel,
    check_gradient,
    check_skip,
    gradient_constants,
    tiling_constants,
)
from kernels.prepared import Operands, Prepared, image, prepared
from kernels.tiles import pointwise


def join_gradient(
    dz: Tensor, skip: Tensor, *, shape: Sequence[int], skip_stride: int = 1, dz_stride: int = 1
) -> Tensor:
    """dz + skip, either of which may cover only every stride-th pixel: the gradient of a block's input.

    Bytes moved: dz, skip and the result.

    Args:
        dz, skip, skip_stride, dz_stride: as `bn_act_backward_reduce` takes them.
        shape: [N, C, H, W] of the result.

    Returns:
        [N, C, H, W] channels_last, in the dtype of dz.

    Raises:
        KernelError: an operand that the kernel does not take.
    """
    operands = (dz, skip)
    (gradient,) = _prepare(operands, tuple(shape), skip_stride, dz_stride).launch(operands)
    assert isinstance(gradient, Tensor)
    return gradient


@prepared
def _prepare(operands: Operands, shape: tuple[int, ...], skip_stride: int, dz_stride: int) -> Prepared:
    dz, skip = operands
    assert dz is not None
    n, c, h, w = shape
    expanded = check_gradient("dz", dz, shape, None, dz_stride)
    check_skip(skip, shape, dz, skip_stride)
    tiling = pointwise.pointwise_tiling(n * h * w, c, dz.device, sums=False)
    absent = (
        "y_ptr",
        *pointwise.norm_parameters(),
        "mask_ptr",
        "shortcut_y_ptr",
        "shortcut_stats_ptr",
        "partials_ptr",
        "counter_ptr",
        "sums_ptr",
    )
    constants = {
        **gradient_constants(dz, skip, shape, expanded, dz_stride, skip_stride),
        **dict.fromkeys(absent),
        "PRODUCER": False,
        "MASK": False,
        "PROJECTION": False,
        "WRITE": True,
        "UNROLL": 1,
        **tiling_constants(tiling),
    }
    return Prepared(
        "join_gradient",
        bn_act_backward_reduce_kernel,
        tiling.grid,
        device=dz.device,
        operands=("dz_ptr", "skip_ptr"),
        outputs={"g_ptr": image(n, c, h, w, dz.dtype)},
        constants=constants,
        options=pointwise.OPTIONS,
    )
