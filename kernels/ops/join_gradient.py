"""The gradient of the input of a block where no BN is reduced: the branch's and the shortcut's, added."""

from collections.abc import Sequence

from torch import Tensor

from kernels import runtime
from kernels.ops.bn_act_backward_reduce import (
    bn_act_backward_reduce_kernel,
    check_gradient,
    check_skip,
    gradient_arguments,
    tiling_arguments,
)
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
    n, c, h, w = shape
    expanded = check_gradient("dz", dz, shape, None, dz_stride)
    check_skip(skip, shape, dz, skip_stride)
    tiling = pointwise.pointwise_tiling(n * h * w, c, dz.device, sums=False)
    gradient = runtime.empty_image(n, c, h, w, dz.dtype, dz.device)
    arguments = {
        **gradient_arguments(dz, skip, shape, expanded, dz_stride, skip_stride),
        "y_ptr": None,
        **pointwise.norm_arguments(None),
        "mask_ptr": None,
        "shortcut_y_ptr": None,
        "shortcut_stats_ptr": None,
        "g_ptr": gradient,
        "partials_ptr": None,
        "counter_ptr": None,
        "sums_ptr": None,
        "PRODUCER": False,
        "MASK": False,
        "PROJECTION": False,
        "WRITE": True,
        "UNROLL": 1,
        **tiling_arguments(tiling),
    }
    runtime.launch(
        "join_gradient", bn_act_backward_reduce_kernel, tiling.grid, arguments, num_warps=pointwise.NUM_WARPS
    )
    return gradient
