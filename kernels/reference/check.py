"""When a result is right: one measure of error, one tolerance, and one poison for what kernels leave unwritten."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from kernels import runtime

__all__ = ["ABSOLUTE", "SLACK", "errors", "poisoned", "wrong"]

SLACK = 2.0  # times the error of torch's own result in the same dtype, and
# this much more, since torch's own error may be next to 0: some 8 units in the last place of fp32, which statistics and
# sums are in. Over the 200,704 values of a channel (64 images in ResNet-50's first stage) our mean is off by 3e-7 and
# torch's, summed in another order, by a tenth of that; over four times as many values it is no more. A larger term
# would hide faults: at 1e-4 an unbiased variance in place of the biased one passes from 5,000 values on.
ABSOLUTE = 1e-6
SMALLEST = 1e-30  # norm that an error is relative to, at least: a reference may be zeros
CHUNK = 1 << 25  # elements that are widened to fp64 at a time: a whole activation of a large batch would fill a GPU


def errors(found: Mapping[str, Tensor | None], exact: Mapping[str, Tensor]) -> dict[str, float]:
    """Relative L2 distance of each result from what it should be.

    Args:
        found: results by name; more than `exact` has are not looked at.
        exact: what they should be, computed in fp64 from the same stored operands.

    Returns:
        For each name of `exact`; NaN, which no tolerance takes, where the result is missing, has another shape, or
        where a value is not finite.
    """
    return {name: _error(found.get(name), wide) for name, wide in exact.items()}


def wrong(found: Mapping[str, float], torchs: Mapping[str, float]) -> list[str]:
    """What errs more than is tolerated, in words; nothing where all is right.

    Args:
        found: from `errors`.
        torchs: errors of torch's own results in the same dtype; of each name in `found`, and maybe of more.
    """
    return [
        f"{name} is off by {error:.2g} (relative L2), torch's own by {torchs[name]:.2g}"
        for name, error in found.items()
        if not error <= SLACK * torchs[name] + ABSOLUTE
    ]


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Start every output and workspace of a kernel as NaN, integers as 0x55: what it leaves unwritten shows."""
    clean = runtime.empty

    def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return clean(shape, dtype, device).fill_(math.nan if dtype.is_floating_point else 0x55)

    runtime.empty = empty
    try:
        yield
    finally:
        runtime.empty = clean


def _error(found: Tensor | None, exact: Tensor) -> float:
    if found is None or found.shape != exact.shape:
        return math.nan
    if not exact.dim():
        found, exact = found[None], exact[None]
    rows = max(CHUNK // max(exact[:1].numel(), 1), 1)
    distance = torch.zeros((), dtype=torch.float64, device=exact.device)
    size = torch.zeros_like(distance)
    for part, wide in zip(found.split(rows), exact.split(rows), strict=True):
        wide = wide.double()
        size += wide.square().sum()
        distance += (part.double() - wide).square_().sum()
    error = math.sqrt(float(distance)) / max(math.sqrt(float(size)), SMALLEST)
    # Infinities add up to one, and a reference that has one would make every error 0 or NaN.
    return error if math.isfinite(error) and math.isfinite(float(size)) else math.nan
